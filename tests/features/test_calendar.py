"""Calendar features: months, days, weekdays and hours of times in UTC."""

import datetime

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings

from tfrec_meta.data import Interactions
from tfrec_meta.features import Calendar, FeatureSpec
from tfrec_meta.features.calendar import (
    FIRST_SECOND,
    LAST_SECOND,
    MISSING,
    SIZES,
    indicators,
    place,
    unix_seconds,
)
from tfrec_meta.features.example_columns import raw_values
from tfrec_meta.features.graph import GraphEncoder, raw_default, raw_dtype, raw_width
from tfrec_meta.features.spec import empty_feature

EPOCH = datetime.datetime(1970, 1, 1)
AHEAD = datetime.timezone(datetime.timedelta(hours=1))
ALL = ("month", "day", "weekday", "hour")
JOINED = Calendar("joined", ALL)
# Thursday, 29 February 2024, 23:59:59, and Wednesday, 31 December 1969, 23:00:00.
LEAP_DAY, BEFORE_1970 = 1_709_251_199, -3_600


def with_joined(column):
    users = pa.table({"user_id": [f"u{row}" for row in range(len(column))], "joined": column})
    return Interactions.from_arrays(users["user_id"], ["i"] * len(column), users=users)


@pytest.mark.parametrize(
    ("second", "month", "day", "weekday", "hour"),
    [
        (0, 0, 0, 3, 0),  # Thursday, 1 January 1970
        (LEAP_DAY, 1, 28, 3, 23),
        (LEAP_DAY + 1, 2, 0, 4, 0),  # Friday, 1 March 2024
        (BEFORE_1970, 11, 30, 2, 23),
        (-2_203_891_200, 2, 0, 3, 0),  # Thursday, 1 March 1900: no leap year
        (FIRST_SECOND, 0, 0, 0, 0),  # Monday, 1 January of the year 1
        (LAST_SECOND, 11, 30, 4, 23),  # Friday, 31 December 9999
    ],
)
def test_parts_of_a_time_match_values_worked_by_hand(second, month, day, weekday, hour):
    found = [int(place(np.array([second]), part)[0]) for part in ALL]
    assert found == [month, day, weekday, hour]


@settings(max_examples=200, deadline=None)
@given(st.integers(FIRST_SECOND, LAST_SECOND))
def test_parts_of_any_time_are_those_of_datetime(second):
    time = EPOCH + datetime.timedelta(seconds=second)
    found = [int(place(np.array([second]), part)[0]) for part in ALL]
    assert found == [time.month - 1, time.day - 1, time.weekday(), time.hour]


def test_the_encoding_has_one_indicator_per_part_in_the_declared_order():
    encoded = indicators([LEAP_DAY, None], ("weekday", "month"), "joined")
    assert encoded.dtype == np.float32
    assert encoded.shape == (2, 19)
    assert np.flatnonzero(encoded[0]).tolist() == [3, 7 + 1]
    assert not encoded[1].any()
    assert Calendar("joined", ("weekday", "month")).encoded_width == 19
    assert Calendar("joined").encoded_width == 12 + 7 + 24


@pytest.mark.parametrize(
    "column",
    [
        pa.array([LEAP_DAY, None], pa.int64()),
        pa.array([LEAP_DAY, None], pa.timestamp("s")),
        pa.array([LEAP_DAY * 10**9 + 5, None], pa.timestamp("ns")),
        pa.array([LEAP_DAY, None], pa.timestamp("s", "Asia/Tokyo")),  # the same moment
        pa.chunked_array([pa.array([LEAP_DAY, None], pa.timestamp("s")).dictionary_encode()]),
        np.array([LEAP_DAY, "NaT"], "datetime64[s]"),
        [datetime.datetime(2024, 2, 29, 23, 59, 59), None],
        [datetime.datetime(2024, 3, 1, 0, 59, 59, tzinfo=AHEAD), None],
    ],
)
def test_any_column_of_times_is_read_as_unix_seconds_in_utc(column):
    assert unix_seconds(column, "joined").tolist() == [LEAP_DAY, MISSING]


