"""How the losses of several tasks become one: fixed weights, uncertainty, or GradNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

WeightingName = Literal["fixed", "uncertainty", "gradnorm"]


def uncertainty_loss(
    losses: tf.Tensor, log_variances: tf.Tensor, squared: Sequence[bool]
) -> tf.Tensor:
    """Each loss over the variance that its task is learned to have, float32 scalar.

    Args:
        losses: float32 [T].
        log_variances: float32 [T], s = log of the variance, learned.
        squared: of each task, whether its loss is a squared error, which counts half.

    Returns:
        The sum of exp(-s) * loss + s / 2, of squared errors exp(-s) * loss / 2 + s / 2.

    Source: Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018,
    equations 7 and 10.
    """
    share = tf.constant([0.5 if each else 1.0 for each in squared])
    return tf.reduce_sum(share * tf.exp(-log_variances) * losses + 0.5 * log_variances)


def gradnorm_weights(scores: tf.Tensor) -> tf.Tensor:
    """Weights above 0 that sum to the number of tasks, of any learned scores float32 [T].

    The paper divides by the sum after each step; so it holds at every moment, and no weight can
    fall below 0.
    """
    return tf.nn.softmax(scores) * tf.cast(tf.size(scores), tf.float32)


def gradnorm_targets(norms: tf.Tensor, losses: tf.Tensor, first: tf.Tensor, alpha: float):
    """The gradient norms that the tasks should have, float32 [T].

    The mean norm, times the task's relative inverse training rate to the power of `alpha`: who has
    come less far than the others from their first loss gets a larger gradient.

    Args:
        norms: float32 [T], of the weighted losses' gradients.
        losses: float32 [T].
        first: float32 [T], the losses at the first step.
        alpha: how strongly the rates are balanced; 0 gives all tasks the same norm.

    Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing", ICML 2018,
    equation 1.
    """
    left = tf.math.divide_no_nan(losses, first)
    rate = tf.math.divide_no_nan(left, tf.reduce_mean(left))
    return tf.reduce_mean(norms) * rate**alpha
