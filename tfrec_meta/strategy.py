"""A strategy: all decisions that make up a model, from its family to its training recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfrec_meta.checks import Width, check, check_fields, of_type
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models import FAMILIES, Recommender
from tfrec_meta.models.base.configs import read_config
from tfrec_meta.training import TrainingConfig

TEACHERS = tuple(
    name
    for name, family in FAMILIES.items()
    if not family.trains_by_steps and not family.members_of(family.config_type())
)
"""The families that a strategy may name as its teacher: those solved in closed form."""
BERT = "bert"
"""Another teacher that a strategy may name: a text model, see `text_teacher`."""


@dataclasses.dataclass(frozen=True)
class Strategy:
    """All decisions that make up a model.

    Args:
        family: the model family, a key of `tfrec_meta.models.FAMILIES`.
        model: the config of the family; None for its defaults.
        training: the training recipe. Closed forms ignore most of it; ensembles and two-stage
            models pass it on to their members.
        features: an unfitted FeatureSpec; None to infer one from the tables of the data.
        history_length: history length of the inferred spec.
        teacher: a closed-form family, such as "ease" or "ials", or "bert" (see `text_teacher`). It
            is fitted first, on the same data, and the model is distilled from its scores. Only
            "two_tower" and "content_tower" with `negatives`="full" and `loss`="softmax" can learn
            from a teacher.
        use_weights: whether training uses the weights of declared feedback (`Feedback`). Without
            them, each positive event and each known negative has weight 1. No effect on other data.

    Raises:
        ValueError: for an unknown family or teacher, a config of another family, or a config that
            cannot learn from a teacher.

    Example:
        >>> import tfrec_meta as tm
        >>> strategy = tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=16))
        >>> tm.Strategy.from_dict(strategy.as_dict()) == strategy
        True
    """

    family: str = "two_tower"
    model: Any = None
    training: TrainingConfig = TrainingConfig()
    features: FeatureSpec | None = None
    history_length: Width = 200
    teacher: str | None = None
    use_weights: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        kind = _family(self.family).config_type
        if self.model is None:
            object.__setattr__(self, "model", kind())
        if not isinstance(self.model, kind):
            raise ValueError(
                f"`model` is a {type(self.model).__name__}, but family {self.family!r} takes a "
                f"{kind.__name__}; use one, or another family."
            )
        self.members()  # raises if a member is not valid
        if self.teacher is not None:
            known = (*TEACHERS, BERT)
            if self.teacher not in known:
                raise ParameterError(
                    f"`teacher`={self.teacher!r}; use one of {', '.join(known)}, or pass a fitted "
                    "model of any family to `train`.",
                    "teacher",
                )
            FAMILIES[self.family].check_teachable(self.model)

    def members(self) -> tuple[Strategy, ...]:
        """Returns the strategies of the member models; empty for most families.

        A member has the recipe of the whole model, except for the fields that it sets itself. All
        members share one FeatureSpec.

        Raises:
            ValueError: if a member has an unknown family or field, or a value out of range.
        """
        recipe = dataclasses.asdict(self.training)
        return tuple(
            Strategy.from_dict(
                {
                    "family": member.family,
                    "model": member.model,
                    "training": {**recipe, **member.training},
                }
            )
            for member in FAMILIES[self.family].members_of(self.model)
        )

    def with_changes(self, record: Mapping[str, Any]) -> Strategy:
        """Returns this strategy with some fields replaced, for example by values that tuning found.

        Args:
            record: any of `family`, `teacher`, `use_weights`, and parts of `model` and `training`,
                as `as_dict` returns them. Another family starts from its default config, and
                without a teacher unless `record` names one.

        Raises:
            ValueError: as `from_dict`.

        Example:
            >>> import tfrec_meta as tm
            >>> tm.Strategy().with_changes({"training": {"epochs": 3}}).training.epochs
            3
        """
        fields = self.as_dict()
        family = record.get("family", self.family)
        same = family == self.family
        model = fields["model"] if same else {}
        return Strategy.from_dict(
            {
                **fields,
                "family": family,
                "teacher": record.get("teacher", self.teacher if same else None),
                "use_weights": record.get("use_weights", self.use_weights),
                "model": {**model, **record.get("model", {})},
                "training": {**fields["training"], **record.get("training", {})},
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON; `from_dict` reads them."""
        record = {"family": self.family, "history_length": self.history_length}
        record["model"] = dataclasses.asdict(self.model)
        record["training"] = dataclasses.asdict(self.training)
        if self.features is not None:
            record["features"] = self.features.declaration()
        if self.teacher is not None:
            record["teacher"] = self.teacher
        if not self.use_weights:
            record["use_weights"] = False
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Strategy:
        """Reads what `as_dict` returned, or a part of it; missing fields have their defaults.

        Raises:
            ValueError: for an unknown family or field, or a value out of range; names it.
        """
        family = record.get("family", "two_tower")
        return cls(
            family,
            read_config(_family(family).config_type, record.get("model", {})),
            read_config(TrainingConfig, record.get("training", {})),
            FeatureSpec.declared(record["features"]) if record.get("features") else None,
            history_length=record.get("history_length", 200),
            teacher=record.get("teacher"),
            use_weights=record.get("use_weights", True),
        )


def _family(name: str) -> type[Recommender]:
    check("family", name, of_type(str))
    if name not in FAMILIES:
        raise ParameterError(
            f"`family`={name!r}; use one of {', '.join(sorted(FAMILIES))}.", "family"
        )
    return FAMILIES[name]
