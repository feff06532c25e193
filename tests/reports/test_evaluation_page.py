import html.parser
import os
import re

import numpy as np
import pytest
import scipy.sparse as sp

from tests.pipeline import browser
from tfrec_meta.evaluation import (
    BaselineSettings,
    ChosenOn,
    Estimate,
    Evaluations,
    compare,
    full_catalogue,
)
from tfrec_meta.evaluation.judged import EventSummary, SplitSummary
from tfrec_meta.evaluation.predictions import PredictionEvaluations
from tfrec_meta.reports import evaluation_page as report

pytest.importorskip("jinja2")

SCORES = np.array([[3, 2, 1], [1, 2, 3]], np.float32)
RELEVANT = sp.csr_array(np.array([[1, 0, 0], [0, 1, 0]]))


@pytest.fixture
def evaluations():
    return {
        "two_tower": full_catalogue(lambda rows: SCORES[rows], RELEVANT, k=2),
        "popularity": full_catalogue(lambda rows: SCORES[rows][:, ::-1], RELEVANT, k=2),
    }


@pytest.fixture
def page(evaluations):
    return report.render(
        "A run",
        profile={"events": 100000, "density": 0.0630467, "first_time": None, "genres": ["a", "b"]},
        history=[
            {"epoch": 1, "loss": 9.5, "ndcg@10": None},
            {"epoch": 2, "loss": 7.25, "ndcg@10": 0.25},
        ],
        evaluations=evaluations,
        examples=[
            {"user": "7", "history": ["Alien", "Brazil"], "recommendations": [("Heat", 1.25)]},
            {"user": "", "recommendations": ["Fargo"]},
        ],
        config={"family": "two_tower", "training": {"epochs": 20}},
        notes="Only a test.",
    )


class Strict(html.parser.HTMLParser):
    """Fails on tags that are not closed in order."""

    VOID = {"meta", "br", "link", "img"}
    EMPTY_IN_SVG = {"line", "polyline", "circle"}

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.EMPTY_IN_SVG
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_loads_nothing_from_the_network(page):
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    tags = {tag for tag, _ in parser.seen}
    assert not tags & {"script", "link", "img", "iframe"}
    assert not [a for _, attrs in parser.seen for a in attrs if a in ("src", "href")]
    assert not re.search(r"https?://|url\(|@import", page)


def test_page_shows_metrics_with_intervals_and_highlights_the_first_model(page, evaluations):
    ours = evaluations["two_tower"]["ndcg@2"]
    assert '<th scope="col" class="ours">two_tower</th><th scope="col">popularity</th>' in page
    interval = f"<small>{ours.low:.4f} to {ours.high:.4f}</small>"
    assert f'<td class="ours">{ours.value:.4f}{interval}</td><td>' in page
    assert "For each of 2 users, all 3 items of the catalogue are ranked" in page


def test_page_shows_curves_profile_examples_settings_and_notes(page):
    for text in (
        *("A run", "100,000", "0.06305", "a, b", "none"),
        *("epoch 2: 7.25", "epoch 2: 0.25"),
        *("User 7", "Alien", "Heat", "1.250", "Unknown user", "Fargo"),
        *("training.epochs", "Only a test."),
    ):
        assert text in page


@pytest.fixture
def compared():
    """A model and a baseline, with groups of users and items."""
    options = {"seen": sp.csr_array((2, 3)), "known": np.array([True, False]), "k": 2}
    ours = full_catalogue(lambda rows: SCORES[rows], RELEVANT, **options)
    ease = full_catalogue(lambda rows: SCORES[rows][:, ::-1], RELEVANT, **options)
    settings = BaselineSettings({"l2": 50.0}, ("l2",), 3, ChosenOn.VALIDATION)
    return Evaluations(
        {"two_tower": ours, "ease": ease},
        {"ease": settings},
        {"ease": compare(ours, ease, "ndcg@2")},
    )


def test_page_shows_groups_the_difference_to_the_best_baseline_and_its_settings(compared):
    text = " ".join(re.sub(r"<[^>]*>", " ", report.render("Run", evaluations=compared)).split())
    # Ranks of the relevant items: 1 and 2 for the model, 3 and 2 for EASE.
    assert "two_tower is not distinguishable from the best baseline, ease" in text
    assert "differs by +0.5000" in text
    assert "ndcg@2 users pairs two_tower ease known users 1 1 1.0000 0.0000" in text
    assert "repeat items 0 0 - -" in text
    assert "l2=50.0 (best of 3 settings on the validation part)" in text
    assert "repeat items count as misses" in text


