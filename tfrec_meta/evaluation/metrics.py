"""Metrics as pure functions of ranks, of lists, and of labels with predictions.

Rank-based metrics take a `RelevantRanks`: the rank of each relevant item among a query's
candidates, computed once (`ranking.py`), and return one value a query. Rank 1 is the best;
tied items share the mean of the ranks that they take up, so the order of the rows never decides,
and a model that scores everything alike has all of its items in the middle.

With mean ranks, more than `k` items can share a rank of at most `k` (three items tied at rank 2,
say); a list of `k` has room for `k`, so only the first `k` count and every metric stays in [0, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class RelevantRanks:
    """The ranks of every query's relevant items.

    Attributes:
        rank: float64 [n], ranks from 1, query by query and ascending within a query.
        offsets: int64 [Q + 1], query q owns rank[offsets[q]:offsets[q + 1]].
        relevant: int64 [Q], how many items are relevant to the query, at least 1. More than it
            has ranks when some can't be ranked (outside of the catalogue, or seen): misses.
        candidates: int64 [Q], how many items were ranked.
    """

    rank: Floats
    offsets: NDArray[np.int64]
    relevant: NDArray[np.int64]
    candidates: NDArray[np.int64]

    def __post_init__(self) -> None:
        queries = len(self.offsets) - 1
        if len(self.relevant) != queries or len(self.candidates) != queries:
            raise ValueError(
                f"`offsets` tells of {queries} queries, but `relevant` has {len(self.relevant)} "
                f"and `candidates` {len(self.candidates)}; give one of each a query."
            )
        if np.any(self.relevant < np.maximum(np.diff(self.offsets), 1)):
            raise ValueError(
                "`relevant` is below 1 or below the number of ranks of a query; "
                "leave out queries with nothing relevant."
            )

    @classmethod
    def from_lists(
        cls,
        ranks: Sequence[Sequence[float]],
        candidates: int | Sequence[int],
        relevant: Sequence[int] | None = None,
    ) -> RelevantRanks:
        """From one list of ranks a query, in any order; `relevant` defaults to its length."""
        lengths = [len(row) for row in ranks]
        return cls(
            rank=np.array([r for row in ranks for r in sorted(row)], np.float64),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            relevant=np.asarray(lengths if relevant is None else relevant, np.int64),
            candidates=np.broadcast_to(np.asarray(candidates, np.int64), len(lengths)),
        )

    @property
    def query(self) -> NDArray[np.int64]:
        """int64 [n], the query of each rank."""
        return np.repeat(np.arange(len(self.relevant)), np.diff(self.offsets))

    @property
    def position(self) -> NDArray[np.int64]:
        """int64 [n], 1 for a query's best relevant item, 2 for its second best, ..."""
        return np.arange(1, len(self.rank) + 1) - self.offsets[self.query]


def _sum_hits(ranks: RelevantRanks, k: int, gain: ArrayLike | None = None) -> Floats:
    """float64 [Q]: the sum of `gain` [n] (1 by default) over the relevant items in the top k."""
    if k < 1:
        raise ValueError(f"`k`={k}, but a list holds at least one item; use 1 or more.")
    hit = (ranks.rank <= k) & (ranks.position <= k)
    weights = None if gain is None else np.asarray(gain)[hit]
    return np.bincount(ranks.query[hit], weights, len(ranks.relevant)).astype(np.float64)


def hit_rate(ranks: RelevantRanks, k: int) -> Floats:
    """1 where at least one relevant item is among the first k, else 0."""
    return (_sum_hits(ranks, k) > 0).astype(np.float64)


def recall(ranks: RelevantRanks, k: int) -> Floats:
    """Share of the relevant items that is among the first k."""
    return _sum_hits(ranks, k) / ranks.relevant


def precision(ranks: RelevantRanks, k: int) -> Floats:
    """Share of the first k that is relevant; the divisor is k, also where fewer can be shown."""
    return _sum_hits(ranks, k) / k


def ndcg(ranks: RelevantRanks, k: int) -> Floats:
    """Normalised discounted cumulative gain with binary relevance and discount 1/log2(1 + rank).

    The ideal list has min(relevant, k) relevant items on top. (The base of the logarithm cancels:
    the Recommenders benchmark takes the natural one.)

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques",
    ACM TOIS 20(4), 2002.
    """
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    return (
        _sum_hits(ranks, k, 1.0 / np.log2(1.0 + ranks.rank))
        / ideal[np.minimum(ranks.relevant, k) - 1]
    )


def reciprocal_rank(ranks: RelevantRanks, k: int) -> Floats:
    """1/rank of the best relevant item where that is at most k, else 0; its mean is MRR@k."""
    return _sum_hits(ranks, k, (ranks.position == 1) / ranks.rank)


def average_precision(ranks: RelevantRanks, k: int) -> Floats:
    """Sum of the precision at each hit in the first k, over min(relevant, k); its mean is MAP@k.

    This is `map_at_k` of the Recommenders library ("MAP@k" in the tables of its benchmark
    notebook, version 1.2 and later). Its older `map` ("MAP" in older tables) divides by the
    number of relevant items even where that is more than k, and is lower.
    """
    return _sum_hits(ranks, k, ranks.position / ranks.rank) / np.minimum(ranks.relevant, k)


