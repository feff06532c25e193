"""Paired comparisons of two models that were evaluated on the same queries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfrec_meta.evaluation.intervals import (
    Comparison,
    Estimate,
    paired_difference,
    paired_differences,
)
from tfrec_meta.evaluation.predictions import (
    METRICS_OF,
    prediction_differences,
    prediction_estimates,
)
from tfrec_meta.evaluation.results import Evaluation, Group, aligned

Differences = Mapping[str, Comparison]
"""The paired differences between two models by the name of the metric."""


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
    _check_same_queries(a, b)
    return paired_difference(a.per_query[metric], b.per_query[metric], metric, resamples, seed)


@dataclasses.dataclass(frozen=True)
class PairedPredictions:
    """Two models that predict the same ratings or clicks.

    Attributes:
        metrics: the metrics of each model, by its name.
        differences: first - second, of each metric with a value.
    """

    metrics: Mapping[str, Mapping[str, Estimate]]
    differences: Differences

    def as_dict(self) -> dict[str, Any]:
        """Returns all as plain values, ready for JSON."""
        metrics = {
            model: {name: one.as_dict() for name, one in each.items()}
            for model, each in self.metrics.items()
        }
        return {"metrics": metrics, "differences": _plain(self.differences)}


@dataclasses.dataclass(frozen=True)
class PairedEvaluations:
    """Two models on the same queries, with the differences in each metric; prints as tables.

    Attributes:
        evaluations: by name, the two models in the order of the subtraction: first - second.
        differences: of each metric that has values per query.
        groups: the same of each `Group`; empty for a group without queries.
        predictions: by target, "rating" or "click", of two models that predict it.
        notes: what else to know, in sentences.
    """

    evaluations: Mapping[str, Evaluation]
    differences: Differences
    groups: Mapping[Group, Differences]
    predictions: Mapping[str, PairedPredictions] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def metric(self) -> str:
        """The main metric, which the table of groups shows: the first one, such as NDCG."""
        return next(iter(self.differences))

    def __str__(self) -> str:
        a, b = self.evaluations.values()
        names = [*self.evaluations]
        parts = [_table("", names, [a.metrics, b.metrics], self.differences)]
        rows = [[self.metric, "users", "pairs", *_heading(names)]]
        for group, differences in self.groups.items():
            one, other = a.groups[group], b.groups[group]
            values = (one.metrics[self.metric].value, other.metrics[self.metric].value)
            counts = (f"{one.counts[key]:,}" for key in ("queries", "relevant"))
            rows.append([group.label, *counts, *_cells(*values, differences.get(self.metric))])
        if self.groups:
            parts.append(aligned(rows))
        for target, found in self.predictions.items():
            parts.append(_table(target, names, [*found.metrics.values()], found.differences))
        return "\n\n".join([*parts, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """Returns all as plain values, ready for JSON."""
        return {
            "evaluations": {name: one.as_dict() for name, one in self.evaluations.items()},
            "differences": _plain(self.differences),
            "groups": {group.value: _plain(each) for group, each in self.groups.items()},
            "predictions": {target: one.as_dict() for target, one in self.predictions.items()},
            "notes": list(self.notes),
        }


def compare_all(
    evaluations: Mapping[str, Evaluation], resamples: int = 1000, seed: int = 42
) -> PairedEvaluations:
    """Compares two evaluations of the same queries in all metrics and groups.

    Args:
        evaluations: two evaluations by name, on the same split and with the same `k`.
        resamples: bootstrap draws of users, 1 or more.
        seed: seed of the draws.

    Raises:
        ValueError: if the evaluations have other queries.
    """
    a, b = evaluations.values()
    _check_same_queries(a, b)
    groups = {
        group: _paired(one.per_query, b.groups[group].per_query, resamples, seed)
        for group, one in a.groups.items()
        if group in b.groups
    }
    sizes = [f"{name} ranks {one.counts['candidates']:,}" for name, one in evaluations.items()]
    notes = []
    if a.counts["candidates"] != b.counts["candidates"]:
        notes = [f"The catalogues differ: {' items and '.join(sizes)}."]
    differences = _paired(a.per_query, b.per_query, resamples, seed)
    return PairedEvaluations(evaluations, differences, groups, notes=notes)


def compare_predictions(
    target: str,
    labels: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    users: ArrayLike,
    resamples: int = 1000,
    seed: int = 42,
) -> PairedPredictions:
    """Compares two predictions of the same events in all metrics of the target.

    Args:
        target: "rating" or "click".
        predictions: two predictions by name.
        labels, users, resamples, seed: as for `prediction_estimates`.
    """
    metrics, drawn = METRICS_OF[target], (users, resamples, seed)
    a, b = predictions.values()
    return PairedPredictions(
        {
            name: prediction_estimates(metrics, labels, each, *drawn)
            for name, each in predictions.items()
        },
        prediction_differences(metrics, labels, a, b, *drawn),
    )


def _paired(
    a: Mapping[str, Any], b: Mapping[str, Any], resamples: int, seed: int
) -> dict[str, Comparison]:
    """The differences in the metrics that a query has in both."""
    common = [name for name in a if name in b and np.isfinite(a[name] - b[name]).any()]
    return paired_differences({name: a[name] for name in common}, b, resamples, seed)


def _check_same_queries(a: Evaluation, b: Evaluation) -> None:
    if not np.array_equal(a.queries, b.queries):
        raise ValueError(
            f"`a` has {len(a.queries)} queries and `b` has {len(b.queries)}, and they differ; "
            "evaluate both on the same split."
        )


def _table(
    label: str,
    names: Sequence[str],
    metrics: Sequence[Mapping[str, Estimate]],
    differences: Differences,
) -> str:
    """A plain-text table of two models: one row per metric."""
    a, b = metrics
    rows = [[label, *_heading(names)]]
    rows += [[name, *_cells(a[name].value, b[name].value, differences.get(name))] for name in a]
    return aligned(rows)


def _heading(names: Sequence[str]) -> list[str]:
    return [*names, " - ".join(names), "p"]


def _cells(a: float, b: float, difference: Comparison | None) -> list[str]:
    """The cells of one row: both values, their difference with its interval, and p."""
    both = ["-" if math.isnan(value) else f"{value:.4f}" for value in (a, b)]
    if difference is None:  # such as coverage, which has no value per query
        return [*both, "-" if math.isnan(a - b) else f"{a - b:+.4f}", "-"]
    low, high = difference.low, difference.high
    found = f"{difference.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
    return [*both, found, f"{difference.p:.3g}"]


def _plain(differences: Differences) -> dict[str, Any]:
    return {name: dataclasses.asdict(one) for name, one in differences.items()}
