"""`tfrec-meta distill`: teachers by name and by run, and what it leaves."""

import json

import pytest

from tfrec_meta.commands import main as cli
from tfrec_meta.workflows.runs import Run

DATA = ["--data", "synthetic-60x30x600", "--epochs", "2"]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def distilled(capsys, *arguments):
    """The one JSON object."""
    capsys.readouterr()
    assert cli.main(["distill", *arguments, "--resamples", "20", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_student_of_a_family_is_a_run_like_others(capsys, tmp_path):
    answer = distilled(capsys, "ease", *DATA)
    assert answer["run"] == "runs/student"
    assert list(answer["models"]) == ["teacher", "student", "undistilled"]
    assert "undistilled" in (tmp_path / answer["report"]).read_text("utf-8")
    run = Run.open("runs/student")
    assert run.model().config.negatives == "full"
    assert len(run.model().curve) == 2
    assert cli.main(["export", "--run", "runs/student"]) == 0
    assert "next: tfrec-meta serve" in capsys.readouterr().out
    again = distilled(capsys, "ease", *DATA)
    assert again == {"run": "runs/student", "report": answer["report"]}


def test_a_run_teaches_on_its_own_data_and_a_page_is_left_out_if_asked(capsys):
    assert cli.main(["train", "--run", "runs/old", "--family", "ials", "--seed", "7", *DATA]) == 0
    answer = distilled(capsys, "runs/old", "--run", "runs/new", "--epochs", "1", "--no-comparison")
    assert answer["report"] is None
    run = Run.open("runs/new")
    assert run.settings["data"] == Run.open("runs/old").settings["data"]
    assert run.settings["seed"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", *DATA], "`family`='nobody'"),
        (["ease", "--family", "item_knn", *DATA], "cannot learn from a teacher"),
    ],
)
def test_what_can_not_be_taught_is_said_in_a_line(capsys, arguments, message):
    assert cli.main(["distill", *arguments]) == 1
    assert message.replace("`family`", "--family") in capsys.readouterr().err.replace(
        "`family`", "--family"
    )
