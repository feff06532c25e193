"""Scales that make the scores of different models comparable, row by row."""

from __future__ import annotations

import tensorflow as tf


def z_scores(scores: tf.Tensor) -> tf.Tensor:
    """Standardises each row of float32 [B, n] to mean 0 and variance 1; zeros if all are equal."""
    centred = scores - tf.reduce_mean(scores, axis=1, keepdims=True)
    # Scaled to 1 at most, so that squares neither underflow nor overflow in any unit.
    largest = tf.reduce_max(tf.abs(centred), axis=1, keepdims=True)
    centred = tf.math.divide_no_nan(centred, largest)
    spread = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=1, keepdims=True))
    return tf.math.divide_no_nan(centred, spread)


def unit_range(scores: tf.Tensor) -> tf.Tensor:
    """Scales each row of float32 [B, n] to [0, 1]; zeros if all are equal."""
    low = tf.reduce_min(scores, axis=1, keepdims=True)
    high = tf.reduce_max(scores, axis=1, keepdims=True)
    return tf.math.divide_no_nan(scores - low, high - low)


def mean_ranks(scores: tf.Tensor) -> tf.Tensor:
    """Ranks each row of float32 [B, n], 1 for the best; ties get the mean of their ranks."""
    ordered = tf.sort(scores, axis=1)
    worse = tf.searchsorted(ordered, scores, side="left")
    no_better = tf.searchsorted(ordered, scores, side="right")
    n = tf.cast(tf.shape(scores)[1], tf.float32)
    return n - tf.cast(worse + no_better - 1, tf.float32) / 2.0
