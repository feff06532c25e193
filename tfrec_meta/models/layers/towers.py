"""The parts of query and candidate towers: feature embeddings and dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfrec_meta.features.kinds import Category, Feature, HashedText, Text
from tfrec_meta.features.spec import FeatureSpec, Side
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.layers.item_rows import mean_of_few_rows, mean_of_rows


class FeatureSum(tf_keras.layers.Layer):
    """The sum of one embedding per feature.

    Categories, words and n-grams are looked up and averaged; numbers and vectors are mapped
    linearly. By default all weights start at zero, so that a model begins with its ids alone.

    Args:
        features: of one side of the spec.
        spec: the fitted FeatureSpec.
        dim: d.
        side: "query" or "item".
        initializer: of all weights, the name of a tf_keras initializer.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        spec: FeatureSpec,
        dim: int,
        side: Side,
        initializer: str = "zeros",
    ):
        super().__init__(name=f"{side}_features")
        self._features = list(features)
        for feature in self._features:
            if isinstance(feature, Category | HashedText | Text):
                height = spec.height(feature, side)
            else:
                height = spec.encode_width(feature)
            table = self.add_weight(name=feature.name, shape=[height, dim], initializer=initializer)
            setattr(self, f"table_{feature.name}", table)

    def tables(self) -> list[tuple[Feature, tf.Variable]]:
        """Returns each feature with its embedding table or linear map."""
        return [(feature, getattr(self, f"table_{feature.name}")) for feature in self._features]

    def call(self, encoded: Mapping[str, tf.Tensor], compiled: bool = False) -> tf.Tensor:
        """Returns the sum of `vectors`, float32 [B, d]."""
        total = tf.zeros([])
        for vector in self.vectors(encoded, compiled):
            total += vector
        return total

    def vectors(self, encoded: Mapping[str, tf.Tensor], compiled: bool = False) -> list[tf.Tensor]:
        """Returns the embedding of each feature, float32 [B, d].

        Args:
            encoded: the encoding of each feature by name.
            compiled: whether XLA compiles the caller.
        """
        found = []
        for feature, table in self.tables():
            values = encoded[feature.name]
            if isinstance(feature, HashedText) and not compiled:
                found.append(mean_of_few_rows(values, table))
            elif isinstance(feature, Category | HashedText | Text):
                found.append(mean_of_rows(values, table))
            else:
                found.append(tf.matmul(values, table))
        return found


def on_unit_sphere(vectors: tf.Tensor) -> tf.Tensor:
    """Scales each row of float32 [B, d] to length 1; zeros stay zeros.

    The epsilon bounds the gradient of a vector near zero, as that of an empty history.
    """
    return tf.math.l2_normalize(vectors, axis=1, epsilon=1e-6)


def left_out(encoded: tf.Tensor, share: float, draw: tf.Tensor) -> tf.Tensor:
    """Drops some tokens or values of an encoded feature.

    Args:
        encoded: int32 [n, width], whose dropped tokens become padding; or float32 [n, width], whose
            dropped values become 0 while the others are scaled by 1 / (1 - share), as in dropout.
        share: probability of each token or value, in [0, 1).
        draw: int64 [2], the seed.
    """
    if encoded.dtype.is_floating:
        return tf.nn.experimental.stateless_dropout(encoded, share, draw)
    return tf.where(tf.random.stateless_uniform(tf.shape(encoded), draw) < share, 0, encoded)


def is_present(value: tf.Tensor) -> tf.Tensor:
    """Returns bool [B, 1]: whether an encoded feature has any value."""
    return tf.reduce_any(value != 0, axis=1, keepdims=True)


def multilayer_perceptron(hidden: Sequence[int], dim: int, name: str) -> tf_keras.Sequential | None:
    """Returns dense layers of widths `hidden` with ReLU and a linear layer to `dim`.

    Without widths, returns None.
    """
    if not hidden:
        return None
    # Named, because Keras numbers layers without a name process-wide.
    layers = [
        tf_keras.layers.Dense(width, activation="relu", name=f"{name}_{place}")
        for place, width in enumerate(hidden)
    ]
    last = tf_keras.layers.Dense(dim, name=f"{name}_{len(hidden)}")
    return tf_keras.Sequential([*layers, last], name=name)
