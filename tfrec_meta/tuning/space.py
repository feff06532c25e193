"""The strategy space: which family, and under it what the family itself declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner

from tfrec_meta.models import FAMILIES
from tfrec_meta.models.base.contract import read_config
from tfrec_meta.training import TrainingConfig

FAMILY = "family"
SPACE_VERSION = 1
"""Kept with each study. Raise it when a hyperparameter keeps its name but not its meaning, or a
default outside of the space changes what a strategy scores: studies of another version are then no
longer learned from. A name that comes or goes needs no new version."""
OWN_VERSION = 0
"""Of a space in which somebody's own function declares a family: what its names mean is not known,
and only studies of such spaces are learned from."""

Declare = Callable[[Any], Mapping[str, Any]]
"""declare(hp): as a family's `search_space` (see `models.contract`)."""


@dataclasses.dataclass(frozen=True)
class StrategySpace:
    """Conditional hyperparameters over model family, and below it its config and recipe.

    What a family declares in `search_space` stands below its name: `two_tower/embedding_dim`,
    `two_tower/training/learning_rate`. `family` itself is one of them.

    Args:
        families: keys of `FAMILIES` to choose from; the first is the default.
        fixed: hyperparameters that are not to be searched, by their names in the space; a value
            may lie outside of the range that is searched.
        declare: by family, a function that stands in for its `search_space`. Its hyperparameters
            may have any names, and it need not search the whole family.

    Raises:
        ValueError: for an unknown family or hyperparameter, a value that its config refuses, or a
            function that gives no parts of a strategy.
    """

    families: tuple[str, ...] = ("two_tower",)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    declare: Mapping[str, Declare] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        if not self.families:
            raise ValueError("`families` is empty; name at least one.")
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown:
            raise ValueError(f"`families` names {unknown}; known are {sorted(FAMILIES)}.")
        others = sorted(set(self.declare) - set(self.families))
        if others:
            raise ValueError(f"`declare` names {others}, none of `families`={self.families}.")
        names = [parameter.name for parameter in self._declared().space]
        strange = sorted(set(self.fixed) - set(names))
        if strange:
            raise ValueError(f"`fixed` names {strange}; the space has {', '.join(names)}.")
        if self.fixed.get(FAMILY, self.families[0]) not in self.families:
            raise ValueError(f"`fixed` has {FAMILY}={self.fixed[FAMILY]!r}, none of `families`.")
        for family in self.families:
            record = self.strategy_record({FAMILY: family})
            try:
                read_config(FAMILIES[family].config_type, record["model"])
                read_config(TrainingConfig, record["training"])
            except ValueError as error:
                told = f"`fixed`={dict(self.fixed)}" if self.fixed else f"the space of {family!r}"
                raise ValueError(f"{told}: {error}") from error

    @property
    def version(self) -> int:
        """What a study of this space has as its `space_version`."""
        return OWN_VERSION if self.declare else SPACE_VERSION

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """All that is searched, and what is fixed, with the values of the default strategy."""
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
        # One by one, parents first: whether a parameter has a value depends on its parent's.
        hp.merge(space)
        return hp

    def strategy_record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What these values of hyperparameters mean, for `Strategy.from_dict`.

        Args:
            values: by name in the space; what is left out has its default. Names that begin with
                "tuner/" are an oracle's own notes.

        Returns:
            `family`, and in `model` and `training` the fields that were searched, no others; where
            one was searched, `teacher`, too.

        Raises:
            ValueError: for a name that the space lacks.
        """
        hp = keras_tuner.HyperParameters()
        hp.values = {**self.fixed, **values}
        parts = self._declare(hp)
        known = {parameter.name for parameter in hp.space}
        strange = [n for n in values if n not in known and not n.startswith("tuner/")]
        if strange:
            raise ValueError(f"The space has no {strange}; it has {', '.join(sorted(known))}.")
        return parts

    def _declared(self) -> keras_tuner.HyperParameters:
        hp = keras_tuner.HyperParameters()
        self._declare(hp)
        return hp

    def _declare(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Declares everything, and gives the parts of the family that is chosen."""
        several = len(self.families) > 1
        chosen = hp.Choice(FAMILY, list(self.families)) if several else self.families[0]
        if not several:
            hp.Fixed(FAMILY, chosen)
        record: dict[str, Any] = {FAMILY: chosen, "model": {}, "training": {}}
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
            f"The space of {family!r} gave {parts!r}. Return parts of a strategy, as "
            "{'model': {'embedding_dim': hp.Choice(...)}, 'training': {...}}."
        )
