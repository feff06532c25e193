"""A teacher, as a student hears it while it is trained."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import tensorflow as tf

from tfrec_meta.features import FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.losses import distillation_losses
from tfrec_meta.models.losses.score_scales import z_scores
from tfrec_meta.models.losses.teacher import Query, Teacher

TeacherScores = Literal["soft_labels", "top_items"]
TeacherVectors = Literal["none", "cosine", "squared", "relational", "value_relations"]
_ITEMS_A_STEP = 512  # whose vectors are compared with the teacher's


@dataclasses.dataclass(frozen=True)
class TeacherLossConfig:
    """What a student takes from a teacher; without one, nothing of it matters.

    Args:
        teacher_weight: share of the loss that is of the teacher's scores of the catalogue, in
            [0, 1]; the rest is of what users chose.
        teacher_scores: how scores are compared (`models.losses.distillation_losses`).
        teacher_temperature: divides the teacher's scores, which are first brought to mean 0 and
            variance 1, so that it means the same for every family; lower for fewer items.
        teacher_top: k of "top_items".
        teacher_vectors: how vectors of items are compared with the teacher's: "cosine" and
            "squared" through a learned projection to its width, "relational" (distances and
            angles) and "value_relations" among the items of a step.
        teacher_vectors_weight: of that beside all other loss.
    """

    teacher_weight: float = 0.5
    teacher_scores: TeacherScores = "soft_labels"
    teacher_temperature: float = 1.0
    teacher_top: int = 50
    teacher_vectors: TeacherVectors = "none"
    teacher_vectors_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"`teacher_weight`={self.teacher_weight}; use a share in [0, 1].")
        for name, allowed in (
            ("teacher_scores", TeacherScores),
            ("teacher_vectors", TeacherVectors),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(
                    f"`{name}`={getattr(self, name)!r}; use one of {get_args(allowed)}."
                )
        if not self.teacher_temperature > 0:
            raise ValueError(
                f"`teacher_temperature`={self.teacher_temperature}; use a number above 0."
            )
        if self.teacher_top < 1:
            raise ValueError(f"`teacher_top`={self.teacher_top}; use 1 or more.")
        if not self.teacher_vectors_weight >= 0:
            raise ValueError(
                f"`teacher_vectors_weight`={self.teacher_vectors_weight}; use 0 or more."
            )


class TeacherLoss(tf_keras.layers.Layer):
    """What one teacher has to say to one student.

    Args:
        teacher: see the contract.
        spec: the student's; the teacher's may have other features of items, nothing else.
        config: how the two are compared.
        dim: of the student's vectors of items.

    Raises:
        ValueError: if the teacher reads other queries, or has no vectors where these are asked for.
    """

    def __init__(self, teacher: Teacher, spec: FeatureSpec, config: TeacherLossConfig, dim: int):
        super().__init__(name="teacher_loss")
        if not teacher.spec.takes_queries_of(spec):
            raise ValueError(
                "The teacher knows other users, items or features of queries, so that its rows are "
                "others. Train with `features=teacher.spec`."
            )
        self._config = config
        # Its method alone: of the model itself Keras would make a part of the student.
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
        """What the teacher says of the catalogue, float32 [B, catalogue], as logits."""
        said = tf.stop_gradient(self._scores(query))
        return z_scores(said) / self._config.teacher_temperature

    def of_scores(self, logits: tf.Tensor, said: tf.Tensor) -> tf.Tensor:
        """The loss of each row's scores, float32 [B].

        Args:
            logits: float32 [B, catalogue], the student's; masked where items are left out.
            said: what `scores` gave.
        """
        if self._config.teacher_scores == "top_items":
            return distillation_losses.top_items(logits, said, self._config.teacher_top)
        return distillation_losses.soft_labels(logits, said)

    def of_vectors(self, embed_items: Any, draw: tf.Tensor) -> tf.Tensor:
        """The loss of the vectors of items, some of the catalogue if it is large; float32 scalar.

        Args:
            embed_items: item rows int32 [n] to float32 [n, dim + 1], the last of them a bias, which
                says nothing of likeness and is left out.
            draw: int64 [2], what the items are drawn from.
        """
        kind = self._config.teacher_vectors
        if self._vectors is None:
            return tf.zeros([])
        items = int(self._vectors.shape[0])
        rows = tf.range(1, items + 1)
        # Relations are of a step's items among each other, another choice of them in each.
        if items > _ITEMS_A_STEP or kind == "relational":
            order = tf.random.experimental.stateless_shuffle(rows, draw)
            rows = order[:_ITEMS_A_STEP]
        own, said = embed_items(rows)[:, :-1], tf.gather(self._vectors, rows - 1)
        if kind == "relational":
            loss = distillation_losses.distances(own, said) + distillation_losses.angles(own, said)
        elif kind == "value_relations":
            loss = distillation_losses.value_relations(own, said)
        elif kind == "cosine":
            loss = tf.reduce_mean(distillation_losses.cosine(tf.matmul(own, self.projection), said))
        else:
            loss = tf.reduce_mean(
                distillation_losses.squared(tf.matmul(own, self.projection), said)
            )
        return self._config.teacher_vectors_weight * loss
