"""Models that are made of models: what ensembles and two-stage models share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.contract import Query, Recommender, WarmStartError, config_fields


@dataclasses.dataclass(frozen=True)
class Member:
    """How one of the models comes about, in plain values, as JSON and YAML have them.

    Args:
        family: a key of `tfrec_meta.models.FAMILIES`.
        model: fields of the family's config; the others have their defaults.
        training: fields of the recipe; the others are those of the whole.
    """

    family: str
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "training"):
            try:
                # In the one form that JSON gives back, so that a config equals itself when reread.
                fields = config_fields(json.loads(json.dumps(dict(getattr(self, name)))))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`{name}`={getattr(self, name)!r} of a member is not made of plain values: "
                    f"{error}. Give fields by name, as {{'embedding_dim': 64}}."
                ) from error
            object.__setattr__(self, name, fields)

    @classmethod
    def of(cls, value: Member | Mapping[str, Any] | str) -> Member:
        """A member from itself, its fields, or the name of a family with its defaults."""
        if isinstance(value, Member):
            return value
        return cls(value) if isinstance(value, str) else cls(**value)


class Composite(Recommender, tf.Module):
    """A family whose models are made of fitted models of other families, all of one FeatureSpec.

    Its config lists them as `members`, a tuple of `Member`. `tfrec_meta.train` trains them; by hand
    it is `unite`, then `fit`.

    Attributes:
        members: the models, once `unite` got them.
        learned: variables of the whole by name; the members have their own.
    """

    def __init__(self, config: Any, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)
        self.members: tuple[Recommender, ...] = ()
        self.learned = {"item_counts": self.item_counts}

    def unite(self, members: Sequence[Recommender]) -> None:
        """Takes the fitted members, in the order of the config.

        Raises:
            ValueError: if they are others than the config names, or of other features or items.
        """
        found = [member.family for member in members]
        wanted = [member.family for member in self.config.members]
        if found != wanted:
            raise ValueError(f"The members are {found}, but the config names {wanted}.")
        for member in members:
            if member.spec != self.spec:
                raise ValueError(
                    f"The member {member.family!r} has a FeatureSpec of its own. Train all members "
                    "with the same one: `tfrec_meta.train(..., features=spec)`."
                )
        self.members = tuple(members)

    def fit(self, data: Interactions) -> None:
        """Counts; the members are fitted before.

        Raises:
            ValueError: if there are no members.
        """
        if not self.members:
            raise ValueError(
                f"The {self.family!r} has no members yet. Use `tfrec_meta.train`, or `unite`."
            )
        self.observe(data)

    def warm_start(self, earlier: Recommender) -> None:
        """Refuses; see the contract."""
        raise WarmStartError(
            f"The members of a model of family {self.family!r} are trained anew. "
            "Leave out `warm_start`."
        )

    def has_evidence(self, query: Query) -> tf.Tensor:
        known = [member.has_evidence(query) for member in self.members]
        return tf.reduce_any(tf.stack(known), axis=0)

    @property
    def variables(self) -> Sequence[tf.Variable]:  # type: ignore[override]  # TensorFlow's is, too
        """Of the members, too; what `tf.Module` finds by itself would include their optimizers."""
        return (*self.learned.values(), *(v for each in self.members for v in each.variables))

    def state(self) -> dict[str, np.ndarray]:
        """Of the whole alone; the members have states of their own."""
        return {name: variable.numpy() for name, variable in self.learned.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name, variable in self.learned.items():
            variable.assign(state[name])

    def write(self, folder: Path) -> None:
        """See the contract; `members/0`, `members/1`, … are saved models themselves."""
        super().write(folder)
        for place, member in enumerate(self.members):
            inner = folder / "members" / str(place)
            inner.mkdir(parents=True)
            member.write(inner)

    @classmethod
    def from_folder(cls, folder: Path, record: Mapping[str, Any]) -> Self:
        """See the contract."""
        from tfrec_meta.models import load_model  # here: it knows all families, this one too

        model = super().from_folder(folder, record)
        places = range(len(model.config.members))
        model.unite([load_model(folder / "members" / str(place)) for place in places])
        return model


def scores_of(items: tf.Tensor | None, scores: tf.Tensor) -> tf.Tensor:
    """Scores of the catalogue as `logits` gives them: whole, or those of the items.

    Args:
        items: int32 [B, C] item rows, or None for all. The unknown item is as bad as the worst.
        scores: float32 [B, catalogue].
    """
    if items is None:
        return scores
    worst = tf.reduce_min(scores, axis=1, keepdims=True)
    return tf.gather(tf.concat([worst, scores], axis=1), items, batch_dims=1)
