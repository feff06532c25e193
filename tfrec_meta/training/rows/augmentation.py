"""Augmentation of histories: crops and reorderings of random runs of items."""

from __future__ import annotations

import tensorflow as tf


def random_run(length: tf.Tensor, share: float, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws a random run of positions for a `share` of the rows, and all positions for the others.

    Args:
        length: int64 [B, 1], positions per row.
        share: share of the rows, in [0, 1].
        seed: int64 [2].

    Returns:
        int64 [B, 1] each: the first position of the run, and one past its last. A run has at least
        one position if the row has any.
    """
    draws = tf.random.stateless_uniform([3, tf.shape(length)[0], 1], seed, dtype=tf.float64)
    one, other = tf.unstack(
        tf.cast(tf.floor(draws[:2] * tf.cast(length, tf.float64)), tf.int64), num=2
    )
    chosen = draws[2] < share
    begin = tf.where(chosen, tf.minimum(one, other), 0)
    end = tf.where(chosen, tf.minimum(tf.maximum(one, other) + 1, length), length)
    return begin, end


def reordered(length: tf.Tensor, share: float, width: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns orders int32 [B, width] in which a `share` of the rows has a shuffled random run.

    Args:
        length: int64 [B, 1], positions per row that are in use.
        share: share of the rows, in [0, 1].
        width: positions per row.
        seed: int64 [2].

    References:
        Xie et al., "Contrastive Learning for Sequential Recommendation" (CL4SRec), ICDE 2022,
        section 3.2.3. Their crop is `random_run`; here a random run is also what is reordered.
    """
    begin, end = random_run(length, 1.0, seed)
    draws = tf.random.stateless_uniform(
        [tf.shape(length)[0], width + 1], tf.random.fold_in(seed, 0), dtype=tf.float64
    )
    position = tf.range(width, dtype=tf.int64)[None, :]
    chosen = (position >= begin) & (position < end) & (draws[:, :1] < share)
    # Sort keys: positions of the run get random keys between those of their neighbours.
    within = tf.cast(begin, tf.float64) + draws[:, 1:] * tf.cast(end - begin, tf.float64)
    return tf.argsort(tf.where(chosen, within, tf.cast(position, tf.float64)), stable=True)
