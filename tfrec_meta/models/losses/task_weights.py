"""Weights of the losses of several tasks: fixed weights, uncertainty, or GradNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

WeightingName = Literal["fixed", "uncertainty", "gradnorm"]


def uncertainty_loss(
    losses: tf.Tensor, log_variances: tf.Tensor, squared: Sequence[bool]
) -> tf.Tensor:
    """Returns the sum of the losses, each divided by a learned variance; float32 scalar.

    Args:
        losses: float32 [T].
        log_variances: float32 [T], s, the learned log of the variance.
        squared: for each task, whether its loss is a squared error, which is halved.

    Returns:
        The sum of exp(-s) * loss + s / 2; of squared errors, exp(-s) * loss / 2 + s / 2.

    References:
        Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018,
        equations 7 and 10.
    """
    share = tf.constant([0.5 if each else 1.0 for each in squared])
    return tf.reduce_sum(share * tf.exp(-log_variances) * losses + 0.5 * log_variances)


def gradnorm_weights(scores: tf.Tensor) -> tf.Tensor:
    """Returns weights above 0 that sum to the number of tasks, from learned scores float32 [T].

    The paper divides by the sum after each step. With a softmax, the sum always holds and no weight
    becomes negative.
    """
    return tf.nn.softmax(scores) * tf.cast(tf.size(scores), tf.float32)


def gradnorm_targets(norms: tf.Tensor, losses: tf.Tensor, first: tf.Tensor, alpha: float):
    """Returns the gradient norms that the tasks should have, float32 [T].

    It is the mean norm times the task's relative inverse training rate to the power of `alpha`: a
    task whose loss fell less than that of others gets a larger gradient.

    Args:
        norms: float32 [T], of the gradients of the weighted losses.
        losses: float32 [T].
        first: float32 [T], the losses at the first step.
        alpha: how strongly the rates are balanced; 0 gives all tasks the same norm.

    References:
        Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing", ICML 2018,
        equation 1.
    """
    left = tf.math.divide_no_nan(losses, first)
    rate = tf.math.divide_no_nan(left, tf.reduce_mean(left))
    return tf.reduce_mean(norms) * rate**alpha
