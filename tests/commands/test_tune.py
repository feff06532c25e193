"""`tfrec-meta tune`: what it searches, its output for `train`, and how it resumes."""

import json

import pytest

import tfrec_meta as tm
from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning import StudyStore
from tfrec_meta.tuning.studies import shipped as prior_studies
from tfrec_meta.workflows import tune as strategy_search
from tfrec_meta.workflows.runs import Run

DATA = "synthetic-60x30x600"
FIXED = ["low_rank_ease/l2=300.0"]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Replaces trials by a formula, in a folder of their own. Returns the list of the trials."""
    tried = []

    def evaluator(events, strategy, features):
        def evaluate(record, epochs, folder, report):
            tried.append((len(events.train), strategy, record, epochs))
            return {Objective.NDCG: record["model"].get("embedding_dim", 8) / 1000}

        return evaluate

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFREC_META_STUDIES", str(tmp_path / "home"))
    monkeypatch.setattr(strategy_search, "trial_evaluator", evaluator)
    monkeypatch.setattr(prior_studies, "shipped_studies", list)
    return tried


def tuned(capsys, *arguments):
    return run_json(capsys, "tune", *arguments)


def options(*more):
    return [DATA, "--families", "low_rank_ease", "--fixed", *FIXED, "--trials", "3", *more]


def test_train_reads_the_file_of_the_best_strategy(capsys, tmp_path):
    answer = tuned(capsys, *options("--seed", "5"))
    assert answer["folder"] == "runs/study"
    assert len(answer["trials"]) == 3
    assert answer["best_value"] == max(trial["value"] for trial in answer["trials"])
    written = json.loads((tmp_path / "runs/study/best_strategy.json").read_text())
    assert written == answer["best_strategy"]
    assert written["model"]["l2"] == 300.0
    assert (tmp_path / "runs/study/report.html").is_file()
    (study,) = StudyStore(tmp_path / "home").studies()
    assert study.study_id == answer["study_id"]
    file = answer["strategy_file"]
    assert cli.main(["train", "--run", "runs/tuned", "--data", DATA, "--strategy", file]) == 0
    run = Run.open("runs/tuned")
    assert run.settings["seed"] == 5
    assert run.strategy == tm.Strategy.from_dict(written)


def test_tune_prints_the_next_command_and_the_same_call_resumes(capsys, quick):
    assert cli.main(["tune", *options("--split", "user", "--train", "0.6")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == (
        f"next: tfrec-meta train --run runs/tuned --data {DATA} --split user --train 0.6 "
        "--strategy runs/study/best_strategy.json"
    )
    assert "trial 3/3: " in err
    cli.main(["tune", *options("--split", "user", "--train", "0.6")])
    assert len(quick) == 3
    cli.main(["tune", *options("--split", "user", "--train", "0.6", "--trials", "5")])
    assert len(quick) == 5


def test_tune_prints_the_protocol_that_fits_the_data(capsys):
    assert cli.main(["tune", *options()]) == 0
    shown = capsys.readouterr().out
    assert f"next: tfrec-meta train --run runs/tuned --data {DATA} --split time --strategy" in shown


def test_tune_uses_the_data_split_and_strategy_of_a_run(capsys, tmp_path, quick):
    given = {
        "data": {"source": [DATA]},
        "split": {"protocol": "user", "train": 0.5, "validation": 0.2},
        "seed": 7,
        "strategy": {"family": "ials", "training": {"epochs": 4}},
    }
    run = Run.begin("runs/first", given)
    answer = tuned(capsys, "runs/first", "--trials", "1", "--epochs", "3", "--store", "all")
    assert answer["folder"] == "runs/first/study"
    ((events, strategy, record, epochs),) = quick
    assert events == len(run.split.train)
    assert (strategy.family, record["family"], epochs) == ("ials", "ials", 3)
    assert strategy.training.seed == 7
    assert len(StudyStore("all").studies()) == 1
    assert cli.main(["tune", "runs/first", "--split", "time", "--columns", "a=b"]) == 1
    assert "runs/first has its own data and split. Leave out --columns, --split" in (
        capsys.readouterr().err
    )


def test_tune_without_memory_creates_no_store(capsys, tmp_path):
    tuned(capsys, *options("--no-memory"))
    assert not (tmp_path / "home").exists()


def test_errors_name_the_options_of_the_command(capsys):
    assert cli.main(["tune", "--fixed", "embedding_dim"]) == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err
    assert cli.main(["tune", DATA, "--oracle", "delphi"]) == 1
    assert "error: --oracle='delphi'; use one of 'meta_bayesian'" in capsys.readouterr().err


def test_an_interrupted_search_prints_how_to_resume(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(strategy_search, "tune", lambda *_, **__: interrupt())
    assert cli.main(["tune", DATA]) == 130
    assert f"interrupted: `tfrec-meta tune {DATA}` resumes where it stopped" in (
        capsys.readouterr().err
    )
