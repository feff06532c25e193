"""Several teachers as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrec_meta.models.base.contract import Query, Teacher
from tfrec_meta.models.losses.score_scales import z_scores


class MeanTeacher:
    """The weighted mean of what several teachers say, each brought to mean 0 and variance 1.

    Of items it says what lies side by side in their vectors, each of length its weight, of those
    teachers that have any.

    Args:
        teachers: fitted, and of one catalogue.
        weights: one each, above 0; all alike by default.

    Raises:
        ValueError: without teachers, or for weights or a catalogue that don't fit.

    Source: You et al., "Learning from Multiple Teacher Networks", KDD 2017 (the mean of what they
    say).
    """

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float] | None = None):
        if not teachers:
            raise ValueError("`teachers` is empty; give one or more.")
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if len(weights) != len(teachers) or not all(weight > 0 for weight in weights):
            raise ValueError(
                f"`weights`={weights} for {len(teachers)} teachers; give one above 0 for each."
            )
        first = teachers[0].spec
        if not all(first.takes_queries_of(teacher.spec) for teacher in teachers[1:]):
            raise ValueError(
                "The teachers know different users, items or features of queries. Train them with "
                "the `features` of the first."
            )
        self.teachers = tuple(teachers)
        self.weights = tuple(weight / sum(weights) for weight in weights)
        self.spec = first
        self.has_embeddings = any(teacher.has_embeddings for teacher in teachers)

    def logits_or_prior(self, query: Query) -> tf.Tensor:
        """float32 [B, catalogue]."""
        return tf.add_n(
            [
                weight * z_scores(teacher.logits_or_prior(query))
                for teacher, weight in zip(self.teachers, self.weights, strict=True)
            ]
        )

    def item_embeddings(self) -> tf.Tensor:
        """float32 [catalogue, sum of the widths]."""
        parts = [
            weight * tf.math.l2_normalize(teacher.item_embeddings(), axis=1)
            for teacher, weight in zip(self.teachers, self.weights, strict=True)
            if teacher.has_embeddings
        ]
        return tf.concat(parts, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """The states of all of them, and their weights."""
        found = {"weights": np.array(self.weights)}
        for place, teacher in enumerate(self.teachers):
            found |= {f"{place}/{name}": value for name, value in teacher.state().items()}
        return found
