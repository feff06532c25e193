"""Item embeddings that need no gradient steps, for other models to begin with.

Each function gives a row an item, row 0 (the unknown item) included, in up to `dim` columns: fewer
where the data has fewer dimensions. Rows have length 1, or 0 where nothing is known of the item.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from tfrec_meta.data import Interactions
from tfrec_meta.features import Category, FeatureSpec, HashedText, Text
from tfrec_meta.features.held_out import interaction_matrix

ItemInitializer = Literal["random", "item2vec", "spectral", "lightgcn", "words"]
_LAYERS = 3  # of LightGCN, as in its paper


def initialised(
    name: ItemInitializer, data: Interactions, spec: FeatureSpec, start: np.ndarray
) -> np.ndarray:
    """Initial item embeddings of the usual size.

    Args:
        name: one of the functions below; "random" changes nothing.
        data: training events and items.
        spec: a fitted spec.
        start: float32 [items + 1, d], drawn at random with a standard deviation of d ** -0.5. What
            the function says nothing of keeps it.

    Returns:
        float32 [items + 1, d]; the rows that are known have length 1 or about that.

    Raises:
        ValueError: for "words" of items that have none.
    """
    dim = start.shape[1]
    if name == "random":
        return start
    if name == "lightgcn":
        found = lightgcn(interactions_of(data, spec), start)
    elif name == "item2vec":
        found = item2vec(interactions_of(data, spec), dim)
    elif name == "spectral":
        found = spectral(interactions_of(data, spec), dim)
    else:
        found = words(data, spec, dim)
    known = found.any(axis=1)
    result, width = start.copy(), found.shape[1]
    # Columns that are not filled stay random: a column that is 0 everywhere would never learn.
    result[known, :width] = found[known] * (width / dim) ** 0.5
    return result.astype(np.float32)


def interactions_of(data: Interactions, spec: FeatureSpec) -> scipy.sparse.csr_matrix:
    """Who touched what, float32 [users, items + 1]; column 0 is empty."""
    matrix = interaction_matrix(data, data.user_ids, spec.items)
    unknown = scipy.sparse.csr_matrix((matrix.shape[0], 1), dtype=matrix.dtype)
    return scipy.sparse.hstack([unknown, matrix], format="csr")


def item2vec(interactions: scipy.sparse.csr_matrix, dim: int, negatives: float = 1.0) -> np.ndarray:
    """Items that are found in the same histories, whatever else is popular there, are alike.

    What skip-gram with negative sampling learns from all pairs of a history (Barkan and
    Koenigstein, "Item2Vec", MLSP 2016), in closed form: it factorises the pointwise mutual
    information of the pairs less log(negatives), here cut at 0 (Levy and Goldberg, "Neural Word
    Embedding as Implicit Matrix Factorization", NeurIPS 2014). Memory grows with the number of
    different pairs.

    Args:
        interactions: [users, items], 1 where the user touched the item.
        dim: d.
        negatives: samples a pair, 1 or more; the more, the fewer pairs count.

    Returns:
        float32 [items, up to d].
    """
    pairs = scipy.sparse.csr_matrix(interactions.T @ interactions, dtype=np.float64)
    pairs.setdiag(0)
    pairs.eliminate_zeros()
    pairs = pairs.tocoo()
    often = np.asarray(pairs.sum(axis=0)).ravel()
    chance = often[pairs.row] * often[pairs.col]
    information = np.log(pairs.data * often.sum() / chance) - np.log(negatives)
    kept = information > 0
    positive = scipy.sparse.csr_matrix(
        (information[kept], (pairs.row[kept], pairs.col[kept])), shape=pairs.shape
    )
    vectors, sizes = _left_singular_vectors(positive, dim)
    return _unit_rows(vectors * np.sqrt(sizes))


def spectral(interactions: scipy.sparse.csr_matrix, dim: int) -> np.ndarray:
    """The smoothest functions over the interaction graph: items that share users are alike.

    The singular vectors of the interactions, each divided by the root of what its user and its item
    have, times their singular values.

    Returns:
        float32 [items, up to d].

    Source: Dhillon, "Co-clustering Documents and Words Using Bipartite Spectral Graph
    Partitioning", KDD 2001.
    """
    vectors, sizes = _left_singular_vectors(_normalised(interactions).T, dim)
    return _unit_rows(vectors * sizes)


def lightgcn(interactions: scipy.sparse.csr_matrix, start: np.ndarray) -> np.ndarray:
    """Embeddings smoothed over the interaction graph: the mean of the layers of LightGCN.

    Users begin at zero, for a query is made of items. Needs no decomposition, so it is at home in
    large catalogues.

    Args:
        interactions: [users, items].
        start: float32 [items, d], the first layer.

    Returns:
        float32 [items, d]; zeros for items without interactions.

    Source: He et al., "LightGCN", SIGIR 2020, before any training.
    """
    graph = _normalised(interactions)
    items, users = start.astype(np.float32), np.zeros((graph.shape[0], start.shape[1]), np.float32)
    total = items.copy()
    for _ in range(_LAYERS):
        items, users = graph.T @ users, graph @ items
        total += items
    touched = np.asarray(interactions.sum(axis=0)).ravel() > 0
    return _unit_rows(total * touched[:, None])


def words(data: Interactions, spec: FeatureSpec, dim: int) -> np.ndarray:
    """Items of like words and categories are alike: latent semantic analysis of the items table.

    Args:
        data: whose items table is read.
        spec: whose texts and categories of items count, each word weighed by its rarity (tf-idf).
        dim: d.

    Returns:
        float32 [items + 1, up to d]; zeros for items without any.

    Raises:
        ValueError: if the items have neither texts nor categories.

    Source: Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990.
    """
    encoded, parts = spec.encode_items(data.items), []
    for feature in spec.item:
        if isinstance(feature, Category | HashedText | Text):
            rows = encoded[feature.name]
            item, place = np.nonzero(rows)
            shape = (len(rows), spec.height(feature, "item"))
            named = (np.ones(len(item)), (item, rows[item, place]))
            parts.append(scipy.sparse.csr_matrix(named, shape=shape))
    if not parts:
        raise ValueError(
            "`item_initializer`='words', but the items have neither texts nor categories. "
            "Declare one in the FeatureSpec, or use another initializer."
        )
    counts = scipy.sparse.hstack(parts, format="csr")
    named_by = np.maximum((counts > 0).sum(axis=0), 1)
    rarity = np.log(len(spec.items) / np.asarray(named_by, np.float64)).ravel()
    vectors, sizes = _left_singular_vectors(counts @ scipy.sparse.diags(rarity), dim)
    return _unit_rows(vectors * sizes)


def _normalised(interactions: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Each interaction divided by the root of (its user's number of them times its item's)."""
    of_users = np.maximum(np.asarray(interactions.sum(axis=1)).ravel(), 1.0)
    of_items = np.maximum(np.asarray(interactions.sum(axis=0)).ravel(), 1.0)
    left, right = scipy.sparse.diags(of_users**-0.5), scipy.sparse.diags(of_items**-0.5)
    return scipy.sparse.csr_matrix(left @ interactions @ right, dtype=np.float32)


def _left_singular_vectors(matrix: scipy.sparse.spmatrix, dim: int) -> tuple[np.ndarray, ...]:
    """The left singular vectors [n, r] of the up to `dim` largest singular values [r] above 0."""
    smallest = min(matrix.shape)
    if dim < smallest // 2:
        begin = np.random.default_rng(0).normal(size=smallest)  # else it would be drawn anew
        vectors, sizes, _ = scipy.sparse.linalg.svds(matrix.astype(np.float64), dim, v0=begin)
        vectors, sizes = vectors[:, ::-1], sizes[::-1]
    else:  # so small that the iteration would not converge, or be slower than all of them
        vectors, sizes, _ = scipy.linalg.svd(matrix.toarray(), full_matrices=False)
        vectors, sizes = vectors[:, :dim], sizes[:dim]
    real = sizes > 1e-6 * max(sizes[0], 1e-12)
    return vectors[:, real], sizes[real]


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Each row divided by its length, float32; rows of next to nothing become 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    tiny = length <= 1e-6 * max(length.max(initial=0.0), 1e-12)
    return (np.where(tiny, 0.0, vectors) / np.where(tiny, 1.0, length)).astype(np.float32)
