"""The page of a study: its contents, and that no record breaks it."""

import ast
import html.parser
import json
import math
import re
import types

import pytest

import tfrec_meta as tm
from tests.pipeline import browser
from tests.tuning.study_samples import SPACE, header, hp, study, suggestions, surrogate, trial
from tfrec_meta.reports import study_page
from tfrec_meta.tuning import StrategySpace
from tfrec_meta.tuning.studies.trial_records import default_values
from tfrec_meta.tuning.surrogates.importance import random_points

DEFAULT = default_values(SPACE)


class Outline(html.parser.HTMLParser):
    """Fails on tags that are not closed in order; collects tags, ids and link targets."""

    VOID = {"meta"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.targets = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.targets += [found["href"]] if "href" in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def of_class(text, name):
    return [tag for tag, attrs in Outline(text).tags if name in attrs.get("class", "").split()]


# Contents.


def test_a_complete_study_shows_every_part(tmp_path):
    head, trials = study()
    path = tmp_path / "deep" / "study.html"
    assert study_page.write_study_report(path, head, trials, surrogate, suggestions(trials)) == path
    text = path.read_text("utf-8")
    outline = Outline(text)
    assert set(outline.targets) <= {f"#{name}" for name in outline.ids}
    assert "<title>Study of movielens-100k</title>" in text
    for word in ("meta_bayesian", "100,000 ratings", "leave-last-out", "movies-7f3a"):
        assert word in text
    assert "ResourceExhaustedError: OOM" in text
    assert text.count("tm.Strategy.from_dict(") == 1
    assert "stopped early" in text
    assert "timed out" in text
    for missing in ("Not estimated", "No trial recorded a curve", "no suggestions of prior"):
        assert missing not in text


def test_the_page_needs_no_scripts_and_no_external_resources():
    head, trials = study(5)
    text = study_page.render(head, trials)
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import|https?://", text)


def test_the_summary_compares_the_best_with_the_default():
    trials = [
        trial(0, DEFAULT, 0.2, suggested_by="default", budget=8, seconds=100.0),
        trial(1, {**DEFAULT, "two_tower/embedding_dim": 128}, 0.25, budget=8, seconds=30.0),
        trial(2, DEFAULT, None, budget=1, seconds=20.0),
    ]
    text = study_page.render(header(), trials)
    assert "The highest val_ndcg@10 is 0.2500, of trial 0001" in text
    assert "the default has 0.2000 (+25.0 %)." in text
    for value, name in (("0.2500", "best val_ndcg@10"), ("2", "completed"), ("1", "failed")):
        assert f"<b>{value}</b><span>{name}</span>" in text
    assert "<b>17</b><span>epochs</span>" in text
    assert "<b>2 min</b><span>in trials</span>" in text  # 150 s


def test_the_lowest_error_is_the_best():
    trials = [trial(0, DEFAULT, 1.0, suggested_by="default"), trial(1, DEFAULT, 0.9)]
    text = study_page.render(header(objective="val_rmse", direction="min"), trials)
    assert "The lowest val_rmse is 0.9000, of trial 0001; the default has 1.0000 (-10.0 %)" in text
    assert '<tr class="best"><th scope="row">0001</th><td>0.9000</td><td>1</td>' in text


def test_a_trial_shows_its_changes_and_all_values():
    values = {**DEFAULT, "two_tower/training/learning_rate": 0.02}
    text = study_page.render(header(), [trial(0, values, 0.3, seconds=3.25, budget=4)])
    row = text[text.index('id="trials"') : text.index('id="best"')]
    assert (
        '<span class="chip" title="two_tower/training/learning_rate">learning_rate <b>0.02</b>'
        in row
    )
    assert row.count('class="chip"') == 1
    assert row.count("<dt>") == len(values)
    assert "<td>4</td><td>3.2</td>" in row


def test_the_snippet_is_python_code_with_the_strategy():
    record = {"family": "ials", "model": {"embedding_dim": 64, "l2": 8.5}, "training": {}}
    text = study_page.render(header(), [trial(0, DEFAULT, 0.3, strategy=record)])
    snippet = html.unescape(re.search(r"(?s)<pre>(.*?)</pre>", text).group(1))
    call = next(
        node
        for node in ast.walk(ast.parse(snippet))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tm.Strategy.from_dict"
    )
    assert ast.literal_eval(call.args[0]) == record


def test_the_snippet_runs_with_records_of_a_strategy_space(monkeypatch):
    trained = []
    monkeypatch.setattr(tm, "train", lambda data, strategy: trained.append(strategy), raising=False)
    values = {"two_tower/embedding_dim": 128, "two_tower/training/learning_rate": 0.01}
    record = json.loads(json.dumps(StrategySpace().strategy_record(values)))
    text = study_page.render(header(), [trial(0, DEFAULT, 0.3, strategy=record)])
    snippet = html.unescape(re.search(r"(?s)<pre>(.*?)</pre>", text).group(1))
    exec(snippet, {"split": types.SimpleNamespace(train=None)})
    assert trained[0].model.embedding_dim == 128
    assert trained[0].training.learning_rate == 0.01


def test_a_record_without_a_strategy_has_no_snippet():
    text = study_page.render(header(source="keras_tuner"), [trial(0, DEFAULT, 0.3)])
    assert "<pre>" not in text
    assert "has no strategy of tfrec-meta" in text


def test_without_a_surrogate_the_page_explains_why_importance_is_missing():
    head, trials = study(4)
    assert "This search had none, or too few trials" in study_page.render(head, trials)


def test_a_constant_surrogate_has_no_important_hyperparameter():
    def constant(points):
        return [0.3] * len(points), [0.01] * len(points)

    assert "No hyperparameter stands out" in study_page.render(*study(4), constant)


def test_the_most_important_hyperparameter_comes_first():
    head, trials = study()
    text = study_page.render(head, trials, surrogate)
    part = text[text.index('id="importance"') : text.index('id="curves"')]
    first = re.search(r'<div class="bars">\s*<span title="([^"]*)">', part).group(1)
    assert first == "two_tower/training/learning_rate"
    assert part.count("<figcaption") >= 4


def test_prior_suggestions_are_shown_with_the_best_trial():
    head, trials = study()
    best = max(trials, key=lambda t: t["value"] or 0)
    assert best["trial_id"] == "0021"
    text = study_page.render(head, trials, prior=suggestions(trials))
    assert (
        "Prior studies suggested 4 points; 3 of them were tried. The best trial, 0021, is not among"
        in text
    )
    part = text[text.index('id="prior"') : text.index('id="trials"')]
    assert part.count('<th scope="row">') == 5  # four suggestions and the best trial
    assert '<th scope="row">1</th><td>0.3000</td><td>0001</td>' in part
    assert '<th scope="row">4</th><td>–</td><td>not tried</td><td></td>' in part


def test_a_prior_suggestion_may_be_the_best_trial():
    head, trials = study()
    best = max(trials, key=lambda t: t["value"] or 0)
    text = study_page.render(head, trials, prior=[{"values": best["values"], "expected": 0.31}])
    assert "is number 1 of them" in text
    assert text.count('<tr class="best">') == 2  # in both tables


# Unusual records.


def test_a_study_without_trials_has_a_page():
    text = study_page.render(header(), [])
    Outline(text)
    assert "No trial has ended." in text


def test_one_trial_is_enough():
    text = study_page.render(header(), [trial(0, DEFAULT, 0.3, curve=[0.3])], surrogate)
    Outline(text)
    assert "There is nothing to compare" in text


def test_a_study_whose_trials_all_failed_shows_the_errors():
    trials = [trial(n, DEFAULT, None, error=f"ValueError: cause {n}") for n in range(3)]
    text = study_page.render(header(), trials, None, [{"values": DEFAULT, "expected": 0.2}])
    Outline(text)
    assert "No trial has a value of val_ndcg@10." in text
    assert "ValueError: cause 2" in text
    assert "nan" not in text


@pytest.mark.parametrize("value", [0.0, 0.3, -5.0, 1e-30, 1e300])
def test_a_constant_objective_has_a_page(value):
    points = random_points(SPACE, 5)
    trials = [trial(n, p, value, curve=[value] * 3) for n, p in enumerate(points)]
    text = study_page.render(header(), trials)
    Outline(text)
    assert "nan" not in text


def test_values_that_are_not_finite_count_as_missing():
    trials = [trial(0, DEFAULT, 0.3), trial(1, DEFAULT, math.nan, curve=[math.inf])]
    text = study_page.render(header(), trials)
    Outline(text)
    assert "nan" not in text


def test_a_large_study_has_a_page():
    space = [
        hp(
            "Float",
            f"family/part/a_rather_long_name_{n}",
            min_value=1e-4,
            max_value=1.0,
            sampling="log",
        )
        if n % 2
        else hp("Choice", f"family/part/choice_{n}", values=["one", "two", "three"])
        for n in range(30)
    ]
    points = random_points(space, 200)
    trials = [trial(n, p, None if n % 40 == 3 else 0.1 + n / 1e3) for n, p in enumerate(points)]
    text = study_page.render(header(space), trials)
    Outline(text)
    assert len(of_class(text, "line")) == 200
    assert len(text) < 2e6


HOSTILE = "</td></svg><script>alert(1)</script>&\"'\x00\ud800\u202e{{ 7 * 7 }}"


def hostile_study():
    space = [
        hp("Choice", f"family/{HOSTILE}", values=[HOSTILE, "b"]),
        hp("Float", "rate", min_value=0.0, max_value=1.0),
    ]
    values = [
        {f"family/{HOSTILE}": HOSTILE, "rate": 0.5},
        {f"family/{HOSTILE}": "b", "rate": [1, {"a": HOSTILE}]},
        {f"family/{HOSTILE}": None, "rate": math.nan},
    ]
    trials = [
        trial(
            n, v, 0.1 * n, trial_id=HOSTILE, error=HOSTILE, suggested_by=HOSTILE, curve=[0.1, 0.2]
        )
        for n, v in enumerate(values)
    ]
    trials[-1]["strategy"] = {"family": HOSTILE}
    head = header(space, objective=HOSTILE, oracle=HOSTILE, budget_unit=HOSTILE)
    head["data"]["name"] = head["data"]["description"] = HOSTILE
    return head, trials


def test_hostile_text_stays_text(tmp_path):
    head, trials = hostile_study()
    prior = [{"values": trials[0]["values"], "expected": None}]
    path = study_page.write_study_report(tmp_path / "page.html", head, trials, None, prior)
    text = path.read_text("utf-8")
    Outline(text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_hostile_names_are_escaped_in_figures():
    head, trials = hostile_study()

    def by_rate(points):
        return [point["rate"] + (len(point) > 1) for point in points], [0.1] * len(points)

    text = study_page.render(head, trials[:1], by_rate)
    Outline(text)
    assert "<script" not in text


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_within_the_window(tmp_path, width):
    head, trials = study()
    page = study_page.write_study_report(
        tmp_path / "study.html", head, trials, surrogate, suggestions(trials)
    )
    (tmp_path / "browser").mkdir()
    seen = browser.look(page, width, tmp_path / "browser")
    assert seen.title == "Study of movielens-100k"
    assert seen.console == []
    assert seen.overflow == 0
    assert "best so far" in seen.text
