"""Metrics as pure functions of ranks, of lists, and of labels with predictions.

Rank-based metrics take a `RelevantRanks`: the rank of each relevant item among a query's
candidates, which `ranking.py` computes once. They return one value per query. Rank 1 is the best.
Tied items share the mean of their ranks, so the order of the rows has no influence, and a model
that gives all items the same score ranks all of them in the middle.

With mean ranks, more than `k` items can have a rank of at most `k`, for example three items tied at
rank 2. Only the first `k` of them count, so that every metric stays in [0, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.checks import check, whole_number
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.arrays import item_lists, labelled, numbers, probabilities_of, vector

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class RelevantRanks:
    """The ranks of the relevant items of all queries.

    Attributes:
        rank: float64 [n], ranks from 1, by query, ascending within a query.
        offsets: int64 [Q + 1]; the ranks of query q are rank[offsets[q]:offsets[q + 1]].
        relevant: int64 [Q], number of relevant items of each query, at least 1. It is larger than
            the number of ranks if some items cannot be ranked (seen, or outside the catalogue);
            these are misses.
        candidates: int64 [Q], number of ranked items.
    """

    rank: Floats
    offsets: NDArray[np.int64]
    relevant: NDArray[np.int64]
    candidates: NDArray[np.int64]

    def __post_init__(self) -> None:
        queries = len(self.offsets) - 1
        if len(self.relevant) != queries or len(self.candidates) != queries:
            raise ValueError(
                f"`offsets` has {queries} queries, but `relevant` has {len(self.relevant)} and "
                f"`candidates` {len(self.candidates)}; use one value per query in each."
            )
        steps = np.diff(self.offsets)
        if queries < 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.rank):
            raise ValueError(
                f"`offsets` is {self.offsets[:3]}..., but `rank` has {len(self.rank)} ranks; use "
                "offsets from 0 to the number of ranks, one more than there are queries."
            )
        if np.any(steps < 0) or not np.all(self.rank >= 1):
            raise ValueError("`offsets` has to ascend, and each `rank` is a number of 1 or more.")
        if np.any(self.relevant < np.maximum(steps, 1)):
            raise ValueError(
                "`relevant` is below 1 or below the number of ranks of a query; "
                "leave out queries without relevant items."
            )

    @classmethod
    def from_lists(
        cls,
        ranks: Sequence[Sequence[float]],
        candidates: int | Sequence[int],
        relevant: Sequence[int] | None = None,
    ) -> RelevantRanks:
        """Builds it from one list of ranks per query; `relevant` defaults to the lengths."""
        lengths = [len(row) for row in ranks]
        return cls(
            rank=np.array([r for row in ranks for r in sorted(row)], np.float64),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            relevant=np.asarray(lengths if relevant is None else relevant, np.int64),
            candidates=np.broadcast_to(np.asarray(candidates, np.int64), len(lengths)),
        )

    def only(self, chosen: ArrayLike, relevant: ArrayLike) -> RelevantRanks:
        """Returns the same queries with fewer relevant items; the others become irrelevant.

        Args:
            chosen: bool [n], the ranks that stay.
            relevant: int [Q], the new numbers of relevant items. Queries without any are left out.
        """
        keep, count = np.asarray(chosen, bool), np.asarray(relevant, np.int64)
        stays = count > 0
        per_query = np.bincount(self.query[keep], minlength=len(count))[stays]
        return RelevantRanks(
            self.rank[keep],
            np.concatenate([[0], np.cumsum(per_query)]).astype(np.int64),
            count[stays],
            self.candidates[stays],
        )

    @property
    def query(self) -> NDArray[np.int64]:
        """int64 [n], the query of each rank."""
        return np.repeat(np.arange(len(self.relevant)), np.diff(self.offsets))

    @property
    def position(self) -> NDArray[np.int64]:
        """int64 [n], 1 for a query's best relevant item, 2 for the second best, and so on."""
        return np.arange(1, len(self.rank) + 1) - self.offsets[self.query]


