"""The strategy space: which family, and under it what the family itself declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before KerasTuner is imported)
from tfrec_meta.models import FAMILIES
from tfrec_meta.models.contract import read_config
from tfrec_meta.training import TrainingConfig

import keras_tuner

FAMILY = "family"
SPACE_VERSION = 1
"""Kept with each study. Raise it when a hyperparameter keeps its name but not its meaning, or a
default outside of the space changes what a strategy scores: studies of another version are then no
longer learned from. A name that comes or goes needs no new version."""


@dataclasses.dataclass(frozen=True)
class StrategySpace:
    """Conditional hyperparameters over model family, and below it its config and recipe.

    What a family declares in `search_space` stands below its name: `two_tower/embedding_dim`,
    `two_tower/training/learning_rate`. `family` itself is one of them.

    Args:
        families: keys of `FAMILIES` to choose from; the first is the default.
        fixed: hyperparameters that are not to be searched, by their names in the space; a value
            may lie outside of the range that is searched.

    Raises:
        ValueError: for an unknown family or hyperparameter, or a value that its config refuses.
    """

    families: tuple[str, ...] = ("two_tower",)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        if not self.families:
            raise ValueError("`families` is empty; name at least one.")
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown:
            raise ValueError(f"`families` names {unknown}; known are {sorted(FAMILIES)}.")
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
                raise ValueError(f"`fixed`={dict(self.fixed)}: {error}") from error

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
            `family`, and in `model` and `training` the fields that were searched, no others.

        Raises:
            ValueError: for a name that the space lacks.
        """
        hp = keras_tuner.HyperParameters()
        hp.values = {**self.fixed, **values}
        parts = _declare(hp, self.families)
        known = {parameter.name for parameter in hp.space}
        strange = [n for n in values if n not in known and not n.startswith("tuner/")]
        if strange:
            raise ValueError(f"The space has no {strange}; it has {', '.join(sorted(known))}.")
        return parts

    def _declared(self) -> keras_tuner.HyperParameters:
        hp = keras_tuner.HyperParameters()
        _declare(hp, self.families)
        return hp


def _declare(hp: keras_tuner.HyperParameters, families: tuple[str, ...]) -> dict[str, Any]:
    """Declares everything, and gives the parts of the family that is chosen."""
    chosen = hp.Choice(FAMILY, list(families)) if len(families) > 1 else hp.Fixed(FAMILY, *families)
    record: dict[str, Any] = {FAMILY: chosen}
    for family in families:
        with hp.conditional_scope(FAMILY, [family]), hp.name_scope(family):
            parts = FAMILIES[family].search_space(hp)
        if family == chosen:
            for part, fields in parts.items():
                record[part] = {name: v for name, v in fields.items() if v is not None}
    return record
