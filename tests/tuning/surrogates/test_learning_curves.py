"""Which trial is hopeless, by curves worked by hand."""

import pytest

from tfrec_meta.tuning.surrogates.learning_curves import FEWEST_CURVES, is_hopeless

# After one epoch they still gained 0.1, 0.2, 0.3, 0.4 and 0.5; nine tenths of the way is 0.46.
FINISHED = [[0.1, 0.1 + gain] for gain in (0.1, 0.2, 0.3, 0.4, 0.5)]


def test_trial_is_hopeless_if_the_best_tenth_of_gains_leaves_it_behind():
    assert is_hopeless([0.1], FINISHED, best=0.5601, direction="max")
    assert not is_hopeless([0.1], FINISHED, best=0.5599, direction="max")


def test_errors_are_to_be_small():
    falling = [[-value for value in curve] for curve in FINISHED]
    assert is_hopeless([-0.1], falling, best=-0.5601, direction="min")
    assert not is_hopeless([-0.1], falling, best=-0.5599, direction="min")


def test_best_epoch_so_far_counts_not_the_last():
    curves = [[*curve[:1], 0.0, curve[1]] for curve in FINISHED]
    assert not is_hopeless([0.1, 0.0], curves, best=0.55, direction="max")


def test_trial_that_is_the_best_itself_is_not_hopeless():
    assert not is_hopeless([0.9], FINISHED, best=0.9, direction="max")


@pytest.mark.parametrize("count, hopeless", [(FEWEST_CURVES - 1, False), (FEWEST_CURVES, True)])
def test_few_curves_say_nothing(count, hopeless):
    assert is_hopeless([0.1], FINISHED[:count], best=9.0, direction="max") is hopeless


def test_curves_that_are_no_longer_say_nothing():
    assert not is_hopeless([0.1, 0.1], FINISHED, best=9.0, direction="max")


def test_curve_that_got_worse_gains_nothing():
    assert is_hopeless([0.5], [[0.4, 0.1]] * 4, best=0.51, direction="max")
