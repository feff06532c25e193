"""Operations on item rows, by hand, through both of their code paths."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.layers import item_rows

ROWS = np.array([[1, 3, 0], [2, 2, 2], [0, 0, 0]], np.int32)
TABLE = np.array([[9, 9], [1, 0], [0, 4], [3, 2]], np.float32)


@pytest.fixture(params=["multi-hot", "gather"])
def code_path(request, monkeypatch):
    monkeypatch.setattr(item_rows, "_ROWS_PER_PLACE", 64 if request.param == "multi-hot" else 0)


def test_mean_of_rows_ignores_padding(code_path):
    mean = item_rows.mean_of_rows(tf.constant(ROWS), tf.constant(TABLE))
    np.testing.assert_allclose(mean, [[2, 1], [0, 4], [0, 0]], atol=1e-6)


def test_mean_of_rows_has_the_gradient_of_a_mean(code_path):
    table = tf.Variable(TABLE)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(item_rows.mean_of_rows(tf.constant(ROWS), table))
    gradient = tf.convert_to_tensor(tape.gradient(total, table))
    # Row 0 is padding. Rows 1 and 3 share one mean; row 2 is another mean by itself.
    np.testing.assert_allclose(gradient, [[0, 0], [0.5, 0.5], [1, 1], [0.5, 0.5]], atol=1e-6)


def test_mean_of_few_rows_is_the_same_mean_with_the_same_gradient():
    table = tf.Variable(TABLE)
    with tf.GradientTape() as tape:
        mean = item_rows.mean_of_few_rows(tf.constant(ROWS), table)
        total = tf.reduce_sum(mean)
    np.testing.assert_allclose(mean, [[2, 1], [0, 4], [0, 0]], atol=1e-6)
    found = tape.gradient(total, table)
    assert isinstance(found, tf.IndexedSlices)
    gradient = tf.math.unsorted_segment_sum(found.values, found.indices, 4)
    np.testing.assert_allclose(gradient, [[0, 0], [0.5, 0.5], [1, 1], [0.5, 0.5]], atol=1e-6)
    assert item_rows.mean_of_few_rows(tf.constant(ROWS[:0]), table).shape == (0, 2)


def test_multi_hot_counts_and_ignores_padding():
    expected = [[0, 1, 0, 1], [0, 0, 3, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(item_rows.multi_hot(tf.constant(ROWS), 4), expected)


def test_is_in_history_finds_each_history_item(code_path):
    items = tf.constant([3, 1, 3], tf.int32)  # one of them occurs twice
    found = item_rows.is_in_history(tf.constant(ROWS), items, 4)
    expected = [[True, True, True], [False, False, False], [False, False, False]]
    np.testing.assert_array_equal(found, expected)


def test_is_in_history_agrees_with_python_on_random_batches(code_path):
    rng = np.random.default_rng(0)
    history = rng.integers(0, 30, (16, 5)).astype(np.int32)
    items = rng.integers(1, 30, 16).astype(np.int32)
    expected = [[item in set(row) for item in items] for row in history]
    np.testing.assert_array_equal(
        item_rows.is_in_history(tf.constant(history), tf.constant(items), 30), expected
    )


def test_without_repeats_keeps_each_item_once():
    rows = tf.constant([[4, 2, 4, 0], [0, 0, 0, 0], [1, 1, 1, 1]], tf.int32)
    found = item_rows.without_repeats(rows).numpy()
    assert [sorted(row[row > 0].tolist()) for row in found] == [[2, 4], [], [1]]


def test_last_occurrences_keeps_the_last_of_each_item():
    rows = tf.constant([[3, 5, 3, 0, 0], [1, 2, 4, 4, 4]])
    np.testing.assert_array_equal(
        item_rows.last_occurrences(rows), [[0, 5, 3, 0, 0], [1, 2, 0, 0, 4]]
    )
