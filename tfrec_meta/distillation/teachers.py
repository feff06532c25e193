"""Combines several teachers into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrec_meta.errors import ParameterError
from tfrec_meta.models.base.contract import Query, Teacher
from tfrec_meta.models.losses.score_scales import z_scores


class MeanTeacher(Teacher):
    """The weighted mean of several teachers' scores, each standardised per query.

    Its item embeddings are the concatenated embeddings of the teachers that have any, each
    normalised to the length of the teacher's weight.

    Args:
        teachers: fitted teachers with the same catalogue.
        weights: one number above 0 per teacher; by default all are equal.

    Raises:
        ValueError: if there are no teachers, or weights or catalogues do not match.

    Source: You et al., "Learning from Multiple Teacher Networks", KDD 2017 (the mean of the
    outputs).
    """

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float] | None = None):
        if not teachers:
            raise ParameterError("`teachers` is empty; use one or more.", "teachers")
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if len(weights) != len(teachers) or not all(weight > 0 for weight in weights):
            raise ParameterError(
                f"`weights`={weights} for {len(teachers)} teachers; use one above 0 for each.",
                "weights",
            )
        first = teachers[0].spec
        if not all(first.takes_queries_of(teacher.spec) for teacher in teachers[1:]):
            raise ValueError(
                "The teachers have different users, items or query features. Train them with the "
                "`features` of the first."
            )
        self.members = self.teachers = tuple(teachers)
        self.weights = tuple(weight / sum(weights) for weight in weights)
        self.spec = first
        self.has_embeddings = any(teacher.has_embeddings for teacher in teachers)

    def logits_or_prior(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, catalogue], the mean of the standardised scores."""
        return tf.add_n(
            [
                weight * z_scores(teacher.logits_or_prior(query))
                for teacher, weight in zip(self.teachers, self.weights, strict=True)
            ]
        )

    def item_embeddings(self) -> tf.Tensor:
        """Returns float32 [catalogue, sum of the widths], the concatenated embeddings."""
        parts = [
            weight * tf.math.l2_normalize(teacher.item_embeddings(), axis=1)
            for teacher, weight in zip(self.teachers, self.weights, strict=True)
            if teacher.has_embeddings
        ]
        return tf.concat(parts, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """Returns the states of all teachers, and the weights."""
        found = {"weights": np.array(self.weights)}
        for index, teacher in enumerate(self.teachers):
            found |= {f"{index}/{name}": value for name, value in teacher.state().items()}
        return found