def test_page_shows_the_difference_to_each_baseline_the_parts_and_the_cold_shares(compared):
    sizes = [EventSummary(10 * n, n, 4, "2026-01-01 00:00:00") for n in (5, 3, 0, 2)]
    compared.judged_on = SplitSummary("by time", *sizes, new_users=1, new_items=3)
    text = " ".join(re.sub(r"<[^>]*>", " ", report.render("Run", evaluations=compared)).split())
    one = compared.differences["ease"]
    interval = f"{one.low:+.4f} to {one.high:+.4f}"
    assert f"two_tower minus difference 95 % interval p ease +0.5000 {interval} {one.p:.3g}" in text
    assert "train 30 3 4 2026-01-01 00:00:00 -" in text
    assert "validation" not in text.partition("train 30")[2]  # it has no events
    assert "test 20 2 4 2026-01-01 00:00:00 -" in text
    assert "new users in the test 50.0% (1 of 2) new items in the test 75.0% (3 of 4)" in text


def test_curves_are_those_of_losses_and_metrics():
    line = {
        "epoch": 1,
        "loss": 2.0,
        "click_loss": 1.0,
        "val_auc": 0.5,
        "val_rmse": 1.5,
        "ndcg@5": 1,
    }
    page = report.render("Run", history=[line | {"seconds": 3.0, "learning_rate": 0.01, "step": 7}])
    drawn = re.findall(r"<figcaption>(.*?) <span", page)
    assert drawn == ["loss", "click loss", "val auc", "val rmse", "ndcg@5"]


@pytest.mark.parametrize(("dropped", "first"), [(1, True), (0, False)])
def test_many_dropped_rows_come_first(dropped, first):
    profile = {"events": 99, "dropped: missing item_id": dropped, "density": 0.5}
    page = report.render("Run", profile=profile, notes="A note.", config={"seed": 42})
    assert ("1.0% of the 100 rows were dropped." in page) is first
    assert ("missing item id" in page.partition("<h2>Data")[0]) is first
    few = report.render("Run", profile={"events": 9_999, "dropped: duplicate": 1})
    assert "were dropped" not in few
    assert "duplicate" in few.partition("<h2>Data")[2]


def test_page_shows_the_metrics_of_predictions_beside_a_constant_one(compared):
    rmse = Estimate(0.5, 0.25, 0.75)
    compared.predictions = PredictionEvaluations({"rating": {"rmse": rmse}}, {"rating": {}})
    page = report.render("Run", evaluations=compared)
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "rating mean rating rmse 0.5000 0.2500 to 0.7500 -" in text
    assert "Predictions" not in report.render("Run", evaluations=dict(compared))


def test_page_says_that_items_of_the_history_were_ranked():
    one = full_catalogue(
        lambda rows: SCORES[rows], RELEVANT, RELEVANT, k=2, recommend_history=True, resamples=0
    )
    page = report.render("Run", evaluations={"ours": one})
    assert "also those of the user&#39;s history" in page or "also those of the user's" in page


@pytest.mark.parametrize("width", [360, 1280])
def test_page_is_not_wider_than_the_window(compared, tmp_path, width):
    path = report.write_evaluation_page(
        tmp_path / "page.html",
        "Run",
        evaluations=Evaluations(
            {f"{name}_{n}": one for n in range(4) for name, one in compared.items()}
        ),
        config={"a_very_long_name_of_a_setting.with_parts": "x" * 30},
        profile={"events": 10, "dropped: a long reason why": 5},
        costs=[("to score all items for a user", "1.25 ms")],
    )
    seen = browser.look(path, width, tmp_path / "browser")
    assert seen.overflow <= 0
    assert not seen.console


def test_page_omits_sections_without_data():
    page = report.render("Bare")
    for heading in ("Quality", "Example", "Learning curves", "Data", "Settings"):
        assert heading not in page


def test_page_escapes_all_values():
    bad = "<script>alert(1)</script>"
    page = report.render(
        bad,
        profile={bad: bad},
        history=[{"epoch": 1, bad: 1.0}],
        examples=[{"user": bad, "history": [bad], "recommendations": [(bad, 1.0)]}],
        config={bad: bad},
        notes=[bad],
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_page_draws_a_single_epoch_a_constant_curve_and_a_single_model(evaluations):
    page = report.render(
        "One",
        history=[{"epoch": 1, "loss": 0.0}],
        evaluations={"only": full_catalogue(lambda rows: SCORES[rows], RELEVANT, k=2, resamples=0)},
    )
    assert "epoch 1: 0" in page
    assert "nan" not in page


def test_write_creates_the_folder_and_replaces_the_file_without_temporary_files(tmp_path):
    path = tmp_path / "new" / "report.html"
    assert report.write_evaluation_page(path, "First") == path
    report.write_evaluation_page(path, "Second")
    assert "Second" in path.read_text("utf-8")
    assert os.listdir(path.parent) == ["report.html"]
    assert path.stat().st_mode & 0o444 & ~os.umask(os.umask(0o22))


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = report.write_evaluation_page(tmp_path / "report.html", "Old")

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        report.write_evaluation_page(path, "New")
    assert "Old" in path.read_text("utf-8")
    assert os.listdir(tmp_path) == ["report.html"]
