"""Expected values are worked by hand; log2(3) is 1.5849625."""

import math

import numpy as np
import pytest

from tfrec_meta.evaluation import metrics as m
from tfrec_meta.evaluation.metrics import RelevantRanks

LOG3 = math.log2(3)


@pytest.fixture
def ranks():
    """Two queries over 10 candidates: relevant at 1, 3 and 9; and one at 2 of two relevant."""
    return RelevantRanks.from_lists([[3, 1, 9], [2]], candidates=10, relevant=[3, 2])


def test_hit_rate_requires_one_hit_in_the_list(ranks):
    assert m.hit_rate(ranks, 1).tolist() == [1, 0]
    assert m.hit_rate(ranks, 2).tolist() == [1, 1]


def test_recall_divides_by_all_relevant_items_including_unreachable_ones(ranks):
    np.testing.assert_allclose(m.recall(ranks, 3), [2 / 3, 1 / 2])


def test_precision_divides_by_k(ranks):
    np.testing.assert_allclose(m.precision(ranks, 4), [2 / 4, 1 / 4])


def test_ndcg(ranks):
    # Query 0: 1/log2(2) + 1/log2(4) = 1.5; ideal of 3: 1 + 1/log2(3) + 1/2.
    # Query 1: 1/log2(3); ideal of 2: 1 + 1/log2(3).
    ideal = 1 + 1 / LOG3
    np.testing.assert_allclose(m.ndcg(ranks, 3), [1.5 / (ideal + 0.5), (1 / LOG3) / ideal])
    np.testing.assert_allclose(m.ndcg(ranks, 1), [1, 0])  # the ideal list is cut at k too


def test_reciprocal_rank_uses_the_best_item_within_k(ranks):
    np.testing.assert_allclose(m.reciprocal_rank(ranks, 10), [1, 1 / 2])
    np.testing.assert_allclose(m.reciprocal_rank(ranks, 1), [1, 0])


def test_average_precision_divides_by_the_smaller_of_relevant_and_k(ranks):
    # Query 0, k=3: (1/1 + 2/3) / 3; k=2: (1/1) / 2. Query 1: (1/2) / 2.
    np.testing.assert_allclose(m.average_precision(ranks, 3), [5 / 9, 1 / 4])
    np.testing.assert_allclose(m.average_precision(ranks, 2), [1 / 2, 1 / 4])


def test_auc_counts_pairs_in_the_right_order(ranks):
    # Query 0: 7 irrelevant; below rank 1: 7, below rank 3: 6, below rank 9: 1 -> 14 of 21.
    # Query 1: 9 irrelevant; below rank 2: 8, and the unreachable one is below all: 8 of 18.
    np.testing.assert_allclose(m.auc(ranks), [14 / 21, 8 / 18])


def test_auc_is_nan_if_everything_is_relevant():
    assert np.isnan(m.auc(RelevantRanks.from_lists([[1, 2]], candidates=2))).all()


def test_a_constant_scorer_has_auc_one_half():
    # All 5 candidates tie at rank 3.
    np.testing.assert_allclose(m.auc(RelevantRanks.from_lists([[3, 3]], candidates=5)), [0.5])


def test_ties_count_at_most_k_items():
    # Three relevant items tied at rank 2, a list of 2.
    tied = RelevantRanks.from_lists([[2, 2, 2]], candidates=9)
    assert m.precision(tied, 2).tolist() == [1]
    np.testing.assert_allclose(m.recall(tied, 2), [2 / 3])
    np.testing.assert_allclose(m.ndcg(tied, 2), [(2 / LOG3) / (1 + 1 / LOG3)])
    np.testing.assert_allclose(m.average_precision(tied, 2), [(1 / 2 + 2 / 2) / 2])