def auc(ranks: RelevantRanks) -> Floats:
    """Chance that a relevant item is ranked above an irrelevant candidate; ties count one half.

    Over the query's whole ranking (Mann-Whitney). Seen items are no candidates, so they are
    neither relevant nor irrelevant here. A relevant item that could not be ranked counts as
    below all others. NaN where every candidate is relevant, since there is nothing to compare.
    """
    ranked = np.diff(ranks.offsets).astype(np.float64)
    irrelevant = ranks.candidates - ranked
    rank_sum = np.bincount(ranks.query, ranks.rank, len(ranks.relevant))
    # Of the candidates below the relevant ones, those that are relevant themselves don't count.
    below = ranked * ranks.candidates - rank_sum - ranked * (ranked - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(irrelevant > 0, below / (ranks.relevant * irrelevant), np.nan)


def coverage(lists: ArrayLike, catalogue: int) -> float:
    """Share of the catalogue that is in at least one list.

    Args:
        lists: int [Q, k], recommended items; -1 where a list is shorter than k.
        catalogue: number of items that could be recommended.
    """
    items = np.asarray(lists)
    return len(np.unique(items[items >= 0])) / catalogue


def popularity_lift(lists: ArrayLike, popularity: ArrayLike, profile: ArrayLike) -> Floats:
    """How much more popular the recommendations are than what the users chose themselves.

    The mean of the returned values is (GAP_r - GAP_p) / GAP_p, where GAP is the mean over users
    of the mean popularity of the items in their list (r) or in their profile (p): 0 is as
    popular as the profiles, 1 is twice as popular.

    Args:
        lists: int [Q, k], recommended items; -1 where a list is shorter than k.
        popularity: float [N], of each item, for example its number of train interactions.
        profile: float [Q], mean popularity of the items in each query's profile; NaN without one.

    Returns:
        float64 [Q], (list - profile) / GAP_p; NaN without a profile or with an empty list.

    Source: Abdollahpouri et al., "The Connection Between Popularity Bias, Calibration, and
    Fairness in Recommendation", RecSys 2020.
    """
    items, profile = np.asarray(lists), np.asarray(profile, np.float64)
    shown = items >= 0
    value = np.where(shown, np.asarray(popularity, np.float64)[np.where(shown, items, 0)], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = value.sum(axis=1) / shown.sum(axis=1) - profile
        known = np.isfinite(difference)
        return difference / (profile[known].mean() if known.any() else np.nan)


def _binary(labels: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    label, prediction = np.asarray(labels), np.asarray(predictions, np.float64)
    if label.shape != prediction.shape or label.ndim != 1 or not len(label):
        raise ValueError(
            f"`labels` has shape {label.shape} and `predictions` {prediction.shape}; "
            "give two arrays [n] of one length, at least 1."
        )
    if not np.isin(label, (0, 1)).all():
        odd = label[~np.isin(label, (0, 1))][0]
        raise ValueError(f"`labels` holds {odd}, but labels are 0 or 1; threshold them first.")
    if np.isnan(prediction).any():
        raise ValueError(
            f"`predictions` is NaN at {int(np.isnan(prediction).argmax())}; "
            "mend the model or leave the row out."
        )
    return label.astype(bool), prediction


def accuracy(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Share of rows where (prediction >= threshold) is the label; both arrays are [n]."""
    label, prediction = _binary(labels, predictions)
    return float(np.mean((prediction >= threshold) == label))


def binary_precision(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the rows predicted positive that are; NaN where none is."""
    label, prediction = _binary(labels, predictions)
    positive = prediction >= threshold
    return float(label[positive].mean()) if positive.any() else float("nan")


def binary_recall(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the positive rows that are predicted so; NaN where there are none."""
    label, prediction = _binary(labels, predictions)
    return float(np.mean(prediction[label] >= threshold)) if label.any() else float("nan")


def f1(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall of the rows predicted positive; 0 without a hit."""
    label, prediction = _binary(labels, predictions)
    positive = prediction >= threshold
    hits = np.sum(positive & label)
    return float(2 * hits / (positive.sum() + label.sum())) if hits else 0.0


def binary_auc(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Area under the ROC curve over all rows; ties count one half, NaN with one class only."""
    label, prediction = _binary(labels, predictions)
    _, inverse, count = np.unique(prediction, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]  # ascending, mean of the tied
    positive, negative = int(label.sum()), int((~label).sum())
    if not positive or not negative:
        return float("nan")
    return float((rank[label].sum() - positive * (positive + 1) / 2) / (positive * negative))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept 1e-7 away from 0 and 1."""
    label, probability = _binary(labels, probabilities)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(
            f"`probabilities` range from {probability.min()} to {probability.max()}, "
            "but must lie in [0, 1]; pass logits through a sigmoid first."
        )
    probability = np.clip(probability, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.log(np.where(label, probability, 1 - probability))))


def rmse(values: ArrayLike, predictions: ArrayLike) -> float:
    """Root of the mean squared difference of two arrays [n], in the unit of the values."""
    difference: Any = np.asarray(values, np.float64) - np.asarray(predictions, np.float64)
    return float(np.sqrt(np.mean(difference**2)))


def mae(values: ArrayLike, predictions: ArrayLike) -> float:
    """Mean absolute difference of two arrays [n], in the unit of the values."""
    difference: Any = np.asarray(values, np.float64) - np.asarray(predictions, np.float64)
    return float(np.mean(np.abs(difference)))


def calibration(values: ArrayLike, predictions: ArrayLike) -> float:
    """Mean prediction over mean value, of two arrays [n]: above 1 too much is predicted.

    NaN where the values' mean is 0.
    """
    mean = float(np.mean(np.asarray(values, np.float64)))
    return float(np.mean(np.asarray(predictions, np.float64))) / mean if mean else float("nan")


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10
) -> float:
    """How far probabilities are from the share of positives among rows of like probability.

    The mean of |mean probability - share of positives| over `bins` equal intervals of [0, 1], each
    weighed by its rows; 1 is in the last one.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    AAAI 2015.
    """
    label, probability = _binary(labels, probabilities)
    place = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    off = np.bincount(place, probability - label, bins)
    return float(np.abs(off).sum() / len(label))
