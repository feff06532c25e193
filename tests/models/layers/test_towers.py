"""Parts of the towers, by hand."""

import numpy as np
import tensorflow as tf

from tfrec_meta.features import FeatureSpec, HashedText
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.layers import towers

ROWS = np.array([[1, 3, 0], [2, 2, 2], [0, 0, 0]], np.int32)
TABLE = np.array([[9, 9], [1, 0], [0, 4], [3, 2]], np.float32)


def test_hashed_texts_are_averaged_alike_with_and_without_xla():
    feature = HashedText("title", width=2, ngrams=(), buckets=3)
    layer = towers.FeatureSum([feature], FeatureSpec(item=(feature,)), 2, "item")
    layer.set_weights([TABLE])
    encoded = {"title": tf.constant(ROWS[:, :2])}
    compiled = tf.function(layer.vectors, jit_compile=True)(encoded, compiled=True)
    np.testing.assert_allclose(layer(encoded), [[2, 1], [0, 4], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(compiled[0], layer(encoded), atol=1e-6)


def test_on_unit_sphere_keeps_zeros():
    vectors = towers.on_unit_sphere(tf.constant([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_multilayer_perceptron_ends_linear():
    assert towers.multilayer_perceptron((), 4, "none") is None
    layers = towers.multilayer_perceptron((8, 6), 4, "some").layers
    assert [layer.units for layer in layers] == [8, 6, 4]
    assert layers[-1].activation == tf_keras.activations.linear
