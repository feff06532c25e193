"""Hopeless trials, by curves worked by hand."""

import pytest

from tfrec_meta.tuning.surrogates.learning_curves import FEWEST_CURVES, is_hopeless

# After one epoch they gained another 0.1, 0.2, 0.3, 0.4 and 0.5; the 90 % quantile is 0.46.
FINISHED = [[0.1, 0.1 + gain] for gain in (0.1, 0.2, 0.3, 0.4, 0.5)]


def test_a_trial_is_hopeless_if_a_gain_at_the_90_percent_quantile_is_too_small():
    assert is_hopeless([0.1], FINISHED, best=0.5601, direction="max")
    assert not is_hopeless([0.1], FINISHED, best=0.5599, direction="max")


def test_errors_are_minimised():
    falling = [[-value for value in curve] for curve in FINISHED]
    assert is_hopeless([-0.1], falling, best=-0.5601, direction="min")
    assert not is_hopeless([-0.1], falling, best=-0.5599, direction="min")


def test_the_best_epoch_counts_and_not_the_last():
    curves = [[*curve[:1], 0.0, curve[1]] for curve in FINISHED]
    assert not is_hopeless([0.1, 0.0], curves, best=0.55, direction="max")


def test_the_best_trial_is_not_hopeless():
    assert not is_hopeless([0.9], FINISHED, best=0.9, direction="max")


@pytest.mark.parametrize("count, hopeless", [(FEWEST_CURVES - 1, False), (FEWEST_CURVES, True)])
def test_too_few_curves_stop_no_trial(count, hopeless):
    assert is_hopeless([0.1], FINISHED[:count], best=9.0, direction="max") is hopeless


def test_curves_that_are_not_longer_stop_no_trial():
    assert not is_hopeless([0.1, 0.1], FINISHED, best=9.0, direction="max")


def test_a_falling_curve_has_no_gain():
    assert is_hopeless([0.5], [[0.4, 0.1]] * 4, best=0.51, direction="max")
