"""The page of a run, and the list of runs."""

import html.parser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline import browser
from tests.pipeline.run_page_samples import GRAPH, VERDICT, make_run
from tfrec_meta.pipeline.pages import (
    artifact_files,
    page_text,
    run_data,
    run_page,
    run_records,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "films" / "runs"


def written(folder):
    return run_page.write_run_page(folder).read_text("utf-8")


class Outline(html.parser.HTMLParser):
    """Collects ids, links and tags; fails on tags that do not close in order."""

    VOID = {"meta", "br", "link", "img"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.targets = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.targets.append(found["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# --- The page ----------------------------------------------------------------------------------


def test_shows_every_part_of_a_finished_run(runs):
    text = written(make_run(runs, cached=("UsersGen",)))
    assert "<title>Run 2026-11-22-101500 of films</title>" in text
    assert "Finished. Pushed as version 3." in text
    for node in GRAPH:
        assert f'id="node-{node}"' in text
    assert "Tuner: ran, 61.2 s" in text  # in the graph
    assert "UsersGen: cached, 0.5 s" in text
    assert "LastBlessed: skipped, 0.5 s" in text
    assert "began</dt><dd>22 November 2026, 10:15:00 UTC" in text
    assert "ended</dt><dd>22 November 2026, 10:26:01 UTC" in text
    assert VERDICT.replace("'", "&#39;") in text
    assert "the last blessed model" in text
    assert "+0.0121 to +0.0502" in text
    assert "0.7512" in text  # AUC
    assert "/srv/films/3" in text
    assert "It loads, and answered." in text
    assert "ratings-{SPAN}.csv" in text
    assert "<dt>seed</dt><dd>42</dd>" in text
    assert "<dt>tfrec-meta</dt>" in text


def test_shows_statistics_from_the_artifacts(runs):
    text = written(make_run(runs))
    assert "1,000 rows" in text
    assert "mean 3.53, from 1 to 5, median 4" in text
    assert text.count("from 20 September 1997, 03:05 UTC to 22 April 1998, 23:10 UTC") == 1
    assert ">25.0 %</td>" in text  # 250 of 1,000 ratings are missing
    assert ">100 %</td>" in text
    assert "405 (25.0 %)" in text
    assert ">943</td>" in text
    assert "Histogram of rating from 0 to 5" in text
    # Counts 50, 100, 200, 300, 100 in a box 26 high: the highest fills it, the first a sixth.
    assert 'height="26.0"' in text
    assert 'height="4.33"' in text
    assert "No anomalies: the data matches its schema." in text


def test_shows_the_dropped_rows_of_each_table_by_reason(runs):
    dropped = {
        "InteractionsGen": {"unreadable time": 1200},
        "Histories": {"interactions: duplicate": 34, "users: repeated user_id": 2},
    }
    run = run_records.read_run(make_run(runs, dropped=dropped))
    found = {table["name"]: table["dropped"] for table in run_data.tables(run)}
    assert found["Interactions"] == {
        "words": "1,234 rows were dropped.",
        "reasons": [
            {"reason": "unreadable time", "rows": "1,200", "step": "reading"},
            {"reason": "duplicate", "rows": "34", "step": "cleaning"},
        ],
    }
    assert found["Users"]["words"] == "2 rows were dropped."
    assert found["Items"] == {"words": "No row was dropped.", "reasons": []}
    text = written(run.folder)
    assert "<caption>Dropped rows of Interactions</caption>" in text
    assert "<caption>Dropped rows of Items</caption>" not in text


@pytest.mark.parametrize("damaged", [None, 3, "{", "[1]"])
def test_shows_no_dropped_rows_if_their_number_is_unknown(runs, damaged):
    folder = make_run(runs)
    records = [json.loads(line) for line in (folder / "nodes.jsonl").read_text().splitlines()]
    for record in records:
        for artifact in record["outputs"].get("examples", ()):
            artifact["properties"]["dropped"] = damaged
    (folder / "nodes.jsonl").write_text("\n".join(map(json.dumps, records)))
    text = written(folder)
    assert "rows were dropped" not in text
    assert "No row was dropped" not in text


def test_lists_the_columns_that_look_personal(runs):
    mail = ["users", "users.mail (e-mail addresses, by its values)"]
    text = written(make_run(runs, personal=[mail]))
    assert "Columns that look personal: users.mail (e-mail addresses, by its values). Those" in text
    assert text.count("look personal") == 1
    assert "look personal" not in written(make_run(runs, "again", personal=3))


def test_shows_drift_and_shares_of_new_ids(runs):
    text = written(make_run(runs))
    assert "12.5 % of the events have new users." in text
    assert "50.0 % of the events have new items." in text
    # What has used up most of its limit comes first: 0.25 of 0.3 is 83.3 %.
    assert text.index("items.genres</th>") < text.index("users.age</th>")
    assert '<td>0.250</td><td>0.3</td><td class="bar"><i style="width:83.3%">' in text


def test_shows_the_drift_between_splits_if_they_are_compared(runs):
    folder = make_run(runs)
    text = written(folder)
    assert "SplitGate accepted the splits." in text
    row = text[text.index("Drift of each feature of the splits") :]
    assert 'users.gender</th><td class="text">the split train, split test</td>' in row
    assert '<td>0.150</td><td>0.3</td><td class="bar"><i style="width:50.0%">' in row
    (folder / "pipeline.json").unlink()  # of a pipeline without SplitGate
    records = (folder / "nodes.jsonl").read_text().splitlines()
    left = [record for record in records if '"SplitGate"' not in record]
    (folder / "nodes.jsonl").write_text("\n".join(left))
    assert "the splits" not in written(folder)


def test_shows_refused_splits_at_the_top_and_in_the_section_of_data(runs):
    text = written(make_run(runs, fails_at="SplitGate"))
    assert "Failed at SplitGate; 9 nodes were not reached and nothing was pushed." in text
    assert "DataGate accepted the data." in text
    assert "SplitGate refused the splits, or failed; see the error above." in text


def test_marks_an_inferred_schema(runs):
    text = written(make_run(runs))
    remark = "Its schema was inferred from these rows"
    assert text.count(remark) == 1
    assert text.index('id="table-Users"') < text.index(remark) < text.index('id="table-Items"')


def test_lists_trials_in_order_and_marks_the_best(runs):
    run = run_records.read_run(make_run(runs))
    found = artifact_files.read_search(run.node("Tuner"))
    assert [trial.id for trial in found.trials] == ["0", "1", "2", "3", "4", "5"]
    assert found.best_trial == "1"
    text = run_page.render(run)
    assert '<th scope="row">1 (best)</th><td>0.3100</td><td>64</td>' in text
    assert "learning_rate</dt><dd>0.01</dd>" in text
    # Hyperparameters that all trials share have no column.
    assert '<th scope="col">dim</th></tr>' in text


def test_shows_failed_trials_from_the_records_of_trials(runs):
    folder = make_run(runs)
    run = run_records.read_run(folder)
    records = next(run.node("Tuner").of_type("HyperParameters")).folder / "trials.json"
    failed = {"trial_id": "0", "val_ndcg@10": 0.0, "error": "OverflowError: too much"}
    trials = [
        failed | {"values": {"dim": 8}, "seconds": 2.0},
        {"trial_id": "1", "val_ndcg@10": 0.3, "error": None, "values": {"dim": 64}},
    ]
    records.write_text(json.dumps(trials))
    assert "The page of the study" not in written(folder)
    (records.parent / "report.html").write_text("<html>")
    text = written(folder)
    assert 'report.html">The page of the study</a>' in text
    assert '<th scope="col">val_ndcg@10</th><th scope="col">time</th>' in text
    assert "0</th><td>failed<small>OverflowError: too much</small></td><td>2.0 s</td>" in text
    assert "1 (best)</th><td>0.3000</td>" in text


def test_shows_why_a_run_failed_at_the_top(runs):
    text = written(make_run(runs, fails_at="DataGate", anomalous=True))
    assert "Failed at DataGate; 11 nodes were not reached and nothing was pushed." in text
    why = "interactions.rating: unexpectedly high value: 7.5</p>"
    assert text.index(why) < text.index("The graph")
    assert "users.age: drift, Jensen-Shannon divergence against" in text
    assert "DataGate: failed, 0.5 s" in text
    assert "Trainer: not reached" in text
    assert "1 anomaly." in text
    assert "Unexpectedly high value: 7.5" in text
    assert "DataGate refused the data, or failed; see the error above." in text
    assert "Nothing was pushed: the Pusher was not reached." in text
    assert "The ranking gate was not reached, so no model was evaluated." in text
    assert "The Tuner was not reached." in text


def test_shows_that_a_model_was_not_blessed(runs):
    text = written(make_run(runs, blessed=False))
    assert "Finished. The model was not blessed, so it was not pushed." in text
    assert "Not blessed: recall@10 on new users is 0.0500 below" in text
    assert "version 2 stays served" in text


def test_shows_the_progress_of_an_unfinished_run(runs):
    text = written(make_run(runs, reached=9))
    assert "Not finished: 9 of 23 nodes done." in text
    assert "last record" in text


def test_counts_attempts_from_the_first_start(runs):
    folder = make_run(runs, fails_at="Schemas")
    retry = {"node": "Schemas", "state": "ran", "began": "2026-11-22T11:00:00+00:00", "seconds": 2}
    with open(folder / "nodes.jsonl", "a") as records:
        records.write(
            json.dumps(retry) + "\n" + '{"node": "UsersVal'
        )  # and an incomplete line after a kill
    run = run_records.read_run(folder)
    assert run.node("Schemas").state == "ran"
    assert run.node("Schemas").attempts == 2
    assert (run.ended - run.began).total_seconds() == 45 * 60 + 2 - 0.5
    assert "(attempt 2)" in run_page.render(run)
    assert not run.failed


def test_a_cached_push_is_not_a_new_version(runs):
    text = written(make_run(runs, cached=("Pusher",)))
    assert "Version 3 was pushed by an earlier run; no new version is pushed." in text
    assert "version 3, as before" in (runs / "index.html").read_text("utf-8")


def test_escapes_html_in_values(runs):
    folder = make_run(runs)
    (folder / "config.json").write_text(json.dumps({"name": "<script>alert(2)</script>"}))
    text = written(folder)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 3


def test_shows_no_value_of_user_id(runs):
    text = written(make_run(runs))
    # Three tables have the values 405, … in their statistics: `inte_id`, `user_id` and `item_id`.
    assert text.count("405 (25") == 2


def test_the_page_is_self_contained_and_closes_its_tags(runs):
    for options in ({}, {"fails_at": "DataGate", "anomalous": True}):
        folder = make_run(runs, f"run-{len(options)}", **options)
        outline = Outline(written(folder))
        tags = {tag for tag, _ in outline.tags}
        assert not tags & {"script", "link", "img", "iframe", "object"}
        assert len(set(outline.ids)) == len(outline.ids)
        for target in outline.targets:
            assert not target.startswith(("http", "//", "/"))
            if target.startswith("#"):
                assert target[1:] in outline.ids
            else:
                assert (folder / target).exists()


def test_the_page_has_headings_captions_and_accessible_names(runs):
    outline = Outline(written(make_run(runs, anomalous=True)))
    tags = [tag for tag, _ in outline.tags]
    assert tags.count("h1") == 1
    assert tags.count("caption") == tags.count("table") >= 7
    for tag, attributes in outline.tags:
        if tag == "svg":
            assert "aria-label" in attributes or attributes.get("aria-hidden") == "true"
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if attributes.get("role") == "region":
            assert attributes["aria-label"]
            assert attributes["tabindex"] == "0"


# --- What is missing or damaged ----------------------------------------------------------------


def test_reports_deleted_artifacts(runs):
    folder = make_run(runs)
    shutil.rmtree(runs.parent / "artifacts")
    text = written(folder)
    assert text.count("was deleted or moved.") > 22
    assert "Blessed; the reasons can&#39;t be shown:" in text
    assert "No result of a search:" in text


def test_reports_damaged_files(runs):
    folder = make_run(runs)
    for path in (runs.parent / "artifacts").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\xff\xff{")
    (folder / "pipeline.json").write_text("{")
    (folder / "config.json").write_text("[1]")
    text = written(folder)
    assert "FeatureStats.pb is damaged." in text
    assert "SchemaDiff.pb is damaged." in text
    assert "verdict.json is damaged." in text
    assert "pipeline.json is damaged. The graph shows the nodes that ran, without arrows." in text


@pytest.mark.parametrize(
    "name, content",
    [
        ("pipeline.json", "[]"),
        ("pipeline.json", '{"nodes": [{}]}'),
        ("nodes.jsonl", '[]\n"x"\n{"node": "A"}\n{"node": "A", "state": "wild"}\n'),
        ("nodes.jsonl", '{"node": "A", "state": "ran", "began": "?", "seconds": null}\n'),
    ],
)
def test_accepts_unexpected_content(runs, name, content):
    folder = make_run(runs)
    (folder / name).write_text(content)
    assert "<h1>" in written(folder)


@pytest.mark.parametrize(
    "verdict, shown",
    [
        ([], "[] is not a mapping."),
        ({"blessed": True}, "`words` must be set."),
        (
            {"blessed": True, "words": "Fine.", "checks": [{"model": "much"}]},
            "`checks[0].model`=&#39;much&#39;; use a number.",
        ),
        ({"blessed": True, "words": "Fine.", "notes": ["One."], "settings": {}}, "One."),
    ],
)
def test_shows_a_verdict_or_what_is_damaged(runs, verdict, shown):
    folder = make_run(runs)
    for path in (runs.parent / "artifacts").rglob("verdict.json"):
        path.write_text(json.dumps(verdict))
    text = written(folder)
    assert shown in text


def test_an_empty_folder_has_a_page(runs):
    (runs / "1").mkdir(parents=True)
    text = written(runs / "1")
    assert "No node has run yet." in text
    assert "There are no nodes yet." in text
    assert "pipeline.json does not exist." in text


def test_refuses_a_missing_folder(runs, capsys):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder of a run"):
        run_page.write_run_page(runs / "nowhere")
    assert run_page.main(["--run", str(runs / "nowhere")]) == 1
    assert "is not a folder of a run" in capsys.readouterr().err


# --- The list, and the command -----------------------------------------------------------------


def test_lists_every_run_newest_first(runs):
    make_run(runs, "first", hour=10, cached=("UsersGen", "ItemsGen"))
    make_run(runs, "second", hour=11, fails_at="DataGate")
    written(make_run(runs, "third", hour=12, blessed=False))
    text = (runs / "index.html").read_text("utf-8")
    assert [text.index(name) for name in (">third</a>", ">second</th>", ">first</th>")] == sorted(
        text.index(name) for name in (">third</a>", ">second</th>", ">first</th>")
    )
    assert 'href="third/index.html"' in text  # the others have no page yet
    assert "2 of 23" in text
    assert "not blessed" in text
    assert "version 3" in text
    assert "2026-11-22 11:15" in text
    assert Outline(text).tags


def test_replaces_pages_atomically(runs):
    folder = make_run(runs)
    written(folder)
    written(folder)
    assert sorted(os.listdir(folder)) == [
        "config.json",
        "index.html",
        "nodes.jsonl",
        "pipeline.json",
    ]
    assert sorted(os.listdir(runs)) == [folder.name, "index.html"]


def test_the_command_writes_the_page_without_importing_tensorflow(runs):
    folder = make_run(runs)
    code = (
        "import sys, time; from tfrec_meta.pipeline.pages import run_page\n"
        "status = run_page.main(sys.argv[1:])\n"
        "print(status, sorted({'tensorflow', 'tfx', 'keras_tuner'} & set(sys.modules)))\n"
        "print(time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--run", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    path, loaded, seconds = done.stdout.splitlines()
    assert (path, loaded) == (str(folder / "index.html"), "0 []")
    assert float(seconds) < 5


def test_the_command_writes_the_list_only(runs, capsys):
    make_run(runs)
    assert run_page.main(["--runs", str(runs)]) == 0
    assert capsys.readouterr().out.strip() == str(runs / "index.html")


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        run_page.main(["--help"])
    assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (0, "0.0 s"),
        (9.96, "10.0 s"),
        (99.96, "1 min 40 s"),
        (150.4, "2 min 30 s"),
        (3700, "1 h 01 min"),
    ],
)
def test_shows_short_durations(seconds, expected):
    assert page_text.duration(seconds) == expected


# --- In a browser ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("fails_at", [None, "DataGate"])
def test_a_browser_shows_the_run(runs, tmp_path, width, fails_at):
    folder = make_run(runs, fails_at=fails_at, anomalous=bool(fails_at))
    seen = browser.look(run_page.write_run_page(folder), width, tmp_path / "browser")
    assert seen.title == "Run 2026-11-22-101500 of films"
    assert seen.console == []
    assert seen.overflow == 0
    assert seen.dom.count('<g class="node ') == len(GRAPH) == 23
    if fails_at:
        assert "Why DataGate failed The data is not accepted: (ValueError) inter" in seen.text
        assert "Histories: not reached" in seen.text
    else:
        assert VERDICT in seen.text
        assert "Trainer: ran, 22.5 s" in seen.text


@pytest.mark.parametrize("width", [1280, 800])
def test_a_browser_shows_the_list_of_runs(runs, tmp_path, width):
    run_page.write_run_page(make_run(runs))
    seen = browser.look(runs / "index.html", width, tmp_path / "browser")
    assert (seen.title, seen.console, seen.overflow) == ("Runs of films", [], 0)
    assert "2026-11-22-101500 finished" in seen.text


def test_notices_console_errors_and_overflow(tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<!doctype html><title>Bad</title><body><div style='width:2000px'>wide</div>"
        "<script>console.error('oh no')</script><img src='missing.png'></body>"
    )
    seen = browser.look(path, 800, tmp_path / "browser")
    assert seen.overflow >= 1200
    assert any("oh no" in line for line in seen.console)


def test_skips_without_a_browser_and_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(browser.bootstrap, "find_browser", lambda: None)
    with pytest.raises(pytest.skip.Exception, match="run `make browser`, install Chromium, or"):
        browser.look(tmp_path / "page.html", 800, tmp_path)
