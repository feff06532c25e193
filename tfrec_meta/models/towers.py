"""The parts of which query and candidate towers are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfrec_meta.keras import tf_keras

import tensorflow as tf  # noqa: E402

from tfrec_meta.features.spec import Category, Feature, FeatureSpec, Text  # noqa: E402

# Up to this many vocabulary rows for each place of a history, a multi-hot matrix product is faster
# than gathering [B, H, d]; measured on two cores, dimension 64, forward and backward.
_ROWS_PER_PLACE = 64


def mean_of_rows(rows: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Mean of the table rows that are named, row 0 left out.

    Args:
        rows: int32 [B, W], 0 pads.
        table: float32 [vocabulary, d].

    Returns:
        float32 [B, d]; zeros where no row is named.
    """
    present = tf.cast(rows > 0, table.dtype)
    if table.shape[0] <= _ROWS_PER_PLACE * rows.shape[1]:
        batch = tf.range(tf.shape(rows)[0])[:, None] + tf.zeros_like(rows)
        shape = [tf.shape(rows)[0], table.shape[0]]
        total = tf.matmul(tf.scatter_nd(tf.stack([batch, rows], axis=-1), present, shape), table)
    else:
        total = tf.einsum("bwd,bw->bd", tf.gather(table, rows), present)
    return tf.math.divide_no_nan(total, tf.reduce_sum(present, axis=1, keepdims=True))


class FeatureSum(tf_keras.layers.Layer):
    """One embedding of each feature, added up.

    Categories and words are looked up and averaged; numbers and vectors go through a linear map.
    All start at zero, so that a model begins with its ids and takes from the features what helps.

    Args:
        features: of one side of the spec.
        spec: the fitted FeatureSpec.
        dim: d.
    """

    def __init__(self, features: Sequence[Feature], spec: FeatureSpec, dim: int, name: str):
        super().__init__(name=name)
        self._features = list(features)
        for feature in self._features:
            if isinstance(feature, Category | Text):
                height = len(spec.vocabularies[spec.key(feature)])
            else:
                height = spec.encode_width(feature)
            table = self.add_weight(name=feature.name, shape=[height, dim], initializer="zeros")
            setattr(self, f"table_{feature.name}", table)

    def call(self, encoded: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encoded features to float32 [B, d]."""
        total = tf.zeros([])
        for feature in self._features:
            table = getattr(self, f"table_{feature.name}")
            value = encoded[feature.name]
            if isinstance(feature, Category | Text):
                total += mean_of_rows(value, tf.convert_to_tensor(table))
            else:
                total += tf.matmul(value, table)
        return total


def is_present(feature: Feature, value: tf.Tensor) -> tf.Tensor:
    """bool [B, 1]: whether an encoded feature holds anything at all."""
    return tf.reduce_any(value != 0, axis=1, keepdims=True)


def multilayer_perceptron(hidden: Sequence[int], dim: int, name: str) -> tf_keras.Sequential | None:
    """Dense layers of the widths `hidden` with ReLU, then a linear one to `dim`; None without any."""
    if not hidden:
        return None
    layers = [tf_keras.layers.Dense(width, activation="relu") for width in hidden]
    return tf_keras.Sequential([*layers, tf_keras.layers.Dense(dim)], name=name)
