"""Warping, weights and portfolios worked by hand, and the weight of prior studies."""

import numpy as np
import pytest
from scipy.stats import norm

from tests.tuning.surrogate_samples import FormulaMetaSurrogate, objective, space
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.surrogates.mixed_surrogate import (
    MixedSurrogate,
    _count_of_scales,
    agreement,
    diverse_best,
    ranking_weights,
    warp,
)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def encoding():
    return SpaceEncoding(space())


def trials(encoding, count, seed=1):
    codes = encoding.sample(count, np.random.default_rng(seed))
    return codes, np.array([objective(encoding.values(row)) for row in codes])


# Warping.


def test_warping_keeps_distances_above_the_median_and_ranks_below():
    values = np.array([-1e9, 1.0, 2.0, 3.0, 5.0])
    # Median 2; above it the gaps 0, 1, 3. By rank: quantiles 0.1, 0.3, 0.5, 0.7, 0.9.
    quantiles = norm.ppf([0.1, 0.3, 0.5, 0.7, 0.9])
    unit = np.sqrt((0 + quantiles[3] ** 2 + quantiles[4] ** 2) / 3)
    spread = np.sqrt((0 + 1 + 9) / 3)
    found = np.array([quantiles[0] / unit, quantiles[1] / unit, 0, 1 / spread, 3 / spread])
    np.testing.assert_allclose(warp(values), (found - found.mean()) / found.std())


def test_warped_values_keep_their_order_and_are_standardised(generator):
    for count in (2, 3, 7, 50):
        values = generator.standard_cauchy(count) ** 3
        found = warp(values)
        assert (np.argsort(found) == np.argsort(values)).all()
        assert found.mean() == pytest.approx(0, abs=1e-9)
        assert found.std() == pytest.approx(1)


def test_warping_ignores_scale_and_shift_of_the_objective(generator):
    values = generator.normal(size=9)
    np.testing.assert_allclose(warp(values), warp(1e-6 * values + 3e-6), atol=1e-6)


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_equal_values_are_warped_to_zero(values):
    assert warp(np.array(values)).tolist() == [0.0] * len(values)


def test_ranks_count_if_most_values_are_the_best():
    found = warp(np.array([1.0, 2.0, 2.0, 2.0]))
    assert found[0] < 0 < found[1] == found[2] == found[3]


def test_extreme_objectives_stay_finite():
    found = warp(np.array([-1e300, -1e300, -0.5]))
    assert np.isfinite(found).all()
    assert found[2] > found[0] == found[1]


# Ranking weights.


def test_a_perfect_model_has_all_the_weight(generator):
    targets = np.arange(6.0)
    means = np.stack([targets, -targets])
    found = ranking_weights(means, np.full((2, 6), 1e-3), targets, generator)
    assert found.tolist() == [1.0, 0.0]


def test_equal_models_have_equal_weights(generator):
    targets = np.arange(6.0)
    found = ranking_weights(np.stack([targets] * 2), np.full((2, 6), 1e-3), targets, generator)
    assert found.tolist() == [0.5, 0.5]


def test_equal_targets_give_equal_weights(generator):
    means = generator.normal(size=(2, 5))
    found = ranking_weights(means, np.ones((2, 5)), np.zeros(5), generator)
    assert found.tolist() == [0.5, 0.5]


def test_only_the_best_and_the_newest_of_many_trials_count(generator):
    # Only the oldest trials, which are the worst, are ordered incorrectly.
    targets = np.arange(200.0)
    means = np.stack([targets, np.where(targets < 100, -targets - 1, targets)])
    found = ranking_weights(means, np.full((2, 200), 1e-6), targets, generator)
    assert found.tolist() == [0.5, 0.5]


# The mixture.


def test_accurate_prior_studies_gain_weight(encoding, generator):
    codes, values = trials(encoding, 10)
    surrogate = MixedSurrogate(encoding, FormulaMetaSurrogate(objective))
    surrogate.fit(codes[:5], values[:5], generator)
    assert surrogate.weights[1] > 0.7
    surrogate.fit(codes, values, generator)
    assert surrogate.weights[1] > 0.4
    new, truth = trials(encoding, 200, seed=2)
    assert np.corrcoef(surrogate.predict(new)[0], truth)[0, 1] > 0.9


