import numpy as np
import pytest

from tfrec_meta.evaluation import Estimate
from tfrec_meta.reports import charts


@pytest.mark.parametrize("low, high", [(0, 1), (0.2385, 0.5065), (-3, 7), (2, 2), (1e-6, 2e-6)])
def test_ticks_are_round_and_reach_both_ends(low, high):
    ticks = charts.round_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 7
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_labels_are_moved_apart_and_keep_their_order():
    assert charts.spread_labels([10.0, 12.0, 50.0], 5.0, 100.0) == [10.0, 15.0, 50.0]
    assert charts.spread_labels([12.0, 10.0], 5.0, 100.0) == [15.0, 10.0]
    assert charts.spread_labels([99.0, 99.0], 5.0, 100.0) == [95.0, 100.0]


def test_shot_curves_have_a_square_root_axis():
    made = charts.shot_curves([0, 1, 4], {"ours": [0.1, 0.2, 0.3]}, [Estimate(0.2)] * 3)
    xs = np.array([tick["at"] for tick in made["x_ticks"]])
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    ys = [point["y"] for point in made["lines"][0]["points"]]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2])
    assert made["band"] == ""


def test_scales_draw_numbers_beyond_their_ends_at_the_ends():
    scale = charts.linear_scale([0.0, 10.0], 100.0, 0.0, most_ticks=5)
    assert [scale(value) for value in (-5.0, 0.0, 5.0, 10.0, 20.0)] == [
        100.0,
        100.0,
        50.0,
        0.0,
        0.0,
    ]
    assert charts.Scale(1.0, 100.0, 0.0, 100.0, log=True)(10.0) == 50.0


def test_forest_plots_keep_rows_in_order_and_show_the_reference():
    rows = [
        charts.ForestRow("a", 0.1, 0.0, 0.2, "first"),
        charts.ForestRow("longer", 0.3, None, None, "second"),
    ]
    drawn = charts.forest(rows, reference=-0.1)
    assert [row["name"] for row in drawn["rows"]] == ["a", "longer"]
    assert drawn["left"] <= drawn["reference"] < drawn["rows"][0]["low"] < drawn["rows"][0]["x"]
    assert drawn["rows"][1]["low"] is None
    assert charts.forest(rows)["reference"] is None
