"""Full-catalogue evaluation: all items are ranked for each user, without sampled negatives.

Sampled metrics can reverse the order of two models (Krichene and Rendle, "On Sampled Metrics for
Item Recommendation", KDD 2020). Each metric here is computed on the whole catalogue without the
seen items, and has an interval from resampling users.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.checks import check, whole_number
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import metrics as m
from tfrec_meta.evaluation import ranking
from tfrec_meta.evaluation.arrays import vector
from tfrec_meta.evaluation.intervals import Comparison, Estimate, estimates, paired_difference
from tfrec_meta.evaluation.ranking import Scores

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


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The metrics of one model on one split.

    Attributes:
        metrics: name -> Estimate, for example metrics["ndcg@10"].value.
        per_query: name -> float64 [E], one value per query in `queries`; their mean is the
            estimate. NaN where a query has no value. Coverage is not in it, because it is a
            property of all lists together.
        queries: int64 [E], the rows of `relevant` that were evaluated.
        counts: "queries", "candidates", "relevant" (pairs), and of these pairs "outside" (the item
            is outside the catalogue) and "seen" (the user has seen the item); both count as misses.
    """

    metrics: Mapping[str, Estimate]
    per_query: Mapping[str, NDArray[np.float64]]
    queries: NDArray[np.int64]
    counts: Mapping[str, int]

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.metrics:
            raise KeyError(f"No metric {name!r}; the evaluation has {', '.join(self.metrics)}.")
        return self.metrics[name]

    def __str__(self) -> str:
        width = max(map(len, self.metrics), default=6)
        lines = [f"{'metric':<{width}}   value   95 % interval"]
        for name, estimate in self.metrics.items():
            interval = "" if estimate.low is None else f"{estimate.low:.4f} to {estimate.high:.4f}"
            lines.append(f"{name:<{width}}  {estimate.value:6.4f}   {interval}".rstrip())
        c = self.counts
        lines.append(
            f"{c['queries']:,} queries, {c['candidates']:,} candidates, "
            f"{c['relevant']:,} relevant pairs"
        )
        for key, why in (
            ("outside", "have items outside the catalogue"),
            ("seen", "have seen items"),
        ):
            if c[key]:
                lines.append(f"{c[key]:,} of the relevant pairs {why} and count as misses")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns metrics (None for NaN) and counts as plain values, ready for JSON."""

        def plain(value: float | None) -> float | None:
            return value if value is not None and math.isfinite(value) else None

        return {
            "metrics": {
                name: {field: plain(getattr(estimate, field)) for field in ("value", "low", "high")}
                for name, estimate in self.metrics.items()
            },
            "counts": dict(self.counts),
        }

    def to_json(self) -> str:
        """Returns `as_dict` as JSON."""
        return json.dumps(self.as_dict())


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
    resamples: int = 1000,
    seed: int = 42,
) -> Evaluation:
    """Ranks the whole catalogue for each query and computes metrics of its relevant items.

    Args:
        scores: (queries float32 [Q, d], candidates float32 [N, d]), scored by the dot product,
            or a function rows int64 [b] -> float32 [b, N].
        relevant: sparse [Q, N], non-zero where an item is relevant to a query. Queries without
            relevant items are left out.
        seen: sparse [Q, N] or None, non-zero where an item is not to be recommended, such as the
            items of the user in the train rows. These items are no candidates of that query. A
            relevant item that is also seen counts as a miss.
        k: length of the list.
        metrics: names from `METRICS`. By default all that the inputs allow: popularity lift needs
            `seen` for the profiles.
        extra_relevant: int [Q] or None, number of relevant items of each query outside the
            catalogue; they count as misses.
        popularity: float [N] or None, for popularity lift; by default the column counts of `seen`.
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
    if not 1 <= k <= candidates:
        raise ParameterError(
            f"`k`={k}, but the catalogue has {candidates} items; use 1 to {candidates}.", "k"
        )
    names = _chosen(metrics, hidden is not None)
    outside = np.zeros(size, np.int64)
    if extra_relevant is not None:
        outside = np.asarray(extra_relevant, np.int64)
        if outside.shape != (size,) or np.any(outside < 0):
            raise ValueError(
                f"`extra_relevant` has shape {outside.shape}; use {size} counts of 0 or more, "
                "one per query."
            )

    total = np.diff(wanted.indptr) + outside
    queries = np.flatnonzero(total)
    if not len(queries):
        raise ValueError(
            "`relevant` is empty: no query has a relevant item. Check the split and the ids."
        )
    reachable = wanted if hidden is None else wanted - wanted.multiply(hidden)
    reachable.eliminate_zeros()
    ranks, lists = _rank_all(
        scores,
        queries,
        reachable.tocsr()[queries],
        hidden,
        k if {"coverage", "popularity_lift"} & set(names) else 0,
        chunk,
    )
    hidden_count = np.zeros(size, np.int64) if hidden is None else np.diff(hidden.indptr)
    found = m.RelevantRanks(
        *ranks,
        relevant=total[queries].astype(np.int64),
        candidates=candidates - hidden_count[queries],
    )

    per_query: dict[str, NDArray[np.float64]] = {}
    for name in names:
        if name in _RANK_METRICS:
            per_query[f"{name}@{k}"] = _RANK_METRICS[name](found, k)
        elif name == "auc":
            per_query[name] = m.auc(found)
        elif name == "popularity_lift":
            assert hidden is not None
            per_query[f"{name}@{k}"] = _popularity_lift(lists, hidden, queries, popularity)
    result: dict[str, Estimate] = {}
    if per_query:
        columns = np.stack(list(per_query.values()), axis=1)
        result = dict(zip(per_query, estimates(columns, resamples, seed), strict=True))
    if "coverage" in names:
        # No interval: a resample repeats users, so its lists cover less than the original ones.
        result[f"coverage@{k}"] = Estimate(m.coverage(lists, candidates))
    order = [name if name == "auc" else f"{name}@{k}" for name in names]
    return Evaluation(
        metrics={name: result[name] for name in order},
        per_query=per_query,
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
    scores: Scores, queries: NDArray[np.int64], wanted: Any, hidden: Any, k: int, chunk: int | None
) -> tuple[tuple[Any, Any], NDArray[np.int64]]:
    """Returns ((ranks ascending within a query, offsets), top-k lists or [E, 0])."""
    rank = np.empty(wanted.nnz)
    lists = np.empty((len(queries), k), np.int64)
    offsets = wanted.indptr.astype(np.int64)

    def work(part: slice, block: ranking.Block) -> None:
        if hidden is not None:
            ranking.mask_entries(block, queries[part], hidden)
        if k:
            lists[part] = ranking.top_items(block, k)
        first, last = offsets[part.start], offsets[part.stop]
        row = np.repeat(np.arange(len(block)), np.diff(offsets[part.start : part.stop + 1]))
        rank[first:last] = ranking.tied_ranks(block, row, wanted.indices[first:last])

    ranking.for_each_block(scores, queries, wanted.shape[1], work, chunk)
    query = np.repeat(np.arange(len(queries)), np.diff(offsets))
    return (rank[np.lexsort((rank, query))], offsets), lists


