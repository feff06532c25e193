import pytest

import tfrec_meta as tm
from tests.workflows.small_split import SPLIT


def test_report_shows_the_named_users_and_refuses_unknown_ones(popularity, tmp_path):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=(), resamples=10)
    page = tm.report(tmp_path / "report.html", popularity, SPLIT, found, users=["v", "x"], k=2)
    text = page.read_text()
    assert "User v" in text
    assert "User x" in text
    with pytest.raises(ValueError, match="nobody"):
        tm.report(tmp_path / "other.html", popularity, SPLIT, found, users=["nobody"])


def test_report_shows_no_user_id_that_was_not_asked_for(popularity, tmp_path):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=(), resamples=10)
    page = tm.report(tmp_path / "report.html", popularity, SPLIT, found, k=2)
    assert "A test user" in page.read_text()
    assert "<h3>User " not in page.read_text()
