"""How a ranker brings the fields of a query and of an item together: one number for each pair.

A whole catalogue has many more pairs than queries and items. So each interaction is three
functions: what can be worked out for a query alone, for an item alone, and what is left for a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.keras import tf_keras
from tfrec_meta.models.layers.towers import multilayer_perceptron

InteractionName = Literal["mlp", "dcn", "dlrm", "deepfm"]


def made_interaction(
    name: str, dim: int, hidden: Sequence[int], cross_layers: int, cross_rank: int
) -> Interaction:
    """The interaction of that name; `cross_layers` and `cross_rank` are of "dcn"."""
    if name == "dcn":
        return CrossNetwork(hidden, cross_layers, cross_rank)
    kinds = {"mlp": Perceptron, "dlrm": DotProducts, "deepfm": FactorizationMachine}
    return kinds[name](dim, hidden)


class Interaction(tf_keras.layers.Layer):
    """One number for a query and an item; by default nothing is worked out before the pair."""

    def query_part(self, query: tf.Tensor) -> tf.Tensor:
        """float32 [B, p], of a query's fields, float32 [B, w]."""
        return query

    def item_part(self, item: tf.Tensor) -> tf.Tensor:
        """float32 [n, p'], of an item's fields, float32 [n, w']."""
        return item

    def pair(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """float32 [B, C], of parts float32 [B, 1, p] and [B, C, p'] or [1, C, p']."""
        # An interaction's own; `abc.ABC` would clash with the metaclass of tf.Module.
        raise NotImplementedError

    def call(self, query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """float32 [B, 1], of the fields of a query and an item each, float32 [B, w] and [B, w']."""
        return self.pair(self.query_part(query)[:, None], self.item_part(item)[:, None])


class Perceptron(Interaction):
    """Dense layers over all fields; the first of them is a sum of what each side brings.

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
    """DLRM: the dot products of all pairs of fields join the fields as input of the dense layers.

    Source: Naumov et al., "Deep Learning Recommendation Model for Personalization and
    Recommendation Systems", 2019, by `tfrs.layers.feature_interaction.DotInteraction`.
    """

    def __init__(self, dim: int, hidden: Sequence[int]):
        super().__init__(dim, hidden)
        # Zeros in place of the upper triangle: picking the lower one out takes longer.
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
    """DeepFM: a factorization machine over the fields, and dense layers beside it.

    Source: Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction",
    IJCAI 2017, equations 1 to 4. The pairs of one side are worked out with that side; those across
    are the dot product of the two sums of fields.
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
    """DCN-v2: cross layers over all fields, and dense layers on top of them.

    Source: Wang et al., "DCN V2: Improved Deep & Cross Network", WWW 2021 (the stacked form), by
    `tfrs.layers.dcn.Cross`.

    Args:
        hidden: widths of the dense layers, at least one.
        cross_layers: how many times the fields are crossed.
        cross_rank: of the matrices of the cross layers; 0 for whole ones.
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
    """Sum of the dot products of all pairs of different vectors: [..., n, d] to [...]."""
    square = tf.reduce_sum(tf.square(tf.reduce_sum(vectors, axis=-2)), axis=-1)
    return 0.5 * (square - tf.reduce_sum(tf.square(vectors), axis=[-2, -1]))


def _layers(hidden: Sequence[int]) -> tf_keras.layers.Layer:
    """Dense layers, of which the last gives one number: 0 at first, so that biases speak alone."""
    layers = multilayer_perceptron(hidden, 1, "deep") or tf_keras.Sequential(
        [tf_keras.layers.Dense(1, name="deep_0")], name="deep"
    )
    layers.layers[-1].kernel_initializer = tf_keras.initializers.Zeros()
    return layers


def _side_by_side(query: tf.Tensor, item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The fields of all pairs, float32 [B * C, w + w'], and [B, C]."""
    widths = query.shape[-1], item.shape[-1]
    shape = tf.stack([tf.shape(query)[0], tf.shape(item)[1]])
    query, item = (
        tf.reshape(tf.broadcast_to(part, tf.concat([shape, [width]], axis=0)), [-1, width])
        for part, width in zip((query, item), widths, strict=True)
    )
    return tf.concat([query, item], axis=1), shape
