"""Item-kNN: items like those of the history, by who else chose them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.contract import Query, Recommender
from tfrec_meta.models.families.closed_forms import each_item_once, interaction_matrix

_CHUNK = 2**24  # similarities in memory at once while fitting


def bm25(interactions: scipy.sparse.csr_matrix, k1: float, b: float) -> scipy.sparse.csr_matrix:
    """BM25 weights with the items as documents and the users as their words.

    Args:
        interactions: [users, items], 1 where the user touched the item.
        k1: saturation; the larger, the more the length of an item's list of users counts.
        b: how much that length is discounted, in [0, 1].

    Returns:
        float32 [users, items]: log(items / (1 + items of the user)), which says little of users who
        touch everything, times (k1 + 1) / (k1 * (1 - b + b * length / mean length) + 1).

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009;
    the form is that of the library implicit.
    """
    items = interactions.shape[1]
    activity = np.diff(interactions.indptr)
    length = np.asarray(interactions.sum(axis=0), np.float64).ravel()
    relative = length / max(length.mean(), 1e-12)
    rarity = np.maximum(np.log(items / (1.0 + activity)), 0.0)
    saturation = (k1 + 1.0) / (k1 * (1.0 - b + b * relative) + 1.0)
    weighted = scipy.sparse.diags(rarity) @ interactions @ scipy.sparse.diags(saturation)
    return scipy.sparse.csr_matrix(weighted, dtype=np.float32)


def nearest_items(
    vectors: scipy.sparse.csr_matrix, neighbours: int, cosine: bool, shrinkage: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar other items of each item.

    Args:
        vectors: [users, items], a column an item.
        neighbours: N, kept for each item.
        cosine: whether dot products are divided by (product of the lengths + `shrinkage`).
        shrinkage: holds back similarities that rest on few users.

    Returns:
        columns int64 [items, N], best first and among equals the lower first, and similarities
        float32 [items, N]; where an item has fewer similar ones, -1 and 0.
    """
    items = vectors.shape[1]
    by_item = scipy.sparse.csr_matrix(vectors.T)
    length = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=0))).ravel()
    columns = np.full((items, neighbours), -1)
    similarities = np.zeros((items, neighbours), np.float32)
    chunk = max(1, _CHUNK // max(items, 1))
    for start in range(0, items, chunk):
        products = scipy.sparse.csr_matrix(by_item[start : start + chunk] @ vectors)
        for item, (first, stop) in enumerate(
            zip(products.indptr[:-1], products.indptr[1:], strict=True), start
        ):
            others, values = products.indices[first:stop], products.data[first:stop]
            if cosine:
                values = values / (length[item] * length[others] + shrinkage)
            used = np.flatnonzero((others != item) & (values > 0))
            if len(used) > neighbours:  # a whole sort would take most of the time
                least = -np.partition(-values[used], neighbours - 1)[neighbours - 1]
                used = used[values[used] >= least]
            used = used[np.lexsort((others[used], -values[used]))][:neighbours]
            columns[item, : len(used)] = others[used]
            similarities[item, : len(used)] = values[used]
    return columns, similarities


@dataclasses.dataclass(frozen=True)
class ItemKNNConfig:
    """What makes two items alike. The defaults were chosen on MovieLens-100K's train rows.

    Args:
        neighbours: how many similar items each item keeps; memory is 8 bytes for each.
        weighting: "bm25" or "cosine".
        k1, b: of BM25, see `bm25`.
        shrinkage: of the cosine, see `nearest_items`.
    """

    neighbours: int = 500
    weighting: Literal["bm25", "cosine"] = "bm25"
    k1: float = 100.0
    b: float = 0.2
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"`neighbours`={self.neighbours}; use 1 or more.")
        if self.weighting not in ("bm25", "cosine"):
            raise ValueError(f"`weighting`={self.weighting!r}; use 'bm25' or 'cosine'.")
        for name in ("k1", "shrinkage"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 0 or more.")
        if not 0 <= self.b <= 1:
            raise ValueError(f"`b`={self.b}; use a number from 0 to 1.")


class ItemKNN(Recommender, tf.Module):
    """Scores are the sums of an item's similarities to the items of the history.

    Of each item only its nearest are kept, so memory grows with the catalogue and not its square.

    Source: Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", TOIS 2004.
    """

    family = "item_knn"
    config_type = ItemKNNConfig

    def __init__(self, config: ItemKNNConfig, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)
        # Rows of items, of which 0 is the unknown item: alike to none, and what pads.
        shape = [len(spec.items), min(config.neighbours, max(spec.catalogue_size - 1, 1))]
        self.neighbours = tf.Variable(tf.zeros(shape, tf.int32), trainable=False, name="neighbours")
        self.similarities = tf.Variable(tf.zeros(shape), trainable=False, name="similarities")

    def fit(self, data: Interactions) -> None:
        """Finds the neighbours."""
        self.observe(data)
        vectors = interaction_matrix(data, data.user_ids, self.spec.items)
        cosine = self.config.weighting == "cosine"
        if not cosine:
            vectors = bm25(vectors, self.config.k1, self.config.b)
        columns, similarities = nearest_items(
            vectors, self.neighbours.shape[1], cosine, self.config.shrinkage
        )
        self.neighbours[1:].assign((columns + 1).astype(np.int32))
        self.similarities[1:].assign(similarities)

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        size = len(self.spec.items)

        # Row by row, each by its own length: the neighbours of a whole batch of padded histories,
        # [B, H, neighbours], can take gigabytes.
        def sums(history: tf.Tensor) -> tf.Tensor:
            known = tf.boolean_mask(history, history > 0)
            return tf.math.unsorted_segment_sum(
                tf.reshape(tf.gather(self.similarities, known), [-1]),
                tf.reshape(tf.gather(self.neighbours, known), [-1]),
                size,
            )

        scores = tf.map_fn(
            sums,
            each_item_once(query["history"]),
            fn_output_signature=tf.TensorSpec([size], tf.float32),
        )
        if items is None:
            return scores[:, 1:]
        return tf.gather(scores, items, batch_dims=1)  # column 0 only ever got zeros

    def has_evidence(self, query: Query) -> tf.Tensor:
        return tf.reduce_any(query["history"] > 0, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        return {
            "item_counts": self.item_counts.numpy(),
            "neighbours": self.neighbours.numpy(),
            "similarities": self.similarities.numpy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.item_counts.assign(state["item_counts"])
        self.neighbours.assign(state["neighbours"])
        self.similarities.assign(state["similarities"])

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """See the contract."""
        default = ItemKNNConfig()
        model = {
            "neighbours": hp.Choice("neighbours", [20, 50, 100, 200, 500], default=500),
            "weighting": hp.Choice("weighting", ["bm25", "cosine"], default="bm25"),
            "k1": hp.Float("k1", 0.5, 500.0, sampling="log", default=default.k1),
            "b": hp.Float("b", 0.0, 1.0, default=default.b),
            "shrinkage": hp.Float("shrinkage", 0.0, 500.0, default=default.shrinkage),
        }
        return {"model": model, "training": {}}
