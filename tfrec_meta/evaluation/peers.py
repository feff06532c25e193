"""The public baselines that every figure stands beside: item-kNN and iALS.

Both are the `implicit` library's (extra `bench`), so that the peer is theirs and not ours.
Popularity and EASE, which are closed forms, are models of our own (`models/families`).

**How the default settings were chosen.** On MovieLens-100K's stratified split (seed 42, ratio 0.75)
the *train* rows were split again the same way (seed 7, ratio 0.8); each setting of a grid was
fitted on the larger part and judged by NDCG@10 on the smaller; the best was taken. No test row had
a say. The grids, and what the best and the usual setting reached there:

- item-kNN: cosine, TF-IDF and BM25 weights (k1 0.5, 1.2, 5, 100; b 0.2, 0.5, 0.8) with 20, 50, 100,
  200 and 500 neighbours: BM25 with k1 100, b 0.2 and 500 neighbours .2374, cosine with 20 .2185.
- iALS: factors 16, 24, 32, 48, 64, 96, 128; regularization 10, 15, 20, 30, 45, 60, 90; alpha 1, 2,
  3, 5; 15 iterations: 96, 30 and 3 .2586; the library's defaults are below .19.

For other data, choose again: `full_catalogue` on a validation split is all it takes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

RowScores = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""rows int64 [b] -> float32 [b, N]: what `full_catalogue` takes as `scores`."""


def _implicit(module: str) -> Any:
    try:
        return import_module(f"implicit.{module}")
    except ImportError as error:
        raise ImportError(
            "the baselines item-kNN and iALS need the `implicit` library, which the "
            "extra `bench` brings: pip install 'tfrec-meta[bench]'"
        ) from error


def _one_blas_thread() -> Any:
    """A context in which BLAS keeps to one thread.

    implicit runs its own threads, each of which calls BLAS; with BLAS threads on top they fight
    for the cores (it warns of this itself).
    """
    from threadpoolctl import threadpool_limits  # implicit depends on it

    return threadpool_limits(1, "blas")


def _binary_train(train: Any) -> Any:
    if not sp.issparse(train) or train.ndim != 2:
        raise ValueError(
            f"`train` is a {type(train).__name__}; give a scipy.sparse matrix [users, items]."
        )
    # csr_matrix, not csr_array: implicit checks for that type.
    plain = sp.csr_matrix(train, dtype=np.float32, copy=True)
    plain.sum_duplicates()
    plain.eliminate_zeros()
    plain.data[:] = 1.0
    if not plain.nnz:
        raise ValueError("`train` has no interactions; check the split.")
    return plain


def item_knn_scores(
    train: Any, neighbours: int = 500, k1: float = 100.0, b: float = 0.2
) -> RowScores:
    """Item-based nearest neighbours on BM25-weighted interactions.

    Args:
        train: sparse [users, items], non-zero where a user has an item; values are not used.
        neighbours: how many similar items each item keeps.
        k1: BM25's saturation.
        b: BM25's length normalisation, here of active users.

    Returns:
        Scores: the sum of an item's similarities to the user's train items.

    Raises:
        ImportError: without the `implicit` library, naming the extra that brings it.

    Source: Sarwar et al., "Item-based collaborative filtering recommendation algorithms",
    WWW 2001; Deshpande and Karypis, "Item-based top-N recommendation algorithms", TOIS 2004.
    """
    nearest = _implicit("nearest_neighbours")
    plain = _binary_train(train)
    # One more: implicit counts an item among its own neighbours.
    model = nearest.BM25Recommender(
        K=min(neighbours + 1, plain.shape[1]), K1=k1, B=b, num_threads=1
    )
    with _one_blas_thread(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Method expects CSR input")  # its own intermediate
        model.fit(plain, show_progress=False)
    similarity = sp.csr_array(model.similarity, dtype=np.float32)

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        dense: NDArray[np.float32] = (sp.csr_array(plain[rows]) @ similarity).toarray()
        return dense

    return scores


def ials_scores(
    train: Any,
    factors: int = 96,
    regularization: float = 30.0,
    alpha: float = 3.0,
    iterations: int = 15,
    seed: int = 42,
) -> RowScores:
    """Implicit alternating least squares (weighted matrix factorisation).

    Args:
        train: sparse [users, items], non-zero where a user has an item; values are not used.
        factors: width of the user and item vectors.
        regularization: weight of their squared norms.
        alpha: confidence of a seen pair, where an unseen one has 1.
        iterations: alternations.
        seed: of the starting vectors.

    Returns:
        Scores: the dot products of user and item vectors.

    Raises:
        ImportError: without the `implicit` library, naming the extra that brings it.

    Source: Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets",
    ICDM 2008; that well-chosen settings matter a lot: Rendle et al., "Revisiting the performance
    of iALS on item recommendation benchmarks", RecSys 2022.
    """
    als = _implicit("cpu.als")
    plain = _binary_train(train)
    # One thread and the exact solver: the same seed gives the same vectors.
    with _one_blas_thread():
        model = als.AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            alpha=alpha,
            iterations=iterations,
            use_cg=False,
            num_threads=1,
            random_state=seed,
        )
        model.fit(plain, show_progress=False)
    users = np.asarray(model.user_factors, np.float32)
    items = np.ascontiguousarray(model.item_factors, np.float32).T

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        product: NDArray[np.float32] = users[rows] @ items
        return product

    return scores
