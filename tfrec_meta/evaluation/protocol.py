"""Full-catalogue evaluation: all items are ranked for each user, without sampled negatives.

Sampled metrics can reverse the order of two models (Krichene and Rendle, "On Sampled Metrics for
Item Recommendation", KDD 2020). Each metric here is computed on the whole catalogue without the
seen items, and has an interval from resampling users.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.checks import check, whole_number
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import metrics as m
from tfrec_meta.evaluation import ranking
from tfrec_meta.evaluation.arrays import vector
from tfrec_meta.evaluation.groups import evaluate_groups
from tfrec_meta.evaluation.intervals import Estimate, estimates
from tfrec_meta.evaluation.ranking import Scores
from tfrec_meta.evaluation.results import Evaluation
from tfrec_meta.evaluation.shown_items import ShownItems, item_popularity

_RANK_METRICS = {
    "ndcg": m.ndcg,
    "recall": m.recall,
    "hr": m.hit_rate,
    "precision": m.precision,
    "map": m.average_precision,
    "mrr": m.reciprocal_rank,
}
METRICS = (*_RANK_METRICS, "auc", "coverage", "popularity_lift")
"""Metrics of `full_catalogue`. "auc" has no cut-off; results of others are named "<metric>@<k>"."""


def full_catalogue(
    scores: Scores,
    relevant: Any,
    seen: Any = None,
    k: int = 10,
    metrics: Iterable[str] | None = None,
    *,
    extra_relevant: ArrayLike | None = None,
    popularity: ArrayLike | None = None,
    chunk: int | None = None,
    recommend_history: bool = False,
    known: ArrayLike | None = None,
    extra_repeat: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 42,
) -> Evaluation:
    """Ranks the whole catalogue for each query and computes metrics of its relevant items.

    Args:
        scores: (queries float32 [Q, d], candidates float32 [N, d]), scored by the dot product,
            or a function rows int64 [b] -> float32 [b, N].
        relevant: sparse [Q, N], non-zero where an item is relevant to a query. Queries without
            relevant items are left out.
        seen: sparse [Q, N] or None, non-zero at the items of the user's past, such as those in the
            train rows. These items are no candidates of that query. A relevant item that is also
            seen counts as a miss.
        k: length of the list.
        metrics: names from `METRICS`. By default all that the inputs allow: popularity lift needs
            `seen` for the profiles.
        extra_relevant: int [Q] or None, number of relevant items of each query outside the
            catalogue; they count as misses.
        popularity: float [N] or None, for popularity lift; by default the column counts of `seen`.
        recommend_history: whether seen items are candidates like all others, as for repeated
            purchases. `ExportConfig` has the same option.
        known: bool [Q] or None, whether the user of a query has a past. If given, the result has
            the metrics of each `Group`; this needs `seen`.
        extra_repeat: int [Q] or None, how many of `extra_relevant` the user had before; for the
            groups of items.
        chunk: queries per block; by default as many as fill 1 MB. Each core uses memory for this
            number times N scores.
        resamples: bootstrap draws of users for the intervals; 0 for no intervals.
        seed: seed of these draws.

    Raises:
        ValueError: for shapes that do not match, an unknown metric, `k` above the catalogue size, a
            NaN or infinite score (the message names its query), or no query with relevant items.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> scores = np.array([[3.0, 2.0, 1.0]])
        >>> relevant = scipy.sparse.csr_array([[1, 0, 0]])
        >>> full_catalogue(lambda rows: scores[rows], relevant, k=2)["ndcg@2"].value
        1.0
    """
    wanted = _parts(relevant, "relevant")
    size, candidates = wanted.shape
    hidden = None if seen is None else _parts(seen, "seen")
    if hidden is not None and hidden.shape != wanted.shape:
        raise ValueError(
            f"`seen` has shape {hidden.shape}, but `relevant` has {wanted.shape}; "
            "use one row per query and one column per item in both."
        )
    check("k", k, whole_number(1))
    if k > candidates:
        raise ParameterError(
            f"`k`={k}, but the catalogue has {candidates} items; use 1 to {candidates}.", "k"
        )
    names = _chosen(metrics, hidden is not None)
    outside = _counts("extra_relevant", extra_relevant, size)
    total = np.diff(wanted.indptr) + outside
    queries = np.flatnonzero(total)
    if not len(queries):
        raise ValueError(
            "`relevant` is empty: no query has a relevant item. Check the split and the ids."
        )
    masked = None if recommend_history else hidden
    reachable, repeated = _reachable(wanted[queries], hidden, masked, queries)
    lifts = "popularity_lift" in names
    value = item_popularity(popularity, hidden) if lifts else None
    shown = ShownItems(len(queries), candidates, value) if lifts or "coverage" in names else None
    rank, offsets, order = _rank_all(scores, queries, reachable, masked, k, shown, chunk)
    repeated = repeated[order]
    hidden_count = np.zeros(size, np.int64) if masked is None else np.diff(masked.indptr)
    found = m.RelevantRanks(
        rank,
        offsets,
        relevant=total[queries].astype(np.int64),
        candidates=candidates - hidden_count[queries],
    )

    per_query = _rank_metrics(names, found, k)
    if shown is not None and value is not None and hidden is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            profile = (hidden @ value) / np.diff(hidden.indptr)
        per_query[_label("popularity_lift", k)] = shown.popularity_lift(profile[queries])
    result: dict[str, Estimate] = {}
    if per_query:
        columns = np.stack(list(per_query.values()), axis=1)
        result = dict(zip(per_query, estimates(columns, resamples, seed), strict=True))
    if shown is not None and "coverage" in names:
        # No interval: a resample repeats users, so its lists cover less than the original ones.
        result[_label("coverage", k)] = Estimate(shown.coverage())
    groups = {}
    if known is not None:
        repeats = _counts("extra_repeat", extra_repeat, size)
        if np.any(repeats > outside):
            raise ValueError("`extra_repeat` has a count above that of `extra_relevant`.")
        if hidden is not None:
            repeats = repeats + np.diff(wanted.multiply(hidden).tocsr().indptr)
        groups = evaluate_groups(
            found,
            lambda ranks: _rank_metrics(names, ranks, k),
            _flags("known", known, size)[queries],
            repeated,
            repeats[queries],
            resamples,
            seed,
        )
    return Evaluation(
        metrics={label: result[label] for name in names for label in [_label(name, k)]},
        per_query=per_query,
        groups=groups,
        recommend_history=recommend_history,
        queries=queries,
        counts={
            "queries": len(queries),
            "candidates": candidates,
            "relevant": int(total.sum()),
            "outside": int(outside.sum()),
            "seen": int(wanted.nnz - reachable.nnz),
        },
    )


def _parts(matrix: Any, name: str) -> Any:
    """Returns a 0/1 csr copy with sorted, unique, non-zero entries."""
    if not sp.issparse(matrix) or matrix.ndim != 2:
        raise ValueError(
            f"`{name}` is a {type(matrix).__name__}; use a scipy.sparse matrix [queries, items]."
        )
    plain = sp.csr_array(matrix, dtype=np.float32, copy=True)
    plain.sum_duplicates()
    plain.eliminate_zeros()
    plain.data[:] = 1.0
    return plain


def _counts(name: str, values: ArrayLike | None, size: int) -> NDArray[np.int64]:
    """Returns counts as int64 [size]; zeros for None."""
    if values is None:
        return np.zeros(size, np.int64)
    counts = np.asarray(values, np.int64)
    if counts.shape != (size,) or np.any(counts < 0):
        raise ValueError(
            f"`{name}` has shape {counts.shape}; use {size} counts of 0 or more, one per query."
        )
    return counts


def _flags(name: str, values: ArrayLike, size: int) -> NDArray[np.bool_]:
    flags = np.asarray(values)
    if flags.shape != (size,) or flags.dtype != bool:
        raise ValueError(
            f"`{name}` has shape {flags.shape} and type {flags.dtype}; use {size} booleans, one "
            "per query."
        )
    return flags


def _reachable(
    wanted: Any, hidden: Any, masked: Any, queries: NDArray[np.int64]
) -> tuple[Any, NDArray[np.bool_]]:
    """Returns the relevant pairs that can be ranked, and which of them the user had before.

    Args:
        wanted: csr [E, N], the relevant pairs of `queries`.
        hidden: csr [Q, N] or None, the past of the users.
        masked: csr [Q, N] or None, the pairs that are not ranked.
        queries: int64 [E].
    """
    pairs = wanted if masked is None else wanted - wanted.multiply(masked[queries])
    pairs.eliminate_zeros()
    pairs = pairs.tocsr()
    pairs.sort_indices()
    if hidden is None or masked is not None:
        return pairs, np.zeros(pairs.nnz, bool)
    marked = (pairs + pairs.multiply(hidden[queries])).tocsr()  # 2 where the user had the item
    marked.sort_indices()
    return pairs, marked.data > 1


def _label(name: str, k: int) -> str:
    return name if name == "auc" else f"{name}@{k}"


def _rank_metrics(
    names: Sequence[str], ranks: m.RelevantRanks, k: int
) -> dict[str, NDArray[np.float64]]:
    """Returns the metrics of ranks that are among `names`, per query."""
    found = {}
    for name in names:
        if name in _RANK_METRICS:
            found[_label(name, k)] = _RANK_METRICS[name](ranks, k)
        elif name == "auc":
            found[name] = m.auc(ranks)
    return found


def _chosen(names: Iterable[str] | None, has_seen: bool) -> list[str]:
    if names is None:
        return [name for name in METRICS if has_seen or name != "popularity_lift"]
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in METRICS:
            raise ValueError(
                f"`metrics` has {name!r}; use names of {', '.join(METRICS)}, without a cut-off."
            )
        if name == "popularity_lift" and not has_seen:
            raise ValueError(
                "`metrics` has 'popularity_lift', which compares with the users' own items; pass "
                "`seen`."
            )
    return chosen


def _rank_all(
    scores: Scores,
    queries: NDArray[np.int64],
    wanted: Any,
    hidden: Any,
    k: int,
    shown: ShownItems | None,
    chunk: int | None,
) -> tuple[Any, Any, Any]:
    """Ranks the entries of `wanted`, one row per query, and adds the top-k lists to `shown`.

    Returns:
        (ranks ascending within a query, offsets, the entries in that order).
    """
    rank = np.empty(wanted.nnz)
    offsets = wanted.indptr.astype(np.int64)

    def work(part: slice, block: ranking.Block) -> None:
        if hidden is not None:
            ranking.mask_entries(block, queries[part], hidden)
        if shown is not None:
            shown.add(part, ranking.top_items(block, k))
        first, last = offsets[part.start], offsets[part.stop]
        row = np.repeat(np.arange(len(block)), np.diff(offsets[part.start : part.stop + 1]))
        rank[first:last] = ranking.tied_ranks(block, row, wanted.indices[first:last])

    ranking.for_each_block(scores, queries, wanted.shape[1], work, chunk)
    query = np.repeat(np.arange(len(queries)), np.diff(offsets))
    order = np.lexsort((rank, query))
    return rank[order], offsets, order


def top_k(
    scores: Scores,
    rows: ArrayLike,
    k: int,
    seen: Any = None,
    *,
    candidates: int | None = None,
    chunk: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the k best unseen items of some queries.

    Args:
        scores: as for `full_catalogue`.
        rows: int [R], queries.
        k: length of the lists.
        seen: sparse [Q, N] or None, items to leave out.
        candidates: N; required for a score function without `seen`.
        chunk: queries per block.

    Returns:
        (items int64 [R, k], scores float32 [R, k]), best first, ties by the lower index; -1 and
        -inf where fewer than k items are left.
    """
    wanted = np.asarray(rows, np.int64)
    hidden = None if seen is None else _parts(seen, "seen")
    if candidates is None:
        if hidden is not None:
            candidates = hidden.shape[1]
        elif not callable(scores):
            candidates = len(np.asarray(scores[1]))
        else:
            raise ValueError(
                "`candidates` is missing; pass the number of items, which is not known for a "
                "score function without `seen`."
            )
    lists = np.empty((len(wanted), k), np.int64)
    values = np.empty((len(wanted), k), np.float32)

    def work(part: slice, block: ranking.Block) -> None:
        if hidden is not None:
            ranking.mask_entries(block, wanted[part], hidden)
        lists[part] = ranking.top_items(block, k)
        taken = np.take_along_axis(block, np.maximum(lists[part], 0), axis=1)
        values[part] = np.where(lists[part] >= 0, taken, -np.inf)

    ranking.for_each_block(scores, wanted, int(candidates), work, chunk)
    return lists, values


