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
from collections.abc import Mapping, Set
from typing import Any

import keras_tuner
import numpy as np

INACTIVE = 0.5  # the feature of an ordered hyperparameter that its conditions leave out
_SAME = 1e-9  # codes that are nearer are those of one value
_MOST_VALUES = 1_000  # of a range; of one with more some are left out
_MOVES = (0.02, 0.05, 0.1, 0.2)  # along a range, to its neighbours; standard deviations


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
            self.values, self.ordered = list(dict.fromkeys(parameter.values)), parameter.ordered
            if self.ordered:
                self.values.sort()
        else:
            low, high = parameter.min_value, parameter.max_value
            self.bounds, self.sampling = (float(low), float(high)), parameter.sampling
            if low == high:
                self.values = [low]
            elif parameter.step is not None:
                self.values = _stepped(low, high, parameter.step, self.sampling)
            elif kind == "Int":
                self.values = _whole(low, high, self.sampling)
        count = len(self.values or ())
        if count == 1:
            self.ordered = True
        self._place_of = {value: place for place, value in enumerate(self.values or ())}
        # Of the values, and how much of the draws fall to each or those before it.
        self.codes = np.arange(count) / (max(count - 1, 1) if self.ordered else 1)
        self._shares = np.arange(1, count + 1) / max(count, 1)
        if self.sampling != "linear" and count > 1 and parameter.step is None:
            whole = np.array(self.values, float)
            self.codes = self._along(whole)
            halves = [whole[0] - 0.5, *(whole[1:] + whole[:-1]) / 2, whole[-1] + 0.5]
            edges = self._scale(np.array(halves))
            self._shares = (edges[1:] - edges[0]) / (edges[-1] - edges[0])

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
        """The code of a value, or of the nearest number; None where there is none."""
        exact = self.exact(value)
        if exact is not None or not self.ordered or not _is_number(value) or math.isnan(value):
            return exact
        if self.values is None:
            return float(self._along(min(max(value, self.bounds[0]), self.bounds[1])))
        if not all(map(_is_number, self.values)):
            return None
        value = min(max(value, min(self.values)), max(self.values))
        scale = math.log if min(self.values) > 0 else float
        return float(self.codes[np.argmin([abs(scale(v) - scale(value)) for v in self.values])])

    def exact(self, value: Any) -> float | None:
        """The code of a value; None for one that the hyperparameter can't have."""
        if self.values is not None:
            place = self._place_of.get(value)
            return None if place is None else float(self.codes[place])
        if _is_number(value) and self.bounds[0] <= value <= self.bounds[1]:
            return float(self._along(value))
        return None

    def value(self, code: float) -> Any:
        """The value of a code."""
        if self.values is None:
            return self._at(min(max(code, 0.0), 1.0))
        return self.values[int(np.abs(self.codes - code).argmin())]

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Codes of numbers that are uniform in [0, 1)."""
        if self.values is None:
            return uniform
        place = np.searchsorted(self._shares, uniform, side="right")
        return self.codes[np.minimum(place, len(self.codes) - 1)]

    def snapped(self, codes: np.ndarray) -> np.ndarray:
        """The nearest codes that it has; of what has an order."""
        if self.values is None:
            return np.clip(codes, 0.0, 1.0)
        return self.codes[np.abs(codes[..., None] - self.codes).argmin(axis=-1)]

    def _scale(self, value: Any) -> Any:
        if self.sampling == "log":
            return np.log(value)
        if self.sampling == "reverse_log":
            return -np.log(sum(self.bounds) - value)
        return value

    def _along(self, value: Any) -> Any:
        low, high = map(self._scale, self.bounds)
        return (self._scale(value) - low) / (high - low)

    def _at(self, code: float) -> float:
        low, high = self.bounds
        if self.sampling == "log":
            found = low * (high / low) ** code
        elif self.sampling == "reverse_log":
            found = low + high - low * (high / low) ** (1.0 - code)
        else:
            found = low + code * (high - low)
        return min(max(found, low), high)


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
        # By the place of a dimension, for each of its conditions: the places of the parents of that
        # name, and the codes that they must have. And others of its own name, which go before it.
        self._conditions: dict[int, list[list[tuple[int, np.ndarray]]]] = {}
        self._rivals: dict[int, list[int]] = {}
        for dimension, parameter in zip(self.dimensions, space.space, strict=True):
            rule = []
            for condition in parameter.conditions:
                wanted = []
                for parent in by_name.get(condition.name, []):
                    codes = {c for c in map(parent.exact, condition.values) if c is not None}
                    wanted.append((parent.place, np.array(sorted(codes))))
                rule.append(wanted)
            if rule:
                self._conditions[dimension.place] = rule
            same_name = by_name.setdefault(dimension.name, [])
            if same_name:
                self._rivals[dimension.place] = [rival.place for rival in same_name]
            same_name.append(dimension)
        self.groups = np.repeat(np.arange(len(self.dimensions)), [d.width for d in self.dimensions])
        self._starts = np.cumsum([0, *(d.width for d in self.dimensions)])
        self._defaults = np.array([d.code(d.default) or 0.0 for d in self.dimensions])

    @property
    def width(self) -> int:
        """Columns of features, D."""
        return int(self._starts[-1])

    def digest(self) -> str:
        """Tells spaces apart whose features mean different things."""
        rules = [
            [[(parent, codes.tolist()) for parent, codes in wanted] for wanted in rule]
            for rule in (self._conditions.get(d.place, []) for d in self.dimensions)
        ]
        said = [
            (d.name, d.values, d.ordered, d.bounds, d.sampling, rule)
            for d, rule in zip(self.dimensions, rules, strict=True)
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def active(self, codes: np.ndarray) -> np.ndarray:
        """bool [N, P]: what the conditions leave of each point.

        Of hyperparameters of one name the first that has its conditions met is the active one.
        """
        found = np.ones(codes.shape, bool)
        for place, rule in self._conditions.items():
            for wanted in rule:
                met = np.zeros(len(codes), bool)
                for parent, allowed in wanted:
                    near = np.abs(codes[:, parent, None] - allowed) < _SAME
                    met |= found[:, parent] & near.any(axis=1)
                found[:, place] &= met
            if place in self._rivals:
                found[:, place] &= ~found[:, self._rivals[place]].any(axis=1)
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
            # Another parameter of this name, under other conditions, may have this value.
            found[dimension.place] = math.nan if code is None else code
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

    def neighbours(self, codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """float64 [M, P]: points that differ from those given in one parameter that is active.

        Of a parameter with few values all others are taken; along a range and of long lists a few,
        near ones. What becomes active by the change has its default.
        """
        active, found = self.active(codes), [codes[:0]]
        full = np.where(active, codes, self._defaults)
        for dimension in self.dimensions:
            count, place = dimension.count, dimension.place
            if count is not None and count <= 2 * len(_MOVES):
                others = np.repeat(dimension.codes[None], len(codes), axis=0)
            elif dimension.ordered:
                moves = generator.normal(0.0, _MOVES, (len(codes), len(_MOVES)))
                others = dimension.snapped(codes[:, [place]] + moves)
            else:
                drawn = generator.integers(count or 1, size=(len(codes), len(_MOVES)))
                others = dimension.codes[drawn]
            new = active[:, [place]] & (np.abs(others - codes[:, [place]]) >= _SAME)
            rows, columns = np.nonzero(new)
            changed = full[rows]
            changed[:, place] = others[rows, columns]
            found.append(changed)
        return self.settled(np.concatenate(found))

    def size(self, limit: int = 1_000_000) -> int | None:
        """How many different points there are; None for a continuum or more than `limit`."""
        points = self.all(limit)
        return None if points is None else len(points)

    def all(self, limit: int = 1_000_000) -> np.ndarray | None:
        """float64 [size, P]: every point; None for a continuum or more than `limit`."""
        if any(d.count is None for d in self.dimensions):
            return None
        found = np.zeros((1, len(self.dimensions)))
        for dimension in self.dimensions:  # parents first, so what is active is known by then
            active = self.active(found)[:, dimension.place]
            counts = np.where(active, len(dimension.codes), 1)
            if counts.sum() > limit:
                return None
            found = np.repeat(found, counts, axis=0)
            place = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
            found[:, dimension.place] = np.where(
                np.repeat(active, counts), dimension.codes[place], 0.0
            )
        return found


def keys(codes: np.ndarray) -> list[bytes]:
    """Of points [N, P], the same for the same point."""
    return [row.tobytes() for row in np.round(codes, 9) + 0.0]  # -0.0 has other bytes


def key(codes: np.ndarray) -> bytes:
    """Of one point [P]; what `unseen` has in `tried`."""
    return keys(codes[None])[0]


def unseen(codes: np.ndarray, tried: Set[bytes]) -> np.ndarray:
    """The rows that are not among those tried, each once."""
    first: dict[bytes, int] = {}
    for row, point in enumerate(keys(codes)):
        if point not in tried:
            first.setdefault(point, row)
    return codes[list(first.values())]


def _stepped(low: float, high: float, step: float, sampling: str) -> list[Any]:
    """The values of a range with steps, as KerasTuner counts them; of very many some."""
    length = (high - low) / step if sampling == "linear" else math.log(high / low, step)
    count = math.floor(length + 1e-9) + 1
    places = np.linspace(0, count - 1, min(count, _MOST_VALUES)).round().astype(int).tolist()
    if sampling == "linear":
        return [min(low + place * step, high) for place in places]
    found = [min(low * step**place, high) for place in places]
    return found if sampling == "log" else [low + high - value for value in found[::-1]]


def _whole(low: int, high: int, sampling: str) -> list[int]:
    """All whole numbers of a range; of very many some, evenly apart on its logarithmic scale."""
    if high - low < _MOST_VALUES:
        return list(range(low, high + 1))
    found = sorted({round(value) for value in np.geomspace(low, high, _MOST_VALUES).tolist()})
    return found if sampling == "log" else [low + high - value for value in found[::-1]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def weights_of(groups: np.ndarray) -> np.ndarray:
    """float64 [D]: makes two different choices as far apart as the ends of a range."""
    return np.where(np.bincount(groups)[groups] > 1, math.sqrt(0.5), 1.0)
