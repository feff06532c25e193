"""Scores on one scale, with values worked by hand."""

import numpy as np
import scipy.stats

from tfrec_meta.models.losses.score_scales import mean_ranks, unit_range, z_scores


def test_z_scores_have_mean_0_and_variance_1_in_each_row():
    scores = z_scores(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]], np.float32)).numpy()
    np.testing.assert_allclose(scores[0], [-(1.5**0.5), 0, 1.5**0.5], rtol=1e-6)
    np.testing.assert_array_equal(scores[1], [0, 0, 0])


def test_z_scores_are_the_same_in_any_unit():
    scores = np.array([[1.0, 2.0, 3.0]], np.float32)
    for unit in (1e-30, 1e-3, 1e6, 1e30):
        found = z_scores(scores * np.float32(unit))
        np.testing.assert_allclose(found, z_scores(scores), atol=1e-5)


def test_unit_range_goes_from_0_to_1_in_each_row():
    scores = unit_range(np.array([[-1.0, 0.0, 3.0], [5.0, 5.0, 5.0]], np.float32)).numpy()
    np.testing.assert_allclose(scores, [[0, 0.25, 1], [0, 0, 0]])


def test_ranks_begin_at_1_and_ties_share_the_mean_rank():
    scores = np.array([[0.5, 0.9, 0.5, 0.1], [7.0, 7.0, 7.0, 7.0]], np.float32)
    np.testing.assert_array_equal(mean_ranks(scores), [[2.5, 1, 2.5, 4], [2.5] * 4])


def test_ranks_are_those_of_scipy():
    scores = np.random.default_rng(0).integers(0, 6, (20, 30)).astype(np.float32)
    np.testing.assert_array_equal(mean_ranks(scores), scipy.stats.rankdata(-scores, axis=1))