@pytest.mark.parametrize(
    "metric", [m.hit_rate, m.recall, m.precision, m.ndcg, m.reciprocal_rank, m.average_precision]
)
def test_perfect_ranking_has_1_and_a_miss_has_0(metric):
    best = RelevantRanks.from_lists([[1, 2], []], candidates=5, relevant=[2, 1])
    np.testing.assert_allclose(metric(best, 2), [1, 0])


def test_k_below_one_is_refused(ranks):
    with pytest.raises(ValueError, match="`k`=0"):
        m.recall(ranks, 0)


def test_queries_without_relevant_items_are_refused():
    with pytest.raises(ValueError, match="`relevant` is below 1"):
        RelevantRanks.from_lists([[1], []], candidates=5)
    with pytest.raises(ValueError, match="`relevant` is below 1"):
        RelevantRanks.from_lists([[1, 2]], candidates=5, relevant=[1])


def test_coverage_counts_each_item_once_and_ignores_padding():
    assert m.coverage([[0, 1], [1, -1]], catalogue=8) == 2 / 8


def test_popularity_lift_is_relative_to_the_profiles():
    # Lists: mean popularity (8+2)/2 = 5 and 8; profiles 2 and 4, so GAP_p = 3; third has none.
    lift = m.popularity_lift([[0, 1], [0, -1], [1, 1]], popularity=[8, 2], profile=[2, 4, np.nan])
    np.testing.assert_allclose(lift, [(5 - 2) / 3, (8 - 4) / 3, np.nan])
    assert np.nanmean(lift) == pytest.approx((6.5 - 3) / 3)


LABELS, PREDICTIONS = [1, 0, 1, 0], [0.9, 0.6, 0.4, 0.1]


def test_accuracy_and_f1_at_a_threshold():
    assert m.accuracy(LABELS, PREDICTIONS) == 0.5
    assert m.accuracy(LABELS, PREDICTIONS, threshold=0.7) == 0.75
    assert m.f1(LABELS, PREDICTIONS) == 0.5  # 1 hit, 2 predicted, 2 positive
    assert m.f1(LABELS, PREDICTIONS, threshold=0.7) == pytest.approx(2 / 3)
    assert m.f1(LABELS, PREDICTIONS, threshold=0.95) == 0
    assert m.accuracy([1], [0.5]) == 1  # at the threshold is positive


def test_binary_auc_counts_ties_half():
    assert m.binary_auc(LABELS, PREDICTIONS) == 0.75
    assert m.binary_auc([1, 0], [0.5, 0.5]) == 0.5
    assert math.isnan(m.binary_auc([1, 1], [0.5, 0.6]))


def test_log_loss_and_rmse():
    assert m.log_loss([1, 0], [0.5, 0.25]) == pytest.approx((math.log(2) - math.log(0.75)) / 2)
    assert math.isfinite(m.log_loss([1], [0.0]))
    assert m.rmse([1, 2], [1, 4]) == pytest.approx(math.sqrt(2))


def test_invalid_labels_and_predictions_are_refused():
    with pytest.raises(ValueError, match="`labels` has 3"):
        m.f1([0, 3], [0.1, 0.2])
    with pytest.raises(ValueError, match="NaN at 1"):
        m.accuracy([0, 1], [0.1, np.nan])
    with pytest.raises(ValueError, match="`labels` has 2, `predictions` has 1 values"):
        m.accuracy([0, 1], [0.1])
    with pytest.raises(ValueError, match="sigmoid"):
        m.log_loss([0, 1], [0.1, 1.5])