def true_candidate_ranks(
    queries: ArrayLike,
    candidates: ArrayLike,
    true_index: ArrayLike,
    query_index: ArrayLike | None = None,
    *,
    chunk: int | None = None,
) -> NDArray[np.float64]:
    """Ranks one true candidate per row among all candidates, as `FactorizedTopK` does.

    A query of several rows is scored once.

    Args:
        queries: float32 [Q, d], distinct queries.
        candidates: float32 [N, d].
        true_index: int [R], the row of the true candidate in `candidates`.
        query_index: int [R], the row of the query in `queries`; by default r for row r.
        chunk: queries per block.

    Returns:
        float64 [R], ranks from 1. Ties share the mean of their ranks; FactorizedTopK orders tied
        candidates by row.
    """
    vectors, items = np.asarray(queries), np.asarray(candidates)
    true = np.asarray(true_index, np.int64)
    query = np.arange(len(true)) if query_index is None else np.asarray(query_index, np.int64)
    if query.shape != true.shape or true.ndim != 1:
        raise ValueError(
            f"`query_index` has shape {query.shape} and `true_index` {true.shape}; "
            "use two arrays [rows] of the same length."
        )
    for name, index, size in (
        ("true_index", true, len(items)),
        ("query_index", query, len(vectors)),
    ):
        if len(index) and not 0 <= index.min() <= index.max() < size:
            raise ValueError(
                f"`{name}` has values from {index.min()} to {index.max()}, but there are {size} "
                f"rows; use 0 to {size - 1}."
            )
    rank = np.empty(len(true))
    order = None if np.all(query[:-1] <= query[1:]) else np.argsort(query, kind="stable")
    if order is not None:
        query, true = query[order], true[order]
    # Only queries that have a row are scored.
    distinct, first = np.unique(query, return_index=True)
    offsets = np.append(first, len(query))

    def work(part: slice, block: ranking.Block) -> None:
        start, stop = offsets[part.start], offsets[part.stop]
        row = np.repeat(np.arange(len(block)), np.diff(offsets[part.start : part.stop + 1]))
        rank[start:stop] = ranking.tied_ranks(block, row, true[start:stop])

    ranking.for_each_block((vectors, items), distinct, len(items), work, chunk)
    if order is None:
        return rank
    unsorted = np.empty_like(rank)
    unsorted[order] = rank
    return unsorted


def top_k_accuracy(ranks: ArrayLike, ks: Sequence[int] = (1, 5, 10, 50, 100)) -> dict[int, float]:
    """Returns, for each k, the share of rows whose true candidate has rank k or better."""
    rank = vector("ranks", ranks)
    for k in ks:
        check("ks", k, whole_number(1))
    return {k: float(np.mean(rank <= k)) for k in ks}
