"""The base class of families that represent queries and items as fields.

A field is one vector: of the history, of an id, or of one feature.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.models.layers.item_rows import mean_of_rows
from tfrec_meta.models.layers.towers import on_unit_sphere


class FieldRecommender(TrainableRecommender):
    """Builds the fields of queries and items.

    The fields of a query are the mean of the history's item embeddings, scaled to length 1; the
    user, with `user_id`; and each feature, with `user_features`. The fields of an item are its id
    and, with `item_features`, each feature. Fields without a value are zeros.
    """

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


def recipe_space(hp: Any) -> dict[str, Any]:
    """Declares the searched fields of `TrainingConfig`, with its defaults."""
    with hp.name_scope("training"):
        return {
            "learning_rate": hp.Float("learning_rate", 0.0005, 0.05, sampling="log", default=0.005),
            "weight_decay": hp.Float("weight_decay", 0.001, 1.0, sampling="log", default=0.1),
            "batch_size": hp.Choice("batch_size", [256, 512, 1024, 2048], default=512),
            "history_length": hp.Choice("history_length", [50, 100, 200], default=100),
            "history_dropout": hp.Float("history_dropout", 0.0, 0.5, step=0.1, default=0.0),
            "user_dropout": hp.Float("user_dropout", 0.0, 0.5, step=0.1, default=0.1),
            "user_balance": hp.Float("user_balance", 0.0, 1.0, step=0.25, default=0.5),
        }