PAIRS = {
    **dict.fromkeys(("rmse", "mae", "calibration"), ([4.0, 1.0, 2.0], [3.0, 1.0, 2.0])),
    **dict.fromkeys(
        (
            *("accuracy", "binary_precision", "binary_recall", "f1", "binary_auc", "log_loss"),
            "expected_calibration_error",
        ),
        ([1, 0, 1], [0.9, 0.6, 0.4]),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_columns_and_booleans_count_as_flat_arrays(name):
    metric, (first, second) = getattr(m, name), PAIRS[name]
    right = metric(first, second)
    column = np.array(second)[:, None]
    assert metric(first, column) == right
    assert metric(np.array(first)[:, None], second) == right
    assert metric(np.array(first)[:, None], column) == right
    if set(first) == {0, 1}:
        assert metric(np.array(first, bool), second) == right


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0.0], "use one per row in each"),
        ([0.0] * 4, "use one per row in each"),
        (0.5, r"has shape \(\)"),
        ([], r"has shape \(0,\)"),
        ([[0.5, 0.5, 0.5]], r"has shape \(1, 3\)"),
        ([[0.5, 0.5]] * 3, r"has shape \(3, 2\)"),
        ([[[0.5]]] * 3, r"has shape \(3, 1, 1\)"),
        (["0.5", "0.5", "0.5"], "use numbers"),
        ([0.5, None, 0.5], "use numbers"),
        ([0.5, 0.5j, 0.5], "use numbers"),
        ([0.5, 0.5, np.nan], "is NaN at 2"),
    ],
)
def test_arrays_of_another_form_are_refused(name, wrong, message):
    metric, (first, second) = getattr(m, name), PAIRS[name]
    for arguments in ((first, wrong), (wrong, second)):
        with pytest.raises(ValueError, match=message):
            metric(*arguments)


def test_infinite_predictions_have_an_auc_but_no_rmse():
    assert m.binary_auc([0, 1], [-np.inf, np.inf]) == 1
    with pytest.raises(ValueError, match="`predictions` is inf at 1"):
        m.rmse([1.0, 2.0], [1.0, np.inf])


def test_bins_below_one_are_refused():
    with pytest.raises(ValueError, match="`bins`=0"):
        m.expected_calibration_error(LABELS, PREDICTIONS, bins=0)


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None])
def test_a_list_length_is_a_whole_number_of_one_or_more(ranks, k):
    for metric in (m.hit_rate, m.recall, m.precision, m.ndcg, m.reciprocal_rank):
        with pytest.raises((ValueError, TypeError), match="`k`="):
            metric(ranks, k)
    with pytest.raises((ValueError, TypeError), match="`k`="):
        m.average_precision(ranks, k)


def test_ranks_that_do_not_fit_the_offsets_are_refused():
    good = {"rank": [1.0, 2.0], "offsets": [0, 1, 2], "relevant": [1, 1], "candidates": [5, 5]}

    def build(**changes):
        return RelevantRanks(**{name: np.array(v) for name, v in {**good, **changes}.items()})

    build()
    for changes in (
        {"rank": [1.0]},
        {"rank": [0.0, 1.0]},
        {"rank": [1.0, np.nan]},
        {"offsets": [1, 1, 2]},
        {"offsets": [0, 3, 2]},
        {"offsets": [0, 2]},
        {"candidates": [5]},
    ):
        with pytest.raises(ValueError, match="`offsets`"):
            build(**changes)


@pytest.mark.parametrize("lists", [[0, 1], 3, [[0.5, 1]], [[0, 8]], [[0, -2]], [["0"]]])
def test_lists_of_another_form_are_refused(lists):
    with pytest.raises(ValueError, match="`lists` has"):
        m.coverage(lists, catalogue=8)
    with pytest.raises(ValueError, match="`lists` has"):
        m.popularity_lift(lists, [1] * 8, [1.0])


def test_coverage_of_no_catalogue_is_refused():
    with pytest.raises(ValueError, match="`catalogue`=0"):
        m.coverage([[-1]], catalogue=0)


def test_popularity_lift_takes_one_profile_per_query():
    for profile in ([1.0], 1.0, [[1.0], [1.0]]):
        with pytest.raises(ValueError, match="`profile` has shape"):
            m.popularity_lift([[0], [1]], [8, 2], profile)
    with pytest.raises(ValueError, match="`popularity` has shape"):
        m.popularity_lift([[0], [1]], [[8, 2], [1, 1]], [1.0, 1.0])