@pytest.mark.parametrize(("count", "most"), [(5, 1.0), (10, 0.5), (50, 0.1)])
def test_the_weight_of_prior_studies_fades_with_the_number_of_trials(count, most, encoding):
    codes, values = trials(encoding, count)
    surrogate = MixedSurrogate(encoding, FormulaMetaSurrogate(objective))
    surrogate.fit(codes, values, np.random.default_rng(0))
    assert 0.5 * most < surrogate.weights[1] <= most
    assert surrogate.weights.sum() == pytest.approx(1.0)


def test_uninformative_prior_studies_lose_weight(encoding, generator):
    codes, values = trials(encoding, 10)
    surrogate = MixedSurrogate(
        encoding, FormulaMetaSurrogate(lambda point: float(np.sin(37 * point["x"])))
    )
    surrogate.fit(codes, values, generator)
    assert surrogate.weights[1] < 0.35


def test_reversed_prior_studies_get_a_negative_coefficient(encoding, generator):
    # The predictions are useful with a negative coefficient, so they may keep their weight.
    codes, values = trials(encoding, 10)
    surrogate = MixedSurrogate(encoding, FormulaMetaSurrogate(lambda point: -objective(point)))
    surrogate.fit(codes, values, generator)
    new, truth = trials(encoding, 200, seed=2)
    assert np.corrcoef(surrogate.predict(new)[0], truth)[0, 1] > 0.8


def test_without_prior_studies_the_trials_have_all_the_weight(encoding, generator):
    surrogate = MixedSurrogate(encoding)
    surrogate.fit(*trials(encoding, 10), generator)
    assert surrogate.weights.tolist() == [1.0, 0.0]


def test_predictions_mix_both_models(encoding, generator):
    surrogate = MixedSurrogate(encoding, FormulaMetaSurrogate(objective, lambda point: point["x"]))
    surrogate.fit(*trials(encoding, 8), generator)
    surrogate.weights = np.array([0.25, 0.75])
    new, _ = trials(encoding, 5, seed=3)
    parts = list(surrogate._predictions(*surrogate._centred(new)))
    (_, first, one), (_, second, other) = parts
    mean, deviation = surrogate.predict(new)
    np.testing.assert_allclose(mean, 0.25 * first + 0.75 * second)
    square = 0.25 * (one**2 + first**2) + 0.75 * (other**2 + second**2)
    np.testing.assert_allclose(deviation**2, square - mean**2, rtol=1e-6)


def test_expected_improvement_matches_many_draws(encoding, generator):
    surrogate = MixedSurrogate(encoding)
    codes, values = trials(encoding, 12)
    surrogate.fit(codes, values, generator)
    new, _ = trials(encoding, 20, seed=3)
    mean, deviation = surrogate.predict(new)
    draws = mean + deviation * generator.standard_normal((20_000, 20))
    expected = np.maximum(draws - warp(values).max(), 0).mean(axis=0)
    np.testing.assert_allclose(surrogate.expected_improvement(new), expected, atol=0.02)


def test_unwarping_restores_units_of_the_objective(encoding, generator):
    codes, values = trials(encoding, 12)
    surrogate = MixedSurrogate(encoding)
    surrogate.fit(codes, values, generator)
    mean, deviation = surrogate.unwarp(warp(values), np.zeros(12), 1.0)
    np.testing.assert_allclose(mean, values)
    np.testing.assert_allclose(deviation, 0.0)
    errors, spread = surrogate.unwarp(warp(values), np.full(12, 0.5), -1.0)
    np.testing.assert_allclose(errors, -values)
    assert (spread > 0).all()


def test_a_constant_objective_is_supported(encoding, generator):
    codes, _ = trials(encoding, 5)
    surrogate = MixedSurrogate(encoding, FormulaMetaSurrogate(objective))
    surrogate.fit(codes, np.full(5, 7.0), generator)
    assert (surrogate.expected_improvement(codes) > 0).all()
    mean, deviation = surrogate.unwarp(*surrogate.predict(codes), -1.0)
    assert mean.tolist() == [-7.0] * 5
    assert deviation.tolist() == [0.0] * 5


