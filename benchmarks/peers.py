"""Peers of the models: item-kNN and iALS of the library `implicit`, and closed forms on matrices.

item-kNN and iALS are the implementations of `implicit` (extra `bench`), independent of this
library. `evaluate_peers` ranks the catalogue by any of them in the protocol of `tm.evaluate`.

**How the default settings were chosen.** On MovieLens-100K's stratified split (seed 42, ratio 0.75)
the *train* rows were split again in the same way (seed 7, ratio 0.8). Each setting of a grid was
fitted on the larger part and evaluated by NDCG@10 on the smaller; the best was taken. Test rows
were not used. The grids, with the results of the best and of the usual setting:

- item-kNN: cosine, TF-IDF and BM25 weights (k1 0.5, 1.2, 5, 100; b 0.2, 0.5, 0.8) with 20, 50, 100,
  200 and 500 neighbours. BM25 with k1 100, b 0.2 and 500 neighbours reached 0.2374, cosine with 20
  neighbours 0.2185.
- iALS: factors 16, 24, 32, 48, 64, 96, 128; regularization 10, 15, 20, 30, 45, 60, 90; alpha 1, 2,
  3, 5; 15 iterations. 96, 30 and 3 reached 0.2586; the library's defaults are below 0.19.

For other data, choose settings again, with `full_catalogue` on a validation split.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

import tfrec_meta as tm
from tfrec_meta.evaluation import Evaluation, full_catalogue
from tfrec_meta.features.held_out import held_out, interaction_matrix
from tfrec_meta.models.solvers.ease import ease_weights

RowScores = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""rows int64 [b] -> float32 [b, N], the argument `scores` of `full_catalogue`."""


def evaluate_peers(
    spec: tm.FeatureSpec,
    split: tm.Split,
    peers: Mapping[str, Callable[[Any], RowScores]],
    *,
    k: int = 10,
    resamples: int = 1000,
) -> dict[str, Evaluation]:
    """Evaluates peers like `tm.evaluate`: fitted on train and validation, on all test events.

    Users without history get the popular items, as with the models.

    Args:
        spec: the fitted spec of the model that is compared; its items are the catalogue.
        split: train, validation and test events.
        peers: by name, a function of a matrix float32 [users, catalogue] that returns scores.
        k: length of the lists.
        resamples: bootstrap draws for the intervals.
    """
    test = held_out(spec, split.past, split.test)
    users = np.union1d(split.past.user_ids.astype(str), test.users.astype(str)).astype(object)
    matrix = interaction_matrix(split.past, users, spec.items)
    row_of = np.searchsorted(users, test.users)
    results = {}
    for name, fit in peers.items():
        results[name] = full_catalogue(
            functools.partial(_known_or_popular, fit(matrix), matrix, row_of),
            test.relevant,
            test.seen,
            k=k,
            extra_relevant=test.outside,
            resamples=resamples,
        )
    return results


def _known_or_popular(
    scores: RowScores, train: Any, row_of: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Scores known users by `scores` and users without history by popularity."""
    chosen = row_of[rows]
    new = np.diff(train.indptr)[chosen] == 0
    popular = popularity_scores(train)(chosen)
    return np.where(new[:, None], popular, scores(chosen)).astype(np.float32)


def popularity_scores(train: Any) -> RowScores:
    """Returns each item's number of users as its score for everyone."""
    counts = np.asarray(train.sum(axis=0), np.float32).ravel()
    return lambda rows: np.tile(counts, (len(rows), 1))


def ease_scores(train: Any, l2: float) -> RowScores:
    """Returns the scores of EASE; see `ease_weights`."""
    weights = ease_weights(train, l2)
    return lambda rows: np.asarray(train[rows] @ weights)


def _implicit(module: str) -> Any:
    try:
        return import_module(f"implicit.{module}")
    except ImportError as error:
        raise ImportError(
            "The peers item-kNN and iALS need the library `implicit`: "
            "pip install 'tfrec-meta[bench]'"
        ) from error


def _one_blas_thread() -> Any:
    """Returns a context in which BLAS uses one thread.

    implicit runs threads of its own, each of which calls BLAS. More BLAS threads would compete with
    them for the cores; implicit warns about this itself.
    """
    from threadpoolctl import threadpool_limits  # implicit depends on it

    return threadpool_limits(1, "blas")


def _binary_train(train: Any) -> Any:
    if not sp.issparse(train) or train.ndim != 2:
        raise ValueError(
            f"`train` is a {type(train).__name__}; use a scipy.sparse matrix [users, items]."
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
        train: sparse [users, items], non-zero where a user has an item; values are ignored.
        neighbours: number of similar items stored for each item.
        k1: BM25's saturation.
        b: BM25's length normalisation, here of active users.

    Returns:
        Scores: the sum of an item's similarities to the user's train items.

    Raises:
        ImportError: if `implicit` is not installed; the message names the extra to install.

    Source: Sarwar et al., "Item-based collaborative filtering recommendation algorithms",
    WWW 2001; Deshpande and Karypis, "Item-based top-N recommendation algorithms", TOIS 2004.
    """
    nearest = _implicit("nearest_neighbours")
    plain = _binary_train(train)
    # One more, because implicit counts an item as its own neighbour.
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
        train: sparse [users, items], non-zero where a user has an item; values are ignored.
        factors: width of the user and item vectors.
        regularization: weight of their squared norms.
        alpha: confidence of an observed pair; that of other pairs is 1.
        iterations: number of alternations.
        seed: random seed of the initial vectors.

    Returns:
        Scores: the dot products of user and item vectors.

    Raises:
        ImportError: if `implicit` is not installed; the message names the extra to install.

    Source: Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets",
    ICDM 2008. On the importance of well-chosen settings: Rendle et al., "Revisiting the performance
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
