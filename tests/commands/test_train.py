"""`tfrec-meta train`: its results, its errors, and how it resumes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.commands import train
from tfrec_meta.evaluation import Objective
from tfrec_meta.workflows.runs import Run


def test_train_prints_one_json_object(run, capsys):
    answer = run_json(capsys, "train", "--run", str(run))  # already trained: describes it
    assert answer["family"] == "two_tower"
    assert [epoch["epoch"] for epoch in answer["curve"]] == [1, 2]
    assert (run / "training" / "history.jsonl").is_file()
    assert cli.main(["train", "--run", str(run)]) == 0
    assert "already trained" in capsys.readouterr().err


def test_train_prints_the_epoch_that_is_kept():
    curve = [
        {"epoch": n, "loss": 1 / n, "val_ndcg@10": v} for n, v in ((1, 0.2), (2, 0.5), (3, 0.4))
    ]
    model = SimpleNamespace(curve=curve, objective=Objective.NDCG, family="two_tower")
    assert train.kept_epoch(model) == "kept epoch 2 of 3: loss 0.5, val_ndcg@10 0.5"


def test_train_refuses_a_run_with_other_settings_in_one_line(run, capsys):
    assert cli.main(["train", "--run", str(run), "--epochs", "3"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run} holds a run with strategy.training.epochs=2, not 3.")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_dropped_rows_are_reported_by_train_and_not_again(tmp_path):
    lines = [f"c{n % 7},p{n % 5 + n % 3},{1_700_000_000 + n}" for n in range(100)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,time", *lines, "c1,,1"]) + "\n")
    run = ["--run", str(tmp_path / "run")]
    data = [
        "--data",
        str(tmp_path / "log.csv"),
        "--bad-rows",
        "drop",
        "--max-bad-share",
        "1",
        "--family",
        "popularity",
    ]
    code = "import sys; from tfrec_meta.commands.main import main; sys.exit(main(sys.argv[1:]))"
    again = ["evaluate", *run, "-k", "5", "--baselines", "none"]
    for command, reports in ((["train", *run, *data], 1), (again, 0)):
        done = subprocess.run(  # pytest captures the log of its own process
            [sys.executable, "-c", code, *command],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.count("log: dropped 1") == reports, done.stderr


def test_train_reads_a_file_with_a_mapping_of_columns(tmp_path, capsys):
    lines = [f"c{n % 7},p{n % 5 + n % 3},{1_700_000_000 + n}" for n in range(100)]
    (tmp_path / "log.csv").write_text("\n".join(["who,what,when", *lines, "c1,,1"]) + "\n")
    command = ["train", "--run", str(tmp_path / "run"), "--family", "ease"]
    command += ["--data", str(tmp_path / "log.csv"), "--split", "time"]
    columns = ["--columns", "user_id=who,item_id=what,time=when"]

    assert cli.main([*command, *columns]) == 1  # the bad row is named
    assert "row 101 (line 102), column `item_id`" in capsys.readouterr().err
    answer = run_json(capsys, *command, *columns, "--bad-rows", "drop", "--max-bad-share", "1")
    assert answer["family"] == "ease"
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["data"]["columns"] == {"user_id": "who", "item_id": "what", "time": "when"}


def test_train_reads_and_checks_a_strategy_file(tmp_path, capsys):
    path = tmp_path / "strategy.json"
    path.write_text('{"family": "ease", "model": {"l2": 10.0}}')
    command = ["train", "--run", str(tmp_path / "run"), "--data", "synthetic-40x20x300"]
    assert cli.main([*command, "--strategy", str(path)]) == 0
    assert Run.open(tmp_path / "run").strategy.model.l2 == 10.0

    for wrong, message in (
        ("{", "is not JSON"),
        ('{"familly": "ease"}', "must hold one JSON object"),
        ('{"training": {"epoch": 3}}', "epoch"),
    ):
        path.write_text(wrong)
        capsys.readouterr()
        assert cli.main([*command[:2], str(tmp_path / "other"), "--strategy", str(path)]) == 1
        assert message in capsys.readouterr().err


def test_an_interrupted_training_prints_how_to_resume(tmp_path, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "train", interrupt)
    command = ["train", "--run", str(tmp_path / "my run"), "--data", "synthetic-40x20x300"]
    assert cli.main([*command, "--overwrite"]) == 130
    expected = f"tfrec-meta train --run '{tmp_path / 'my run'}' --data synthetic-40x20x300"
    assert f"interrupted: `{expected}` resumes where it stopped." in capsys.readouterr().err


@pytest.mark.slow
def test_train_counts_events_as_their_feedback_says(tmp_path, capsys):
    kinds = ["view", "view", "purchase"]
    lines = [f"c{n % 7},p{n % 11},{kinds[n % 3]},{n % 4},{n}" for n in range(120)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user_id,item_id,kind,minutes,time", *lines]) + "\n")
    command = ["train", "--run", str(tmp_path / "run"), "--family", "popularity"]
    command += ["--data", str(path), "--split", "leave-last-out", "--event-type", "kind"]
    command += ["--weight", "minutes", "--positive", "1", "--target", "purchase"]
    assert run_json(capsys, *command)["family"] == "popularity"
    run = Run.open(tmp_path / "run")
    assert run.settings["feedback"] == {
        "event_type": "kind",
        "event_weights": {},
        "weight": "minutes",
        "positive": 1.0,
        "below": "ignore",
        "target": ["purchase"],
    }
    assert set(run.split.test.events["kind"].to_pylist()) == {"purchase"}
    assert set(run.split.train.events["kind"].to_pylist()) == {"view", "purchase"}
    assert set(run.split.train.weights.tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert cli.main([*command, "--positive", "2"]) == 1  # another feedback than that of the run
    assert "feedback.positive=1.0, not 2.0" in capsys.readouterr().err
    assert cli.main(["evaluate", "--run", str(tmp_path / "run"), "-k", "3", "--json"]) == 0
