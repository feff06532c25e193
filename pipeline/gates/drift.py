"""The drift of features, and its limits: the same rules between spans and between splits."""

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
_PRESENT = "change of the share of rows with a value"


@dataclasses.dataclass(frozen=True)
class Drift:
    """The drift of a feature.

    Attributes:
        feature: such as "users.age".
        against: the reference, for messages.
        measure: "L-infinity of the shares", "Jensen-Shannon divergence", or "change of the share of
            rows with a value".
        value: the drift by this measure, 0 to 1.
        limit: the largest accepted drift.
    """

    feature: str
    against: str
    measure: str
    value: float
    limit: float

    @property
    def is_too_much(self) -> bool:
        """Whether the drift exceeds its limit."""
        return self.value > self.limit

    def __str__(self) -> str:
        return (
            f"{self.feature}: drift, {self.measure} against {self.against} is {self.value:.3f}, "
            f"above {self.limit:g}"
        )


@dataclasses.dataclass(frozen=True)
class Limits:
    """The largest accepted drift.

    Args:
        default: limit of every feature: for the Jensen-Shannon divergence of numbers, the largest
            change of a share (L-infinity) of categories, and for both the change of the share of
            rows with a value.
        single: limits of single features, such as {"users.age": 0.1}.
    """

    default: float
    single: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def of(self, feature: str) -> float:
        """Returns the limit of a feature."""
        return self.single.get(feature, self.default)


def between(
    now: Statistics,
    before: Statistics,
    against: str,
    features: Mapping[str, schema_pb2.Feature],
    limits: Limits,
) -> Iterator[Drift]:
    """Yields the drift of features from earlier statistics to new ones.

    Args:
        now: statistics of the new rows.
        before: statistics of the reference.
        against: name of the reference, for messages.
        features: features by their names in messages and in `limits`; others are ignored.
        limits: the largest accepted drift.
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
    # The measures above ignore missing values: a column that became empty would not have moved.
    present, was_present = _share_present(now), _share_present(before)
    for name, feature in features.items():
        if feature.name in present and feature.name in was_present:
            change = abs(present[feature.name] - was_present[feature.name])
            if change > 0:
                yield Drift(name, against, _PRESENT, change, limits.of(name))


def between_splits(
    splits: Mapping[str, Statistics],
    features: Mapping[str, schema_pb2.Feature],
    limits: Limits,
) -> Iterator[Drift]:
    """Yields the drift of features from the first split to each other one; see `between`."""
    first, *others = splits
    for split in others:
        against = f"the split {first}, split {split}"
        yield from between(splits[split], splits[first], against, features, limits)


def accepting(moved: Sequence[Drift], setting: str) -> str:
    """Returns the setting that accepts the drifts, such as `setting={"users.age": 0.42}`."""
    limits: dict[str, float] = {}
    for drift in moved:
        limits[drift.feature] = max(limits.get(drift.feature, 0.0), _above(drift.value))
    return f"{setting}={json.dumps(limits)}"


def _share_present(statistics: Statistics) -> dict[str, float]:
    """Returns the share of rows with a value, by column."""
    found = statistics.datasets[0]
    return {
        feature.path.step[0]: common_statistics(feature).num_non_missing
        / max(found.num_examples, 1)
        for feature in found.features
    }


def _above(value: float) -> float:
    """Returns a limit with two digits that accepts `value`."""
    return min(1.0, int(value * 100 + 1) / 100)
