"""Queries and items as fields: a vector for each thing that is known of a user or an item."""

from __future__ import annotations

from typing import Any, cast

from tfrec_meta.features import Category, FeatureSpec, Text, Vocabulary
from tfrec_meta.features.spec import Side
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.contract import Query
from tfrec_meta.models.towers import FeatureSum, mean_of_rows, on_unit_sphere
from tfrec_meta.models.trainable import TrainableRecommender

import tensorflow as tf


class FieldRecommender(TrainableRecommender):
    """What families share that combine fields: the tables that these come from.

    The fields of a query are the mean of the history's items, of length 1 however long that is, the
    user (by choice), and each feature (by choice); those of an item are its id and each feature (by
    choice). What is not known is zeros.

    Args:
        config: with `embedding_dim`, `user_id`, `user_features` and `item_features`.
        spec: a fitted FeatureSpec.
    """

    def __init__(self, config: Any, spec: FeatureSpec):
        super().__init__(
            config,
            spec,
            user_id=config.user_id,
            query_features=spec.query if config.user_features else (),
            item_features=spec.item if config.item_features else (),
        )
        self.item_embedding = self._table("item_embedding", len(spec.items))
        self.user_embedding = (
            self._table("user_embedding", len(spec.users)) if config.user_id else None
        )
        dim = config.embedding_dim
        self.query_sum = FeatureSum(self._query_features, spec, dim, "query")
        self.item_sum = FeatureSum(self._item_features, spec, dim, "item")

    @property
    def query_width(self) -> int:
        """Of what `query_fields` gives."""
        count = int(self._user_id) + 1 + len(self._query_features)
        return count * self.config.embedding_dim

    @property
    def item_width(self) -> int:
        """Of what `item_fields` gives."""
        return (1 + len(self._item_features)) * self.config.embedding_dim

    def query_fields(self, query: Query) -> tf.Tensor:
        """The fields side by side, float32 [B, query_width]."""
        history = mean_of_rows(query["history"], tf.convert_to_tensor(self.item_embedding))
        fields = [on_unit_sphere(history)]
        if self.user_embedding is not None:
            known = tf.cast(self._met_user(query["user_id"]), tf.float32)[:, None]
            fields.append(known * tf.gather(self.user_embedding, query["user_id"]))
        if self._query_features:
            fields += self.query_sum.vectors(self._with_known_features(query))
        return tf.concat(fields, axis=1)

    def item_fields(self, item: Query) -> tf.Tensor:
        """The fields side by side, float32 [n, item_width], of item_id int32 [n] and features."""
        rows = item["item_id"]
        fields = [self._met_item(rows)[:, None] * tf.gather(self.item_embedding, rows)]
        if self._item_features:
            fields += self.item_sum.vectors(item)
        return tf.concat(fields, axis=1)

    def has_evidence(self, query: Query) -> tf.Tensor:
        known = tf.reduce_any(query["history"] > 0, axis=1)
        return known | self._evidence_beside_history(query)

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        found = {"item_embedding": (self.item_embedding, self.spec.items)}
        if self.user_embedding is not None:
            found["user_embedding"] = (self.user_embedding, self.spec.users)
        for side, tower in self._feature_sums():
            for feature, table in tower.tables():
                if isinstance(feature, Category | Text):
                    vocabulary = self.spec.vocabularies[self.spec.key(feature, side)]
                    found[f"{side}.{feature.name}"] = (table, vocabulary)
        return found

    def other_weights(self) -> dict[str, list[tf.Variable]]:
        found = {}
        for side, tower in self._feature_sums():
            for feature, table in tower.tables():
                if not isinstance(feature, Category | Text):
                    # A weight of a number is of its scale, which the statistics are.
                    scale = self.spec.statistics.get(self.spec.key(feature, side))
                    found[f"{side} {feature!r} {scale}"] = [table]
        return found

    def _feature_sums(self) -> tuple[tuple[Side, FeatureSum], ...]:
        return ("query", self.query_sum), ("item", self.item_sum)

    def _table(self, name: str, rows: int) -> tf.Variable:
        initializer = tf_keras.initializers.RandomNormal(stddev=self.config.embedding_dim**-0.5)
        shape = [rows, self.config.embedding_dim]
        return cast(tf.Variable, self.add_weight(name=name, shape=shape, initializer=initializer))


def refuse_windows(inputs: Query) -> None:
    """A family without an order-aware encoder gains nothing from windows of events."""
    if inputs["item_id"].shape.rank == 2:
        raise ValueError(
            "`rows`='windows' is for two-tower models with a history encoder. Use `rows`='events'."
        )


def recipe_space(hp: Any) -> dict[str, Any]:
    """Fields of `TrainingConfig`, whose defaults these are."""
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
