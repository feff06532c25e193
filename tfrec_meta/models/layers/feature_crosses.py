"""Feature crosses: the fields of a query and an item to one number per pair.

A catalogue has many more pairs than queries and items. So each cross consists of three functions:
the part that depends on the query alone, the part that depends on the item alone, and the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.keras import tf_keras
from tfrec_meta.models.layers.towers import multilayer_perceptron

InteractionName = Literal["mlp", "dcn", "dlrm", "deepfm"]


def create_feature_cross(
    name: str, dim: int, hidden: Sequence[int], cross_layers: int, cross_rank: int
) -> Interaction:
    """Creates a feature cross by name; "dcn" uses `cross_layers` and `cross_rank`."""
    if name == "dcn":
        return CrossNetwork(hidden, cross_layers, cross_rank)
    kinds = {"mlp": Perceptron, "dlrm": DotProducts, "deepfm": FactorizationMachine}
    return kinds[name](dim, hidden)


class Interaction(tf_keras.layers.Layer, ABC):
    """The base class of feature crosses; by default, all work is done per pair."""

    def query_part(self, query: tf.Tensor) -> tf.Tensor:
        """Maps the fields of queries, float32 [B, w], to float32 [B, p]."""
        return query

    def item_part(self, item: tf.Tensor) -> tf.Tensor:
        """Maps the fields of items, float32 [n, w'], to float32 [n, p']."""
        return item

    @abstractmethod
    def pair(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, C] for parts float32 [B, 1, p] and [B, C, p'] or [1, C, p']."""

    def call(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, 1] for the fields of B pairs, float32 [B, w] and [B, w']."""
        return self.pair(self.query_part(query)[:, None], self.item_part(item)[:, None])


class Perceptron(Interaction):
    """Dense layers over all fields; the first layer is the sum of a part of each side.

    Args:
        dim: d, of a field.
        hidden: widths of the layers, at least one.
    """

    def __init__(self, dim: int, hidden: Sequence[int]):
        super().__init__(name="interaction")
        self.dim = dim
        self.width = hidden[0]
        self.of_query = tf_keras.layers.Dense(self.width, name="of_query")
        self.of_item = tf_keras.layers.Dense(self.width, use_bias=False, name="of_item")
        self.deep = _layers(hidden[1:])

    def query_part(self, query: tf.Tensor) -> tf.Tensor:
        return self.of_query(query)

    def item_part(self, item: tf.Tensor) -> tf.Tensor:
        return self.of_item(item)

    def pair(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        return self.deep(tf.nn.relu(query + item))[..., 0]


class DotProducts(Perceptron):
    """DLRM: dense layers over the fields and the dot products of all pairs of fields.

    References:
        Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation
        Systems", 2019, by `tfrs.layers.feature_interaction.DotInteraction`.
    """

    def __init__(self, dim: int, hidden: Sequence[int]):
        super().__init__(dim, hidden)
        # Zeros in place of the upper triangle: gathering the lower one takes longer.
        self.dots = tfrs.layers.feature_interaction.DotInteraction(skip_gather=True)
        self.of_dots = tf_keras.layers.Dense(self.width, use_bias=False, name="of_dots")

    def query_part(self, query: tf.Tensor) -> tf.Tensor:
        return tf.concat([self.of_query(query), query], axis=1)

    def item_part(self, item: tf.Tensor) -> tf.Tensor:
        return tf.concat([self.of_item(item), item], axis=1)

    def pair(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        fields, shape = _side_by_side(query[..., self.width :], item[..., self.width :])
        dots = self.of_dots(self.dots(tf.split(fields, fields.shape[1] // self.dim, axis=1)))
        dots = tf.reshape(dots, tf.concat([shape, [self.width]], axis=0))
        return self.deep(tf.nn.relu(query[..., : self.width] + item[..., : self.width] + dots))[
            ..., 0
        ]


class FactorizationMachine(Perceptron):
    """DeepFM: the sum of a factorization machine over the fields and dense layers.

    References:
        Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI
        2017, equations 1 to 4. Pairs of fields of one side are part of that side; pairs across the
        sides are the dot product of the two sums of fields.
    """

    def __init__(self, dim: int, hidden: Sequence[int]):
        super().__init__(dim, hidden)
        self.linear_query = tf_keras.layers.Dense(1, use_bias=False, name="linear_query")
        self.linear_item = tf_keras.layers.Dense(1, use_bias=False, name="linear_item")

    def query_part(self, query: tf.Tensor) -> tf.Tensor:
        return self._part(query, self.of_query(query), self.linear_query(query))

    def item_part(self, item: tf.Tensor) -> tf.Tensor:
        return self._part(item, self.of_item(item), self.linear_item(item))

    def _part(self, fields: tf.Tensor, deep: tf.Tensor, linear: tf.Tensor) -> tf.Tensor:
        vectors = tf.reshape(fields, [-1, fields.shape[1] // self.dim, self.dim])
        total = tf.reduce_sum(vectors, axis=1)
        return tf.concat([deep, total, linear + pairwise_products(vectors)[:, None]], axis=1)

    def pair(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        of_query, of_item = (
            tf.split(part, [self.width, self.dim, 1], axis=-1) for part in (query, item)
        )
        deep = self.deep(tf.nn.relu(of_query[0] + of_item[0]))[..., 0]
        across = tf.reduce_sum(of_query[1] * of_item[1], axis=-1)
        return deep + across + of_query[2][..., 0] + of_item[2][..., 0]


class CrossNetwork(Interaction):
    """DCN-v2: cross layers over all fields, then dense layers.

    References:
        Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021 (the stacked form), by
        `tfrs.layers.dcn.Cross`.

    Args:
        hidden: widths of the dense layers, at least one.
        cross_layers: the number of cross layers.
        cross_rank: rank of the matrices of the cross layers; 0 for full rank.
    """

    def __init__(self, hidden: Sequence[int], cross_layers: int, cross_rank: int):
        super().__init__(name="interaction")
        self.crosses = [
            tfrs.layers.dcn.Cross(projection_dim=cross_rank or None, name=f"cross_{place}")
            for place in range(cross_layers)
        ]
        self.deep = _layers(hidden)

    def pair(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        fields, shape = _side_by_side(query, item)
        crossed = fields
        for cross in self.crosses:
            crossed = cross(fields, crossed)
        return tf.reshape(self.deep(crossed), shape)


def pairwise_products(vectors: tf.Tensor) -> tf.Tensor:
    """Sums the dot products of all pairs of different vectors: [..., n, d] to [...]."""
    square = tf.reduce_sum(tf.square(tf.reduce_sum(vectors, axis=-2)), axis=-1)
    return 0.5 * (square - tf.reduce_sum(tf.square(vectors), axis=[-2, -1]))


def _layers(hidden: Sequence[int]) -> tf_keras.layers.Layer:
    """Dense layers to one number, which is initially 0, so that scores start as the biases."""
    layers = multilayer_perceptron(hidden, 1, "deep") or tf_keras.Sequential(
        [tf_keras.layers.Dense(1, name="deep_0")], name="deep"
    )
    layers.layers[-1].kernel_initializer = tf_keras.initializers.Zeros()
    return layers


def _side_by_side(query: tf.Tensor, item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The concatenated fields of all pairs, float32 [B * C, w + w'], and the shape [B, C]."""
    widths = query.shape[-1], item.shape[-1]
    shape = tf.stack([tf.shape(query)[0], tf.shape(item)[1]])
    query, item = (
        tf.reshape(tf.broadcast_to(part, tf.concat([shape, [width]], axis=0)), [-1, width])
        for part, width in zip((query, item), widths, strict=True)
    )
    return tf.concat([query, item], axis=1), shape
