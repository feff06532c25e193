"""iALS: implicit alternating least squares, and its solution for a single history."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
import tensorflow as tf

_CHUNK = 2**17  # vectors gathered at once: 50 MB with 96 numbers each


@dataclasses.dataclass(frozen=True)
class AlternatingLeastSquares:
    """Solves for user and item vectors in turn, each side exactly given the other.

    One iteration takes time in proportion to interactions * d² + (users + items) * d³, and memory
    in proportion to (users + items) * d.

    Args:
        dim: d.
        l2: penalty of the vector of a user or item with the mean number of interactions.
        unseen_weight: weight of a pair without interaction; a pair with one has weight 1.
        frequency_exponent: how much more the vectors of users and items with many interactions are
            penalised: 0 not at all, 1 in proportion to their weight in the loss.
        iterations: alternations; each solves once for all users and once for all items.

    References:
        See `fold_in`.
    """

    dim: int
    l2: float
    unseen_weight: float
    frequency_exponent: float
    iterations: int

    def item_vectors(self, by_user: scipy.sparse.csr_matrix) -> tf.Tensor:
        """Fits the item vectors; the start is drawn with TensorFlow's global seed.

        Args:
            by_user: [users, items], the confidence that the user likes the item, above 0 and 1
                without weights; below 0 the confidence that the user does not like it.

        Returns:
            float32 [items, d].
        """
        by_item = scipy.sparse.csr_matrix(by_user.T)
        items = tf.random.normal([by_user.shape[1], self.dim], stddev=0.1 * self.dim**-0.5)
        for _ in range(self.iterations):
            items = self._solve(by_item, self._solve(by_user, items))
        return items

    def penalty(self, counts: Any, mean: Any, others: int) -> Any:
        """Returns the penalty of vectors.

        Args:
            counts: their numbers of interactions, or the sums of their confidence.
            mean: the mean of these numbers.
            others: the number of possible interactions.
        """
        unseen = self.unseen_weight * others
        relative = (counts + unseen) / (mean + unseen)
        return self.l2 * relative**self.frequency_exponent

    def _solve(self, matrix: scipy.sparse.csr_matrix, factors: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [n, d] of the rows of `matrix` [n, m], given those of its columns."""
        gram = tf.matmul(factors, factors, transpose_a=True)
        factors = tf.pad(factors, [[1, 0], [0, 0]])
        solved = np.zeros([matrix.shape[0], self.dim], np.float32)
        mean = mean_confidence(matrix)
        totals = np.asarray(abs(matrix).sum(axis=1), np.float32).ravel()
        is_weighted = bool((matrix.data != 1.0).any())
        for chosen, rows, confidence in _padded(matrix):
            penalty = tf.constant(self.penalty(totals[chosen], mean, matrix.shape[1]), tf.float32)
            if is_weighted:
                found = _weighted_fold_in(
                    rows, confidence, factors, gram, self.unseen_weight, penalty
                )
            else:
                found = _fold_in(rows, factors, gram, self.unseen_weight, penalty)
            solved[chosen] = found
        return tf.constant(solved)


def mean_confidence(matrix: scipy.sparse.csr_matrix) -> float:
    """Returns the mean over rows of their total confidence: without weights, of their items."""
    return float(np.abs(matrix.data).sum(dtype=np.float64)) / matrix.shape[0]


def fold_in(
    rows: tf.Tensor, factors: tf.Tensor, gram: tf.Tensor, unseen: float, penalty: tf.Tensor
) -> tf.Tensor:
    """Solves for the vectors that explain these rows best, given the vectors of the other side.

    This is half an iteration of iALS. It minimises, for each row of the batch, the sum over its
    rows of (1 - x·f)², plus `unseen` times the sum over all factors of (x·f)², plus `penalty` |x|².

    Args:
        rows: int32 [B, W], distinct rows of `factors`, 0 pads.
        factors: float32 [n + 1, d]; row 0 is 0.
        gram: float32 [d, d], factorsᵀ · factors.
        unseen: weight of a pair without interaction.
        penalty: float32 [B], above 0.

    Returns:
        float32 [B, d]; zeros for an empty row.

    References:
        Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008,
        in the form of Rendle et al., "Revisiting the Performance of iALS on Item Recommendation
        Benchmarks", RecSys 2022.
    """
    chosen = tf.gather(factors, rows)  # the padding adds row 0, which is 0
    system = unseen * gram + tf.matmul(chosen, chosen, transpose_a=True)
    return _solved(system, tf.reduce_sum(chosen, axis=1), penalty)


def weighted_fold_in(
    rows: tf.Tensor,
    confidence: tf.Tensor,
    factors: tf.Tensor,
    gram: tf.Tensor,
    unseen: float,
    penalty: tf.Tensor,
) -> tf.Tensor:
    """Solves as `fold_in`, with the confidence c of each interaction as its weight in the loss.

    The term of a row of `factors` is c · (1 - x·f)², and of a known negative |c| · (x·f)².

    Args:
        confidence: float32 [B, W]; below 0 for known negatives.
        rows, factors, gram, unseen, penalty: as for `fold_in`.

    Returns:
        float32 [B, d].
    """
    chosen = tf.gather(factors, rows)
    system = unseen * gram + tf.matmul(
        chosen, tf.abs(confidence)[:, :, None] * chosen, transpose_a=True
    )
    right = tf.reduce_sum(tf.nn.relu(confidence)[:, :, None] * chosen, axis=1)
    return _solved(system, right, penalty)


def _solved(system: tf.Tensor, right: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """float32 [B, d]: the solutions of (system + penalty · I) x = right."""
    # With a smaller ridge a Cholesky factor may not exist in float32, and one such row fails its
    # whole batch.
    least = 1e-5 * tf.linalg.trace(system)
    ridge = tf.maximum(penalty, least)[:, None] * tf.ones_like(tf.linalg.diag_part(system))
    system = tf.linalg.set_diag(system, tf.linalg.diag_part(system) + ridge)
    return tf.linalg.cholesky_solve(tf.linalg.cholesky(system), right[:, :, None])[:, :, 0]


# With unknown shapes: chunks have many shapes, and each new one would be traced again.
_ROWS, _MATRIX = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None])
_REST = [_MATRIX, _MATRIX, tf.TensorSpec([]), tf.TensorSpec([None])]
_fold_in = tf.function(fold_in, input_signature=[_ROWS, *_REST])
_weighted_fold_in = tf.function(weighted_fold_in, input_signature=[_ROWS, _MATRIX, *_REST])


def _padded(
    matrix: scipy.sparse.csr_matrix,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows of a matrix in chunks of similar length: their numbers, their columns + 1 as int32
    [b, w], and their values float32 [b, w]."""
    lengths = np.diff(matrix.indptr)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(int(lengths[order[start]]), 1)
        chosen = order[start : start + max(1, _CHUNK // width)]
        place = np.arange(width)[None, :]
        there = place < lengths[chosen][:, None]
        at = np.where(there, matrix.indptr[chosen][:, None] + place, 0)
        rows = np.where(there, matrix.indices[at] + 1, 0).astype(np.int32)
        yield chosen, rows, np.where(there, matrix.data[at], 0).astype(np.float32)
        start += len(chosen)