def _sum_hits(ranks: RelevantRanks, k: int, gain: ArrayLike | None = None) -> Floats:
    """Sums `gain` [n] (1 by default) over the relevant items in the top k: float64 [Q]."""
    check("k", k, whole_number(1))
    hit = (ranks.rank <= k) & (ranks.position <= k)
    weights = None if gain is None else np.asarray(gain)[hit]
    return np.bincount(ranks.query[hit], weights, len(ranks.relevant)).astype(np.float64)


def hit_rate(ranks: RelevantRanks, k: int) -> Floats:
    """Returns 1 if at least one relevant item is among the first k, else 0."""
    return (_sum_hits(ranks, k) > 0).astype(np.float64)


def recall(ranks: RelevantRanks, k: int) -> Floats:
    """Returns the share of the relevant items that are among the first k."""
    return _sum_hits(ranks, k) / ranks.relevant


def precision(ranks: RelevantRanks, k: int) -> Floats:
    """Returns the share of the first k items that are relevant; the divisor is always k."""
    return _sum_hits(ranks, k) / k


def ndcg(ranks: RelevantRanks, k: int) -> Floats:
    """Normalised discounted cumulative gain with binary relevance and discount 1/log2(1 + rank).

    The ideal list has min(relevant, k) relevant items on top. The base of the logarithm cancels.

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques",
    ACM TOIS 20(4), 2002.
    """
    gained = _sum_hits(ranks, k, 1.0 / np.log2(1.0 + ranks.rank))
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    return gained / ideal[np.minimum(ranks.relevant, k) - 1]


def reciprocal_rank(ranks: RelevantRanks, k: int) -> Floats:
    """Returns 1/rank of the best relevant item if the rank is at most k, else 0.

    The mean over queries is MRR@k.
    """
    return _sum_hits(ranks, k, (ranks.position == 1) / ranks.rank)


def average_precision(ranks: RelevantRanks, k: int) -> Floats:
    """Returns the sum of the precision at each hit in the first k, divided by min(relevant, k).

    The mean over queries is MAP@k. This is `map_at_k` of the Recommenders library ("MAP@k" in the
    tables of its benchmark notebook, version 1.2 and later). Its older `map` ("MAP" in older
    tables) divides by the number of relevant items, even if that is larger than k, and is lower.
    """
    return _sum_hits(ranks, k, ranks.position / ranks.rank) / np.minimum(ranks.relevant, k)


