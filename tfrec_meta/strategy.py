"""A strategy: everything that decides how a model comes about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfrec_meta.features import FeatureSpec
from tfrec_meta.models import FAMILIES, Composite
from tfrec_meta.models.base.contract import read_config
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.training import TrainingConfig

TEACHERS = tuple(
    name
    for name, family in FAMILIES.items()
    if not issubclass(family, (TrainableRecommender, Composite))
)
"""The families that a strategy may name as its teacher: solved from the data at once."""
BERT = "bert"
"""Another teacher that it may name: `text_teacher`."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Everything that decides how a model comes about.

    Args:
        family: a key of `tfrec_meta.models.FAMILIES`.
        model: the family's config; its defaults when None.
        training: the recipe; closed forms take only their data, ensembles and two-stage models
            hand it to their members.
        features: an unfitted FeatureSpec; inferred from the data's tables when None.
        history_length: of the inferred spec.
        teacher: a family that is solved at once, as "ease" or "ials", or "bert" (`text_teacher`):
            fitted first, on the same data, it teaches the model its scores (see `train`). Only
            "two_tower" and "content_tower" with `negatives`="full" and `loss`="softmax" learn from
            one.
    """

    family: str = "two_tower"
    model: Any = None
    training: TrainingConfig = TrainingConfig()
    features: FeatureSpec | None = None
    history_length: int = 200
    teacher: str | None = None

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"`family`={self.family!r}; known are {sorted(FAMILIES)}.")
        wanted = FAMILIES[self.family].config_type
        if self.model is None:
            object.__setattr__(self, "model", wanted())
        if not isinstance(self.model, wanted):
            raise ValueError(f"Family {self.family!r} takes a {wanted.__name__} as `model`.")
        self.members()  # whatever is wrong with one of them shows now
        if self.teacher is not None:
            known = (*TEACHERS, BERT)
            if self.teacher not in known:
                raise ValueError(
                    f"`teacher`={self.teacher!r}; use one of {', '.join(known)}, or hand a fitted "
                    "model of any family to `train`."
                )
            FAMILIES[self.family].check_teachable(self.model)

    def members(self) -> tuple[Strategy, ...]:
        """How the models come about of which this one is made; none for most families.

        A member's recipe is that of the whole, but for what it says itself; so are the features,
        which are of one spec.

        Raises:
            ValueError: if one has a family, a field or a value that makes no sense, by name.
        """
        if not issubclass(FAMILIES[self.family], Composite):
            return ()
        recipe, whole = dataclasses.asdict(self.training), []
        for member in self.model.members:
            record = {"family": member.family, "model": member.model}
            record["training"] = {**recipe, **member.training}
            whole.append(Strategy.from_dict(record))
        return tuple(whole)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `from_dict` takes them back."""
        record = {"family": self.family, "history_length": self.history_length}
        record["model"] = dataclasses.asdict(self.model)
        record["training"] = dataclasses.asdict(self.training)
        if self.features is not None:
            record["features"] = self.features.declaration()
        if self.teacher is not None:
            record["teacher"] = self.teacher
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Strategy:
        """Reads what `as_dict` gave, or a part of it: what is left out has its default.

        Raises:
            ValueError: for a family, a field or a value that makes no sense, by name.
        """
        family = record.get("family", "two_tower")
        if family not in FAMILIES:
            raise ValueError(f"`family`={family!r}; known are {sorted(FAMILIES)}.")
        return cls(
            family,
            read_config(FAMILIES[family].config_type, record.get("model", {})),
            read_config(TrainingConfig, record.get("training", {})),
            FeatureSpec.declared(record["features"]) if record.get("features") else None,
            history_length=record.get("history_length", 200),
            teacher=record.get("teacher"),
        )


def with_searched(strategy: Strategy, record: Mapping[str, Any]) -> Strategy:
    """A strategy, and over it what a search found.

    Args:
        strategy: what was not searched.
        record: what `StrategySpace.strategy_record` gave. A teacher that it names, or None, takes
            the place of the strategy's.
    """
    whole = strategy.as_dict()
    family = record.get("family", strategy.family)
    same = family == strategy.family
    shape = whole["model"] if same else {}
    return Strategy.from_dict(
        {
            **whole,
            "family": family,
            "teacher": record.get("teacher", strategy.teacher if same else None),
            "model": {**shape, **record.get("model", {})},
            "training": {**whole["training"], **record.get("training", {})},
        }
    )
