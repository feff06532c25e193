"""`tfrec-meta compare`."""

import shutil

import numpy as np
import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli


@pytest.fixture(scope="module")
def popular(run):
    """Another run of the same data and split."""
    folder = run.parent / "popular"
    data = ["--data", "synthetic-60x30x600", "--seed", "5"]
    assert cli.main(["train", "--run", str(folder), "--family", "popularity", *data]) == 0
    return folder


def test_two_runs_are_compared_in_each_metric_and_group(run, popular, capsys):
    runs = [str(run), str(popular)]
    answer = run_json(capsys, "compare", *runs, "-k", "5", "--resamples", "50")
    assert answer["runs"] == {"first": runs[0], "popular": runs[1]}
    one, other = (answer["evaluations"][name]["metrics"] for name in answer["runs"])
    found = answer["differences"]["ndcg@5"]
    expected = one["ndcg@5"]["value"] - other["ndcg@5"]["value"]
    assert found["difference"] == pytest.approx(expected)
    assert found["low"] <= found["difference"] <= found["high"]
    assert answer["groups"]["known_users"]["recall@5"]["p"] > 0

    assert cli.main(["compare", *runs, "-k", "5", "--resamples", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("full-catalogue ranking")
    assert lines[1].split() == ["first", "popular", "first", "-", "popular", "p"]
    assert any(line.startswith("known users") for line in lines)


def test_runs_that_cannot_be_compared_end_in_one_line(run, capsys):
    for runs, message in (
        ([run, run], "RUN RUN names "),
        ([run, run.parent / "nowhere"], "nowhere is not a run folder"),
    ):
        capsys.readouterr()
        assert cli.main(["compare", *map(str, runs)]) == 1
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == 1
        assert message in shown[0]
    assert cli.main(["compare", str(run)]) == 2


@pytest.mark.slow
def test_predictions_of_two_models_of_ratings_are_compared(ratings, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(ratings, copy)
    runs = [str(ratings), str(copy)]
    found = run_json(capsys, "compare", *runs, "--resamples", "20")
    compared = found["predictions"]["rating"]
    assert compared["metrics"]["copy"] == compared["metrics"]["ratings"]
    rmse = compared["differences"]["rmse"]
    assert (rmse["difference"], rmse["low"], rmse["p"]) == (0, 0, 1)
    assert cli.main(["compare", *runs, "--resamples", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("rating ") for line in lines)


def test_predictions_of_other_labels_are_not_compared(ratings, tmp_path, capsys, monkeypatch):
    copy, labels = tmp_path / "copy", iter(([1.0], [2.0]))
    shutil.copytree(ratings, copy)
    monkeypatch.setattr(
        "tfrec_meta.workflows.evaluate.predict_test_events",
        lambda model, split: {"rating": (np.array(next(labels)), np.array([1.0]))},
    )
    found = run_json(capsys, "compare", str(ratings), str(copy), "--resamples", "5")
    assert found["predictions"] == {}
    assert found["notes"] == [
        "The runs have other labels of the target 'rating', so that its predictions are not "
        "compared."
    ]
