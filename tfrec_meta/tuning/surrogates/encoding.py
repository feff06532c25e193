"""Encodes points of a search space as numbers, for surrogates and for sampling.

A point is a row of *codes*, one number per hyperparameter. The code of an ordered hyperparameter
is its position in [0, 1] along the range, on the scale that the space declares; the steps of a
range are evenly spaced. The code of an unordered choice is its index. *Features* are the input of
kernels and networks: one column per ordered hyperparameter, and one-hot columns per unordered
choice. Hyperparameters that are inactive under their conditions have neutral features.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Set
from typing import Any

import keras_tuner
import numpy as np

INACTIVE = 0.5  # the feature of an ordered hyperparameter that is inactive
_SAME = 1e-9  # codes with a smaller distance are equal
_MOST_VALUES = 1_000  # values of a range; longer ranges are thinned out
_MOVES = (0.02, 0.05, 0.1, 0.2)  # standard deviations of the moves to neighbours in a range


class Dimension:
    """One hyperparameter: its values, codes and features.

    Args:
        parameter: a KerasTuner hyperparameter.
        index: the column of its code.

    Attributes:
        values: all values, in the order of their codes; None for a continuous range.
        ordered: whether the codes lie in [0, 1] along a range.
    """

    def __init__(self, parameter: Any, index: int):
        self.name: str = parameter.name
        self.default = parameter.default
        self.index = index
        self.values: list[Any] | None = None
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
                self.values = _integers(low, high, self.sampling)
        count = len(self.values or ())
        if count == 1:
            self.ordered = True
        self._index_of = {value: index for index, value in enumerate(self.values or ())}
        # The codes of the values, and the cumulative probabilities of the values.
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
        """The number of values; None for a continuous range."""
        return None if self.values is None else len(self.values)

    @property
    def width(self) -> int:
        """The number of feature columns."""
        if self.count == 1:
            return 0
        return 1 if self.ordered else len(self.values or ())

    def code(self, value: Any) -> float | None:
        """Returns the code of a value, or of the nearest number; None if there is none."""
        exact = self.exact_code(value)
        if exact is not None or not self.ordered or not _is_number(value) or math.isnan(value):
            return exact
        if self.values is None:
            return float(self._along(min(max(value, self.bounds[0]), self.bounds[1])))
        if not all(map(_is_number, self.values)):
            return None
        value = min(max(value, min(self.values)), max(self.values))
        scale = math.log if min(self.values) > 0 else float
        return float(self.codes[np.argmin([abs(scale(v) - scale(value)) for v in self.values])])

    def exact_code(self, value: Any) -> float | None:
        """Returns the code of a value; None for a value that the hyperparameter cannot have."""
        if self.values is not None:
            index = self._index_of.get(value)
            return None if index is None else float(self.codes[index])
        if _is_number(value) and self.bounds[0] <= value <= self.bounds[1]:
            return float(self._along(value))
        return None

    def value(self, code: float) -> Any:
        """Returns the value of a code."""
        if self.values is None:
            return self._at(min(max(code, 0.0), 1.0))
        return self.values[int(np.abs(self.codes - code).argmin())]

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Maps numbers that are uniform in [0, 1) to codes."""
        if self.values is None:
            return uniform
        index = np.searchsorted(self._shares, uniform, side="right")
        return self.codes[np.minimum(index, len(self.codes) - 1)]

    def nearest_codes(self, codes: np.ndarray) -> np.ndarray:
        """Returns the nearest valid codes; for ordered hyperparameters only."""
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
    """Codes and features of a search space with conditions.

    Args:
        space: the search space; parents come before the hyperparameters that depend on them.

    Attributes:
        dimensions: one per hyperparameter, in the order of the space.
        groups: int [D], the dimension of each feature column.
    """

    def __init__(self, space: keras_tuner.HyperParameters):
        self.dimensions = [Dimension(p, index) for index, p in enumerate(space.space)]
        by_name: dict[str, list[Dimension]] = {}
        # For each dimension and each of its conditions: the indices of the parents of that name and
        # the codes that they must have. Rivals are earlier dimensions of the same name.
        self._conditions: dict[int, list[list[tuple[int, np.ndarray]]]] = {}
        self._rivals: dict[int, list[int]] = {}
        for dimension, parameter in zip(self.dimensions, space.space, strict=True):
            rule = []
            for condition in parameter.conditions:
                wanted = []
                for parent in by_name.get(condition.name, []):
                    codes = {c for c in map(parent.exact_code, condition.values) if c is not None}
                    wanted.append((parent.index, np.array(sorted(codes))))
                rule.append(wanted)
            if rule:
                self._conditions[dimension.index] = rule
            same_name = by_name.setdefault(dimension.name, [])
            if same_name:
                self._rivals[dimension.index] = [rival.index for rival in same_name]
            same_name.append(dimension)
        self.groups = np.repeat(np.arange(len(self.dimensions)), [d.width for d in self.dimensions])
        self._starts = np.cumsum([0, *(d.width for d in self.dimensions)])
        self._defaults = np.array([d.code(d.default) or 0.0 for d in self.dimensions])

    @property
    def width(self) -> int:
        """The number of feature columns, D."""
        return int(self._starts[-1])

    def digest(self) -> str:
        """Returns a digest that differs between spaces whose features mean different things."""
        rules = [
            [[(parent, codes.tolist()) for parent, codes in wanted] for wanted in rule]
            for rule in (self._conditions.get(d.index, []) for d in self.dimensions)
        ]
        description = [
            (d.name, d.values, d.ordered, d.bounds, d.sampling, rule)
            for d, rule in zip(self.dimensions, rules, strict=True)
        ]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()[:16]

    def active(self, codes: np.ndarray) -> np.ndarray:
        """Returns bool [N, P]: which hyperparameters of each point are active.

        Of several hyperparameters with the same name, the first whose conditions hold is active.
        """
        found = np.ones(codes.shape, bool)
        for index, rule in self._conditions.items():
            for wanted in rule:
                met = np.zeros(len(codes), bool)
                for parent, allowed in wanted:
                    near = np.abs(codes[:, parent, None] - allowed) < _SAME
                    met |= found[:, parent] & near.any(axis=1)
                found[:, index] &= met
            if index in self._rivals:
                found[:, index] &= ~found[:, self._rivals[index]].any(axis=1)
        return found

    def canonical(self, codes: np.ndarray) -> np.ndarray:
        """Sets the codes of inactive dimensions to 0, so that equal points have equal codes."""
        return np.where(self.active(codes), codes, 0.0)

    def features(self, codes: np.ndarray) -> np.ndarray:
        """Returns the features, float64 [N, D], of codes [N, P]."""
        active = self.active(codes)
        found = np.zeros((len(codes), self.width))
        for dimension, start in zip(self.dimensions, self._starts[:-1], strict=True):
            on, code = active[:, dimension.index], codes[:, dimension.index]
            if dimension.width == 0:
                continue
            if dimension.ordered:
                found[:, start] = np.where(on, code, INACTIVE)
            else:
                rows = np.flatnonzero(on)
                found[rows, start + code[rows].astype(int)] = 1.0
        return found

    def codes(self, values: Mapping[str, Any]) -> np.ndarray | None:
        """Encodes one point.

        Missing values have their defaults, including active hyperparameters that an earlier space
        lacked. Numbers outside a range are moved to its nearest end.

        Args:
            values: by hyperparameter name.

        Returns:
            float64 [P], or None for a point outside the space.
        """
        found = np.zeros(len(self.dimensions))
        for dimension in self.dimensions:
            code = dimension.code(values.get(dimension.name, dimension.default))
            # A hyperparameter of the same name under other conditions may have this value.
            found[dimension.index] = math.nan if code is None else code
        active = self.active(found[None])[0]
        if np.isnan(found[active]).any():
            return None
        return np.where(active, found, 0.0)

    def values(self, codes: np.ndarray) -> dict[str, Any]:
        """Returns the active values of one point, by name."""
        active = self.active(codes[None])[0]
        return {d.name: d.value(float(codes[d.index])) for d in self.dimensions if active[d.index]}

    def default(self) -> np.ndarray:
        """Returns the codes of the default values."""
        found = self.codes({})
        assert found is not None
        return found

    def sample(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Returns random points, float64 [count, P], uniform along the scale of each dimension."""
        drawn = generator.random((count, len(self.dimensions)))
        for dimension in self.dimensions:
            drawn[:, dimension.index] = dimension.draw(drawn[:, dimension.index])
        return self.canonical(drawn)

    def neighbours(self, codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Returns float64 [M, P]: points that differ from the given ones in one active dimension.

        A dimension with few values contributes all its other values. A range contributes a few
        values nearby, and a long list of choices a few random ones. Hyperparameters that become
        active by the change have their defaults.
        """
        active, found = self.active(codes), [codes[:0]]
        full = np.where(active, codes, self._defaults)
        for dimension in self.dimensions:
            count, index = dimension.count, dimension.index
            if count is not None and count <= 2 * len(_MOVES):
                others = np.repeat(dimension.codes[None], len(codes), axis=0)
            elif dimension.ordered:
                moves = generator.normal(0.0, _MOVES, (len(codes), len(_MOVES)))
                others = dimension.nearest_codes(codes[:, [index]] + moves)
            else:
                drawn = generator.integers(count or 1, size=(len(codes), len(_MOVES)))
                others = dimension.codes[drawn]
            new = active[:, [index]] & (np.abs(others - codes[:, [index]]) >= _SAME)
            rows, columns = np.nonzero(new)
            changed = full[rows]
            changed[:, index] = others[rows, columns]
            found.append(changed)
        return self.canonical(np.concatenate(found))

    def size(self, limit: int = 1_000_000) -> int | None:
        """Returns the number of points; None for continuous spaces or more than `limit`."""
        points = self.all(limit)
        return None if points is None else len(points)

    def all(self, limit: int = 1_000_000) -> np.ndarray | None:
        """Returns all points, float64 [size, P]; None as in `size`."""
        if any(d.count is None for d in self.dimensions):
            return None
        found = np.zeros((1, len(self.dimensions)))
        for dimension in self.dimensions:  # parents come first, so `active` is known
            active = self.active(found)[:, dimension.index]
            counts = np.where(active, len(dimension.codes), 1)
            if counts.sum() > limit:
                return None
            found = np.repeat(found, counts, axis=0)
            row = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
            found[:, dimension.index] = np.where(
                np.repeat(active, counts), dimension.codes[row], 0.0
            )
        return found


def point_keys(codes: np.ndarray) -> list[bytes]:
    """Returns a hashable key for each point [N, P]; equal points have equal keys."""
    return [row.tobytes() for row in np.round(codes, 9) + 0.0]  # -0.0 has other bytes


def point_key(codes: np.ndarray) -> bytes:
    """Returns the key of one point [P]."""
    return point_keys(codes[None])[0]


def untried(codes: np.ndarray, tried: Set[bytes]) -> np.ndarray:
    """Returns the distinct points [N, P] whose keys are not in `tried`."""
    first: dict[bytes, int] = {}
    for row, point in enumerate(point_keys(codes)):
        if point not in tried:
            first.setdefault(point, row)
    return codes[list(first.values())]


def _stepped(low: float, high: float, step: float, sampling: str) -> list[Any]:
    """Returns the values of a range with steps, as KerasTuner counts them; thinned if too many."""
    length = (high - low) / step if sampling == "linear" else math.log(high / low, step)
    count = math.floor(length + 1e-9) + 1
    steps = np.linspace(0, count - 1, min(count, _MOST_VALUES)).round().astype(int).tolist()
    if sampling == "linear":
        return [min(low + number * step, high) for number in steps]
    found = [min(low * step**number, high) for number in steps]
    return found if sampling == "log" else [low + high - value for value in found[::-1]]


def _integers(low: int, high: int, sampling: str) -> list[int]:
    """Returns all integers of a range; of very many, some, evenly spaced on a logarithmic scale."""
    if high - low < _MOST_VALUES:
        return list(range(low, high + 1))
    found = sorted({round(value) for value in np.geomspace(low, high, _MOST_VALUES).tolist()})
    return found if sampling == "log" else [low + high - value for value in found[::-1]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def feature_scales(groups: np.ndarray) -> np.ndarray:
    """Returns float64 [D]: scales by which two choices are as far apart as the ends of a range."""
    return np.where(np.bincount(groups)[groups] > 1, math.sqrt(0.5), 1.0)
