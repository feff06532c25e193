import math

import numpy as np
import pytest

from tfrec_meta.reports import page


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
def test_values_are_written_as_people_read_them(value, expected):
    assert page.plain(value) == expected


def test_nested_settings_have_their_paths():
    assert page.flat({"a": {"b": {"c": 1}, "d": []}, "e": None}) == [
        ("a.b.c", 1),
        ("a.d", []),
        ("e", None),
    ]


@pytest.mark.parametrize("low, high", [(0, 1), (0.2385, 0.5065), (-3, 7), (2, 2), (1e-6, 2e-6)])
def test_ticks_are_round_and_reach_both_ends(low, high):
    ticks = page.ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 7
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])