def auc(ranks: RelevantRanks) -> Floats:
    """Returns the probability that a relevant item is ranked above an irrelevant candidate.

    It is computed over the query's whole ranking (Mann-Whitney); ties count one half. Seen items
    are no candidates, so they are neither relevant nor irrelevant. A relevant item that cannot be
    ranked counts as below all others. NaN if every candidate is relevant.
    """
    ranked = np.diff(ranks.offsets).astype(np.float64)
    irrelevant = ranks.candidates - ranked
    rank_sum = np.bincount(ranks.query, ranks.rank, len(ranks.relevant))
    # Relevant items below other relevant items are not counted.
    below = ranked * ranks.candidates - rank_sum - ranked * (ranked - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(irrelevant > 0, below / (ranks.relevant * irrelevant), np.nan)


def coverage(lists: ArrayLike, catalogue: int) -> float:
    """Returns the share of the catalogue that is in at least one list.

    Args:
        lists: int [Q, k], recommended items; -1 where a list is shorter than k.
        catalogue: number of items of the catalogue.
    """
    items = item_lists(lists, catalogue)
    return len(np.unique(items[items >= 0])) / catalogue


def popularity_lift(lists: ArrayLike, popularity: ArrayLike, profile: ArrayLike) -> Floats:
    """Measures how much more popular the recommendations are than the users' own items.

    The mean of the returned values is (GAP_r - GAP_p) / GAP_p, where GAP is the mean over users
    of the mean popularity of the items in their list (r) or in their profile (p). 0 means as
    popular as the profiles, 1 means twice as popular.

    Args:
        lists: int [Q, k], recommended items; -1 where a list is shorter than k.
        popularity: float [N], for example the number of train interactions of each item.
        profile: float [Q], mean popularity of the items in each query's profile; NaN without one.

    Returns:
        float64 [Q], (list - profile) / GAP_p; NaN without a profile or with an empty list.

    Source: Abdollahpouri et al., "The Connection Between Popularity Bias, Calibration, and
    Fairness in Recommendation", RecSys 2020.
    """
    popularity = vector("popularity", popularity, finite=True)
    items, profile = item_lists(lists, len(popularity)), np.asarray(profile, np.float64)
    if profile.shape != (len(items),):
        raise ParameterError(
            f"`profile` has shape {profile.shape}, but `lists` has {len(items)} queries; use one "
            "number per query.",
            "profile",
            "lists",
        )
    return lift_of_means(list_popularity(items, popularity), profile)


def list_popularity(lists: NDArray[np.int64], popularity: Floats) -> Floats:
    """Returns the mean popularity of the items of each list, float64 [Q]; NaN for an empty list.

    Args:
        lists: int64 [Q, k], items; -1 where a list is shorter than k.
        popularity: float64 [N].
    """
    shown = lists >= 0
    value = np.where(shown, popularity[np.where(shown, lists, 0)], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return value.sum(axis=1) / shown.sum(axis=1)


def lift_of_means(mean: Floats, profile: Floats) -> Floats:
    """Returns `popularity_lift`, float64 [Q], from the result of `list_popularity`.

    Args:
        mean: float64 [Q], of the lists.
        profile: float64 [Q], of the profiles.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = mean - profile
        known = np.isfinite(difference)
        return difference / (profile[known].mean() if known.any() else np.nan)


def accuracy(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Returns the share of rows [n] where (prediction >= threshold) equals the label."""
    label, prediction = labelled(labels, predictions)
    return float(np.mean((prediction >= threshold) == label))


def binary_precision(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Returns the share of rows predicted positive that are positive; NaN without such rows."""
    label, prediction = labelled(labels, predictions)
    positive = prediction >= threshold
    return float(label[positive].mean()) if positive.any() else float("nan")


def binary_recall(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Returns the share of positive rows that are predicted positive; NaN without such rows."""
    label, prediction = labelled(labels, predictions)
    return float(np.mean(prediction[label] >= threshold)) if label.any() else float("nan")


def f1(labels: ArrayLike, predictions: ArrayLike, threshold: float = 0.5) -> float:
    """Returns the harmonic mean of precision and recall; 0 without a true positive."""
    label, prediction = labelled(labels, predictions)
    positive = prediction >= threshold
    hits = np.sum(positive & label)
    return float(2 * hits / (positive.sum() + label.sum())) if hits else 0.0


def binary_auc(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the area under the ROC curve over all rows.

    Ties count one half. NaN if only one class is present.
    """
    label, prediction = labelled(labels, predictions)
    _, inverse, count = np.unique(prediction, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]  # ascending, mean of the tied
    positive, negative = int(label.sum()), int((~label).sum())
    if not positive or not negative:
        return float("nan")
    return float((rank[label].sum() - positive * (positive + 1) / 2) / (positive * negative))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Returns the mean negative log-likelihood in nats.

    Probabilities are clipped to [1e-7, 1 - 1e-7].
    """
    label, probability = probabilities_of(labels, probabilities)
    probability = np.clip(probability, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.log(np.where(label, probability, 1 - probability))))


def rmse(values: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the root mean squared difference of two arrays [n], in the unit of the values."""
    value, prediction = numbers(values, predictions)
    return float(np.sqrt(np.mean((value - prediction) ** 2)))


def mae(values: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the mean absolute difference of two arrays [n], in the unit of the values."""
    value, prediction = numbers(values, predictions)
    return float(np.mean(np.abs(value - prediction)))


def calibration(values: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the mean prediction divided by the mean value, of two arrays [n].

    Above 1, predictions are too high on average. NaN if the mean value is 0.
    """
    value, prediction = numbers(values, predictions)
    mean = float(np.mean(value))
    return float(np.mean(prediction)) / mean if mean else float("nan")


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10
) -> float:
    """Measures the distance between probabilities and the share of positives.

    It is the mean of |mean probability - share of positives| over `bins` equal intervals of [0, 1],
    weighted by their numbers of rows. The probability 1 belongs to the last interval.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
    AAAI 2015.
    """
    check("bins", bins, whole_number(1))
    label, probability = probabilities_of(labels, probabilities)
    place = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    off = np.bincount(place, probability - label, bins)
    return float(np.abs(off).sum() / len(label))