def test_dates_are_their_midnight():
    column = pa.array([datetime.date(2024, 3, 1), datetime.date(1969, 12, 31)])
    assert unix_seconds(column, "joined").tolist() == [LEAP_DAY + 1, -86_400]
    assert unix_seconds(pa.nulls(2), "joined").tolist() == [MISSING, MISSING]


@pytest.mark.parametrize("column", [["2024-02-29"], [1.7e9], [True], [[1]]])
def test_columns_that_are_no_times_ask_for_their_type(column):
    with pytest.raises(ValueError, match=r"`joined` is of type .*`types`=\{'joined': 'time'\}"):
        FeatureSpec(user=(JOINED,)).fit(with_joined(pa.array(column)))


def test_milliseconds_are_refused_when_the_spec_is_fitted():
    with pytest.raises(ValueError, match=r"`joined` has 1709251199000 in row 2.*milliseconds"):
        FeatureSpec(user=(JOINED,)).fit(with_joined(pa.array([0, LEAP_DAY * 1_000])))


@pytest.mark.parametrize("parts", [(), ("month", "month"), ("minute",), "month"])
def test_refuses_parts_that_there_are_not(parts):
    with pytest.raises((ValueError, TypeError), match="`parts`"):
        Calendar("joined", parts)


def test_nothing_is_fitted_and_the_spec_round_trips(tmp_path):
    spec = FeatureSpec(user=(JOINED,)).fit(with_joined(pa.array([0, None], pa.int64())))
    assert set(spec.vocabularies) == {"user_id", "item_id"}
    assert not spec.statistics
    spec.save(tmp_path / "spec")
    assert FeatureSpec.load(tmp_path / "spec") == spec
    assert FeatureSpec.load(tmp_path / "spec").user == (JOINED,)
    assert empty_feature(JOINED, 2).shape == (2, sum(SIZES.values()))


ODD = [0, LEAP_DAY, BEFORE_1970, FIRST_SECOND, LAST_SECOND, FIRST_SECOND - 1, LAST_SECOND + 1]


def test_the_graph_encodes_like_the_spec_in_memory(tmp_path):
    spec = FeatureSpec(user=(JOINED,)).fit(with_joined(pa.array([0], pa.int64())))
    seconds = [*ODD, MISSING, 2**63 - 1, *range(LEAP_DAY, LEAP_DAY + 400 * 86_400, 90_001)]
    users = [""] * len(seconds)
    expected = spec.encode_queries(users, None, {"joined": seconds})["joined"]
    raw = {"user_id": users, "history": [[""]] * len(users), "joined": seconds}
    given = {name: tf.constant(values) for name, values in raw.items() if name != "joined"}
    given["joined"] = tf.constant(seconds, tf.int64)
    encode = tf.function(GraphEncoder(spec, tmp_path).encode_query)
    found = encode(given)["joined"]
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found.numpy(), expected)
    assert expected.sum(axis=1).tolist() == [4] * 5 + [0] * 4 + [4] * (len(seconds) - 9)


def test_a_request_carries_a_time_as_whole_seconds():
    assert raw_dtype(JOINED) == tf.int64
    assert raw_width(JOINED) is None
    assert raw_default(JOINED).numpy().tolist() == [MISSING]


@pytest.mark.parametrize("dtype", [tf.int64, tf.float32])
def test_transform_reads_whole_seconds_and_leaves_out_missing_ones(dtype):
    # The pipeline writes columns of small whole numbers as floats.
    column = tf.SparseTensor([[0, 0], [2, 0]], tf.constant([90_000, -1], dtype), [3, 1])
    times = raw_values(JOINED, column)
    assert times.numpy().tolist() == [90_000, MISSING, -1]


@pytest.mark.parametrize("values", [["2024-02-29"], [0.5], [LEAP_DAY * 1_000]])
def test_transform_refuses_what_is_refused_in_memory(values):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"`joined` h.*type"):
        raw_values(JOINED, tf.sparse.from_dense([values]))
