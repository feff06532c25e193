"""The distillation loss: a student's scores and item vectors compared with a teacher's."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import tensorflow as tf

from tfrec_meta.checks import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    between,
    check_fields,
)
from tfrec_meta.features import FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.losses import distillation_losses as losses
from tfrec_meta.models.losses.score_scales import z_scores
from tfrec_meta.models.losses.teacher import Query, Teacher

TeacherScores = Literal["soft_labels", "top_items"]
TeacherVectors = Literal["none", "cosine", "squared", "relational", "value_relations"]
_ITEMS_PER_STEP = 512  # whose vectors are compared with those of the teacher


@dataclasses.dataclass(frozen=True)
class TeacherLossConfig:
    """How a student learns from a teacher; without a teacher, the fields have no effect.

    Args:
        teacher_weight: share of the loss that compares the scores of the catalogue with the
            teacher's, in [0, 1]. The rest is the loss of the chosen items.
        teacher_scores: how scores are compared (`models.losses.distillation_losses`).
        teacher_temperature: divides the teacher's scores, which are first standardised to mean 0
            and variance 1, so that it means the same for every family. Lower values concentrate on
            fewer items.
        teacher_top: k of "top_items".
        teacher_vectors: how item vectors are compared: "cosine" and "squared" through a learned
            projection to the teacher's width, "relational" (distances and angles) and
            "value_relations" among the items of a step.
        teacher_vectors_weight: weight of that loss, which is added to all other losses.
    """

    teacher_weight: Annotated[float, between(0, 1)] = 0.5
    teacher_scores: TeacherScores = "soft_labels"
    teacher_temperature: PositiveFloat = 1.0
    teacher_top: PositiveInt = 50
    teacher_vectors: TeacherVectors = "none"
    teacher_vectors_weight: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


class TeacherLoss(tf_keras.layers.Layer):
    """The distillation loss of one teacher for one student.

    Args:
        teacher: the teacher.
        spec: the student's; the teacher's may differ in item features only.
        config: how the two are compared.
        dim: of the student's item vectors.

    Raises:
        ValueError: if the teacher reads other queries, or has no item vectors although the config
            compares them.
    """

    def __init__(self, teacher: Teacher, spec: FeatureSpec, config: TeacherLossConfig, dim: int):
        super().__init__(name="teacher_loss")
        if not teacher.spec.takes_queries_of(spec):
            raise ValueError(
                "The teacher has other users, items or query features, so that its rows differ. "
                "Train with `features=teacher.spec`."
            )
        self._config = config
        # Only the method: Keras would track the model itself as a part of the student.
        self._scores: Any = teacher.logits_or_prior
        self._vectors: tf.Tensor | None = None
        if config.teacher_vectors == "none":
            return
        if not teacher.has_embeddings:
            raise ValueError(
                f"`teacher_vectors`={config.teacher_vectors!r}, but this teacher has no vectors of "
                "items. Use 'none', or a teacher with `has_embeddings`."
            )
        self._vectors = tf.constant(teacher.item_embeddings())
        if config.teacher_vectors in ("cosine", "squared"):
            shape = [dim, int(self._vectors.shape[1])]
            self.projection = self.add_weight(name="projection", shape=shape)

    def scores(self, query: Query) -> tf.Tensor:
        """Returns the teacher's standardised logits of the catalogue, float32 [B, catalogue]."""
        logits = tf.stop_gradient(self._scores(query))
        return z_scores(logits) / self._config.teacher_temperature

    def of_scores(self, logits: tf.Tensor, teacher_logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of the scores of each row, float32 [B].

        Args:
            logits: float32 [B, catalogue], the student's; masked where items are excluded.
            teacher_logits: float32 [B, catalogue], as `scores` returns them.
        """
        if self._config.teacher_scores == "top_items":
            return losses.top_items(logits, teacher_logits, self._config.teacher_top)
        return losses.soft_labels(logits, teacher_logits)

    def of_vectors(self, embed_items: Any, draw: tf.Tensor) -> tf.Tensor:
        """Returns the loss of the item vectors, float32 scalar; of a sample of a large catalogue.

        Args:
            embed_items: item rows int32 [n] to float32 [n, dim + 1]; the last column is a bias,
                which is not compared.
            draw: int64 [2], the seed of the sample.
        """
        kind = self._config.teacher_vectors
        if self._vectors is None:
            return tf.zeros([])
        items = int(self._vectors.shape[0])
        rows = tf.range(1, items + 1)
        # Relations compare the items of a step with one another; each step samples other items.
        if items > _ITEMS_PER_STEP or kind == "relational":
            order = tf.random.experimental.stateless_shuffle(rows, draw)
            rows = order[:_ITEMS_PER_STEP]
        own, wanted = embed_items(rows)[:, :-1], tf.gather(self._vectors, rows - 1)
        if kind == "relational":
            loss = losses.distances(own, wanted) + losses.angles(own, wanted)
        elif kind == "value_relations":
            loss = losses.value_relations(own, wanted)
        else:
            compare = losses.cosine if kind == "cosine" else losses.squared
            loss = tf.reduce_mean(compare(tf.matmul(own, self.projection), wanted))
        return self._config.teacher_vectors_weight * loss
