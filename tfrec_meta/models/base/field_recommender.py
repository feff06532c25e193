"""The base class of families that represent queries and items as fields.

A field is one vector: of the history, of an id, or of one feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import Vocabulary
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.models.layers.item_rows import mean_of_rows
from tfrec_meta.models.layers.towers import on_unit_sphere


class FieldRecommender(TrainableRecommender):
    """Builds the fields of queries and items, and their biases.

    The fields of a query are the mean of the history's item embeddings, scaled to length 1; the
    user, with `user_id`; and each feature, with `user_features`. The fields of an item are its id
    and, with `item_features`, each feature. Fields without a value are zeros.

    Attributes:
        item_bias: float32 Variable [items, ...], the bias of each item.
        user_bias: float32 Variable [users, ...], the bias of each user; None without `user_id`.
        usual: float32 Variable [...], the mean rating or the log odds of a click in the data.
    """

    item_bias: tf.Variable
    user_bias: tf.Variable | None
    usual: tf.Variable

    def add_biases(self, shape: Sequence[int], item_name: str = "item_bias") -> None:
        """Creates the biases.

        Args:
            shape: of one bias.
            item_name: name of the item biases. Weight decay spares those named "item_bias".
        """
        items, users = len(self.spec.items), len(self.spec.users)
        self.item_bias = self.add_weight(name=item_name, shape=[items, *shape], initializer="zeros")
        self.user_bias = (
            self.add_weight(name="user_bias", shape=[users, *shape], initializer="zeros")
            if self.config.user_id
            else None
        )
        self.usual = tf.Variable(tf.zeros(shape), trainable=False, name="usual")

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        found = {**super().rows_of_tokens(), "item_bias": (self.item_bias, self.spec.items)}
        if self.user_bias is not None:
            found["user_bias"] = (self.user_bias, self.spec.users)
        return found

    def has_evidence(self, query: Query) -> tf.Tensor:
        """Returns bool [B]; always True for a model that ranks by ratings or clicks.

        The usual rating and the bias of the item are evidence for every user.
        """
        if self.objective is not Objective.NDCG:
            return tf.ones([tf.shape(query["user_id"])[0]], tf.bool)
        return super().has_evidence(query)

    @property
    def query_width(self) -> int:
        """The width of `query_fields`."""
        count = int(self.config.user_id) + 1 + len(self._query_features)
        return count * self.config.embedding_dim

    @property
    def item_width(self) -> int:
        """The width of `item_fields`."""
        return (1 + len(self._item_features)) * self.config.embedding_dim

    def query_fields(self, query: Query) -> tf.Tensor:
        """Returns the fields of queries side by side, float32 [B, query_width]."""
        history = mean_of_rows(query["history"], self.item_embedding)
        fields = [on_unit_sphere(history)]
        if self.user_embedding is not None:
            fields.append(self._user_vectors(query["user_id"]))
        if self._query_features:
            known = self._with_known_features(query)
            fields += self.query_sum.vectors(known, self.step_options.compiled)
        return tf.concat(fields, axis=1)

    def item_fields(self, item: Query) -> tf.Tensor:
        """Returns the fields of items side by side, float32 [n, item_width].

        Args:
            item: `item_id` int32 [n] and the encoding of each item feature.
        """
        fields = [self._item_vectors_by_id(item["item_id"])]
        if self._item_features:
            fields += self.item_sum.vectors(item, self.step_options.compiled)
        return tf.concat(fields, axis=1)
