"""Losses of retrieval, worked by hand."""

from tfrec_meta.models import retrieval_losses as losses

import numpy as np
import pytest
import tensorflow as tf

# The second candidate was chosen; the fourth is masked.
LABELS = tf.constant([[0.0, 1.0, 0.0, 0.0]])
LOGITS = tf.constant([[1.0, 2.0, -1.0, -2e30]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_softmax_leaves_out_what_is_masked():
    expected = np.log(np.exp([1.0, 2.0, -1.0]).sum()) - 2.0
    assert losses.softmax(LABELS, LOGITS).numpy() == pytest.approx([expected])


def test_smoothing_spreads_its_share_over_all_that_is_not_masked():
    log_chance = np.array([1.0, 2.0, -1.0]) - np.log(np.exp([1.0, 2.0, -1.0]).sum())
    expected = -(0.9 * log_chance[1] + 0.1 * log_chance.mean())
    assert losses.softmax(LABELS, LOGITS, 0.1).numpy() == pytest.approx([expected])


def test_bpr_is_the_mean_over_the_negatives():
    expected = -(np.log(sigmoid(2.0 - 1.0)) + np.log(sigmoid(2.0 + 1.0))) / 2
    assert losses.bpr(LABELS, LOGITS).numpy() == pytest.approx([expected])


def test_binary_cross_entropy_of_each_candidate():
    parts = [np.log(1 - sigmoid(1.0)), np.log(sigmoid(2.0)), np.log(1 - sigmoid(-1.0))]
    found = losses.binary_cross_entropy(LABELS, LOGITS).numpy()
    assert found == pytest.approx([-np.mean(parts)])


def test_a_power_weighs_the_chosen_candidate_alone():
    parts = [np.log(1 - sigmoid(1.0)), 0.25 * np.log(sigmoid(2.0)), np.log(1 - sigmoid(-1.0))]
    found = losses.binary_cross_entropy(LABELS, LOGITS, 0.25).numpy()
    assert found == pytest.approx([-np.mean(parts)])


def test_the_power_runs_from_1_to_the_share_that_was_sampled():
    assert float(losses.calibrated_beta(tf.constant(0.1), 0.0)) == pytest.approx(1.0)
    assert float(losses.calibrated_beta(tf.constant(0.1), 1.0)) == pytest.approx(0.1)
    assert float(losses.calibrated_beta(tf.constant(0.1), 0.5)) == pytest.approx(0.55)


def test_cosine_contrastive_ignores_negatives_below_the_margin():
    cosines = tf.constant([[0.9, 0.7, 0.2, -2e30]])
    # 1 - .7, and half of the mean of .9 - .4 and nothing.
    expected = 0.3 + 0.5 * (0.5 + 0.0) / 2
    found = losses.cosine_contrastive(LABELS, cosines, margin=0.4, weight=0.5).numpy()
    assert found == pytest.approx([expected])


@pytest.mark.parametrize("name", ["bpr", "binary_cross_entropy", "softmax"])
def test_without_any_negative_there_is_a_finite_loss_and_gradient(name):
    logits = tf.Variable([[0.5, -2e30]])
    with tf.GradientTape() as tape:
        loss = getattr(losses, name)(tf.constant([[1.0, 0.0]]), logits)
    assert np.isfinite(loss.numpy()).all()
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()
