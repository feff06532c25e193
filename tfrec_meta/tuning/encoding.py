"""Hyperparameters as numbers: what a surrogate reads, and how points of a space are drawn.

A point is a row of *codes*, one number a hyperparameter: in [0, 1] along the range, by the sampling
that the space declares (steps are evenly apart), or the place among unordered choices. Features are
what a kernel or a network sees of the codes: one column for what has an order, one a choice for
what has none, and nothing of what is not active under its conditions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before KerasTuner is imported)

import keras_tuner
import numpy as np

INACTIVE = 0.5  # the feature of an ordered hyperparameter that its conditions leave out


class Dimension:
    """One hyperparameter: its values, as codes and as features."""

    def __init__(self, parameter: Any, place: int):
        self.name: str = parameter.name
        self.default = parameter.default
        self.place = place  # of its code
        self.values: list[Any] | None = None  # in the order of the codes; None for a continuum
        self.ordered = True
        self.bounds, self.sampling = (0.0, 1.0), "linear"
        kind = type(parameter).__name__
        if kind == "Fixed":
            self.values = [parameter.value]
        elif kind == "Boolean":
            self.values, self.ordered = [False, True], False
        elif kind == "Choice":
            self.values, self.ordered = list(parameter.values), bool(parameter.ordered)
            if self.ordered:
                self.values.sort()
        else:
            low, high = parameter.min_value, parameter.max_value
            self.sampling = parameter.sampling or "linear"
            self.bounds = (float(low), float(high))
            step = parameter.step if parameter.step is not None else (1 if kind == "Int" else None)
            if kind == "Int" and parameter.step is None and self.sampling != "linear":
                self.values = _integers(int(low), int(high))
            elif step is not None:
                self.values = _stepped(low, high, step, self.sampling, kind == "Int")
        if self.values is not None and len(self.values) == 1:
            self.ordered = True
        self._place_of = {v: i for i, v in enumerate(self.values)} if self.values else {}

    @property
    def count(self) -> int | None:
        """How many values it has; None for a continuum."""
        return None if self.values is None else len(self.values)

    @property
    def width(self) -> int:
        """Columns of features."""
        if self.count == 1:
            return 0
        return 1 if self.ordered else len(self.values or ())

    def code(self, value: Any) -> float | None:
        """The code of a value; None for one that the hyperparameter can't have."""
        if self.values is None:
            return self._along(value)
        if value in self._place_of:
            place = self._place_of[value]
        elif self.ordered and _is_number(value) and all(_is_number(v) for v in self.values):
            gaps = [abs(_scaled(v) - _scaled(value)) for v in self.values]
            place = int(np.argmin(gaps))
        else:
            return None
        if not self.ordered:
            return float(place)
        return place / (len(self.values) - 1) if len(self.values) > 1 else 0.0

    def value(self, code: float) -> Any:
        """The value of a code."""
        if self.values is None:
            return self._at(min(max(code, 0.0), 1.0))
        top = len(self.values) - 1
        return self.values[round(code * top) if self.ordered else int(code)]

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Codes of numbers that are uniform in [0, 1)."""
        if self.values is None:
            return uniform
        place = np.floor(uniform * len(self.values))
        return place / max(len(self.values) - 1, 1) if self.ordered else place

    def _along(self, value: Any) -> float | None:
        if not _is_number(value):
            return None
        (low, high), value = self.bounds, min(max(float(value), self.bounds[0]), self.bounds[1])
        if high == low:
            return 0.0
        if self.sampling == "log":
            return math.log(value / low) / math.log(high / low)
        if self.sampling == "reverse_log":
            return 1.0 - math.log((low + high - value) / low) / math.log(high / low)
        return (value - low) / (high - low)

    def _at(self, code: float) -> float:
        low, high = self.bounds
        if self.sampling == "log":
            return min(max(low * (high / low) ** code, low), high)
        if self.sampling == "reverse_log":
            return min(max(low + high - low * (high / low) ** (1.0 - code), low), high)
        return low + code * (high - low)


class SpaceEncoding:
    """A search space, conditions included, as codes and features.

    Args:
        space: what is searched; its order has parents before what depends on them.

    Attributes:
        dimensions: of the codes, in the order of the space.
        groups: int [D], the dimension that each column of features is of.
    """

    def __init__(self, space: keras_tuner.HyperParameters):
        self.dimensions = [Dimension(p, place) for place, p in enumerate(space.space)]
        by_name: dict[str, list[Dimension]] = {}
        # Of each dimension: alternatives of (the parent's place, codes that it must have).
        self._conditions: list[list[tuple[list[int], list[set[float]]]]] = []
        for dimension, parameter in zip(self.dimensions, space.space, strict=True):
            wanted = []
            for condition in parameter.conditions:
                parents = by_name.get(condition.name, [])
                codes = [
                    {c for c in map(parent.code, condition.values) if c is not None}
                    for parent in parents
                ]
                wanted.append(([parent.place for parent in parents], codes))
            self._conditions.append(wanted)
            by_name.setdefault(dimension.name, []).append(dimension)
        self.groups = np.repeat(np.arange(len(self.dimensions)), [d.width for d in self.dimensions])
        self._starts = np.cumsum([0, *(d.width for d in self.dimensions)])

    @property
    def width(self) -> int:
        """Columns of features, D."""
        return int(self._starts[-1])

    def digest(self) -> str:
        """Tells spaces apart whose features mean different things."""
        said = [
            (d.name, d.values, d.bounds, d.sampling, [sorted(map(sorted, c)) for _, c in rule])
            for d, rule in zip(self.dimensions, self._conditions, strict=True)
        ]
        return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:16]

    def active(self, codes: np.ndarray) -> np.ndarray:
        """bool [N, P]: what the conditions leave of each point."""
        found = np.ones(codes.shape, bool)
        for place, wanted in enumerate(self._conditions):
            for parents, allowed in wanted:
                met = np.zeros(len(codes), bool)
                for parent, values in zip(parents, allowed, strict=True):
                    fits = np.isclose(codes[:, parent, None], list(values)).any(axis=1)
                    met |= found[:, parent] & fits
                found[:, place] &= met
        return found

    def settled(self, codes: np.ndarray) -> np.ndarray:
        """The codes with 0 for all that is not active, so that equal points have equal codes."""
        return np.where(self.active(codes), codes, 0.0)

    def features(self, codes: np.ndarray) -> np.ndarray:
        """float64 [N, D] of codes [N, P]."""
        active = self.active(codes)
        found = np.zeros((len(codes), self.width))
        for dimension, start in zip(self.dimensions, self._starts[:-1], strict=True):
            on, code = active[:, dimension.place], codes[:, dimension.place]
            if dimension.width == 0:
                continue
            if dimension.ordered:
                found[:, start] = np.where(on, code, INACTIVE)
            else:
                rows = np.flatnonzero(on)
                found[rows, start + code[rows].astype(int)] = 1.0
        return found

    def codes(self, values: Mapping[str, Any]) -> np.ndarray | None:
        """float64 [P] of hyperparameters by name; None for a point that lies not in the space.

        What is left out has its default, and so has an active parameter that an earlier space
        lacked; a number beyond its range counts as the nearest in it.
        """
        found = np.zeros(len(self.dimensions))
        for dimension in self.dimensions:
            code = dimension.code(values.get(dimension.name, dimension.default))
            if code is None:
                # Another parameter of this name, under other conditions, may have this value.
                code = math.nan
            found[dimension.place] = code
        active = self.active(found[None])[0]
        if np.isnan(found[active]).any():
            return None
        return np.where(active, found, 0.0)

    def values(self, codes: np.ndarray) -> dict[str, Any]:
        """Hyperparameters by name of one point, those that are active."""
        active = self.active(codes[None])[0]
        return {d.name: d.value(float(codes[d.place])) for d in self.dimensions if active[d.place]}

    def default(self) -> np.ndarray:
        """The codes of the default values."""
        found = self.codes({})
        assert found is not None
        return found

    def sample(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """float64 [count, P], each parameter uniform along its own scale."""
        drawn = generator.random((count, len(self.dimensions)))
        for dimension in self.dimensions:
            drawn[:, dimension.place] = dimension.draw(drawn[:, dimension.place])
        return self.settled(drawn)

    def neighbours(
        self, codes: np.ndarray, generator: np.random.Generator, steps: int = 4
    ) -> np.ndarray:
        """float64 [M, P]: points that differ from those given in one parameter.

        Of a parameter with few values all others are taken; along a range and of long lists
        `steps`, near ones.
        """
        found = []
        for dimension in self.dimensions:
            count = dimension.count
            if count == 1:
                continue
            if count is not None and count <= 2 * steps:
                ends = np.arange(count) / (count - 1) if dimension.ordered else np.arange(count)
                others = np.repeat(ends[None], len(codes), axis=0)
            elif dimension.ordered:
                moved = codes[:, [dimension.place]] + generator.normal(
                    0.0, [0.02, 0.05, 0.1, 0.2][:steps], (len(codes), min(steps, 4))
                )
                others = np.clip(moved, 0.0, 1.0)
                if count is not None:
                    others = np.round(others * (count - 1)) / (count - 1)
            else:
                others = generator.integers(count or 1, size=(len(codes), steps)).astype(float)
            for column in others.T:
                changed = codes.copy()
                changed[:, dimension.place] = column
                found.append(changed)
        return self.settled(np.concatenate(found)) if found else codes[:0]

    def size(self, limit: int = 1_000_000) -> int | None:
        """How many different points there are; None for a continuum or more than `limit`."""
        if any(d.count is None for d in self.dimensions):
            return None
        count = 0
        for _ in self._points():
            count += 1
            if count > limit:
                return None
        return count

    def all(self) -> np.ndarray:
        """float64 [size, P]: every point of a finite space."""
        return np.array(list(self._points()))

    def _points(self) -> Iterator[list[float]]:
        def below(codes: list[float]) -> Iterator[list[float]]:
            place = len(codes)
            if place == len(self.dimensions):
                yield codes
                return
            dimension = self.dimensions[place]
            known = np.zeros((1, len(self.dimensions)))
            known[0, :place] = codes
            if not self.active(known)[0, place]:
                yield from below([*codes, 0.0])
                return
            for value in dimension.values or ():
                yield from below([*codes, dimension.code(value) or 0.0])

        yield from below([])


def unseen(codes: np.ndarray, tried: set[bytes]) -> np.ndarray:
    """The rows that are not among those tried, each once."""
    rounded = np.round(codes, 9) + 0.0  # -0.0 has other bytes
    _, first = np.unique(rounded, axis=0, return_index=True)
    keep = [i for i in np.sort(first) if rounded[i].tobytes() not in tried]
    return codes[keep]


def key(codes: np.ndarray) -> bytes:
    """The same for the same point; what `unseen` has in `tried`."""
    return (np.round(codes, 9) + 0.0).tobytes()


def _stepped(low: Any, high: Any, step: Any, sampling: str, whole: bool) -> list[Any]:
    found, value, count = [], low, 0
    while value <= high * (1 + 1e-9) if high > 0 else value <= high + 1e-9:
        found.append(int(value) if whole else float(value))
        count += 1
        value = low * step**count if sampling == "log" else low + count * step
    return found


def _integers(low: int, high: int, most: int = 64) -> list[int]:
    """Whole numbers evenly apart on the logarithmic scale."""
    if high - low < most:
        return list(range(low, high + 1))
    return sorted({round(v) for v in np.geomspace(low, high, most)})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(value: float) -> float:
    return math.log(value) if value > 0 else value


def weights_of(groups: Sequence[int]) -> np.ndarray:
    """float64 [D]: makes two different choices as far apart as the ends of a range."""
    groups = np.asarray(groups)
    counts = np.bincount(groups) if len(groups) else np.zeros(0, int)
    return np.where(counts[groups] > 1, math.sqrt(0.5), 1.0)
