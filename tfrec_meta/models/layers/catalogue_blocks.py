"""Scores the catalogue block by block, so that memory does not grow with the catalogue."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def score_in_blocks(
    score_rows: Callable[[tf.Tensor], tf.Tensor],
    batch: tf.Tensor,
    catalogue_size: int,
    pairs_per_block: int,
) -> tf.Tensor:
    """Scores all items for a batch of queries.

    Args:
        score_rows: item rows int32 [n] to the scores of all queries, float32 [B, n].
        batch: B, int32 scalar.
        catalogue_size: items to score; their rows are 1 to `catalogue_size`.
        pairs_per_block: pairs of a query and an item that are scored at once.

    Returns:
        float32 [B, catalogue_size].
    """
    width = tf.clip_by_value(pairs_per_block // tf.maximum(batch, 1), 1, catalogue_size)
    starts = tf.range(1, catalogue_size + 1, width)

    def block(start: tf.Tensor) -> tf.Tensor:
        # The last block repeats the last item.
        return score_rows(tf.minimum(start + tf.range(width), catalogue_size))

    blocks = tf.map_fn(
        block, starts, fn_output_signature=tf.TensorSpec([None, None]), parallel_iterations=1
    )
    side_by_side = tf.reshape(tf.transpose(blocks, [1, 0, 2]), [batch, tf.size(starts) * width])
    return tf.ensure_shape(side_by_side[:, :catalogue_size], [None, catalogue_size])
