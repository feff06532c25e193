"""The base class of two-tower retrieval models: dot products, the catalogue index and teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrec_meta.models.base.contract import Query, Teacher
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.models.losses.retrieval_task import RetrievalTask
from tfrec_meta.models.losses.teacher_loss import TeacherLoss


class RetrievalTower(TrainableRecommender):
    """Scores by the dot product of a query and an item embedding, float32 [embedding_dim + 1] each.

    A family implements `embed_query`, `embed_item` and `compute_loss`.

    Attributes:
        item_index: float32 Variable [items, embedding_dim + 1], the item embeddings of the whole
            catalogue since the last `refresh`; the last column is the bias.
        task: the retrieval loss.
        teacher_loss: the loss of a teacher; None without one.
    """

    has_embeddings = True

    item_index: tf.Variable
    task: RetrievalTask
    teacher_loss: TeacherLoss | None = None

    def teach(self, teacher: Teacher) -> None:
        """Adds the loss of a teacher, which scores each training query as it comes."""
        self.check_teachable(self.config)
        self.teacher_loss = TeacherLoss(teacher, self.spec, self.config, self.config.embedding_dim)

    @classmethod
    def check_teachable(cls, config: Any) -> None:
        config.check_teachable()

    def idle_settings(self, taught: bool = False) -> set[str]:
        idle: set[str] = self.config.idle_fields(taught)
        return idle

    def after_step(self, inputs: Query) -> None:
        items = inputs["item_id"]
        if "feedback" in inputs:  # known negatives are no negatives of other users
            items = tf.where(inputs["feedback"] > 0, items, 0)
        self.task.remember(items, self._embed_known_items)

    def training_only(self) -> Sequence[tf.Variable]:
        return [*self.task.weights, *(self.teacher_loss.weights if self.teacher_loss else [])]

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        embedding = self.embed_query(query)
        if items is None:
            return tf.matmul(embedding, self.item_index[1:], transpose_b=True)
        return tf.einsum("bd,bcd->bc", embedding, tf.gather(self.item_index, items))

    def item_embeddings(self) -> tf.Tensor:
        """Returns float32 [catalogue, embedding_dim], without the bias."""
        return self.item_index[1:, :-1]

    def _embed_known_items(self, rows: tf.Tensor) -> tf.Tensor:
        return self.embed_item(self._known_item(rows))
