"""Composite models: the base class of ensembles and two-stage models, which consist of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.contract import Query, Recommender, WarmStartError
from tfrec_meta.models.base.member import Member


class Composite(Recommender, tf.Module):
    """A family whose models consist of fitted models of other families with one FeatureSpec.

    The config lists them as `members`, a tuple of `Member`. `tfrec_meta.train` trains them. By
    hand, call `unite` with the fitted members, then `fit`.

    Attributes:
        members: the fitted members, after `unite`.
        learned: the variables of the composite itself by name; the members have their own.
    """

    fits_streams: ClassVar[bool] = True

    def __init__(self, config: Any, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)
        self.members: tuple[Recommender, ...] = ()
        self.learned = {"item_counts": self.item_counts}

    @classmethod
    def members_of(cls, config: Any) -> Sequence[Member]:
        return tuple(config.members)

    def unite(self, members: Sequence[Recommender]) -> None:
        found = [member.family for member in members]
        wanted = [member.family for member in self.config.members]
        if found != wanted:
            raise ValueError(
                f"The members are {found}, but the config names {wanted}. Give one fitted model "
                "per name, in this order."
            )
        for member in members:
            if member.spec != self.spec:
                raise ValueError(
                    f"The member {member.family!r} has a FeatureSpec of its own. Train all members "
                    "with the same one: `tfrec_meta.train(..., features=spec)`."
                )
        self.members = tuple(members)

    def fit(self, data: Interactions) -> None:
        """Counts the events; the members are fitted before.

        Raises:
            ValueError: if there are no members.
        """
        if not self.members:
            raise ValueError(
                f"The {self.family!r} has no members yet. Use `tfrec_meta.train`, or `unite`."
            )
        self.observe(data)

    def warm_start(self, earlier: Recommender) -> None:
        """Raises WarmStartError: members are always trained from scratch."""
        raise WarmStartError(
            f"The members of a model of family {self.family!r} are trained from scratch. Leave out "
            "`warm_start`."
        )

    def has_evidence(self, query: Query) -> tf.Tensor:
        known = [member.has_evidence(query) for member in self.members]
        return tf.reduce_any(tf.stack(known), axis=0)

    @property
    def variables(self) -> Sequence[tf.Variable]:  # type: ignore[override]  # TensorFlow's is, too
        """All variables, those of the members included.

        `tf.Module` would also find the variables of the members' optimizers.
        """
        return (*self.learned.values(), *(v for each in self.members for v in each.variables))

    def state(self) -> dict[str, np.ndarray]:
        """Returns the arrays of the composite itself; the members have states of their own."""
        return {name: variable.numpy() for name, variable in self.learned.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name, variable in self.learned.items():
            variable.assign(state[name])

    def write(self, folder: Path) -> None:
        """Writes the model; `members/0`, `members/1`, … are saved models themselves."""
        super().write(folder)
        for place, member in enumerate(self.members):
            inner = folder / "members" / str(place)
            inner.mkdir(parents=True)
            member.write(inner)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        record: Mapping[str, Any],
        read_member: Callable[[Path], Recommender],
    ) -> Self:
        model = super().from_folder(folder, record, read_member)
        places = range(len(model.config.members))
        model.unite([read_member(folder / "members" / str(place)) for place in places])
        return model


def scores_of(items: tf.Tensor | None, scores: tf.Tensor) -> tf.Tensor:
    """Selects the scores that `logits` returns from those of the whole catalogue.

    Args:
        items: int32 [B, C] item rows; None for all. The unknown item gets the lowest score.
        scores: float32 [B, catalogue].

    Returns:
        float32 [B, C] or [B, catalogue].
    """
    if items is None:
        return scores
    worst = tf.reduce_min(scores, axis=1, keepdims=True)
    return tf.gather(tf.concat([worst, scores], axis=1), items, batch_dims=1)
