"""The figures of a study's page, worked by hand."""

import pytest

from tests.tuning.study_samples import SPACE, study, trial
from tfrec_meta.reports import study_charts as charts
from tfrec_meta.tuning.studies.trial_records import default_values, parameters
from tfrec_meta.tuning.surrogates.importance import Dependence

DEFAULT = default_values(SPACE)


def test_history_accumulates_costs_and_keeps_the_best():
    trials = [
        trial(0, DEFAULT, 0.1, budget=2),
        trial(1, DEFAULT, None, budget=1),
        trial(2, DEFAULT, 0.3, budget=4),
        trial(3, DEFAULT, 0.2, budget=1, status="stopped"),
    ]
    plot = charts.history(trials, "max", 0.1, lambda t: t["budget"], "epochs")
    # 0 to 8 epochs from 56 to 428: 2, 3, 7 and 8 of 8.
    assert [p["x"] for p in plot["points"]] == [149.0, 195.5, 381.5, 428.0]
    assert [p["status"] for p in plot["points"]] == ["completed", "failed", "completed", "stopped"]
    # 0.1 to 0.3 from 232 up to 12; the line steps where the best value changes.
    assert plot["best"] == "149,232 381.5,232 381.5,12 428,12 428,12 428,12"
    assert plot["default"] == 232.0


def test_history_of_errors_goes_down():
    trials = [trial(n, DEFAULT, v, budget=1) for n, v in enumerate([1.0, 0.8, 0.9])]
    plot = charts.history(trials, "min", None, lambda t: t["budget"], "epochs")
    heights = [float(point.split(",")[1]) for point in plot["best"].split()]
    assert heights == sorted(heights)  # y grows downwards
    assert plot["default"] is None


def test_one_very_bad_trial_does_not_compress_the_scale():
    trials = [trial(n, DEFAULT, v) for n, v in enumerate([0.9, 0.95, 1.0, 0.92, 800.0])]
    plot = charts.history(trials, "min", None, lambda t: 1.0, "epochs")
    assert plot["beyond"] == 1
    assert float(plot["y_ticks"][-1]["label"]) < 1.5


def test_colours_go_by_rank_and_equal_values_share_one():
    trials = [trial(n, DEFAULT, v) for n, v in enumerate([0.1, None, 0.3, 0.2, 0.3])]
    # Three distinct values over levels 0 to 7: 0, 3.5 (rounded to 4) and 7.
    assert charts.ranks(trials, "max") == {0: 0, 2: 7, 3: 4, 4: 7}
    assert charts.ranks(trials, "min") == {0: 7, 2: 0, 3: 4, 4: 0}
    assert charts.ranks(trials[:1], "max") == {0: 7}


def test_a_logarithmic_range_has_a_logarithmic_axis():
    known = parameters(SPACE)
    rate = known["two_tower/training/learning_rate"]
    values = [{"two_tower/training/learning_rate": v} for v in (5e-4, 5e-3, 5e-2)]
    trials = [trial(n, v, 0.1 * n) for n, v in enumerate(values)]
    plot = charts.parallel_coordinates(trials, values, [rate], "val_ndcg@10", "max")
    # Each line has two points: the objective, and below it the rate.
    ends = sorted(float(line["points"].split()[1].split(",")[0]) for line in plot["lines"])
    assert ends[1] - ends[0] == pytest.approx(ends[2] - ends[1], abs=0.11)
    assert ends[0] == pytest.approx(plot["left"], abs=0.06)
    assert plot["lines"][-1]["best"]  # drawn above the others


def test_lines_of_inactive_hyperparameters_pass_at_the_side():
    _, trials = study()
    values = [t["values"] for t in trials]
    shown = [parameters(SPACE)["ials/iterations"]]
    plot = charts.parallel_coordinates(trials, values, shown, "val_ndcg@10", "max")
    away = sum(line["points"].endswith(f"{plot['away']:g},62") for line in plot["lines"])
    assert away == sum("ials/iterations" not in value for value in values)
    assert plot["has_gaps"]


def test_values_outside_the_space_extend_the_axis():
    iterations = parameters(SPACE)["ials/iterations"]  # 5 to 30
    values = [{"ials/iterations": v} for v in (5, 55)]
    trials = [trial(n, v, 0.1 * n) for n, v in enumerate(values)]
    plot = charts.parallel_coordinates(trials, values, [iterations], "val_ndcg@10", "max")
    ends = sorted(float(line["points"].split()[1].split(",")[0]) for line in plot["lines"])
    assert ends == [plot["left"], plot["right"]]


def test_dependences_share_a_scale_and_mark_the_best():
    found = {
        "two_tower/loss": [Dependence("softmax", 0.2, 0.1), Dependence("bpr", 0.1, 0.1)],
        "ials/iterations": [Dependence(5, 0.2, 0.0), Dependence(30, 0.4, 0.0)],
    }
    one, other = charts.dependences(found, parameters(SPACE), {"two_tower/loss": "bpr"})
    assert one["choices"]
    assert not other["choices"]
    assert one["y_ticks"] == other["y_ticks"]
    assert one["best"] == one["points"][1]["x"]
    assert other["best"] is None


def test_predictions_are_compared_with_observed_values():
    expected = [{"mean": 0.2, "std": 0.02}, {"mean": 0.3, "std": 0.01}, None]
    trials = [
        trial(n, DEFAULT, value, expected=e)
        for n, (value, e) in enumerate(zip([0.21, 0.35, 0.4], expected, strict=True))
    ]
    plot = charts.predicted_and_observed(trials, "max")
    assert (plot["count"], plot["inside"]) == (2, 1)
    assert plot["error"] == "0.0300"  # the mean of 0.01 and 0.05
    assert charts.predicted_and_observed(trials[2:], "max") is None
