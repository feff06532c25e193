"""Diversity: re-ranks candidates by maximal marginal relevance, inside the graph."""

from __future__ import annotations

import tensorflow as tf

_NEVER = float("-inf")


def marginal_relevance_order(
    scores: tf.Tensor,
    vectors: tf.Tensor,
    diversity: tf.Tensor,
    width: tf.Tensor,
    max_width: int,
) -> tf.Tensor:
    """Orders the candidates of each row by maximal marginal relevance.

    The items are picked one after the other. Each pick is the candidate with the largest
    (1 - diversity) * relevance - diversity * (largest cosine similarity to the items picked so
    far), where relevance is the score scaled to [0, 1] over the candidates of the row. With
    `diversity` 0 the order is that of the scores.

    Args:
        scores: float32 [B, P] of the candidates, best first, -inf for masked items.
        vectors: float32 [B, P, d], the embeddings of the candidates.
        diversity: float32 [B], clipped to [0, 1]; NaN counts as 0.
        width: int32 scalar, number of items to pick, at most P.
        max_width: an upper bound of `width`.

    Returns:
        int32 [B, width], positions among the candidates.

    References:
        Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking", SIGIR 1998.
    """
    batch, pool = tf.shape(scores)[0], tf.shape(scores)[1]
    usable = tf.math.is_finite(scores)
    low = tf.reduce_min(tf.where(usable, scores, float("inf")), axis=1, keepdims=True)
    span = scores[:, :1] - low
    relevance = tf.where(usable, tf.math.divide_no_nan(scores - low, span), _NEVER)
    vectors = tf.math.l2_normalize(vectors, axis=-1)
    weight = tf.where(tf.math.is_nan(diversity), 0.0, tf.clip_by_value(diversity, 0.0, 1.0))
    weight = weight[:, None]

    # At least one step: TensorFlow cannot stack an empty array, and `width` can be 0.
    steps = tf.maximum(width, 1)
    picked = tf.TensorArray(tf.int32, size=steps, element_shape=[None])

    def step(i, similarity, free, picked):
        gain = tf.where(free, (1.0 - weight) * relevance - weight * similarity, _NEVER)
        # The first pick is always the best item, also with `diversity` 1, where all gains tie.
        choice = tf.where(i == 0, 0, tf.argmax(gain, axis=1, output_type=tf.int32))
        # Once a row has no usable candidate left, it picks the masked ones, which come last.
        choice = tf.where(tf.reduce_any(free, axis=1), choice, i)
        vector = tf.gather(vectors, choice, batch_dims=1)
        new = tf.linalg.matvec(vectors, vector)
        similarity = tf.where(i == 0, new, tf.maximum(similarity, new))
        free = free & ~tf.one_hot(choice, pool, on_value=True, off_value=False, dtype=tf.bool)
        return i + 1, similarity, free, picked.write(i, choice)

    start = (tf.constant(0), tf.zeros_like(relevance), usable, picked)
    *_, picked = tf.while_loop(lambda i, *_: i < steps, step, start, maximum_iterations=max_width)
    order = tf.transpose(tf.reshape(picked.stack(), [steps, batch]))[:, :width]
    # Rows with `diversity` 0 keep the order of their scores.
    return tf.where(weight > 0, order, tf.range(width)[None, :])
