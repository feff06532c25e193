"""Parts of the towers, by hand, and both roads of each."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.features import FeatureSpec, HashedText
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.layers import towers

ROWS = np.array([[1, 3, 0], [2, 2, 2], [0, 0, 0]], np.int32)
TABLE = np.array([[9, 9], [1, 0], [0, 4], [3, 2]], np.float32)


@pytest.fixture(params=["multi-hot", "gather"])
def road(request, monkeypatch):
    monkeypatch.setattr(towers, "_ROWS_PER_PLACE", 64 if request.param == "multi-hot" else 0)


def test_mean_of_rows_leaves_padding_out(road):
    mean = towers.mean_of_rows(tf.constant(ROWS), tf.constant(TABLE))
    np.testing.assert_allclose(mean, [[2, 1], [0, 4], [0, 0]], atol=1e-6)


def test_mean_of_rows_has_the_gradient_of_a_mean(road):
    table = tf.Variable(TABLE)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(towers.mean_of_rows(tf.constant(ROWS), table))
    gradient = tf.convert_to_tensor(tape.gradient(total, table))
    # Row 0 is padding; rows 1 and 3 are half of one mean, row 2 all of another.
    np.testing.assert_allclose(gradient, [[0, 0], [0.5, 0.5], [1, 1], [0.5, 0.5]], atol=1e-6)


def test_mean_of_few_rows_is_the_same_mean_with_the_same_gradient():
    table = tf.Variable(TABLE)
    with tf.GradientTape() as tape:
        mean = towers.mean_of_few_rows(tf.constant(ROWS), table)
        total = tf.reduce_sum(mean)
    np.testing.assert_allclose(mean, [[2, 1], [0, 4], [0, 0]], atol=1e-6)
    found = tape.gradient(total, table)
    assert isinstance(found, tf.IndexedSlices)
    gradient = tf.math.unsorted_segment_sum(found.values, found.indices, 4)
    np.testing.assert_allclose(gradient, [[0, 0], [0.5, 0.5], [1, 1], [0.5, 0.5]], atol=1e-6)
    assert towers.mean_of_few_rows(tf.constant(ROWS[:0]), table).shape == (0, 2)


def test_hashed_texts_are_averaged_alike_with_and_without_xla():
    feature = HashedText("title", width=2, ngrams=(), buckets=3)
    layer = towers.FeatureSum([feature], FeatureSpec(item=(feature,)), 2, "item")
    layer.set_weights([TABLE])
    encoded = {"title": tf.constant(ROWS[:, :2])}
    compiled = tf.function(layer.vectors, jit_compile=True)(encoded, compiled=True)
    np.testing.assert_allclose(layer(encoded), [[2, 1], [0, 4], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(compiled[0], layer(encoded), atol=1e-6)


def test_multi_hot_counts_and_leaves_padding_out():
    expected = [[0, 1, 0, 1], [0, 0, 3, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(towers.multi_hot(tf.constant(ROWS), 4), expected)


def test_stands_in_finds_each_history_among_the_items(road):
    items = tf.constant([3, 1, 3], tf.int32)  # one of them twice
    found = towers.stands_in(tf.constant(ROWS), items, 4)
    expected = [[True, True, True], [False, False, False], [False, False, False]]
    np.testing.assert_array_equal(found, expected)


def test_stands_in_agrees_with_python_on_random_batches(road):
    rng = np.random.default_rng(0)
    history = rng.integers(0, 30, (16, 5)).astype(np.int32)
    items = rng.integers(1, 30, 16).astype(np.int32)
    expected = [[item in set(row) for item in items] for row in history]
    np.testing.assert_array_equal(
        towers.stands_in(tf.constant(history), tf.constant(items), 30), expected
    )


def test_on_unit_sphere_keeps_zeros():
    vectors = towers.on_unit_sphere(tf.constant([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_multilayer_perceptron_ends_linear():
    assert towers.multilayer_perceptron((), 4, "none") is None
    layers = towers.multilayer_perceptron((8, 6), 4, "some").layers
    assert [layer.units for layer in layers] == [8, 6, 4]
    assert layers[-1].activation == tf_keras.activations.linear
