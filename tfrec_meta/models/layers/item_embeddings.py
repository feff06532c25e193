"""Initial item embeddings that are computed without gradient steps.

Each function returns one row per item, row 0 (the unknown item) included, in up to `dim` columns;
fewer where the data has fewer dimensions. Rows have length 1, or 0 for items without information.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from tfrec_meta.data import Interactions
from tfrec_meta.features import Category, FeatureSpec, HashedText, Text
from tfrec_meta.features.held_out import positive_matrix

ItemInitializer = Literal["random", "item2vec", "spectral", "lightgcn", "words"]
_LAYERS = 3  # of LightGCN, as in its paper


def initial_item_embeddings(
    name: ItemInitializer, data: Interactions, spec: FeatureSpec, start: np.ndarray
) -> np.ndarray:
    """Computes initial item embeddings at the scale of random ones.

    Args:
        name: one of the functions below; "random" returns `start`.
        data: training events and items.
        spec: a fitted spec.
        start: float32 [items + 1, d], random with a standard deviation of d ** -0.5. Items without
            information keep it.

    Returns:
        float32 [items + 1, d]; all other rows have a length of about 1.

    Raises:
        ValueError: for "words" if the items have neither texts nor categories.
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
    # Unfilled columns stay random: a column of zeros would get no gradient.
    result[known, :width] = found[known] * (width / dim) ** 0.5
    return result.astype(np.float32)


def interactions_of(data: Interactions, spec: FeatureSpec) -> scipy.sparse.csr_matrix:
    """Returns the interactions, float32 [users, items + 1]; column 0 is empty.

    With declared feedback, they are the square roots of the weights of positive events, so that a
    pair of interactions of a user counts by the geometric mean of both weights.
    """
    matrix = positive_matrix(data, data.user_ids, spec.items).sqrt()
    unknown = scipy.sparse.csr_matrix((matrix.shape[0], 1), dtype=matrix.dtype)
    return scipy.sparse.hstack([unknown, matrix], format="csr")


def item2vec(interactions: scipy.sparse.csr_matrix, dim: int, negatives: float = 1.0) -> np.ndarray:
    """Computes item2vec embeddings in closed form: items of the same histories are similar.

    Skip-gram with negative sampling on all pairs of a history factorises the pointwise mutual
    information of the pairs minus log(negatives), here clipped at 0. Memory grows with the number
    of different pairs.

    Args:
        interactions: [users, items], 1 where the user interacted with the item.
        dim: d.
        negatives: negative samples per pair, 1 or more; with more, fewer pairs count.

    Returns:
        float32 [items, up to d].

    References:
        Barkan and Koenigstein, "Item2Vec", MLSP 2016; Levy and Goldberg, "Neural Word Embedding as
        Implicit Matrix Factorization", NeurIPS 2014.
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
    """Computes spectral embeddings of the interaction graph: items that share users are similar.

    They are the singular vectors of the normalised interactions, times their singular values.

    Args:
        interactions: [users, items], 1 where the user interacted with the item.
        dim: d.

    Returns:
        float32 [items, up to d].

    References:
        Dhillon, "Co-clustering Documents and Words Using Bipartite Spectral Graph Partitioning",
        KDD 2001.
    """
    vectors, sizes = _left_singular_vectors(_normalised(interactions).T, dim)
    return _unit_rows(vectors * sizes)


def lightgcn(interactions: scipy.sparse.csr_matrix, start: np.ndarray) -> np.ndarray:
    """Smooths random embeddings over the interaction graph: the mean of the layers of LightGCN.

    Users start at zero, since queries consist of items. It needs no decomposition, so it suits
    large catalogues.

    Args:
        interactions: [users, items].
        start: float32 [items, d], the first layer.

    Returns:
        float32 [items, d]; zeros for items without interactions.

    References:
        He et al., "LightGCN", SIGIR 2020, before any training.
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
    """Runs latent semantic analysis of the items table: items with similar words are similar.

    Args:
        data: its items table is read.
        spec: its item texts and categories are used, with each word weighted by tf-idf.
        dim: d.

    Returns:
        float32 [items + 1, up to d]; zeros for items without any.

    Raises:
        ValueError: if the items have neither texts nor categories.

    References:
        Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990.
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
    """Each interaction divided by the square root of its user's and its item's counts."""
    of_users = np.maximum(np.asarray(interactions.sum(axis=1)).ravel(), 1.0)
    of_items = np.maximum(np.asarray(interactions.sum(axis=0)).ravel(), 1.0)
    left, right = scipy.sparse.diags(of_users**-0.5), scipy.sparse.diags(of_items**-0.5)
    return scipy.sparse.csr_matrix(left @ interactions @ right, dtype=np.float32)


def _left_singular_vectors(matrix: scipy.sparse.spmatrix, dim: int) -> tuple[np.ndarray, ...]:
    """The left singular vectors [n, r] of the up to `dim` largest singular values [r] above 0."""
    smallest = min(matrix.shape)
    if dim < smallest // 2:
        begin = np.random.default_rng(0).normal(size=smallest)  # fixed, so that results repeat
        vectors, sizes, _ = scipy.sparse.linalg.svds(matrix.astype(np.float64), dim, v0=begin)
        vectors, sizes = vectors[:, ::-1], sizes[::-1]
    else:  # for so few, the iteration would not converge or be slower than the full SVD
        vectors, sizes, _ = scipy.linalg.svd(matrix.toarray(), full_matrices=False)
        vectors, sizes = vectors[:, :dim], sizes[:dim]
    real = sizes > 1e-6 * max(sizes[0], 1e-12)
    return vectors[:, real], sizes[real]


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Each row divided by its length, float32; rows of almost 0 become 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    tiny = length <= 1e-6 * max(length.max(initial=0.0), 1e-12)
    return (np.where(tiny, 0.0, vectors) / np.where(tiny, 1.0, length)).astype(np.float32)
