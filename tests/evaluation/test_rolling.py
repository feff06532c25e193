"""Cut-offs of a rolling evaluation, and results over several windows."""

import json
import math

import numpy as np
import pytest

from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import (
    Estimate,
    Evaluation,
    Evaluations,
    RollingEvaluation,
    Spread,
    Window,
)
from tfrec_meta.evaluation.rolling import cut_offs

TIMES = np.array([50, 10, 40, 30, 20, 60, 100, 90, 80, 70])
MAY, JUNE = 1_714_521_600, 1_717_200_000  # the first of May and of June 2024


def test_windows_have_equal_numbers_of_events():
    # 0.6 of ten events are 10 to 60; the others are two windows of two.
    assert cut_offs(TIMES, 2, 0.6) == [70, 90]
    assert cut_offs(TIMES, 4, 0.6) == [70, 80, 90, 100]
    assert cut_offs(TIMES, 1, 0.3) == [40]


def test_events_of_one_second_are_not_divided():
    # Position 2 of four lies within the events at 5, which are all in the window.
    assert cut_offs(np.array([1, 5, 5, 9]), 1, 0.5) == [5]


def test_cut_offs_can_be_given():
    assert cut_offs(TIMES, [15, 70], 0.6) == [15, 70]
    assert cut_offs(TIMES, np.array([15, 70]), 0.6) == [15, 70]


@pytest.mark.parametrize(
    ("cuts", "words"),
    [
        (0, r"`cuts`=0; use a whole number, 1 or more"),
        (2.5, r"`cuts`=2.5; use a whole number"),
        ("4", r"`cuts`='4'; use a whole number"),
        ([], r"`cuts`=\[\]; use one or more ascending"),
        ([70, 40], r"`cuts`=\[70, 40\]; use one or more ascending"),
        ([40, 40], r"`cuts`=\[40, 40\]; use one or more ascending"),
        ([10], r"`cuts`=\[10\]: before the first cut-off there is no event, of 10 in all"),
        ([95, 105], r"window that begins at 1970-01-01 00:01:45 there is no event"),
        ([71, 75, 95], r"window that begins at 1970-01-01 00:01:11 there is no event"),
        (20, r"`cuts`=20: in the window that begins at .*Use fewer or other cut-offs"),
    ],
)
def test_impossible_cut_offs_are_refused(cuts, words):
    with pytest.raises(ParameterError, match=words):
        cut_offs(TIMES, cuts, 0.6)


@pytest.mark.parametrize("first", [0, 1, -0.1, math.nan])
def test_the_share_before_the_first_cut_off_leaves_events_on_both_sides(first):
    with pytest.raises(ParameterError, match=r"`first`=.*a share between 0 and 1"):
        cut_offs(TIMES, 2, first)


def test_no_events_are_refused():
    with pytest.raises(ValueError, match="There are no events to predict"):
        cut_offs(TIMES[:0], 2, 0.6)


def test_a_spread_has_the_sample_deviation_of_known_values():
    spread = Spread.of([0.1, math.nan, 0.4, 0.1])
    # Mean 0.2; squared distances 0.01, 0.04 and 0.01, divided by 3 - 1: the root of 0.03.
    assert spread.mean == pytest.approx(0.2)
    assert spread.deviation == pytest.approx(0.03**0.5)
    assert (spread.low, spread.high) == (0.1, 0.4)
    assert str(spread) == "0.2000 (sd 0.1732)"


def test_a_spread_of_one_value_or_none_has_no_deviation():
    assert str(Spread.of([0.25])) == "0.2500"
    assert math.isnan(Spread.of([0.25]).deviation)
    assert str(Spread.of([math.nan])) == "-"


def evaluations(ours, popularity, coverage=math.nan):
    return Evaluations(
        {
            name: Evaluation(
                {"ndcg@5": Estimate(value), "coverage@5": Estimate(coverage)},
                {},
                np.arange(3),
                {"queries": 3, "candidates": 9, "relevant": 4, "outside": 0, "seen": 0},
            )
            for name, value in (("ours", ours), ("popularity", popularity))
        }
    )


@pytest.fixture
def found():
    return RollingEvaluation(
        (
            Window(MAY, JUNE, 1200, 40, evaluations(0.3, 0.1)),
            Window(JUNE, None, 1240, 50, evaluations(0.5, 0.1)),
        )
    )


def test_the_summary_is_over_windows(found):
    assert found.metric == "ndcg@5"
    ours = found.summary["ours"]["ndcg@5"]
    assert (ours.mean, ours.low, ours.high) == (pytest.approx(0.4), 0.3, 0.5)
    assert ours.deviation == pytest.approx(0.02**0.5)  # 0.01 + 0.01, divided by 2 - 1
    assert found.summary["popularity"]["ndcg@5"].deviation == pytest.approx(0)


def test_results_print_as_tables_by_cut_off_and_in_summary(found):
    assert str(found).splitlines() == [
        "ndcg@5 by cut-off",
        "cut-off (UTC)        train  test  users  ours    popularity",
        "2024-05-01 00:00:00  1,200  40    3      0.3000  0.1000",
        "2024-06-01 00:00:00  1,240  50    3      0.5000  0.1000",
        "",
        "mean and standard deviation of 2 cut-offs",
        "model       ndcg@5              coverage@5",
        "ours        0.4000 (sd 0.1414)  -",
        "popularity  0.1000 (sd 0.0000)  -",
    ]


def test_results_are_json(found):
    record = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert [window["start"] for window in record["windows"]] == [MAY, JUNE]
    assert [window["stop"] for window in record["windows"]] == [JUNE, None]
    assert (
        record["windows"][1]["evaluations"]["evaluations"]["ours"]["metrics"]["ndcg@5"]["value"]
        == 0.5
    )
    assert record["summary"]["ours"]["ndcg@5"]["low"] == 0.3
    assert record["summary"]["ours"]["coverage@5"]["mean"] is None
