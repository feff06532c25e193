"""Closed forms whose score is a dot product of a query and an item vector: iALS, low-rank EASE.

Both make the query of the history alone, inside the graph, so that new users are served like known
ones, and any index of inner products serves them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.contract import Query, Recommender
from tfrec_meta.models.families.closed_forms import each_item_once, ease_weights, interaction_matrix
from tfrec_meta.models.layers.towers import mean_of_rows

_CHUNK = 2**17  # vectors gathered at once in iALS: 50 MB with 96 numbers each


class _FactorModel(Recommender, tf.Module):
    """What the two share: `item_factors`, float32 [items + 1, d], whose row 0 (unknown) is zeros.

    More dimensions than items would say nothing new, so d is at most the catalogue's size.
    """

    has_embeddings = True

    def __init__(self, config: Any, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)
        self.dim = min(config.embedding_dim, max(spec.catalogue_size, 1))
        self.item_factors = self._learned("item_factors", [len(spec.items), self.dim])

    def query_vectors(self, query: Query) -> tf.Tensor:
        """float32 [B, d], zeros without a history."""
        # A family's own; `abc.ABC` would clash with the metaclass of tf.Module.
        raise NotImplementedError

    def embed_query(self, query: Query) -> tf.Tensor:
        """float32 [B, d + 1]; the last is 1 for a stranger, to whom it brings the prior."""
        stranger = 1.0 - tf.cast(self.has_evidence(query), tf.float32)
        return tf.concat([self.query_vectors(query), stranger[:, None]], axis=1)

    def embed_item(self, item: Query) -> tf.Tensor:
        """float32 [B, d + 1]; the last is the log prior. An unknown item has nothing else."""
        prior = self._prior_logits()
        prior = tf.concat([tf.reduce_min(prior, keepdims=True), prior], axis=0)
        rows = item["item_id"]
        return tf.concat(
            [tf.gather(self.item_factors, rows), tf.gather(prior, rows)[:, None]], axis=1
        )

    def item_embeddings(self) -> tf.Tensor:
        """float32 [catalogue, d], the prior left out: how like two items are."""
        return self.item_factors[1:]

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        vectors = self.query_vectors(query)
        if items is None:
            return tf.matmul(vectors, self.item_factors[1:], transpose_b=True)
        return tf.einsum("bd,bcd->bc", vectors, tf.gather(self.item_factors, items))

    def has_evidence(self, query: Query) -> tf.Tensor:
        return tf.reduce_any(query["history"] > 0, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name, variable in self._variables().items():
            variable.assign(state[name])

    def _learned(self, name: str, shape: list[int]) -> tf.Variable:
        return tf.Variable(tf.zeros(shape), trainable=False, name=name)

    def _variables(self) -> dict[str, tf.Variable]:
        return {variable.name.split(":")[0]: variable for variable in self.variables}


def fold_in(
    rows: tf.Tensor, factors: tf.Tensor, gram: tf.Tensor, unseen: float, penalty: tf.Tensor
) -> tf.Tensor:
    """The vectors that explain these rows best, given the other side's: half a step of iALS.

    Minimises, for each row of the batch, the sum over its rows of (1 - x·f)², plus `unseen` times
    the sum over all factors of (x·f)², plus `penalty` |x|².

    Args:
        rows: int32 [B, W], distinct rows of `factors`, 0 pads.
        factors: float32 [n + 1, d]; row 0 is 0.
        gram: float32 [d, d], factorsᵀ · factors.
        unseen: weight of what was not chosen.
        penalty: float32 [B], above 0.

    Returns:
        float32 [B, d]; zeros for an empty row.

    Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM
    2008, in the form of Rendle et al., "Revisiting the Performance of iALS on Item Recommendation
    Benchmarks", RecSys 2022.
    """
    chosen = tf.gather(factors, rows)  # the padding adds row 0, which is 0
    system = unseen * gram + tf.matmul(chosen, chosen, transpose_a=True)
    # Below that a Cholesky factor may not exist in float32, and one bad row fails its whole batch.
    least = 1e-5 * tf.linalg.trace(system)
    ridge = tf.maximum(penalty, least)[:, None] * tf.ones_like(tf.linalg.diag_part(system))
    system = tf.linalg.set_diag(system, tf.linalg.diag_part(system) + ridge)
    right = tf.reduce_sum(chosen, axis=1)[:, :, None]
    return tf.linalg.cholesky_solve(tf.linalg.cholesky(system), right)[:, :, 0]


@dataclasses.dataclass(frozen=True)
class IALSConfig:
    """The defaults did best on three validation tenths of MovieLens-100K's train rows.

    Args:
        embedding_dim: d.
        l2: penalty of the vector of a user or item of the mean number of interactions.
        unseen_weight: what a pair without interaction weighs, beside 1 for one with.
        frequency_exponent: how much more the vectors of those with many interactions are
            penalised: 0 not at all, 1 in proportion to what they weigh in the loss.
        iterations: alternations, each one solve for all users and one for all items.
    """

    embedding_dim: int = 96
    l2: float = 8.5
    unseen_weight: float = 0.3
    frequency_exponent: float = 0.0
    iterations: int = 15

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 1 or more.")
        for name in ("l2", "unseen_weight"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"`{name}`={getattr(self, name)}; use a number above 0.")
        if not 0 <= self.frequency_exponent <= 1:
            raise ValueError(
                f"`frequency_exponent`={self.frequency_exponent}; use a number from 0 to 1."
            )


class IALS(_FactorModel):
    """Implicit alternating least squares; a query is the exact solution for its history.

    An alternation takes time in proportion to interactions * d² + (users + items) * d³, and memory
    to (users + items) * d. Source: see `fold_in`.
    """

    family = "ials"
    config_type = IALSConfig

    def __init__(self, config: IALSConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        self.gram = self._learned("gram", [self.dim, self.dim])
        self.mean_history = self._learned("mean_history", [])

    def fit(self, data: Interactions) -> None:
        """Alternates between users and items; the start is drawn with TensorFlow's global seed."""
        self.observe(data)
        by_user = interaction_matrix(data, data.user_ids, self.spec.items)
        by_item = scipy.sparse.csr_matrix(by_user.T)
        items = tf.random.normal([by_user.shape[1], self.dim], stddev=0.1 * self.dim**-0.5)
        for _ in range(self.config.iterations):
            items = self._solve(by_item, self._solve(by_user, items))
        self.item_factors[1:].assign(items)
        self.gram.assign(tf.matmul(items, items, transpose_a=True))
        self.mean_history.assign(by_user.nnz / by_user.shape[0])

    def query_vectors(self, query: Query) -> tf.Tensor:
        rows = each_item_once(query["history"])
        counts = tf.reduce_sum(tf.cast(rows > 0, tf.float32), axis=1)
        penalty = self._penalty(counts, self.mean_history, self.spec.catalogue_size)
        return fold_in(rows, self.item_factors, self.gram, self.config.unseen_weight, penalty)

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """See the contract."""
        default = IALSConfig()
        model = {
            "embedding_dim": hp.Choice("embedding_dim", [16, 32, 64, 96, 128, 256], default=96),
            "l2": hp.Float("l2", 0.01, 1000.0, sampling="log", default=default.l2),
            "unseen_weight": hp.Float(
                "unseen_weight", 0.01, 2.0, sampling="log", default=default.unseen_weight
            ),
            "frequency_exponent": hp.Float(
                "frequency_exponent", 0.0, 1.0, default=default.frequency_exponent
            ),
            "iterations": hp.Int("iterations", 5, 30, default=default.iterations),
        }
        return {"model": model, "training": {}}

    def _penalty(self, counts: Any, mean: Any, others: int) -> Any:
        """The penalty of vectors with `counts` interactions, of `others` possible ones."""
        unseen = self.config.unseen_weight * others
        relative = (counts + unseen) / (mean + unseen)
        return self.config.l2 * relative**self.config.frequency_exponent

    def _solve(self, matrix: scipy.sparse.csr_matrix, factors: tf.Tensor) -> tf.Tensor:
        """Vectors float32 [n, d] of the rows of `matrix` [n, m], given those of its columns."""
        gram = tf.matmul(factors, factors, transpose_a=True)
        factors = tf.pad(factors, [[1, 0], [0, 0]])
        solved = np.zeros([matrix.shape[0], self.dim], np.float32)
        mean = matrix.nnz / matrix.shape[0]
        for chosen, rows in _padded(matrix):
            counts = np.diff(matrix.indptr)[chosen].astype(np.float32)
            penalty = tf.constant(self._penalty(counts, mean, matrix.shape[1]), tf.float32)
            solved[chosen] = _fold_in(rows, factors, gram, self.config.unseen_weight, penalty)
        return tf.constant(solved)


