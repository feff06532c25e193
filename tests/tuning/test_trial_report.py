"""The reports of one trial: its learning curve, its time limit, and early stops."""

import time

import pytest

from tfrec_meta.tuning.trial_report import OutOfTime, TrialReport, TrialStopped


def test_reported_values_become_the_curve():
    report = TrialReport()
    report(1, 0.5)
    report(2, 0.25)
    assert report.curve == [0.5, 0.25]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_values_that_are_not_finite_are_left_out_and_stop_nothing(value):
    report = TrialReport(should_stop=lambda curve: True)
    report(1, value)
    assert report.curve == []


def test_a_restarted_training_replaces_its_reports():
    report = TrialReport()
    for epoch, value in ((1, 0.1), (2, 0.2), (3, 0.3), (1, 0.5), (2, 0.6)):
        report(epoch, value)
    assert report.curve == [0.5, 0.6]


def test_a_trial_stops_by_its_curve_so_far():
    report = TrialReport(should_stop=lambda curve: curve[-1] < curve[0])
    report(1, 0.5)
    report(2, 0.6)
    with pytest.raises(TrialStopped, match="after epoch 3"):
        report(3, 0.4)
    assert report.curve == [0.5, 0.6, 0.4]


@pytest.mark.parametrize("value", [0.5, None])
def test_a_late_report_ends_the_trial_before_should_stop_is_called(value):
    report = TrialReport(0.01, should_stop=lambda curve: pytest.fail("called"))
    time.sleep(0.02)
    with pytest.raises(OutOfTime, match=r"`trial_seconds`=0\.01"):
        report(1, value)


def test_within_the_limit_the_check_passes():
    report = TrialReport(60)
    report.check_time()
    assert 0 <= report.seconds < 60
