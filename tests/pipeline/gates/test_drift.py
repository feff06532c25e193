"""The drift of features: measures worked by hand."""

import json

import pyarrow as pa
import pytest
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

from tfrec_meta.pipeline.gates.drift import Drift, Limits, accepting, between, between_splits

FEATURES = {
    "users.sex": schema_pb2.Feature(name="sex", type=schema_pb2.BYTES),
    "users.age": schema_pb2.Feature(name="age", type=schema_pb2.INT),
}


def statistics(sex=("m", "f"), age=(20, 40)):
    """Statistics of one value per row; None is a missing value."""
    columns = {
        "sex": pa.array([[s] if s else None for s in sex], pa.list_(pa.string())),
        "age": pa.array([[a] if a else None for a in age], pa.list_(pa.int64())),
    }
    return stats_impl.generate_statistics_in_memory(pa.RecordBatch.from_pydict(columns))


def moved(now, before, limits=Limits(0.3)):  # noqa: B008  (frozen)
    found = between(now, before, "before", FEATURES, limits)
    return {(drift.feature, drift.measure): drift.value for drift in found if drift.value}


def test_equal_statistics_have_no_drift():
    assert moved(statistics(), statistics()) == {}


def test_measures_shares_by_the_largest_change_and_numbers_by_the_divergence():
    # Two of four were "m" and now three are; no age is as before, the largest divergence.
    before = statistics(["m", "m", "f", "f"], [20, 20, 21, 21])
    now = statistics(["m", "m", "m", "f"], [60, 60, 61, 61])
    found = moved(now, before)
    assert found["users.sex", "L-infinity of the shares"] == pytest.approx(0.25)
    assert found["users.age", "Jensen-Shannon divergence"] == pytest.approx(1.0)


def test_measures_the_change_of_the_share_of_rows_with_a_value():
    before = statistics(["m", "f", "m", "f"], [20, 40, 20, 40])
    now = statistics(["m", "f", None, None], [None] * 4)
    measure = "change of the share of rows with a value"
    assert moved(now, before) == {("users.sex", measure): 0.5, ("users.age", measure): 1.0}


def test_a_feature_has_its_own_limit_or_the_default():
    before, now = statistics(["m", "f"]), statistics(["m", None])
    limits = Limits(0.3, {"users.sex": 0.5})
    found = [d for d in between(now, before, "before", FEATURES, limits) if d.value == 0.5]
    assert [(drift.limit, drift.is_too_much) for drift in found] == [(0.5, False)] * len(found)
    assert Limits(0.3, {"users.sex": 0.5}).of("users.age") == 0.3


def test_compares_other_splits_with_the_first():
    splits = {"train": statistics(), "validation": statistics(["m"] * 2), "test": statistics()}
    found = [drift for drift in between_splits(splits, FEATURES, Limits(0.3)) if drift.value]
    assert [str(drift) for drift in found] == [
        "users.sex: drift, L-infinity of the shares against the split train, split validation is "
        "0.500, above 0.3"
    ]


def test_the_accepting_setting_exceeds_the_largest_drift_of_a_feature():
    drifts = [Drift("users.age", "x", "y", value, 0.3) for value in (0.412, 0.351)]
    text = accepting([*drifts, Drift("users.sex", "x", "y", 1.0, 0.3)], "data.drift")
    assert text == 'data.drift={"users.age": 0.42, "users.sex": 1.0}'
    assert json.loads(text.partition("=")[2])["users.age"] > 0.412
