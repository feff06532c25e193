"""Metrics of known and new users, and of repeat and new items, from the ranks of all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tfrec_meta.evaluation.intervals import Estimate, estimates
from tfrec_meta.evaluation.metrics import RelevantRanks
from tfrec_meta.evaluation.results import Group, GroupEvaluation

RankMetrics = Callable[[RelevantRanks], Mapping[str, NDArray[np.float64]]]
"""Values per query by the name of the metric."""


def evaluate_groups(
    ranks: RelevantRanks,
    metrics: RankMetrics,
    known: NDArray[np.bool_],
    repeated: NDArray[np.bool_],
    repeats: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> dict[Group, GroupEvaluation]:
    """Measures the groups of users and of relevant items.

    Args:
        ranks: the ranks of the relevant items of all queries.
        metrics: the metrics to compute from ranks.
        known: bool [Q], whether the user of a query has a past.
        repeated: bool [n], whether the user had the item of a rank before.
        repeats: int64 [Q], number of relevant items that the user had before, including those that
            cannot be ranked.
        resamples: bootstrap draws of users for the intervals.
        seed: seed of the draws.
    """
    values, size = metrics(ranks), len(ranks.relevant)

    def users(chosen: NDArray[np.bool_]) -> GroupEvaluation:
        part = {name: value[chosen] for name, value in values.items()}
        return measured(part, chosen, ranks.relevant)

    def items(chosen: NDArray[np.bool_], relevant: NDArray[np.int64]) -> GroupEvaluation:
        return measured(metrics(ranks.only(chosen, relevant)), relevant > 0, relevant)

    def measured(
        part: Mapping[str, NDArray[np.float64]],
        members: NDArray[np.bool_],
        relevant: NDArray[np.int64],
    ) -> GroupEvaluation:
        """The group of the queries `members`, bool [Q], which have the values `part`."""
        found = [Estimate(math.nan)] * len(part)
        if members.any() and part:
            found = estimates(np.stack([*part.values()], axis=1), resamples, seed)
        per_query = {name: np.full(size, np.nan) for name in part}
        for name, value in part.items():
            per_query[name][members] = value
        counts = {"queries": int(members.sum()), "relevant": int(relevant[members].sum())}
        return GroupEvaluation(dict(zip(part, found, strict=True)), counts, per_query)

    return {
        Group.KNOWN_USERS: users(known),
        Group.NEW_USERS: users(~known),
        Group.REPEAT_ITEMS: items(repeated, repeats),
        Group.NEW_ITEMS: items(~repeated, ranks.relevant - repeats),
    }
