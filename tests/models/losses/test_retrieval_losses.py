"""Losses of retrieval, worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.losses import retrieval_losses as losses

# The third negative is masked.
CHOSEN = tf.constant([2.0])
OTHERS = tf.constant([[1.0, -1.0, losses.MASKED]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_softmax_ignores_masked_candidates():
    expected = np.log(np.exp([1.0, 2.0, -1.0]).sum()) - 2.0
    assert losses.softmax(CHOSEN, OTHERS).numpy() == pytest.approx([expected])


def test_smoothing_spreads_its_share_over_unmasked_candidates():
    log_chance = np.array([1.0, 2.0, -1.0]) - np.log(np.exp([1.0, 2.0, -1.0]).sum())
    expected = -(0.9 * log_chance[1] + 0.1 * log_chance.mean())
    assert losses.softmax(CHOSEN, OTHERS, 0.1).numpy() == pytest.approx([expected])


def test_bpr_is_the_mean_over_the_negatives():
    expected = -(np.log(sigmoid(2.0 - 1.0)) + np.log(sigmoid(2.0 + 1.0))) / 2
    assert losses.bpr(CHOSEN, OTHERS).numpy() == pytest.approx([expected])


def test_binary_cross_entropy_of_each_candidate():
    parts = [np.log(1 - sigmoid(1.0)), np.log(sigmoid(2.0)), np.log(1 - sigmoid(-1.0))]
    found = losses.binary_cross_entropy(CHOSEN, OTHERS).numpy()
    assert found == pytest.approx([-np.mean(parts)])


def test_beta_weights_only_the_chosen_candidate():
    parts = [np.log(1 - sigmoid(1.0)), 0.25 * np.log(sigmoid(2.0)), np.log(1 - sigmoid(-1.0))]
    found = losses.binary_cross_entropy(CHOSEN, OTHERS, 0.25).numpy()
    assert found == pytest.approx([-np.mean(parts)])


def test_beta_goes_from_1_to_the_sampled_share():
    assert float(losses.calibrated_beta(tf.constant(0.1), 0.0)) == pytest.approx(1.0)
    assert float(losses.calibrated_beta(tf.constant(0.1), 1.0)) == pytest.approx(0.1)
    assert float(losses.calibrated_beta(tf.constant(0.1), 0.5)) == pytest.approx(0.55)


def test_cosine_contrastive_ignores_negatives_below_the_margin():
    others = tf.constant([[0.9, 0.2, losses.MASKED]])
    # 1 - 0.7, plus half of the mean of 0.9 - 0.4 and 0.
    expected = 0.3 + 0.5 * (0.5 + 0.0) / 2
    found = losses.cosine_contrastive(tf.constant([0.7]), others, margin=0.4, weight=0.5).numpy()
    assert found == pytest.approx([expected])


@pytest.mark.parametrize("name", ["bpr", "binary_cross_entropy", "softmax"])
def test_without_any_negative_there_is_a_finite_loss_and_gradient(name):
    chosen = tf.Variable([0.5])
    with tf.GradientTape() as tape:
        loss = getattr(losses, name)(chosen, tf.constant([[losses.MASKED]]))
    assert np.isfinite(loss.numpy()).all()
    assert np.isfinite(tape.gradient(loss, chosen).numpy()).all()


def test_softmax_of_large_logits_stays_finite():
    loss = losses.softmax(tf.constant([1000.0, -1000.0]), tf.constant([[999.0], [1000.0]]))
    np.testing.assert_allclose(loss, [np.log1p(np.exp(-1)), 2000.0], rtol=1e-6)
