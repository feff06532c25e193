"""The reports of one trial: its curve, its clock, and what ends it."""

import time

import pytest

from tfrec_meta.tuning.display.trial_report import OutOfTime, TrialReport, TrialStopped


def test_the_curve_is_what_was_reported():
    report = TrialReport()
    report(1, 0.5)
    report(2, 0.25)
    assert report.curve == [0.5, 0.25]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_no_number_is_left_out_and_nobody_is_asked(value):
    report = TrialReport(should_stop=lambda curve: True)
    report(1, value)
    assert report.curve == []


def test_a_training_that_begins_anew_replaces_what_it_told():
    report = TrialReport()
    for epoch, value in ((1, 0.1), (2, 0.2), (3, 0.3), (1, 0.5), (2, 0.6)):
        report(epoch, value)
    assert report.curve == [0.5, 0.6]


def test_it_stops_by_the_curve_so_far():
    report = TrialReport(should_stop=lambda curve: curve[-1] < curve[0])
    report(1, 0.5)
    report(2, 0.6)
    with pytest.raises(TrialStopped, match="after epoch 3"):
        report(3, 0.4)
    assert report.curve == [0.5, 0.6, 0.4]


@pytest.mark.parametrize("value", [0.5, None])
def test_a_late_report_ends_the_trial_before_anybody_is_asked(value):
    report = TrialReport(0.01, should_stop=lambda curve: pytest.fail("asked"))
    time.sleep(0.02)
    with pytest.raises(OutOfTime, match=r"`trial_seconds`=0\.01"):
        report(1, value)


def test_in_time_the_clock_says_nothing():
    report = TrialReport(60)
    report.check_clock()
    assert 0 <= report.seconds < 60
