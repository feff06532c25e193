"""The exact index: masks and top-k of a score matrix, inside the graph."""

from __future__ import annotations

import tensorflow as tf

_NEVER = float("-inf")


def mask_rows(scores: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Masks items by their rows.

    Args:
        scores: float32 [B, catalogue]; column j belongs to item row j + 1.
        rows: int32 [B, w] item rows; 0 is no item.

    Returns:
        float32 [B, catalogue], with -inf in the columns of `rows`.
    """
    batch = tf.range(tf.shape(rows)[0])[:, None] + tf.zeros_like(rows)
    shape = tf.stack([tf.shape(scores)[0], tf.shape(scores)[1] + 1])
    hits = tf.scatter_nd(tf.stack([batch, rows], axis=-1), tf.ones_like(rows), shape)
    return tf.where(hits[:, 1:] > 0, _NEVER, scores)


def mask_other_attributes(
    scores: tf.Tensor, wanted: tf.Tensor, filtered: tf.Tensor, attributes: tf.Tensor, size: int
) -> tf.Tensor:
    """Masks the items that have none of the wanted attributes.

    Args:
        scores: float32 [B, catalogue].
        wanted: int32 [B, F] attribute rows; 0 is padding or an unknown attribute.
        filtered: bool [B], whether the row has a filter; a row without one keeps all items. A row
            whose filter has only unknown attributes keeps none.
        attributes: int32 [catalogue, W], the attributes of each item; 0 pads.
        size: number of rows of the attribute's vocabulary.

    Returns:
        float32 [B, catalogue], with -inf for the masked items.
    """
    wants = tf.math.bincount(wanted, minlength=size, maxlength=size, axis=-1) > 0
    wants &= tf.range(size)[None, :] > 0  # row 0 is the padding
    allowed = ~filtered[:, None]
    for column in range(attributes.shape[1]):  # memory is [B, catalogue] for any vocabulary
        allowed |= tf.gather(wants, attributes[:, column], axis=1)
    return tf.where(allowed, scores, _NEVER)


def top_k(scores: tf.Tensor, k: tf.Tensor, max_k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best items of each row; each row has its own `k`.

    Args:
        scores: float32 [B, catalogue], -inf for masked items.
        k: int32 [B]; a `k` below 1 gives blanks, a `k` above `max_k` or the catalogue is capped.
        max_k: the largest number of items of any row.

    Returns:
        rows int32 [B, K] (0 for blanks) and scores float32 [B, K] (-inf for blanks), best first.
        Ties are broken by the lower row. K is the largest `k` after capping.
    """
    values, columns = tf.math.top_k(scores, k=answer_width(scores, k, max_k))
    return blank_past_k(columns + 1, values, k)


def best_columns(scores: tf.Tensor, pool: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best candidates of each row, for re-ranking.

    Args:
        scores: float32 [B, catalogue], -inf for masked items.
        pool: number of candidates; the catalogue caps it.

    Returns:
        scores float32 [B, P], best first, and their columns int32 [B, P].
    """
    return tf.math.top_k(scores, k=tf.minimum(pool, tf.shape(scores)[1]))


def answer_width(scores: tf.Tensor, k: tf.Tensor, max_k: int) -> tf.Tensor:
    """Returns K, the width of an answer: the largest `k`, capped by `max_k` and the catalogue."""
    return tf.clip_by_value(tf.reduce_max(k), 0, tf.minimum(max_k, tf.shape(scores)[1]))


def blank_past_k(rows: tf.Tensor, values: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blanks the places beyond each row's own `k`, and masked items.

    Args:
        rows: int32 [B, K] item rows.
        values: float32 [B, K], -inf for masked items.
        k: int32 [B].

    Returns:
        `rows` with 0 for blanks, and `values` with -inf for blanks.
    """
    shown = (tf.range(tf.shape(rows)[1])[None, :] < k[:, None]) & tf.math.is_finite(values)
    return tf.where(shown, rows, 0), tf.where(shown, values, _NEVER)
