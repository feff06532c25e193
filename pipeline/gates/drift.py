"""How far features moved, and how far they may: the same rules between spans and between splits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from tfrec_meta.pipeline.components.schemas import common_statistics

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "L-infinity of the shares",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon divergence",
}
_FILLED = "change of the share of rows with a value"


@dataclasses.dataclass(frozen=True)
class Drift:
    """How far a feature moved.

    Attributes:
        feature: as "users.age".
        against: what it is compared with, in words.
        measure: "L-infinity of the shares", "Jensen-Shannon divergence", or "change of the share of
            rows with a value".
        value: by it, 0 to 1.
        limit: above which it is too much.
    """

    feature: str
    against: str
    measure: str
    value: float
    limit: float

    @property
    def is_too_much(self) -> bool:
        return self.value > self.limit

    def __str__(self) -> str:
        return (
            f"{self.feature}: drift, {self.measure} against {self.against} is {self.value:.3f}, "
            f"above {self.limit:g}"
        )


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far features may move.

    Args:
        most: the Jensen-Shannon divergence of numbers, the largest change of a share (L-infinity)
            of categories, the change of the share of rows with a value of either.
        single: `most` of single features, as {"users.age": 0.1}.
    """

    most: float
    single: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def of(self, feature: str) -> float:
        return self.single.get(feature, self.most)


def between(
    now: Statistics,
    before: Statistics,
    against: str,
    features: Mapping[str, schema_pb2.Feature],
    limits: Limits,
) -> Iterator[Drift]:
    """How far features moved from statistics to others.

    Args:
        now: of the rows that are judged.
        before: of those that they are held to.
        against: what these are, in words.
        features: by the names that messages and `limits` have for them; no other is looked at.
        limits: how far they may move.
    """
    if not now.datasets[0].num_examples:
        return
    comparators = schema_pb2.Schema()
    named = {}
    for name, feature in features.items():
        named[feature.name] = name
        compared = comparators.feature.add(name=feature.name, type=feature.type)
        drift = compared.drift_comparator
        if feature.type == schema_pb2.BYTES:
            drift.infinity_norm.threshold = limits.of(name)
        else:
            drift.jensen_shannon_divergence.threshold = limits.of(name)
    found = tfdv.validate_statistics(now, comparators, previous_statistics=before)
    for info in found.drift_skew_info:
        for measured in info.drift_measurements:
            measure = _MEASURES.get(measured.type, "distance")
            name = named[".".join(info.path.step)]
            yield Drift(name, against, measure, measured.value, measured.threshold)
    # The measures above are of values alone: a column that nobody fills any more would be as ever.
    filled, was_filled = _filled(now), _filled(before)
    for name, feature in features.items():
        if feature.name in filled and feature.name in was_filled:
            change = abs(filled[feature.name] - was_filled[feature.name])
            if change > 0:
                yield Drift(name, against, _FILLED, change, limits.of(name))


def between_splits(
    splits: Mapping[str, Statistics],
    features: Mapping[str, schema_pb2.Feature],
    limits: Limits,
) -> Iterator[Drift]:
    """How far features moved from the first split to each other one; see `between`."""
    first, *others = splits
    for split in others:
        against = f"the split {first}, split {split}"
        yield from between(splits[split], splits[first], against, features, limits)


def accepting(moved: Sequence[Drift], setting: str) -> str:
    """The setting that lets through what moved too far, as `setting={"users.age": 0.42}`."""
    most: dict[str, float] = {}
    for drift in moved:
        most[drift.feature] = max(most.get(drift.feature, 0.0), _above(drift.value))
    return f"{setting}={json.dumps(most)}"


def _filled(statistics: Statistics) -> dict[str, float]:
    """Share of the rows that have a value, by column."""
    found = statistics.datasets[0]
    return {
        feature.path.step[0]: common_statistics(feature).num_non_missing
        / max(found.num_examples, 1)
        for feature in found.features
    }


def _above(value: float) -> float:
    """A limit with two digits that lets `value` through."""
    return min(1.0, int(value * 100 + 1) / 100)
