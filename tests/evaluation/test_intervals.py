import numpy as np
import pytest

from tfrec_meta.evaluation.intervals import (
    Estimate,
    estimates,
    paired_difference,
    paired_differences,
    resampled_means,
)


def test_interval_is_close_to_the_normal_one_for_many_users():
    values = np.random.default_rng(0).normal(0.3, 0.2, 4000)
    (estimate,) = estimates(values[:, None])
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_draws_depend_on_the_seed_and_not_on_the_number_of_metrics():
    values = np.random.default_rng(1).random((50, 3))
    draws = resampled_means(values, 20, seed=7)
    np.testing.assert_allclose(draws[:, [1]], resampled_means(values[:, [1]], 20, seed=7))
    assert not np.array_equal(draws, resampled_means(values, 20, seed=8))


def test_each_draw_has_as_many_users_as_the_data(monkeypatch):
    monkeypatch.setattr("tfrec_meta.evaluation.intervals._DRAWS_AT_ONCE", 10)  # several blocks
    draws = resampled_means(np.eye(4), 9)
    np.testing.assert_allclose(draws.sum(axis=1), 1)
    assert set(np.unique(draws * 4)) <= {0, 1, 2, 3, 4}


def test_users_without_a_value_are_ignored():
    (estimate,) = estimates(np.array([[1.0], [np.nan], [1.0]]))
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


def test_no_interval_without_resamples_and_no_mean_without_values():
    values = np.array([[0.0, np.nan], [1.0, np.nan]])
    first, second = estimates(values, resamples=0)
    assert first == Estimate(0.5)
    assert np.isnan(second.value)
    assert second.low is None
    assert estimates(np.array([[0.25]])) == [Estimate(0.25)]


def test_constant_difference_is_significant_and_no_difference_is_not():
    a = np.random.default_rng(2).random(100)
    better = paired_difference(a + 0.1, a, "ndcg@10")
    assert better.difference == pytest.approx(0.1)
    assert better.low == pytest.approx(0.1)
    assert better.high == pytest.approx(0.1)
    assert better.p == pytest.approx(2 / 1001)
    same = paired_difference(a, a)
    assert same.difference == 0
    assert same.p == 1
    assert "ndcg@10: +0.1000" in str(better)


def test_several_metrics_are_compared_as_each_on_its_own():
    a, b = (
        dict(zip("xyz", each, strict=True)) for each in np.random.default_rng(4).random((2, 3, 40))
    )
    a["y"][3] = b["y"][7] = np.nan  # x and z have values of the same users, y of fewer
    found = paired_differences(a, b, resamples=30)
    assert list(found) == ["x", "y", "z"]
    for name, one in found.items():
        alone = paired_difference(a[name], b[name], name, resamples=30)
        assert one.difference == alone.difference
        np.testing.assert_allclose((one.low, one.high, one.p), (alone.low, alone.high, alone.p))


def test_lower_confidence_gives_a_narrower_interval():
    a, b = np.random.default_rng(3).random((2, 200))
    wide, narrow = paired_difference(a, b), paired_difference(a, b, confidence=0.5)
    assert wide.low < narrow.low < narrow.difference < narrow.high < wide.high
    # Of the normal law: 0.6745 and 1.96 standard errors to either side.
    assert (narrow.high - narrow.low) / (wide.high - wide.low) == pytest.approx(0.344, abs=0.03)


def test_pairs_without_values_are_refused():
    with pytest.raises(ValueError, match="'auc'"):
        paired_difference([np.nan], [1.0], "auc")


def test_estimates_print_their_interval():
    assert str(Estimate(0.445, 0.43, 0.46)) == "0.4450 [0.4300, 0.4600]"
    assert str(Estimate(0.5)) == "0.5000"


@pytest.mark.parametrize(
    ("a", "b"), [([1.0, 2.0], [1.0]), ([[1.0], [2.0]], [1.0, 2.0]), (1.0, 2.0)]
)
def test_a_pair_has_one_value_per_user_in_both(a, b):
    with pytest.raises(ValueError, match="`a` has shape"):
        paired_difference(a, b)


def test_estimates_take_one_row_per_user():
    with pytest.raises(ValueError, match="`values` has shape"):
        estimates([1.0, 2.0])
