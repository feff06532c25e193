"""`tfrec-meta distill`: teachers by name and by run, and its output."""

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.commands.distill import TEXT_TEACHERS
from tfrec_meta.workflows.runs import Run

DATA = ["--data", "synthetic-60x30x600", "--epochs", "2"]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_the_names_of_text_teachers_are_those_of_the_workflow():
    from tfrec_meta.strategy import BERT
    from tfrec_meta.workflows.distill import TUNED_BERT

    assert TEXT_TEACHERS == (BERT, TUNED_BERT)


def test_an_unknown_teacher_leaves_no_run(tmp_path, capsys):
    assert cli.main(["distill", "nobody", *DATA]) == 1
    assert "TEACHER='nobody'; use a run folder or one of" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_folder_of_the_student_may_have_the_name_of_its_teacher(capsys):
    found = distilled(capsys, "ease", "--run", "ease", "--no-comparison", *DATA)
    assert found["run"] == "ease"


def distilled(capsys, *arguments):
    return run_json(capsys, "distill", *arguments, "--resamples", "20")


@pytest.mark.slow
def test_a_student_is_an_ordinary_run(capsys, tmp_path):
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


def test_a_teacher_run_provides_the_data_and_the_page_is_optional(capsys):
    assert cli.main(["train", "--run", "runs/old", "--family", "ials", "--seed", "7", *DATA]) == 0
    answer = distilled(capsys, "runs/old", "--run", "runs/new", "--epochs", "1", "--no-comparison")
    assert answer["report"] is None
    run = Run.open("runs/new")
    assert run.settings["data"] == Run.open("runs/old").settings["data"]
    assert run.settings["seed"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", *DATA], "TEACHER='nobody'; use a run folder or one of two_tower"),
        (["ease", "--family", "item_knn", *DATA], "cannot learn from a teacher"),
    ],
)
def test_errors_are_one_line(capsys, arguments, message):
    assert cli.main(["distill", *arguments]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