def _popularity_lift(
    lists: NDArray[np.int64], hidden: Any, queries: NDArray[np.int64], popularity: ArrayLike | None
) -> NDArray[np.float64]:
    if popularity is None:
        popularity = np.bincount(hidden.indices, minlength=hidden.shape[1])
    value = np.asarray(popularity, np.float64)
    if value.shape != (hidden.shape[1],):
        raise ValueError(
            f"`popularity` has shape {value.shape}; use [{hidden.shape[1]}], one value per item."
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        profile = (hidden @ value) / np.diff(hidden.indptr)
    return m.popularity_lift(lists, value, profile[queries])


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


def compare(
    a: Evaluation, b: Evaluation, metric: str = "ndcg@10", resamples: int = 1000, seed: int = 42
) -> Comparison:
    """Compares two evaluations on the same queries by a paired bootstrap.

    Args:
        a, b: evaluations on the same split.
        metric: a metric with a value per query, such as "ndcg@10".
        resamples: bootstrap draws of users.
        seed: seed of the draws.

    Returns:
        The difference of the means, a minus b.

    Raises:
        ValueError: if the evaluations have other queries, or no values to pair.
    """
    for which, evaluation in (("a", a), ("b", b)):
        if metric not in evaluation.per_query:
            raise ValueError(
                f"`{which}` has no {metric!r} per query; compare one of "
                f"{', '.join(evaluation.per_query)}."
            )
    if not np.array_equal(a.queries, b.queries):
        raise ValueError(
            f"`a` has {len(a.queries)} queries and `b` has {len(b.queries)}, and they differ; "
            "evaluate both on the same split."
        )
    return paired_difference(a.per_query[metric], b.per_query[metric], metric, resamples, seed)


def format_table(
    evaluations: Mapping[str, Evaluation], metrics: Sequence[str] | None = None
) -> str:
    """Returns a plain-text table: one row per model, one column per metric, with intervals."""
    if metrics is None:
        metrics = list(dict.fromkeys(name for e in evaluations.values() for name in e.metrics))
    rows = [["model", *metrics]]
    for name, evaluation in evaluations.items():
        rows.append(
            [
                name,
                *(
                    str(evaluation.metrics[metric]) if metric in evaluation.metrics else "-"
                    for metric in metrics
                ),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
