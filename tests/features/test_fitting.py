"""Counting in parts and fitting from it: the same as fitting at once."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec_meta.data import Interactions
from tfrec_meta.features import Category, FeatureSpec, Number, Text
from tfrec_meta.features.fitting import Moments, count, merge

numbers = st.lists(st.floats(width=32), max_size=40)


def test_moments_are_the_mean_and_the_deviation_of_the_finite_numbers():
    moments = Moments.of(np.array([2, 4, np.nan, 9, np.inf], np.float32))
    assert moments.count == 3
    assert moments.mean_and_deviation() == (5.0, pytest.approx(np.sqrt(26 / 3), rel=1e-15))


@pytest.mark.parametrize("values", [[], [np.nan], [-np.inf, np.inf]])
def test_moments_of_nothing_leave_numbers_as_they_are(values):
    assert Moments.of(np.array(values, np.float32)).mean_and_deviation() == (0.0, 1.0)


def test_equal_numbers_have_a_deviation_of_one():
    assert Moments.of(np.full(7, 0.1, np.float32)).mean_and_deviation()[1] == 1.0


def test_no_digit_of_a_huge_or_a_tiny_number_is_lost():
    values = np.array([3e38, 1.0, -3e38, 1e-45, -1.0], np.float32)
    assert Moments.of(values).mean_and_deviation()[0] == float(values[3]) / 5


@given(one=numbers, other=numbers)
def test_moments_of_parts_are_those_of_the_whole_in_any_order(one, other):
    whole = Moments.of(np.array([*other, *one], np.float32))
    assert Moments.of(np.array(one, np.float32)) + Moments.of(np.array(other, np.float32)) == whole


def test_moments_agree_with_numpy():
    values = np.random.default_rng(0).normal(1e4, 3, 50_000).astype(np.float32)
    expected = values.astype(np.float64)
    mean, deviation = Moments.of(values).mean_and_deviation()
    assert mean == pytest.approx(expected.mean(), rel=1e-14)
    assert deviation == pytest.approx(expected.std(), rel=1e-12)


def test_counts_of_batches_fit_as_the_whole_does():
    spec = FeatureSpec(
        user=(Number("age"), Category("city", min_count=2)), item=(Text("title", 3, 2),)
    )
    events = {"user_id": ["b", "a", "b", "c"], "item_id": ["x", "y", "y", "y"]}
    users = pa.table({"user_id": ["d", "a"], "age": [1.0, 4.0], "city": ["Bonn", "Bonn"]})
    items = pa.table({"item_id": ["z", "y", "x"], "title": ["one two", "two three", "three two"]})
    data = Interactions.from_arrays(**events, users=users, items=items)

    def batches(feature, values):
        return merge([count(feature, values[:1]), count(feature, values[1:])])

    age, city = spec.user
    counts = {
        "events.user_id": batches(None, pa.array(events["user_id"])),
        "events.item_id": batches(None, pa.array(events["item_id"])),
        "users.user_id": batches(None, users["user_id"]),
        "items.item_id": batches(None, items["item_id"]),
        "user.age": batches(age, np.array([1, 4], np.float32)),
        "user.city": batches(city, users["city"]),
        "item.title": batches(
            spec.item[0], pa.array(["one", "two", "two", "three", "three", "two"])
        ),
    }
    fitted = spec.grow(counts)
    assert fitted == spec.fit(data)
    assert fitted.users.tokens.to_pylist() == ["b", "a", "c", "d"]
    assert fitted.vocabularies["item.title"].tokens.to_pylist() == ["two", "three"]
