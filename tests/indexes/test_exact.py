"""Masks and top-k, by values worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.indexes import exact as index

INF = np.inf


def scores(*rows):
    return tf.constant(rows, tf.float32)


def integers(*rows):
    return tf.constant(rows, tf.int32)


def test_masks_the_given_rows_and_nothing_for_row_0():
    given = scores([1, 2, 3], [4, 5, 6])
    masked = index.mask_rows(given, integers([3, 0, 3], [0, 0, 0]))
    np.testing.assert_array_equal(masked, [[1, 2, -INF], [4, 5, 6]])
    np.testing.assert_array_equal(index.mask_rows(given, tf.zeros([2, 0], tf.int32)), given)


def test_keeps_an_item_that_has_any_of_the_wanted_attributes():
    attributes = integers([1, 0], [2, 1], [3, 0], [0, 0])  # of four items; the last item has none
    masked = index.mask_other_attributes(
        scores(*[[1, 2, 3, 4]] * 4),
        wanted=integers([1, 0], [3, 2], [0, 0], [0, 0]),
        filtered=tf.constant([True, True, False, True]),  # the last row: unknown attributes only
        attributes=attributes,
        size=4,
    )
    np.testing.assert_array_equal(
        masked, [[1, 2, -INF, -INF], [-INF, 2, 3, -INF], [1, 2, 3, 4], [-INF] * 4]
    )


def test_sorts_by_score_and_breaks_ties_by_the_lower_row():
    rows, values = index.top_k(scores([1, 7, 3, 7]), tf.constant([3]), max_k=4)
    np.testing.assert_array_equal(rows, [[2, 4, 3]])
    np.testing.assert_array_equal(values, [[7, 7, 3]])


def test_uses_the_k_of_each_row():
    rows, values = index.top_k(
        scores([1, 2, 3], [3, 2, 1], [1, 3, 2], [1, 2, 3]), tf.constant([1, 2, 0, -4]), max_k=3
    )
    np.testing.assert_array_equal(rows, [[3, 0], [1, 2], [0, 0], [0, 0]])
    np.testing.assert_array_equal(values, [[3, -INF], [3, 2], [-INF, -INF], [-INF, -INF]])


@pytest.mark.parametrize("k, max_k, width", [(9, 5, 3), (9, 2, 2), (2**31 - 1, 2, 2), (0, 5, 0)])
def test_caps_the_width_at_max_k_and_the_catalogue(k, max_k, width):
    rows, values = index.top_k(scores([1, 3, 2]), tf.constant([k]), max_k)
    np.testing.assert_array_equal(rows, [[2, 3, 1][:width]])
    assert values.shape == (1, width)


def test_returns_blanks_for_masked_items():
    rows, values = index.top_k(scores([-INF, 5, -INF], [-INF] * 3), tf.constant([3, 3]), max_k=3)
    np.testing.assert_array_equal(rows, [[2, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(values, [[5, -INF, -INF], [-INF] * 3])
