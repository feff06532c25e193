"""Importance and partial dependence of hyperparameters, estimated by a surrogate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np

from tfrec_meta.tuning.studies.trial_records import active_values

Surrogate = Callable[[list[dict[str, Any]]], tuple[Any, Any]]
"""surrogate(points) -> (mean, std): N points as values by name; float [N] each, in units of the
objective."""

_GRID = 11  # values of a range in a partial dependence
_FEWEST_BINS, _MOST_BINS = 8, 24  # bins of a range in its importance
_MOST_LEVELS = 12  # numbers with more distinct values are put into bins


@dataclasses.dataclass(frozen=True)
class Dependence:
    """The mean prediction with one hyperparameter set to a value.

    Attributes:
        value: of the hyperparameter.
        mean: the mean prediction over the rest of the space, in units of the objective.
        std: the mean of the surrogate's standard deviations there.
    """

    value: Any
    mean: float
    std: float


def random_points(
    space: Sequence[Mapping[str, Any]], samples: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Draws points of the space by Latin hypercube sampling, without inactive hyperparameters."""
    return [active_values(space, point) for point in _draw(space, samples, seed)]


def importance(
    surrogate: Surrogate,
    space: Sequence[Mapping[str, Any]],
    samples: int = 512,
    seed: int = 0,
) -> dict[str, float]:
    """Estimates the share of the objective's variance that each hyperparameter explains alone.

    Least squares decomposes the predictions at random points into a mean, one term per
    hyperparameter, and a residual. All terms are fitted together, because separate fits would mix
    their effects. Ranges are divided into 8 to 24 bins. A share is the variance of a term, less the
    variance expected by chance, divided by the total variance. A conditional hyperparameter has a
    term only where it is active. The shares sum to less than 1; interactions explain the rest.

    Args:
        surrogate: see `Surrogate`.
        space: of the study's header.
        samples: the number of points.
        seed: of the points.

    Returns:
        Shares in [0, 1] by name, largest first; all 0 if the surrogate is constant. Fixed
        hyperparameters are left out.

    Raises:
        ValueError: if the surrogate does not return two finite numbers for each point.

    References:
        The first-order terms of "An Efficient Approach for Assessing Hyperparameter Importance"
        (ICML 2014).
    """
    points = random_points(space, samples, seed)
    mean, _ = _predicted(surrogate, points)
    names = _searched(space)
    if float(np.ptp(mean)) <= 1e-9 * float(np.abs(mean).max()):  # rounding errors are no variance
        return dict.fromkeys(names, 0.0)
    # Enough bins to follow a curve, but fewer than there are points in total.
    bins = min(max(len(points) // (8 * max(len(names), 1)), _FEWEST_BINS), _MOST_BINS)
    blocks = [_indicators(points, name, bins) for name in names]
    columns = np.hstack([np.ones((len(points), 1)), *blocks])
    weights = np.linalg.lstsq(columns, mean, rcond=None)[0]
    free = [max(block.shape[1] - 1, 0) for block in blocks]
    rest = float(((mean - columns @ weights) ** 2).sum()) / max(len(points) - 1 - sum(free), 1)
    ends = np.cumsum([1, *(block.shape[1] for block in blocks)])
    explained = []
    for block, start, end, count in zip(blocks, ends, ends[1:], free, strict=False):
        term = block @ weights[start:end]
        explained.append(max(float(term @ term) - count * rest, 0.0) / len(points))
    total = sum(explained) + rest
    shares = dict(zip(names, (part / total for part in explained), strict=True))
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def partial_dependence(
    surrogate: Surrogate,
    space: Sequence[Mapping[str, Any]],
    name: str,
    samples: int = 64,
    seed: int = 0,
) -> list[Dependence]:
    """Returns the mean prediction for the values of one hyperparameter, where it is active.

    Args:
        surrogate: see `Surrogate`.
        space: of the study's header.
        name: of the hyperparameter.
        samples: the number of points of the rest of the space in each mean.
        seed: of the points.

    Returns:
        One entry for each choice, or for up to 11 values of a range.

    Raises:
        ValueError: for a name that the space lacks, or for an invalid surrogate (see `importance`).
    """
    entries = [entry for entry in space if entry["config"]["name"] == name]
    if not entries:
        known = ", ".join(dict.fromkeys(entry["config"]["name"] for entry in space))
        raise ValueError(f"`name`={name!r} is not in the space; use one of {known}.")
    random = np.random.default_rng(seed)
    rest = _draw(space, samples, seed)
    for point in rest:  # set parents so that the hyperparameter is active
        entry = entries[random.integers(len(entries))]
        for condition in entry["config"].get("conditions") or ():
            parent, allowed = condition["config"]["name"], condition["config"]["values"]
            if point.get(parent) not in allowed:
                point[parent] = allowed[random.integers(len(allowed))]
    grid = _grid(space, name)
    rows, points = [], []
    for index, value in enumerate(grid):
        for point in rest:
            values = active_values(space, {**point, name: value})
            if name in values:
                rows.append(index)
                points.append(values)
    if not points:
        return []
    mean, std = _predicted(surrogate, points)
    at = np.asarray(rows)
    return [
        Dependence(value, float(mean[at == index].mean()), float(std[at == index].mean()))
        for index, value in enumerate(grid)
        if (at == index).any()
    ]


def _draw(space: Sequence[Mapping[str, Any]], samples: int, seed: int) -> list[dict[str, Any]]:
    """Draws a Latin hypercube, with values for inactive hyperparameters too.

    Of several hyperparameters with the same name, the active one sets the value.
    """
    random = np.random.default_rng(seed)
    hps = _hyperparameters(space)
    strata = random.permuted(np.tile(np.arange(samples), (len(hps), 1)), axis=1)
    chances = (strata + random.random(strata.shape)) / samples
    points = []
    for column in chances.T:
        point: dict[str, Any] = {}
        taken: dict[str, Any] = {}
        for hp, chance in zip(hps, column, strict=True):
            value = hp.prob_to_value(min(float(chance), math.nextafter(1.0, 0.0)))
            active = all(condition.is_active(taken) for condition in hp.conditions)
            if active:
                taken[hp.name] = value
            if active or hp.name not in point:
                point[hp.name] = value
        points.append(point)
    return points


def _grid(space: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    values: list[Any] = []
    for hp in _hyperparameters(space):
        if hp.name != name:
            continue
        if isinstance(hp, keras_tuner.engine.hyperparameters.Choice):
            found = list(hp.values)
        else:
            chances = [min(step / (_GRID - 1), math.nextafter(1.0, 0.0)) for step in range(_GRID)]
            found = [hp.prob_to_value(chance) for chance in chances]
        values += [value for value in dict.fromkeys(found) if value not in values]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return sorted(values) if numbers else values


def _hyperparameters(space: Sequence[Mapping[str, Any]]) -> list[Any]:
    # A copy, because KerasTuner changes the configs that it reads.
    copy = [{**entry, "config": dict(entry["config"])} for entry in space]
    return keras_tuner.HyperParameters.from_config({"space": copy, "values": {}}).space


def _searched(space: Sequence[Mapping[str, Any]]) -> list[str]:
    free = [entry["config"]["name"] for entry in space if entry["class_name"] != "Fixed"]
    return list(dict.fromkeys(free))


def _predicted(surrogate: Surrogate, points: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (np.asarray(part, dtype=float) for part in surrogate(points))
    for name, part in (("mean", mean), ("std", std)):
        if part.shape != (len(points),) or not np.isfinite(part).all():
            raise ValueError(
                f"The surrogate returned a {name} of shape {part.shape} for {len(points)} points, "
                "or one that is not finite. Return one finite number for each point."
            )
    return mean, std


def _groups(values: Sequence[Any], bins: int) -> np.ndarray:
    """Assigns each value to a group: its own, or one of equally filled bins for many numbers."""
    distinct = list(dict.fromkeys(values))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in distinct)
    if not numbers or len(distinct) <= _MOST_LEVELS:
        return np.asarray([distinct.index(value) for value in values])
    order = np.argsort(np.asarray(values, dtype=float), kind="stable")
    bins = max(2, min(bins, len(values) // 8))
    groups = np.empty(len(values), dtype=int)
    groups[order] = np.arange(len(values)) * bins // len(values)
    return groups


def _indicators(points: Sequence[Mapping[str, Any]], name: str, bins: int) -> np.ndarray:
    """Returns a column per group of values, with mean 0 over the rows where `name` is active."""
    rows = [row for row, point in enumerate(points) if name in point]
    if not rows:
        return np.zeros((len(points), 0))
    groups = _groups([points[row][name] for row in rows], bins)
    inner = np.eye(groups.max() + 1)[groups]
    columns = np.zeros((len(points), inner.shape[1]))
    columns[rows] = inner - inner.mean(axis=0)
    return columns
