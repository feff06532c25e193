"""Bootstrap intervals of means over users, and paired comparisons of two models.

Users are resampled, not interactions, because the interactions of one user are not independent.
Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile interval).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.checks import check_fields, whole_number
from tfrec_meta.errors import ParameterError

CONFIDENCE = 0.95
RESAMPLES = whole_number(0, 1_000_000)
"""The condition of the number of bootstrap draws; 0 for no interval."""
_DRAWS_AT_ONCE = 1 << 21


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; `low` and `high` are None without an interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.4f}, {self.high:.4f}]"
        return f"{self.value:.4f}{interval}"

    def as_dict(self) -> dict[str, float | None]:
        """Returns the fields by name, ready for JSON: None for NaN."""

        def plain(value: float | None) -> float | None:
            return value if value is not None and math.isfinite(value) else None

        return {name: plain(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, float | None]) -> Estimate:
        """Reads what `as_dict` returned."""
        value = record["value"]
        return cls(math.nan if value is None else value, record["low"], record["high"])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference a - b of two models' means over the same users, with its interval.

    `p` is the two-sided bootstrap p-value of the hypothesis that there is no difference.
    """

    metric: str
    difference: float
    low: float
    high: float
    p: float

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        return (
            f"{self.metric}: {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], "
            f"p={self.p:.3g}"
        )


def resampled_means(
    values: ArrayLike, resamples: int = 1000, seed: int = 42
) -> NDArray[np.float64]:
    """Computes means over users drawn with replacement.

    Args:
        values: float [users, metrics]; NaN where a user has no value. NaN is ignored.
        resamples: number of draws; each draws as many users as there are.
        seed: seed of the draws. The same seed draws the same users, so that results can be paired.

    Returns:
        float64 [resamples, metrics]; NaN where a draw has no value.
    """
    table = _table(values)
    users = len(table)
    known = np.isfinite(table)
    # Weighted sums are one matrix product. The divisor is below `users` only where there are NaNs.
    columns = np.concatenate([np.where(known, table, 0.0), known], axis=1)
    generator = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // max(users, 1))
    sums = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(0, users, (count, users))
        drawn += np.arange(0, count * users, users)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users)
        sums[start : start + count] = weights.astype(np.float64) @ columns
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[:, : table.shape[1]] / sums[:, table.shape[1] :]


def estimates(values: ArrayLike, resamples: int = 1000, seed: int = 42) -> list[Estimate]:
    """Computes the mean and 95 % percentile interval of each column of float [users, metrics].

    Without resamples, or with a single user, there is no interval. Without any value, the mean is
    NaN.
    """
    table = _table(values)
    known = np.isfinite(table).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(table, axis=0) / known
    if resamples < 1 or len(table) < 2:
        return [Estimate(float(mean)) for mean in means]
    tail = 50 * (1 - CONFIDENCE)
    draws = resampled_means(table, resamples, seed)
    return [
        Estimate(float(mean), *map(float, np.nanpercentile(draw, [tail, 100 - tail])))
        if count > 1
        else Estimate(float(mean))
        for mean, count, draw in zip(means, known, draws.T, strict=True)
    ]


def _table(values: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not len(table):
        raise ParameterError(
            f"`values` has shape {table.shape}; use [users, metrics], at least one user.", "values"
        )
    return table


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    metric: str = "metric",
    resamples: int = 1000,
    seed: int = 42,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compares two arrays float [users] of the same users; pairs with a NaN are ignored.

    Args:
        a, b: the two models' values.
        metric: name of the metric.
        resamples: bootstrap draws of users.
        seed: seed of the draws.
        confidence: level of the interval, in (0, 1).

    Raises:
        ValueError: if no user has a value in both, or the arrays have other shapes.
    """
    return paired_differences({metric: a}, {metric: b}, resamples, seed, confidence)[metric]


def paired_differences(
    a: Mapping[str, ArrayLike],
    b: Mapping[str, ArrayLike],
    resamples: int = 1000,
    seed: int = 42,
    confidence: float = CONFIDENCE,
) -> dict[str, Comparison]:
    """Compares two models in each metric of `a`, as `paired_difference` does.

    Metrics that have values of the same users are computed from one draw of users.

    Args:
        a, b: the two models' values float [users] by metric.
        resamples, seed, confidence: as for `paired_difference`.

    Raises:
        ValueError: as for `paired_difference`.
    """
    differences = {metric: _difference(a[metric], b[metric], metric) for metric in a}
    alike: dict[bytes, list[str]] = {}  # metrics by the users who have a value
    for metric, values in differences.items():
        alike.setdefault(np.isfinite(values).tobytes(), []).append(metric)
    found = {}
    for metrics in alike.values():
        table = np.stack([differences[metric] for metric in metrics], axis=1)
        table = table[np.isfinite(table[:, 0])]
        draws = resampled_means(table, resamples, seed)
        for metric, values, drawn in zip(metrics, table.T, draws.T, strict=True):
            mean = math.fsum(values) / len(values)
            found[metric] = comparison_of(metric, mean, drawn, confidence)
    return {metric: found[metric] for metric in differences}


def comparison_of(
    metric: str, difference: float, draws: NDArray[np.float64], confidence: float = CONFIDENCE
) -> Comparison:
    """Returns a difference with the interval and p-value of its bootstrap draws, float [draws]."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail])
    # Plus one, so that p is about 0.002 and not 0 if no draw of 1,000 has another sign.
    rarer = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p = min(1.0, 2 * (rarer + 1) / (len(draws) + 1))
    return Comparison(metric, difference, float(low), float(high), p)


def _difference(a: ArrayLike, b: ArrayLike, metric: str) -> NDArray[np.float64]:
    """Returns float64 [users], a - b; not finite where one of them has no value."""
    pair = [np.asarray(values, np.float64) for values in (a, b)]
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape:
        raise ParameterError(
            f"`a` has shape {pair[0].shape} and `b` {pair[1].shape}; use two arrays [users] with "
            "the values of the same users.",
            "a",
            "b",
        )
    difference = pair[0] - pair[1]
    if not np.isfinite(difference).any():
        raise ValueError(
            f"No user has a value of {metric!r} in both `a` and `b`; compare another metric."
        )
    return difference