# Of any shape: chunks come in many, and each new one would be traced again.
_fold_in = tf.function(
    fold_in,
    input_signature=[
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None, None]),
        tf.TensorSpec([None, None]),
        tf.TensorSpec([]),
        tf.TensorSpec([None]),
    ],
)


def _padded(matrix: scipy.sparse.csr_matrix) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of a matrix in chunks of like length: which, and their columns + 1, int32 [b, w]."""
    lengths = np.diff(matrix.indptr)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(int(lengths[order[start]]), 1)
        chosen = order[start : start + max(1, _CHUNK // width)]
        place = np.arange(width)[None, :]
        there = place < lengths[chosen][:, None]
        at = np.where(there, matrix.indptr[chosen][:, None] + place, 0)
        yield chosen, np.where(there, matrix.indices[at] + 1, 0).astype(np.int32)
        start += len(chosen)


@dataclasses.dataclass(frozen=True)
class LowRankEASEConfig:
    """The defaults were chosen on a validation part of MovieLens-100K's train rows.

    Args:
        embedding_dim: d, the rank.
        l2: EASE's ridge penalty.
    """

    embedding_dim: int = 64
    l2: float = 500.0

    def __post_init__(self) -> None:
        if self.embedding_dim < 1:
            raise ValueError(f"`embedding_dim`={self.embedding_dim}; use 1 or more.")
        if not 0 < self.l2 < np.inf:
            raise ValueError(f"`l2`={self.l2}; use a number above 0, or the inverse may not exist.")


def low_rank(weights: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best approximation of a square matrix by a product of two narrow ones.

    Args:
        weights: float32 [n, n].
        rank: r, at most n.

    Returns:
        left and right, float32 [n, r], with weights ≈ left @ right.T; the truncated singular value
        decomposition with the singular values on the left.
    """
    size = len(weights)
    _, right = scipy.linalg.eigh(
        weights.T @ weights, subset_by_index=[size - rank, size - 1], check_finite=False
    )
    right = np.ascontiguousarray(right[:, ::-1], np.float32)
    return weights @ right, right


