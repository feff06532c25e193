"""What models of two towers share, whatever they know items by: the dot product, and teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrec_meta.models.base.contract import Query, Teacher
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.models.losses.retrieval_task import RetrievalTask
from tfrec_meta.models.losses.teacher_loss import Lesson


class RetrievalTower(TrainableRecommender):
    """Query times item, float32 [embedding_dim + 1] each; a family adds both and `compute_loss`.

    Attributes:
        item_index: float32 Variable [items, embedding_dim + 1], the catalogue's as of the last
            `refresh`, the bias in the last column.
        task: the loss.
        lesson: what a teacher has to say; None without one.
    """

    has_embeddings = True

    item_index: tf.Variable
    task: RetrievalTask
    lesson: Lesson | None = None

    def teach(self, teacher: Teacher) -> None:
        """See the contract; the teacher is asked about each training query as it comes."""
        self.check_teachable(self.config)
        self.lesson = Lesson(teacher, self.spec, self.config, self.config.embedding_dim)

    @classmethod
    def check_teachable(cls, config: Any) -> None:
        """See the contract."""
        config.check_teachable()

    def after_step(self, inputs: Query) -> None:
        self.task.remember(inputs["item_id"], self._embed_known_items)

    def training_only(self) -> Sequence[tf.Variable]:
        return [*self.task.weights, *([] if self.lesson is None else self.lesson.weights)]

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        embedding = self.embed_query(query)
        if items is None:
            return tf.matmul(embedding, self.item_index[1:], transpose_b=True)
        return tf.einsum("bd,bcd->bc", embedding, tf.gather(self.item_index, items))

    def item_embeddings(self) -> tf.Tensor:
        """float32 [catalogue, embedding_dim], the bias left out: how like two items are."""
        return self.item_index[1:, :-1]

    def _embed_known_items(self, rows: tf.Tensor) -> tf.Tensor:
        return self.embed_item(self._known_item(rows))
