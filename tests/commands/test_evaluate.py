"""`tfrec-meta evaluate` and `tfrec-meta report`."""

import json

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.workflows.runs import Run


def test_evaluate_prints_and_stores_the_evaluation(run, capsys):
    answer = run_json(capsys, "evaluate", "--run", str(run), "--baselines", "popularity,ease")
    assert list(answer["evaluations"]) == ["two_tower", "popularity", "ease"]
    figure = answer["evaluations"]["two_tower"]["metrics"]["ndcg@10"]
    assert figure["low"] < figure["value"] < figure["high"]

    stored = json.loads((run / "evaluation.json").read_text())
    assert stored["evaluations"] == answer["evaluations"]
    again = Run.open(run).evaluations()
    assert again["ease"].as_dict() == answer["evaluations"]["ease"]


def test_a_model_of_ratings_has_the_metrics_of_its_predictions(ratings, capsys):
    folder = str(ratings)
    evaluate = ["evaluate", "--run", folder, "--baselines", "none", "--resamples", "20"]
    found = run_json(capsys, *evaluate)["predictions"]["rating"]
    assert found["metrics"]["rmse"]["low"] < found["metrics"]["rmse"]["high"]
    assert list(found["baseline"]) == ["rmse", "mae"]
    stored = Run.open(folder).evaluations()
    assert stored.predictions.as_dict()["rating"] == found
    assert cli.main(evaluate) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("predictions of the test events:")
    assert lines[place + 1].split() == ["rating", "mean", "rating"]
    assert lines[place + 2].split()[0] == "rmse"


@pytest.mark.slow
def test_report_evaluates_a_run_without_evaluation(run, capsys, tmp_path):
    page = tmp_path / "page.html"
    (run / "evaluation.json").unlink(missing_ok=True)
    answer = run_json(capsys, "report", "--run", str(run), "--users", "u1, u2", "--to", str(page))
    assert answer == {"report": str(page)}
    assert "u2" in page.read_text()
    assert (run / "evaluation.json").is_file()

    assert cli.main(["report", "--run", str(run), "--users", "u1,nobody"]) == 1
    assert "--users has ['nobody'], who have no events" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "cold-start"])
def test_the_help_lists_all_baselines(command, capsys):
    from tfrec_meta.workflows.baselines import BASELINES

    assert cli.main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in BASELINES)
