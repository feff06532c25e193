"""The strategy space: the model family, and the hyperparameters that each family declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner

from tfrec_meta.errors import ParameterError
from tfrec_meta.models import FAMILIES
from tfrec_meta.models.base.configs import read_config
from tfrec_meta.training import TrainingConfig

FAMILY = "family"
SPACE_VERSION = 1
"""Recorded with each study; searches learn only from studies of the same version.

Raise it when a hyperparameter keeps its name but changes its meaning, or when a default outside of
the space changes the scores of strategies. Added or removed names need no new version."""
OWN_VERSION = 0
"""The version of spaces with a user's own function. The meaning of their names is unknown, so
searches in such spaces learn only from each other."""

Declare = Callable[[Any], Mapping[str, Any]]
"""declare(hp): like a family's `search_space` (see `models.base.contract`)."""


@dataclasses.dataclass(frozen=True)
class StrategySpace:
    """Conditional hyperparameters of the model family, and of each family's config and recipe.

    `family` is a hyperparameter. The hyperparameters that a family declares in `search_space` have
    the family's name as prefix: `two_tower/embedding_dim`, `two_tower/training/learning_rate`.

    Args:
        families: keys of `FAMILIES` to choose from; the first is the default.
        fixed: hyperparameters that are not searched, by their names in the space; a value may lie
            outside the searched range.
        declare: by family, a function that replaces its `search_space`. Its hyperparameters may
            have any names, and it may leave parts of the family at their defaults.
        weights: whether `use_weights` of a strategy is a hyperparameter, for data whose declared
            weights vary.

    Raises:
        ValueError: for an unknown family or hyperparameter, a value that its config refuses, or a
            function that does not return parts of a strategy.

    Example:
        >>> from tfrec_meta.tuning import StrategySpace
        >>> space = StrategySpace(("ials", "ease"), fixed={"ials/iterations": 15})
        >>> space.strategy_record({"family": "ease"})["family"]
        'ease'
    """

    families: tuple[str, ...] = ("two_tower",)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    declare: Mapping[str, Declare] = dataclasses.field(default_factory=dict)
    weights: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        if not self.families:
            raise ParameterError("`families` is empty; use at least one family.", "families")
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown:
            raise ParameterError(
                f"`families` has {unknown}; use any of {sorted(FAMILIES)}.", "families"
            )
        others = sorted(set(self.declare) - set(self.families))
        if others:
            raise ValueError(f"`declare` has {others}; use any of `families`={self.families}.")
        names = [parameter.name for parameter in self._declared().space]
        unknown = sorted(set(self.fixed) - set(names))
        if unknown:
            raise ParameterError(f"`fixed` has {unknown}; use any of {', '.join(names)}.", "fixed")
        if self.fixed.get(FAMILY, self.families[0]) not in self.families:
            raise ParameterError(
                f"`fixed` has {FAMILY}={self.fixed[FAMILY]!r}; use one of {self.families}.", "fixed"
            )
        for family in self.families:
            record = self.strategy_record({FAMILY: family})
            try:
                read_config(FAMILIES[family].config_type, record["model"])
                read_config(TrainingConfig, record["training"])
            except ValueError as error:
                source = f"`fixed`={dict(self.fixed)}" if self.fixed else f"the space of {family!r}"
                raise ParameterError(f"{source}: {error}", "fixed") from error

    @property
    def version(self) -> int:
        """The `space_version` of studies of this space."""
        return OWN_VERSION if self.declare else SPACE_VERSION

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """Returns all searched and fixed hyperparameters, with the default strategy's values."""
        config = self._declared().get_config()
        for parameter in config["space"]:
            name = parameter["config"]["name"]
            if name in self.fixed:
                parameter["class_name"] = "Fixed"
                parameter["config"] = {
                    "name": name,
                    "value": self.fixed[name],
                    "conditions": parameter["config"]["conditions"],
                }
        space = keras_tuner.HyperParameters.from_config({**config, "values": {}}).space
        hp = keras_tuner.HyperParameters()
        # Parents come first: whether a parameter is active depends on its parent's value.
        hp.merge(space)
        return hp

    def strategy_record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Converts hyperparameters into a part of a strategy, for `Strategy.from_dict`.

        Args:
            values: by name in the space; missing values have their defaults. Names that start with
                "tuner/" belong to an oracle and are ignored.

        Returns:
            `family`; `model` and `training` with the searched fields only; and `teacher` if it was
            searched.

        Raises:
            ValueError: for a name that is not in the space.
        """
        hp = keras_tuner.HyperParameters()
        hp.values = {**self.fixed, **values}
        parts = self._declare(hp)
        known = {parameter.name for parameter in hp.space}
        unknown = [n for n in values if n not in known and not n.startswith("tuner/")]
        if unknown:
            raise ValueError(f"`values` has {unknown}; use any of {', '.join(sorted(known))}.")
        return parts

    def _declared(self) -> keras_tuner.HyperParameters:
        hp = keras_tuner.HyperParameters()
        self._declare(hp)
        return hp

    def _declare(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Declares all hyperparameters, and returns the parts of the chosen family's strategy."""
        several = len(self.families) > 1
        chosen = hp.Choice(FAMILY, list(self.families)) if several else self.families[0]
        if not several:
            hp.Fixed(FAMILY, chosen)
        record: dict[str, Any] = {FAMILY: chosen, "model": {}, "training": {}}
        if self.weights:
            record["use_weights"] = hp.Boolean("use_weights", default=True)
        for family in self.families:
            declare = self.declare.get(family, FAMILIES[family].search_space)
            with hp.conditional_scope(FAMILY, [family]), hp.name_scope(family):
                parts = declare(hp)
            if family in self.declare:
                _check_parts(family, parts)
            if family == chosen:
                for part in ("model", "training"):
                    fields = parts.get(part, {})
                    record[part] = {name: v for name, v in fields.items() if v is not None}
                if "teacher" in parts:
                    record["teacher"] = parts["teacher"]
        return record


def _check_parts(family: str, parts: Any) -> None:
    known = ("model", "training", "teacher")
    fits = isinstance(parts, Mapping) and not set(parts) - set(known)
    if not fits or not all(isinstance(parts.get(name, {}), Mapping) for name in known[:2]):
        raise ValueError(
            f"The space of {family!r} returned {parts!r}. Return parts of a strategy, such as "
            "{'model': {'embedding_dim': hp.Choice(...)}, 'training': {...}}."
        )
