import math

import pytest

from tfrec_meta.evaluation import Estimate
from tfrec_meta.reports import formats


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, "none"),
        (True, "yes"),
        (100000, "100,000"),
        (2.0, "2"),
        (0.0630467, "0.06305"),
        (12345.678, "12,345.7"),
        (math.nan, "nan"),
        (["a", 2000], "a, 2,000"),
        ((), "none"),
        ("<b>", "<b>"),
    ],
)
def test_values_are_formatted_for_readers(value, expected):
    assert formats.value(value) == expected


def test_nested_settings_are_flattened_to_paths():
    assert formats.flatten({"a": {"b": {"c": 1}, "d": []}, "e": None}) == [
        ("a.b.c", 1),
        ("a.d", []),
        ("e", None),
    ]


def test_estimates_have_an_interval_where_there_is_one():
    assert formats.estimate(Estimate(0.25, 0.2, 0.3)) == {
        "value": "0.2500",
        "interval": "0.2000 to 0.3000",
    }
    assert formats.estimate(Estimate(0.25)) == {"value": "0.2500", "interval": ""}
    assert formats.estimate(None) == formats.estimate(Estimate(math.nan))
