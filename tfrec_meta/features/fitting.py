"""Fits a FeatureSpec in three steps that Beam can run in parallel: count, merge, grow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from tfrec_meta.features.kinds import Category, Feature, Number, Text
from tfrec_meta.features.vocabulary import Vocabulary, counted, counted_together

# The id columns that are counted per table. Ids of the events come first in a vocabulary.
IDS = {"events": ("user_id", "item_id"), "users": ("user_id",), "items": ("item_id",)}

_MANTISSA = 24  # bits of a float32
# Each float32 is a multiple of 2**-172; the smallest one, 2**-149, has the frexp exponent -148.
_UNIT = 148 + _MANTISSA


@dataclasses.dataclass(frozen=True)
class Moments:
    """Exact sums of float32 numbers, which do not depend on order or batches.

    Attributes:
        count: number of summands.
        total: sum, in units of 2**-172.
        squares: sum of the squares, in units of 2**-344.
    """

    count: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Returns the sums of the finite values of float32 [n]."""
        values = values[np.isfinite(values)]
        fraction, exponent = np.frexp(values.astype(np.float64))
        whole = (fraction * 2.0**_MANTISSA).astype(np.int64)
        square = whole * whole
        shifts, group = np.unique(exponent, return_inverse=True)
        # Squares in two halves: sums of whole squares overflow 64 bits after 32,768 numbers.
        sums = np.zeros((3, len(shifts)), np.int64)
        for row, part in enumerate((whole, square >> _MANTISSA, square & (2**_MANTISSA - 1))):
            np.add.at(sums[row], group, part)
        total = squares = 0
        for shift, plain, high, low in zip((shifts + 148).tolist(), *sums.tolist(), strict=True):
            total += plain << shift
            squares += ((high << _MANTISSA) + low) << 2 * shift
        return cls(len(values), total, squares)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def mean_and_deviation(self) -> tuple[float, float]:
        """Returns mean and deviation: (0, 1) without numbers, and deviation 1 if all are equal."""
        if not self.count:
            return 0.0, 1.0
        mean = float(Fraction(self.total, self.count << _UNIT))
        spread = self.squares * self.count - self.total**2
        deviation = math.sqrt(float(Fraction(spread, self.count**2 << 2 * _UNIT)))
        # Smaller deviations are below the precision of standardised float32 numbers.
        smallest = max(abs(mean) * np.finfo(np.float32).eps, np.finfo(np.float32).tiny)
        return mean, deviation if deviation > smallest else 1.0


Counted: TypeAlias = "pa.Table | Moments"


def count(feature: Feature | None, values: Any) -> Counted:
    """Counts the values of a column or of a batch of it.

    Args:
        feature: a category, text or number; None for ids.
        values: float32 [n] for a number, else an Arrow string array of tokens [n].
    """
    return Moments.of(values) if isinstance(feature, Number) else counted(values)


def merge(parts: Sequence[Counted]) -> Counted:
    """Returns the result of `count` for all values together."""
    if isinstance(parts[0], Moments):
        return sum(parts, Moments())
    return counted_together(parts)


class Tally:
    """Counts several columns batch by batch; memory grows with the number of distinct values."""

    _BATCHES_PER_MERGE = 16

    def __init__(self) -> None:
        self._parts: dict[str, list[Counted]] = {}

    def add(self, key: str, feature: Feature | None, values: Any) -> None:
        """Counts a batch of the column `key`; the other arguments are those of `count`."""
        parts = self._parts.setdefault(key, [])
        parts.append(count(feature, values))
        if len(parts) == self._BATCHES_PER_MERGE:
            parts[:] = [merge(parts)]

    def counts(self) -> dict[str, Counted]:
        """Returns the counts by column, as `grow` takes them."""
        return {
            key: merge(parts) if len(parts) > 1 else parts[0] for key, parts in self._parts.items()
        }


def grow(
    features: Mapping[str, Sequence[Feature]],
    vocabularies: Mapping[str, Vocabulary],
    statistics: Mapping[str, tuple[float, float]],
    counts: Mapping[str, Counted],
) -> tuple[dict[str, Vocabulary], dict[str, tuple[float, float]]]:
    """Returns vocabularies with the new tokens appended, and statistics of new features.

    Args:
        features: by side: "user", "item", "context".
        vocabularies: the earlier ones.
        statistics: the earlier ones, which stay as they are.
        counts: counts by "<table>.<id>" as in `IDS`, and by "<side>.<feature>". Those of an absent
            table may be missing.
    """
    vocabularies, statistics = dict(vocabularies), dict(statistics)
    for table, keys in IDS.items():
        for key in keys:
            known = vocabularies.get(key, Vocabulary())
            if f"{table}.{key}" in counts:
                known = known.append(counts[f"{table}.{key}"])
            vocabularies[key] = known
    for side, declared in features.items():
        for feature in declared:
            key = f"{side}.{feature.name}"
            if isinstance(feature, Category | Text):
                known = vocabularies.get(key, Vocabulary())
                vocabularies[key] = _grown(known, feature, counts[key])
            elif isinstance(feature, Number) and key not in statistics:
                statistics[key] = counts[key].mean_and_deviation()
    return vocabularies, statistics


def _grown(known: Vocabulary, feature: Category | Text, counts: pa.Table) -> Vocabulary:
    if isinstance(feature, Category):
        return known.append(counts, feature.min_count)
    grown = known.append(counts)
    return Vocabulary(grown.tokens[: max(feature.vocabulary_size, len(known.tokens))])
