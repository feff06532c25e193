"""Maximal marginal relevance, by values worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.indexes import exact as index
from tfrec_meta.reranking.diversity import marginal_relevance_order

INF = np.inf


def scores(*rows):
    return tf.constant(rows, tf.float32)


# Items 1 and 2 have the same direction, item 3 is at 60 degrees to them, item 4 at 90 degrees.
DIRECTIONS = tf.constant([[2, 0], [5, 0], [0.5, np.sqrt(0.75)], [0, 3]], tf.float32)
RELEVANCE = scores([10, 9, 8, 6])  # scaled to [0, 1]: 1, 0.75, 0.5, 0


def diverse(given, diversity, k=4, pool=4, max_k=4, vectors=DIRECTIONS):
    """The re-ranked answer, as `recommend` composes it."""
    size = given.shape[0]
    k = tf.constant(np.broadcast_to(k, size), tf.int32)
    values, columns = index.best_columns(given, pool)
    order = marginal_relevance_order(
        values,
        tf.gather(vectors, columns),
        tf.constant(np.broadcast_to(diversity, size), tf.float32),
        index.answer_width(given, k, max_k),
        max_k,
    )
    rows = tf.gather(columns, order, batch_dims=1) + 1
    return index.blank_past_k(rows, tf.gather(values, order, batch_dims=1), k)


@pytest.mark.parametrize(
    "diversity, order",
    [
        # Second pick: item 2 has 0.75 x 0.75 - 0.25 x 1 = 0.3125, item 3 has
        # 0.375 - 0.125 = 0.25, item 4 has 0.
        # Third: 3 still 0.25, 4 still 0.
        (0.25, [1, 2, 3, 4]),
        # Second: 2 has 0.375 - 0.5 = -0.125, 3 has 0.25 - 0.25 = 0, 4 has 0: item 3 comes first.
        # Third: 2 still -0.125, 4 has -0.5 x cos(30 degrees) = -0.433.
        (0.5, [1, 3, 2, 4]),
        # Second: 2 has 0.1875 - 0.75 = -0.5625, 3 has 0.125 - 0.375 = -0.25, 4 has 0.
        # Third: 2 still -0.5625, 3 has 0.125 - 0.75 x 0.866 = -0.5245.
        (0.75, [1, 4, 3, 2]),
        # Similarity alone. Second: 4 (0). Third: 3 (-0.866) before 2 (-1).
        (1.0, [1, 4, 3, 2]),
        (7.0, [1, 4, 3, 2]),  # clipped to 1
    ],
)
def test_orders_by_marginal_relevance(diversity, order):
    rows, values = diverse(RELEVANCE, diversity)
    np.testing.assert_array_equal(rows, [order])
    np.testing.assert_array_equal(values, RELEVANCE.numpy()[:, np.array(order) - 1])


@pytest.mark.parametrize("diversity", [0.0, -1.0, np.nan])
def test_equals_top_k_without_diversity(diversity):
    given = scores([1, 7, 3, 7], [2, -INF, 2, 1])
    k = tf.constant([2, 4])
    for reranked, plain in zip(
        diverse(given, diversity, k=[2, 4]), index.top_k(given, k, max_k=4), strict=True
    ):
        np.testing.assert_array_equal(reranked, plain)


def test_uses_the_diversity_and_k_of_each_row():
    rows, _ = diverse(tf.repeat(RELEVANCE, 3, axis=0), [0.75, 0.0, 0.5], k=[2, 3, 0])
    np.testing.assert_array_equal(rows, [[1, 4, 0], [1, 2, 3], [0, 0, 0]])


def test_considers_only_the_pool():
    rows, _ = diverse(RELEVANCE, 0.75, k=2, pool=3, max_k=2)
    np.testing.assert_array_equal(rows, [[1, 3]])


def test_picks_no_masked_item_and_no_item_twice():
    rows, values = diverse(scores([10, -INF, 8, -INF], [-INF] * 4), 0.75)
    np.testing.assert_array_equal(rows, [[1, 3, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(values, [[10, 8, -INF, -INF], [-INF] * 4])


def test_returns_an_empty_answer_if_every_k_is_0():
    given = scores([3, 2, 1])
    rows, values = diverse(given, 0.5, k=[0], pool=3, max_k=2, vectors=tf.eye(3))
    assert rows.shape == values.shape == (1, 0)
