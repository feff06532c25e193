"""EASE: the item-to-item weights of a linear autoencoder, and their low-rank approximation."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse


def ease_weights(interactions: scipy.sparse.csr_matrix, l2: float) -> np.ndarray:
    """Solves for the weights of a linear autoencoder with a zero diagonal.

    Args:
        interactions: [users, items], 1 where the user interacted with the item, or the weight of
            that interaction. A pair of interactions of a user counts by the geometric mean of
            both weights, so that the diagonal of the Gram matrix has the weighted counts of items.
        l2: ridge penalty, above 0.

    Returns:
        float32 [items, items]; scores are `interactions @ weights`, each interaction as 1.

    References:
        Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8.
    """
    roots = interactions.sqrt()
    gram = (roots.T @ roots).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += l2
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


def low_rank(weights: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Approximates a square matrix by the product of two narrow ones.

    It is the truncated singular value decomposition, with the singular values in the left factor.

    Args:
        weights: float32 [n, n].
        rank: r, at most n.

    Returns:
        left and right, float32 [n, r], with weights ≈ left @ right.T.
    """
    size = len(weights)
    _, right = scipy.linalg.eigh(
        weights.T @ weights, subset_by_index=[size - rank, size - 1], check_finite=False
    )
    right = np.ascontiguousarray(right[:, ::-1], np.float32)
    return weights @ right, right
