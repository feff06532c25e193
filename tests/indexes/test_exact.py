"""Masks, top-k and re-ranking, by values worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.indexes import exact as index

INF = np.inf


def scores(*rows):
    return tf.constant(rows, tf.float32)


def integers(*rows):
    return tf.constant(rows, tf.int32)


def test_masked_rows_are_never_ranked_and_0_masks_nothing():
    given = scores([1, 2, 3], [4, 5, 6])
    masked = index.mask_rows(given, integers([3, 0, 3], [0, 0, 0]))
    np.testing.assert_array_equal(masked, [[1, 2, -INF], [4, 5, 6]])
    np.testing.assert_array_equal(index.mask_rows(given, tf.zeros([2, 0], tf.int32)), given)


def test_an_item_is_kept_for_any_of_its_attributes():
    attributes = integers([1, 0], [2, 1], [3, 0], [0, 0])  # of four items; the last has none
    masked = index.mask_other_attributes(
        scores(*[[1, 2, 3, 4]] * 4),
        wanted=integers([1, 0], [3, 2], [0, 0], [0, 0]),
        asked=tf.constant([True, True, False, True]),  # the last: for unknown ones only
        attributes=attributes,
        size=4,
    )
    np.testing.assert_array_equal(
        masked, [[1, 2, -INF, -INF], [-INF, 2, 3, -INF], [1, 2, 3, 4], [-INF] * 4]
    )


def test_the_best_come_first_and_the_lower_row_breaks_ties():
    rows, values = index.top_k(scores([1, 7, 3, 7]), tf.constant([3]), max_k=4)
    np.testing.assert_array_equal(rows, [[2, 4, 3]])
    np.testing.assert_array_equal(values, [[7, 7, 3]])


def test_each_row_has_its_own_k():
    rows, values = index.top_k(
        scores([1, 2, 3], [3, 2, 1], [1, 3, 2], [1, 2, 3]), tf.constant([1, 2, 0, -4]), max_k=3
    )
    np.testing.assert_array_equal(rows, [[3, 0], [1, 2], [0, 0], [0, 0]])
    np.testing.assert_array_equal(values, [[3, -INF], [3, 2], [-INF, -INF], [-INF, -INF]])


@pytest.mark.parametrize("k, max_k, width", [(9, 5, 3), (9, 2, 2), (2**31 - 1, 2, 2), (0, 5, 0)])
def test_the_width_is_capped_at_max_k_and_the_catalogue(k, max_k, width):
    rows, values = index.top_k(scores([1, 3, 2]), tf.constant([k]), max_k)
    np.testing.assert_array_equal(rows, [[2, 3, 1][:width]])
    assert values.shape == (1, width)


def test_what_is_hidden_is_blank_in_the_answer():
    rows, values = index.top_k(scores([-INF, 5, -INF], [-INF] * 3), tf.constant([3, 3]), max_k=3)
    np.testing.assert_array_equal(rows, [[2, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(values, [[5, -INF, -INF], [-INF] * 3])


# Items 1 and 2 point the same way, 3 half away from them, 4 at a right angle.
DIRECTIONS = tf.constant([[2, 0], [5, 0], [0.5, np.sqrt(0.75)], [0, 3]], tf.float32)
RELEVANCE = scores([10, 9, 8, 6])  # scaled to [0, 1]: 1, 0.75, 0.5, 0


def diverse(given, diversity, k=4, pool=4, max_k=4):
    rows = given.shape[0]
    return index.diverse_top_k(
        given,
        tf.constant(np.broadcast_to(k, rows), tf.int32),
        max_k,
        DIRECTIONS,
        tf.constant(np.broadcast_to(diversity, rows), tf.float32),
        pool,
    )


@pytest.mark.parametrize(
    "diversity, order",
    [
        # Second pick: 2 has 0.75 x 0.75 - 0.25 x 1 = 0.3125, 3 has 0.375 - 0.125 = 0.25, 4 has 0.
        # Third: 3 still 0.25, 4 still 0.
        (0.25, [1, 2, 3, 4]),
        # Second: 2 has 0.375 - 0.5 = -0.125, 3 has 0.25 - 0.25 = 0, 4 has 0: 3 stands before it.
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
def test_marginal_relevance_by_hand(diversity, order):
    rows, values = diverse(RELEVANCE, diversity)
    np.testing.assert_array_equal(rows, [order])
    np.testing.assert_array_equal(values, RELEVANCE.numpy()[:, np.array(order) - 1])


@pytest.mark.parametrize("diversity", [0.0, -1.0, np.nan])
def test_without_diversity_it_is_top_k(diversity):
    given = scores([1, 7, 3, 7], [2, -INF, 2, 1])
    k = tf.constant([2, 4])
    for mine, plain in zip(
        diverse(given, diversity, k=[2, 4]), index.top_k(given, k, max_k=4), strict=True
    ):
        np.testing.assert_array_equal(mine, plain)


def test_each_row_has_its_own_diversity_and_k():
    rows, _ = diverse(tf.repeat(RELEVANCE, 3, axis=0), [0.75, 0.0, 0.5], k=[2, 3, 0])
    np.testing.assert_array_equal(rows, [[1, 4, 0], [1, 2, 3], [0, 0, 0]])


def test_only_the_pool_is_considered():
    rows, _ = diverse(RELEVANCE, 0.75, k=2, pool=3, max_k=2)
    np.testing.assert_array_equal(rows, [[1, 3]])


def test_hidden_items_are_not_picked_and_none_is_picked_twice():
    rows, values = diverse(scores([10, -INF, 8, -INF], [-INF] * 4), 0.75)
    np.testing.assert_array_equal(rows, [[1, 3, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(values, [[10, 8, -INF, -INF], [-INF] * 4])


def test_diversity_gives_nothing_where_all_rows_ask_for_nothing():
    scores = tf.constant([[3.0, 2.0, 1.0]])
    rows, values = index.diverse_top_k(
        scores, tf.constant([0]), 2, tf.eye(3), tf.constant([0.5]), 3
    )
    assert rows.shape == values.shape == (1, 0)
