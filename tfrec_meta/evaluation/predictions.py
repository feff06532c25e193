"""Metrics of predicted ratings and clicks of single events, with intervals over users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import metrics as m
from tfrec_meta.evaluation.arrays import same_length, vector
from tfrec_meta.evaluation.intervals import CONFIDENCE, Comparison, Estimate, comparison_of

Metrics = Mapping[str, Callable[[ArrayLike, ArrayLike], float]]
"""Functions of labels and predictions by name."""

RATING_METRICS: Metrics = {
    "rmse": m.rmse,
    "mae": m.mae,
    "calibration": m.calibration,
}
CLICK_METRICS: Metrics = {
    "auc": m.binary_auc,
    "log_loss": m.log_loss,
    "accuracy": m.accuracy,
    "precision": m.binary_precision,
    "recall": m.binary_recall,
    "f1": m.f1,
    "calibration": m.calibration,
    "calibration_error": m.expected_calibration_error,
}

METRICS_OF = {"rating": RATING_METRICS, "click": CLICK_METRICS}
"""The metrics of each target."""
# The baseline of each target is a constant prediction, and these metrics are known of it.
_CONSTANTS = {
    "rating": ("mean rating", ("rmse", "mae")),
    "click": ("click rate", ("auc", "log_loss")),
}


class PredictionEvaluations(dict[str, Mapping[str, Estimate]]):
    """Metrics of predictions by target, "rating" and "click"; prints as one table.

    Args:
        evaluations: metrics by target.
        baselines: by target, the metrics of a constant prediction: the mean rating, or the share of
            clicks, of the earlier events.

    Attributes:
        baselines: the argument.
    """

    def __init__(
        self,
        evaluations: Mapping[str, Mapping[str, Estimate]] | None = None,
        baselines: Mapping[str, Mapping[str, Estimate]] | None = None,
    ):
        super().__init__(evaluations or {})
        self.baselines = dict(baselines or {})

    def columns(self) -> dict[str, Mapping[str, Estimate]]:
        """Returns the metrics by the names of targets, each followed by its baseline."""
        columns: dict[str, Mapping[str, Estimate]] = {}
        for target, found in self.items():
            columns[target] = found
            if target in self.baselines:
                columns[_CONSTANTS[target][0]] = self.baselines[target]
        return columns

    def __str__(self) -> str:
        return format_predictions(self.columns())

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {
            target: {
                part: {name: one.as_dict() for name, one in metrics.items()}
                for part, metrics in (
                    ("metrics", found),
                    ("baseline", self.baselines.get(target, {})),
                )
            }
            for target, found in self.items()
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> PredictionEvaluations:
        """Reads what `as_dict` returned."""
        metrics, baselines = (
            {
                target: {name: Estimate.from_dict(one) for name, one in parts[part].items()}
                for target, parts in record.items()
            }
            for part in ("metrics", "baseline")
        )
        return cls(metrics, {target: one for target, one in baselines.items() if one})


def constant_estimates(
    target: str,
    constant: float,
    labels: ArrayLike,
    users: ArrayLike,
    resamples: int = 1000,
    seed: int = 42,
) -> dict[str, Estimate]:
    """Computes the metrics of one prediction for all events: the baseline of a target.

    Args:
        target: "rating" or "click".
        constant: the mean rating, or the share of clicks.
        labels, users, resamples, seed: as for `prediction_estimates`.
    """
    metrics = {name: METRICS_OF[target][name] for name in _CONSTANTS[target][1]}
    predictions = np.full(len(vector("labels", labels)), constant)
    return prediction_estimates(metrics, labels, predictions, users, resamples, seed)


def prediction_estimates(
    metrics: Metrics,
    labels: ArrayLike,
    predictions: ArrayLike,
    users: ArrayLike,
    resamples: int = 1000,
    seed: int = 42,
) -> dict[str, Estimate]:
    """Computes metrics over all events, with 95 % percentile intervals.

    Users are drawn with replacement, each with all their events, and the metric is computed again
    for each draw, because an AUC is not a mean over users. Draws in which a metric is NaN are
    ignored.

    Args:
        metrics: by name, functions of labels and predictions, such as `RATING_METRICS`.
        labels: float [n] or [n, 1], ratings; or 0 and 1.
        predictions: float [n] or [n, 1], ratings; or the probability of a 1.
        users: [n], the user of each event.
        resamples: bootstrap draws. Below 1, or with a single user, there is no interval.
        seed: seed of the draws; the same seed draws the same users.

    Raises:
        ParameterError: if there are no events, the arrays differ in length, or one has another
            shape or NaN.
    """
    values, draws = _drawn(metrics, labels, predictions, users, resamples, seed)
    return {name: _estimate(value, draws[name]) for name, value in values.items()}


def prediction_differences(
    metrics: Metrics,
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    users: ArrayLike,
    resamples: int = 1000,
    seed: int = 42,
) -> dict[str, Comparison]:
    """Compares two predictions of the same events, a minus b, by a paired bootstrap over users.

    Each draw of users gives one difference of each metric. Metrics without a value, or with less
    than two users, are left out.

    Args:
        metrics, labels, users, resamples, seed: as for `prediction_estimates`.
        a, b: float [n] or [n, 1], two predictions of the events.
    """
    (one, draws), (other, more) = (
        _drawn(metrics, labels, predictions, users, resamples, seed) for predictions in (a, b)
    )
    found = {}
    for name in metrics:
        differences = draws[name] - more[name]
        known = differences[~np.isnan(differences)]
        if len(known):
            found[name] = comparison_of(name, one[name] - other[name], known)
    return found


def _drawn(
    metrics: Metrics,
    labels: ArrayLike,
    predictions: ArrayLike,
    users: ArrayLike,
    resamples: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Returns the value of each metric, and its values in draws of users; the same for one seed."""
    label, prediction = vector("labels", labels), vector("predictions", predictions)
    user = np.asarray(users)
    if user.ndim != 1:
        raise ParameterError(
            f"`users` has shape {user.shape}; use an array [n] with one user per event.", "users"
        )
    same_length(labels=label, predictions=prediction, users=user)
    _, codes, counts = np.unique(user, return_inverse=True, return_counts=True)
    values = {name: metric(label, prediction) for name, metric in metrics.items()}
    count = resamples if resamples > 0 and len(counts) > 1 else 0
    draws = {name: np.empty(count) for name in metrics}
    rows_of = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    generator = np.random.default_rng(seed)
    for draw in range(count):
        drawn = generator.integers(0, len(counts), len(counts))
        rows = np.concatenate([rows_of[user] for user in drawn])
        for name, metric in metrics.items():
            draws[name][draw] = metric(label[rows], prediction[rows])
    return values, draws


def _estimate(value: float, draws: NDArray[np.float64]) -> Estimate:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Estimate(value)
    tail = 50 * (1 - CONFIDENCE)
    return Estimate(value, *map(float, np.percentile(known, [tail, 100 - tail])))


def format_predictions(results: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Returns a plain-text table with one row per metric and one column per result."""
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    rows = [["", *results]]
    rows += [[name, *(_cell(result, name) for result in results.values())] for name in names]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(result: Mapping[str, Estimate], name: str) -> str:
    return "-" if name not in result or np.isnan(result[name].value) else str(result[name])
