"""Predictions of single events."""

import json

import numpy as np
import pytest

from tfrec_meta.evaluation import metrics as m
from tfrec_meta.evaluation.predictions import (
    CLICK_METRICS,
    RATING_METRICS,
    PredictionEvaluations,
    constant_estimates,
    format_predictions,
    prediction_differences,
    prediction_estimates,
)

LABELS = np.array([1, 0, 1, 1])
CHANCES = np.array([0.9, 0.6, 0.2, 0.7])


def test_precision_and_recall_at_a_threshold():
    # Three are predicted positive, two of them are; three are positive, two of them found.
    assert m.binary_precision(LABELS, CHANCES) == pytest.approx(2 / 3)
    assert m.binary_recall(LABELS, CHANCES) == pytest.approx(2 / 3)
    assert m.binary_precision(LABELS, CHANCES, threshold=0.65) == 1.0
    assert np.isnan(m.binary_precision(LABELS, CHANCES, threshold=1.0))
    assert np.isnan(m.binary_recall([0, 0], [0.1, 0.9]))


def test_mean_absolute_error():
    assert m.mae([1.0, 5.0], [2.0, 2.0]) == 2.0


def test_calibration_is_what_is_predicted_over_what_was():
    assert m.calibration(LABELS, CHANCES) == pytest.approx(0.6 / 0.75)
    assert np.isnan(m.calibration([0, 0], [0.1, 0.2]))


def test_calibration_error_compares_rows_of_like_probability():
    # Below a half: one row of 0.2 that is positive, off by 0.8. Above: mean 0.7333, share 2/3.
    expected = (0.8 * 1 + (2.2 / 3 - 2 / 3) * 3) / 4
    assert m.expected_calibration_error(LABELS, CHANCES, bins=2) == pytest.approx(expected)
    assert m.expected_calibration_error([1, 0], [1.0, 0.0]) == 0.0


def test_every_figure_is_that_of_its_metric():
    found = prediction_estimates(CLICK_METRICS, LABELS, CHANCES, ["u", "u", "v", "w"], resamples=50)
    for name, metric in CLICK_METRICS.items():
        assert found[name].value == metric(LABELS, CHANCES)
        assert found[name].low <= found[name].value <= found[name].high


def test_users_are_drawn_with_all_of_their_events():
    # Two users whose errors are 1 and 3: means of a draw are 1, 3, or what both have together.
    found = prediction_estimates({"mae": m.mae}, [0, 0, 0, 0], [1, 1, 1, 3], ["u"] * 3 + ["v"], 200)
    assert (found["mae"].value, found["mae"].low, found["mae"].high) == (1.5, 1.0, 3.0)


def test_a_single_user_has_no_interval():
    found = prediction_estimates(RATING_METRICS, [1.0, 2.0], [1.0, 4.0], ["u", "u"])
    assert found["rmse"].value == pytest.approx(2**0.5)
    assert found["rmse"].low is None


def test_metric_without_a_value_has_no_interval():
    found = prediction_estimates(CLICK_METRICS, [1, 1], [0.6, 0.7], ["u", "v"], resamples=10)
    assert np.isnan(found["auc"].value)
    assert found["auc"].low is None


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="`labels` has 2, `predictions` has 1, `users` has 2"):
        prediction_estimates(RATING_METRICS, [1.0, 2.0], [1.0], ["u", "v"])
    with pytest.raises(ValueError, match="at least 1"):
        prediction_estimates(RATING_METRICS, [], [], [])


def test_a_column_of_predictions_counts_as_a_flat_array():
    values, users = [1.0, 2.0, 4.0], ["u", "v", "w"]
    flat = prediction_estimates(RATING_METRICS, values, values, users)
    column = np.array(values)[:, None]
    assert prediction_estimates(RATING_METRICS, column, column, users) == flat
    with pytest.raises(ValueError, match=r"`users` has shape \(3, 1\)"):
        prediction_estimates(RATING_METRICS, values, values, np.array(users)[:, None])


def test_table_has_one_row_per_metric_and_one_column_per_target():
    found = {
        "rating": prediction_estimates(RATING_METRICS, [1.0, 2.0], [1.0, 2.0], [0, 1], resamples=0),
        "click": prediction_estimates({"auc": m.binary_auc}, LABELS, CHANCES, [0] * 4),
    }
    lines = format_predictions(found).splitlines()
    assert lines[0].split() == ["rating", "click"]
    assert lines[1].split() == ["rmse", "0.0000", "-"]
    assert lines[-1].split() == ["auc", "-", "0.6667"]


def test_predictions_are_compared_on_the_same_draws_of_users():
    # Absolute errors 1 and 3 of user u, 2 of user v; the other prediction is worse by 1.
    labels, users = [0.0, 0.0, 0.0], ["u", "u", "v"]
    found = prediction_differences({"mae": m.mae}, labels, [1, 3, 2], [2, 4, 3], users, 50)["mae"]
    assert (found.difference, found.low, found.high) == (-1, -1, -1)
    assert found.p == pytest.approx(2 / 51)
    same = prediction_differences(RATING_METRICS, labels, [1, 3, 2], [1, 3, 2], users, 50)
    assert same["rmse"].p == 1
    assert "calibration" not in same  # the mean label is 0
    assert prediction_differences(RATING_METRICS, labels, labels, labels, ["u"] * 3, 50) == {}


def test_the_baseline_of_a_target_is_a_constant():
    ratings = constant_estimates("rating", 3.0, [1.0, 2.0, 5.0], ["u", "v", "w"], resamples=20)
    assert ratings["rmse"].value == pytest.approx((9 / 3) ** 0.5)  # errors 2, 1 and 2
    assert ratings["mae"].value == pytest.approx(5 / 3)
    assert ratings["mae"].low >= 1
    clicks = constant_estimates("click", 0.75, LABELS, [0, 1, 2, 3], resamples=0)
    assert clicks["auc"].value == 0.5  # all are level
    expected = -(3 * np.log(0.75) + np.log(0.25)) / 4
    assert clicks["log_loss"].value == pytest.approx(expected)


def test_baselines_are_printed_beside_their_target_and_read_as_they_were_written():
    clicks = prediction_estimates(CLICK_METRICS, [1, 1], [0.6, 0.7], ["u", "v"], resamples=0)
    found = PredictionEvaluations(
        {"click": clicks},
        {"click": constant_estimates("click", 0.5, [1, 1], ["u", "v"], resamples=0)},
    )
    lines = str(found).splitlines()
    assert lines[0].split() == ["click", "click", "rate"]
    assert lines[1].split() == ["auc", "-", "-"]  # one class only
    assert lines[2].split() == ["log_loss", "0.4338", "0.6931"]  # -(ln 0.6 + ln 0.7) / 2, ln 2
    again = PredictionEvaluations.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again.as_dict() == found.as_dict()
    assert str(again) == str(found)
