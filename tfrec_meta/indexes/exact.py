"""The exact index: masks, top-k and re-ranking of a score matrix, inside the graph."""

from __future__ import annotations

import tensorflow as tf

_NEVER = float("-inf")


def mask_rows(scores: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Takes items out of the ranking.

    Args:
        scores: float32 [B, catalogue]; column j belongs to item row j + 1.
        rows: int32 [B, w] item rows, 0 for none.

    Returns:
        scores with -inf in the columns of `rows`.
    """
    batch = tf.range(tf.shape(rows)[0])[:, None] + tf.zeros_like(rows)
    shape = tf.stack([tf.shape(scores)[0], tf.shape(scores)[1] + 1])
    hits = tf.scatter_nd(tf.stack([batch, rows], axis=-1), tf.ones_like(rows), shape)
    return tf.where(hits[:, 1:] > 0, _NEVER, scores)


def mask_other_attributes(
    scores: tf.Tensor, wanted: tf.Tensor, asked: tf.Tensor, attributes: tf.Tensor, size: int
) -> tf.Tensor:
    """Keeps the items that have one of the wanted attributes; a row that asks for none keeps all.

    Args:
        scores: float32 [B, catalogue].
        wanted: int32 [B, F] attribute rows, 0 for padding and for unknown attributes.
        asked: bool [B], whether the row names any attribute at all: one that names only unknown
            attributes gets nothing.
        attributes: int32 [catalogue, W], the attributes of each item, 0 pads.
        size: height of the attribute's vocabulary.
    """
    wants = tf.math.bincount(wanted, minlength=size, maxlength=size, axis=-1) > 0
    wants &= tf.range(size)[None, :] > 0  # not the padding
    allowed = ~asked[:, None]
    for place in range(attributes.shape[1]):  # [B, catalogue] at a time, whatever the vocabulary
        allowed |= tf.gather(wants, attributes[:, place], axis=1)
    return tf.where(allowed, scores, _NEVER)


def top_k(scores: tf.Tensor, k: tf.Tensor, max_k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The best items of each row, each row with a `k` of its own.

    Args:
        scores: float32 [B, catalogue], -inf for items that must not appear.
        k: int32 [B]; below 1 gives blanks, above `max_k` or the catalogue is capped.
        max_k: the most that any row may get.

    Returns:
        rows int32 [B, K] (0 for blanks) and scores float32 [B, K] (-inf for blanks), best first,
        ties by the lower row; K is the largest `k` after capping.
    """
    width = _width(scores, k, max_k)
    values, columns = tf.math.top_k(scores, k=width)
    return _blank_past_k(columns + 1, values, k)


def diverse_top_k(
    scores: tf.Tensor,
    k: tf.Tensor,
    max_k: int,
    embeddings: tf.Tensor,
    diversity: tf.Tensor,
    pool: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`top_k` re-ranked by maximal marginal relevance among the `pool` best items of each row.

    Picks, one after the other, the item with the largest
    (1 - diversity) * relevance - diversity * (largest cosine similarity to those picked), where
    relevance is the score scaled to [0, 1] over the row's pool. With `diversity` 0 it is `top_k`.

    Args:
        scores, k, max_k: as for `top_k`.
        embeddings: float32 [catalogue, d].
        diversity: float32 [B], clipped to [0, 1]; NaN counts as 0.
        pool: at least `max_k`; items considered.

    Returns:
        As `top_k`; the scores are the model's own, so with diversity they need not fall.

    Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking", SIGIR 1998.
    """
    width = _width(scores, k, max_k)
    pool_size = tf.minimum(pool, tf.shape(scores)[1])
    values, columns = tf.math.top_k(scores, k=pool_size)
    usable = tf.math.is_finite(values)
    low = tf.reduce_min(tf.where(usable, values, float("inf")), axis=1, keepdims=True)
    span = values[:, :1] - low
    relevance = tf.where(usable, tf.math.divide_no_nan(values - low, span), _NEVER)
    vectors = tf.math.l2_normalize(tf.gather(embeddings, columns), axis=-1)
    weight = tf.where(tf.math.is_nan(diversity), 0.0, tf.clip_by_value(diversity, 0.0, 1.0))
    weight = weight[:, None]

    batch = tf.shape(scores)[0]
    # One step at least: TensorFlow stacks no empty array, and all rows may ask for nothing.
    steps = tf.maximum(width, 1)
    picked = tf.TensorArray(tf.int32, size=steps, element_shape=[None])

    def step(i, similarity, free, picked):
        gain = tf.where(free, (1.0 - weight) * relevance - weight * similarity, _NEVER)
        # Positions break ties: with `diversity` 1 the first pick is still the best item.
        choice = tf.where(i == 0, 0, _first_best(gain))
        # A row with all its usable items picked goes on with the unusable, which stand behind them.
        choice = tf.where(tf.reduce_any(free, axis=1), choice, i)
        vector = tf.gather(vectors, choice, batch_dims=1)
        new = tf.linalg.matvec(vectors, vector)
        similarity = tf.where(i == 0, new, tf.maximum(similarity, new))
        free = free & ~tf.one_hot(choice, pool_size, on_value=True, off_value=False, dtype=tf.bool)
        return i + 1, similarity, free, picked.write(i, choice)

    start = (tf.constant(0), tf.zeros_like(relevance), usable, picked)
    *_, picked = tf.while_loop(lambda i, *_: i < steps, step, start, maximum_iterations=max_k)
    order = tf.transpose(tf.reshape(picked.stack(), [steps, batch]))[:, :width]
    # Rows without diversity keep the order that `top_k` gave.
    order = tf.where(weight > 0, order, tf.range(width)[None, :])
    rows = tf.gather(columns, order, batch_dims=1) + 1
    return _blank_past_k(rows, tf.gather(values, order, batch_dims=1), k)


def _first_best(gain: tf.Tensor) -> tf.Tensor:
    return tf.argmax(gain, axis=1, output_type=tf.int32)


def _width(scores: tf.Tensor, k: tf.Tensor, max_k: int) -> tf.Tensor:
    return tf.clip_by_value(tf.reduce_max(k), 0, tf.minimum(max_k, tf.shape(scores)[1]))


def _blank_past_k(rows: tf.Tensor, values: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    kept = (tf.range(tf.shape(rows)[1])[None, :] < k[:, None]) & tf.math.is_finite(values)
    return tf.where(kept, rows, 0), tf.where(kept, values, _NEVER)
