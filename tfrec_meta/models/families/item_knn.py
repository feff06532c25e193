"""Item-kNN: items similar to those of the history, by the users who chose both."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_meta.checks import FiniteNonNegativeFloat, PositiveInt, between, check_fields
from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import positive_matrix
from tfrec_meta.models.base.closed_form import ClosedForm
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.layers.item_rows import without_repeats

_CHUNK = 2**24  # similarities in memory at once while fitting


def bm25(interactions: scipy.sparse.csr_matrix, k1: float, b: float) -> scipy.sparse.csr_matrix:
    """Computes BM25 weights with the items as documents and the users as their words.

    Args:
        interactions: [users, items], 1 where the user interacted with the item, or the weight of
            that interaction. Items of the user and length are then sums of weights, and each
            entry is multiplied by the square root of its weight.
        k1: saturation; with higher values the number of an item's users counts more.
        b: how much that number is discounted, in [0, 1].

    Returns:
        float32 [users, items]: log(items / (1 + items of the user)), which is low for users with
        very many items, times (k1 + 1) / (k1 * (1 - b + b * length / mean length) + 1).

    References:
        Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, in
        the form of the library implicit.
    """
    items = interactions.shape[1]
    activity = np.asarray(interactions.sum(axis=1), np.float64).ravel()
    length = np.asarray(interactions.sum(axis=0), np.float64).ravel()
    relative = length / max(length.mean(), 1e-12)
    rarity = np.maximum(np.log(items / (1.0 + activity)), 0.0)
    saturation = (k1 + 1.0) / (k1 * (1.0 - b + b * relative) + 1.0)
    weighted = scipy.sparse.diags(rarity) @ interactions.sqrt() @ scipy.sparse.diags(saturation)
    return scipy.sparse.csr_matrix(weighted, dtype=np.float32)


def nearest_items(
    vectors: scipy.sparse.csr_matrix, neighbours: int, cosine: bool, shrinkage: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the most similar other items of each item.

    Args:
        vectors: [users, items], one column per item.
        neighbours: N, the neighbours to keep per item.
        cosine: whether dot products are divided by (product of the lengths + `shrinkage`).
        shrinkage: reduces similarities that depend on few users.

    Returns:
        columns int64 [items, N], the most similar first and the lower one first among equals, and
        similarities float32 [items, N]. Where an item has fewer similar items, -1 and 0.
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
            if len(used) > neighbours:  # sorting all of them would take most of the time
                least = -np.partition(-values[used], neighbours - 1)[neighbours - 1]
                used = used[values[used] >= least]
            used = used[np.lexsort((others[used], -values[used]))][:neighbours]
            columns[item, : len(used)] = others[used]
            similarities[item, : len(used)] = values[used]
    return columns, similarities


@dataclasses.dataclass(frozen=True)
class ItemKNNConfig:
    """The config of `ItemKNN`. The defaults were chosen on MovieLens-100K's train rows.

    Args:
        neighbours: similar items to keep per item; each takes 8 bytes of memory.
        weighting: "bm25" or "cosine".
        k1: of BM25, see `bm25`.
        b: of BM25, see `bm25`.
        shrinkage: of the cosine, see `nearest_items`.
    """

    neighbours: PositiveInt = 500
    weighting: Literal["bm25", "cosine"] = "bm25"
    k1: FiniteNonNegativeFloat = 100.0
    b: Annotated[float, between(0, 1)] = 0.2
    shrinkage: FiniteNonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


class ItemKNN(ClosedForm):
    """Scores an item by the sum of its similarities to the items of the history.

    Only the nearest neighbours of each item are kept, so memory grows with the catalogue and not
    with its square.

    References:
        Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", TOIS 2004.
    """

    family = "item_knn"
    config_type = ItemKNNConfig

    def __init__(self, config: ItemKNNConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        # Item rows; row 0 is the unknown item, which has no neighbours and also pads.
        shape = [len(spec.items), min(config.neighbours, max(spec.catalogue_size - 1, 1))]
        self.neighbours = self._fitted("neighbours", shape, tf.int32)
        self.similarities = self._fitted("similarities", shape)

    def fit(self, data: Interactions) -> None:
        """Finds the neighbours."""
        self.observe(data)
        vectors = positive_matrix(data, data.user_ids, self.spec.items)
        cosine = self.config.weighting == "cosine"
        if cosine:
            vectors = vectors.sqrt()  # the square of an item's length is its weighted count
        else:
            vectors = bm25(vectors, self.config.k1, self.config.b)
        columns, similarities = nearest_items(
            vectors, self.neighbours.shape[1], cosine, self.config.shrinkage
        )
        self.neighbours[1:].assign((columns + 1).astype(np.int32))
        self.similarities[1:].assign(similarities)

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        size = len(self.spec.items)

        # Row by row, without padding: the neighbours of a batch of padded histories,
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
            without_repeats(query["history"]),
            fn_output_signature=tf.TensorSpec([size], tf.float32),
        )
        if items is None:
            return scores[:, 1:]
        return tf.gather(scores, items, batch_dims=1)  # column 0 is always 0

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        default = ItemKNNConfig()
        model = {
            "neighbours": hp.Choice("neighbours", [20, 50, 100, 200, 500], default=500),
            "weighting": hp.Choice("weighting", ["bm25", "cosine"], default="bm25"),
            "k1": hp.Float("k1", 0.5, 500.0, sampling="log", default=default.k1),
            "b": hp.Float("b", 0.0, 1.0, default=default.b),
            "shrinkage": hp.Float("shrinkage", 0.0, 500.0, default=default.shrinkage),
        }
        return {"model": model, "training": {}}
