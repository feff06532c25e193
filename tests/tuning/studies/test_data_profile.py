"""Profiles of small data sets, worked by hand."""

import math

import numpy as np
import pyarrow as pa
import pytest

from tfrec_meta.data import Interactions, synthetic
from tfrec_meta.tuning.studies.data_profile import (
    PROFILE_FIELDS,
    data_profile,
    jensen_shannon_distance,
)


def made(user_ids, item_ids, **further):
    return Interactions.from_arrays(list(user_ids), list(item_ids), **further)


def approx(value):
    return pytest.approx(value, abs=1e-12)


def test_every_field_matches_a_value_worked_by_hand():
    # a has 6 events and b 2; x has 5, y 3, and z none.
    found = data_profile(
        made(
            "aaaaaabb",
            "xxxyyxxy",
            time=[1, 2, 3, 4, 5, 6, 7, 8],
            value=[1, 1, 1, 1, 5, 5, 5, 5],
            items=pa.table({"item_id": ["x", "y", "z"], "title": ["Toy Story", "Story!", None]}),
        )
    )
    assert tuple(found) == PROFILE_FIELDS
    assert found["log_users"] == approx(math.log(3))
    assert found["log_items"] == approx(math.log(4))
    assert found["log_interactions"] == approx(math.log(9))
    assert found["log_density"] == approx(0.0)  # all 4 pairs of 2 users and 2 items occur
    assert found["repeated_share"] == 0.5  # 4 of the 8 events
    # Counts 0, 3, 5: 2 * (1*0 + 2*3 + 3*5) / (3 * 8) - 4/3.
    assert found["popularity_gini"] == approx(42 / 24 - 4 / 3)
    assert found["cold_item_share"] == approx(1 / 3)
    assert found["short_history_share"] == 0.5
    # Between 2 and 6 events: 2.4, 4, 5.6.
    assert found["log_history_p10"] == approx(math.log(3.4))
    assert found["log_history_p50"] == approx(math.log(5))
    assert found["log_history_p90"] == approx(math.log(6.6))
    assert (found["has_values"], found["value_mean"], found["value_spread"]) == (1.0, 0.5, 0.5)
    assert found["title_share"] == approx(2 / 3)
    assert found["log_title_words"] == approx(math.log(2.5))  # 2 words and 1
    assert found["distinct_words_per_item"] == 1.0  # toy, story
    # The thirds end at 3.33 and 5.67: events 1 to 3 (x) and 6 to 8 (x, x, y).
    assert found["drift"] == approx(jensen_shannon_distance(np.r_[1, 0], np.r_[2, 1] / 3))


@pytest.mark.parametrize(
    "one, other, bits",
    [
        ([1, 0], [1, 0], 0.0),
        ([1, 0], [0, 1], 1.0),
        # Entropy of (3/4, 1/4) minus half of the entropy of (1/2, 1/2), which is 1 bit.
        ([1, 0], [0.5, 0.5], 2 - 0.75 * math.log2(3) - 0.5),
    ],
)
def test_distances_match_values_worked_by_hand(one, other, bits):
    found = jensen_shannon_distance(np.array(one, float), np.array(other, float))
    assert found == approx(math.sqrt(bits))


def test_drift_is_1_if_all_items_change():
    times = [9, 1, 8, 2, 7, 3]
    assert data_profile(made("abcabc", "yxyxyx", time=times))["drift"] == 1.0


def test_drift_is_0_without_distinct_times():
    assert data_profile(made("abc", "xyz"))["drift"] == 0.0
    assert data_profile(made("abc", "xyz", time=[5, 5, 5]))["drift"] == 0.0
    assert data_profile(made("a", "x", time=[5]))["drift"] == 0.0


def test_drift_ignores_events_without_a_time():
    data = made("abcd", "xzxx", time=[1, None, 2, 3])
    assert data_profile(data)["drift"] == 0.0


def test_equal_values_count_as_no_values():
    found = data_profile(made("abc", "xyz", value=[4, 4, 4]))
    assert (found["has_values"], found["value_mean"], found["value_spread"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "items",
    [
        None,
        pa.table({"item_id": ["x"]}),
        pa.table({"item_id": ["x"], "title": pa.array([None], pa.string())}),
        pa.table({"item_id": ["x"], "title": [" ?! "]}),
    ],
)
def test_items_without_titles_have_no_words(items):
    found = data_profile(made("ab", "xx", items=items))
    words = ("title_share", "log_title_words", "distinct_words_per_item")
    assert [found[name] for name in words] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("items", [None, pa.table({"item_id": ["x"], "title": ["One Two"]})])
def test_data_without_events_has_finite_numbers(items):
    found = data_profile(made("", "", items=items))
    assert tuple(found) == PROFILE_FIELDS
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert found["log_interactions"] == 0.0
    assert found["log_density"] == approx(math.log(1e-9))
    assert found["title_share"] == (0.0 if items is None else 1.0)


def test_the_order_of_rows_does_not_matter():
    data = synthetic(users=40, items=30, interactions=500, seed=3)
    mixed = data.take(np.random.default_rng(0).permutation(len(data)))
    assert data_profile(mixed) == pytest.approx(data_profile(data))
    assert 0 < data_profile(data)["drift"] < 1
