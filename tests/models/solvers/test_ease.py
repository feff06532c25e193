"""EASE and its low-rank approximation, compared with general solvers."""

import numpy as np
import scipy.sparse

from tfrec_meta.models.solvers.ease import ease_weights, low_rank


def test_ease_weights_minimise_the_ridge_loss_with_a_zero_diagonal():
    rng = np.random.default_rng(0)
    x = (rng.random((40, 6)) < 0.4).astype(float)
    weights = ease_weights(scipy.sparse.csr_matrix(x), l2=2.0)
    for item in range(6):  # each column is a ridge regression on the other items
        others = [j for j in range(6) if j != item]
        design = x[:, others]
        solved = np.linalg.solve(design.T @ design + 2.0 * np.eye(5), design.T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], solved, rtol=1e-4)
        assert weights[item, item] == 0


def test_low_rank_is_the_truncated_singular_value_decomposition():
    weights = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    left, right = low_rank(weights, 3)
    u, s, vt = np.linalg.svd(weights)
    np.testing.assert_allclose(left @ right.T, u[:, :3] * s[:3] @ vt[:3], atol=1e-4)
