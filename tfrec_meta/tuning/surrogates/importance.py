"""Which hyperparameters matter, and how, as a surrogate of the objective sees it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np

from tfrec_meta.tuning.studies.trial_records import active_values

Surrogate = Callable[[list[dict[str, Any]]], tuple[Any, Any]]
"""surrogate(values of N trials) -> (mean, std): float [N] each, in units of the objective."""

_GRID = 11  # values of a range, in a partial dependence
_FEWEST_BINS, _MOST_BINS = 8, 24  # of a range, in its importance
_MOST_LEVELS = 12  # a number with more distinct values is put into bins


@dataclasses.dataclass(frozen=True)
class Dependence:
    """The mean prediction with one hyperparameter set to a value.

    Attributes:
        value: of the hyperparameter.
        mean: of the predictions over the rest of the space, in units of the objective.
        std: mean of the surrogate's own standard deviations there.
    """

    value: Any
    mean: float
    std: float


def random_points(
    space: Sequence[Mapping[str, Any]], samples: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Points of the space, without inactive hyperparameters; each of them is spread evenly."""
    return [active_values(space, point) for point in _draw(space, samples, seed)]


def importance(
    surrogate: Surrogate,
    space: Sequence[Mapping[str, Any]],
    samples: int = 512,
    seed: int = 0,
) -> dict[str, float]:
    """The share of the objective's variance that each hyperparameter explains alone.

    The predictions at random points of the space are taken apart into a mean, a term for each
    hyperparameter and a rest, by least squares over all of them together, since apart they would
    blur one another; a range counts in 8 to 24 bins. A share is the variance of a term, less what
    chance gives it, over that of all. A conditional hyperparameter has its term where it is
    active. What the shares lack to 1 is owed to hyperparameters together.

    Args:
        surrogate: see `Surrogate`.
        space: of the study's header.
        samples: how many points.
        seed: of the points.

    Returns:
        Shares in [0, 1] by name, largest first; all 0 if the surrogate is constant. What is
        fixed is left out.

    Raises:
        ValueError: if the surrogate doesn't give two finite numbers a point.

    Source: the first-order terms of "An Efficient Approach for Assessing Hyperparameter
    Importance", ICML 2014.
    """
    points = random_points(space, samples, seed)
    mean, _ = _predicted(surrogate, points)
    names = _searched(space)
    if float(np.ptp(mean)) <= 1e-9 * float(np.abs(mean).max()):  # rounding alone is no variance
        return dict.fromkeys(names, 0.0)
    # Many enough to follow a curve, few enough for the points to outnumber all bins together.
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
    """Mean prediction by the values of one hyperparameter, over points where it is active.

    Args:
        surrogate: see `Surrogate`.
        space: of the study's header.
        name: of the hyperparameter.
        samples: how many points of the rest of the space are averaged over.
        seed: of the points.

    Returns:
        One for each choice, or for up to 11 values over a range.

    Raises:
        ValueError: for a name that the space lacks, or a surrogate as in `importance`.
    """
    entries = [entry for entry in space if entry["config"]["name"] == name]
    if not entries:
        known = ", ".join(dict.fromkeys(entry["config"]["name"] for entry in space))
        raise ValueError(f"The space has no {name!r}; it has {known}.")
    random = np.random.default_rng(seed)
    rest = _draw(space, samples, seed)
    for point in rest:  # into a context where the hyperparameter is active
        entry = entries[random.integers(len(entries))]
        for condition in entry["config"].get("conditions") or ():
            parent, allowed = condition["config"]["name"], condition["config"]["values"]
            if point.get(parent) not in allowed:
                point[parent] = allowed[random.integers(len(allowed))]
    grid = _grid(space, name)
    rows, points = [], []
    for place, value in enumerate(grid):
        for point in rest:
            values = active_values(space, {**point, name: value})
            if name in values:
                rows.append(place)
                points.append(values)
    if not points:
        return []
    mean, std = _predicted(surrogate, points)
    at = np.asarray(rows)
    return [
        Dependence(value, float(mean[at == place].mean()), float(std[at == place].mean()))
        for place, value in enumerate(grid)
        if (at == place).any()
    ]


def _draw(space: Sequence[Mapping[str, Any]], samples: int, seed: int) -> list[dict[str, Any]]:
    """Random points, each hyperparameter spread evenly, with values for the inactive ones too.

    Of several hyperparameters with one name the one whose conditions hold counts.
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
            chances = [min(place / (_GRID - 1), math.nextafter(1.0, 0.0)) for place in range(_GRID)]
            found = [hp.prob_to_value(chance) for chance in chances]
        values += [value for value in dict.fromkeys(found) if value not in values]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return sorted(values) if numbers else values


def _hyperparameters(space: Sequence[Mapping[str, Any]]) -> list[Any]:
    # Its own copy: KerasTuner's reading changes the lists of conditions that it is given.
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
                f"The surrogate gave a {name} of shape {part.shape} for {len(points)} points, or "
                "one that is not finite. It has to give one finite number for each."
            )
    return mean, std


def _groups(values: Sequence[Any], bins: int) -> np.ndarray:
    """A group for each value: the value itself, or of a range a bin with as many as the others."""
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
    """A column for each group of values, with a mean of 0 over the rows where `name` is active."""
    rows = [row for row, point in enumerate(points) if name in point]
    if not rows:
        return np.zeros((len(points), 0))
    groups = _groups([points[row][name] for row in rows], bins)
    inner = np.eye(groups.max() + 1)[groups]
    columns = np.zeros((len(points), inner.shape[1]))
    columns[rows] = inner - inner.mean(axis=0)
    return columns