class LowRankEASE(_FactorModel):
    """EASE's weights cut down to rank d: a query sums the vectors of its history.

    Fitted at EASE's cost, served at that of a two-tower model. Source: see `ease_weights`.
    """

    family = "low_rank_ease"
    config_type = LowRankEASEConfig

    def __init__(self, config: LowRankEASEConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        self.history_factors = self._learned("history_factors", [len(spec.items), self.dim])

    def fit(self, data: Interactions) -> None:
        """Solves for EASE's weights and decomposes them."""
        self.observe(data)
        matrix = interaction_matrix(data, data.user_ids, self.spec.items)
        left, right = low_rank(ease_weights(matrix, self.config.l2), self.dim)
        self.history_factors[1:].assign(left)
        self.item_factors[1:].assign(right)

    def query_vectors(self, query: Query) -> tf.Tensor:
        rows = each_item_once(query["history"])
        counts = tf.reduce_sum(tf.cast(rows > 0, tf.float32), axis=1, keepdims=True)
        return counts * mean_of_rows(rows, tf.convert_to_tensor(self.history_factors))

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """See the contract."""
        default = LowRankEASEConfig()
        model = {
            "embedding_dim": hp.Choice("embedding_dim", [16, 32, 64, 128, 256], default=64),
            "l2": hp.Float("l2", 1.0, 10_000.0, sampling="log", default=default.l2),
        }
        return {"model": model, "training": {}}
