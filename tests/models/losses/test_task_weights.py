"""Weights of tasks, worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.losses.task_weights import (
    gradnorm_targets,
    gradnorm_weights,
    uncertainty_loss,
)


def test_uncertainty_divides_by_the_variance_and_adds_its_logarithm():
    # Variances 2 and 4: 3 / (2 * 2) + log(2) / 2 of the squared error, 8 / 4 + log(4) / 2.
    found = uncertainty_loss(
        tf.constant([3.0, 8.0]), tf.math.log([2.0, 4.0]), squared=[True, False]
    )
    assert float(found) == pytest.approx(0.75 + 0.34657 + 2 + 0.69315, rel=1e-4)


def test_the_best_variance_of_a_squared_error_is_the_error():
    log_variance = tf.Variable([np.log(3.0)], dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = uncertainty_loss(tf.constant([3.0]), log_variance, squared=[True])
    np.testing.assert_allclose(tape.gradient(loss, log_variance), [0.0], atol=1e-6)


def test_gradnorm_weights_sum_to_the_number_of_tasks():
    np.testing.assert_allclose(gradnorm_weights(tf.math.log([1.0, 2.0, 3.0])), [0.5, 1.0, 1.5])


def test_gradnorm_gives_a_slower_task_a_larger_gradient():
    # The losses fell to 1/4 and 3/4 of their start; relative to the mean: 1/2 and 3/2; mean norm 4.
    losses, first = tf.constant([1.0, 6.0]), tf.constant([4.0, 8.0])
    found = gradnorm_targets(tf.constant([2.0, 6.0]), losses, first, alpha=2.0)
    np.testing.assert_allclose(found, [4 * 0.25, 4 * 2.25], rtol=1e-6)


def test_without_alpha_all_tasks_get_the_same_norm():
    losses, first = tf.constant([1.0, 6.0]), tf.constant([4.0, 8.0])
    found = gradnorm_targets(tf.constant([2.0, 6.0]), losses, first, alpha=0.0)
    np.testing.assert_allclose(found, [4.0, 4.0])