def test_repeated_points_are_supported(encoding, generator):
    codes = np.repeat(trials(encoding, 1)[0], 400, axis=0)
    surrogate = MixedSurrogate(encoding)
    surrogate.fit(codes, generator.normal(size=400), generator)
    assert np.isfinite(surrogate.predict(codes[:1])).all()


def test_a_running_trial_repels_new_trials(encoding, generator):
    codes, values = trials(encoding, 10)
    new, _ = trials(encoding, 300, seed=4)
    surrogate = MixedSurrogate(encoding)
    surrogate.fit(codes, values, generator)
    alone = surrogate.expected_improvement(new)
    best = new[[int(np.argmax(alone))]]
    surrogate.fit(codes, values, generator, running=best)
    assert surrogate.expected_improvement(best)[0] < 0.3 * alone.max()


def test_improvement_is_over_the_best_trial_with_the_full_budget(encoding, generator):
    codes, values = trials(encoding, 4)
    order = np.argsort(-values)
    budgets = np.where(np.arange(4) == order[0], 0.5, 1.0)[:, None]
    surrogate = MixedSurrogate(encoding, extra=1)
    surrogate.fit(codes, values, generator, budgets)
    assert surrogate._best == warp(values)[order[1]]
    surrogate.fit(codes, values, generator, np.full((4, 1), 0.5))
    assert surrogate._best == warp(values).max()


def test_the_budget_is_a_feature(encoding, generator):
    codes = np.repeat(encoding.default()[None], 6, axis=0)
    budgets = np.array([[0.0], [0.5], [0.6], [0.7], [0.8], [0.2]])
    surrogate = MixedSurrogate(encoding, extra=1)
    surrogate.fit(codes, budgets[:, 0], generator, budgets)
    assert surrogate.predict(codes[:1])[0][0] > 0.5


def test_earlier_fits_do_not_change_predictions(encoding):
    codes, values = trials(encoding, 33)
    fresh = MixedSurrogate(encoding, FormulaMetaSurrogate(objective))
    fresh.fit(codes, values, np.random.default_rng(5))
    used = MixedSurrogate(encoding, FormulaMetaSurrogate(objective))
    for count in (2, 9, 30):
        used.fit(codes[:count], values[:count], np.random.default_rng(count), running=codes[30:])
    used.fit(codes, values, np.random.default_rng(5))
    np.testing.assert_array_equal(fresh.predict(codes), used.predict(codes))


def test_scales_are_fitted_again_after_a_tenth_more_trials():
    counts = [_count_of_scales(count) for count in range(20)]
    assert counts == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 13, 13, 15, 15, 17, 17, 19]


# A portfolio.


def test_agreement_counts_pairs():
    # Of three pairs, two are in the right order and one is not.
    assert agreement(np.array([1.0, 3.0, 2.0]), np.array([5.0, 6.0, 7.0])) == pytest.approx(1 / 3)
    assert agreement(np.array([1.0, 2.0]), np.array([1e-9, -1e-9])) == -1.0
    assert agreement(np.array([1.0]), np.array([2.0])) == 0.0


def test_a_portfolio_covers_each_study():
    scores = np.array([[3.0, 0.0], [2.9, 0.1], [0.0, 2.0], [1.0, 1.0]])
    # Point 0 is the best on average; then point 2 improves the second study to 2.
    assert diverse_best(scores, 2, [0.5, 0.5]) == [0, 2]
    # No point improves either study any more, so the means decide: 1 (1.5), then 3 (1.0).
    assert diverse_best(scores, 9, [0.5, 0.5]) == [0, 2, 1, 3]


def test_a_portfolio_follows_the_study_weights():
    scores = np.array([[3.0, 0.0], [0.0, 2.0]])
    assert diverse_best(scores, 1, [0.1, 0.9]) == [1]


def test_a_portfolio_of_no_points_is_empty():
    assert diverse_best(np.zeros((0, 2)), 3, [0.5, 0.5]) == []
