"""The command: what it prints for people and machines, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfrec_meta.commands import doctor
from tfrec_meta.commands import main as cli
from tfrec_meta.serving import LocalServer
from tfrec_meta.workflows.runs import Run

COMMANDS = (
    "fetch",
    "train",
    "tune",
    "evaluate",
    "export",
    "serve",
    "recommend",
    "adapt",
    "report",
    "doctor",
)


def run_json(capsys, *arguments: str) -> dict:
    """The one JSON object that a command prints."""
    capsys.readouterr()
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("command")


@pytest.fixture(scope="module")
def run(place) -> Path:
    """A small run, trained."""
    folder = place / "runs" / "first"
    data = ["--data", "synthetic-60x30x600", "--epochs", "2", "--seed", "5"]
    assert cli.main(["train", "--run", str(folder), *data]) == 0
    return folder


@pytest.fixture(scope="module")
def base(place, run) -> Path:
    """The run's model, exported."""
    base = place / "models" / "first"
    assert cli.main(["export", "--run", str(run), "--to", str(base)]) == 0
    return base


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"examples:\n  tfrec-meta {command}" in shown
    assert "--debug" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bake"],
        ["train", "--split", "alphabet"],
        ["train", "--columns", "user_id"],
        ["recommend", "-k", "five"],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: tfrec-meta" in capsys.readouterr().err


def test_what_needs_no_tensorflow_does_not_load_it(tmp_path):
    code = (
        "import sys\n"
        "from tfrec_meta.commands.main import main\n"
        "for line in (['--help'], ['train', '--help'], ['tune', '--help']):\n"
        "    try: main(line)\n"
        "    except SystemExit: pass\n"
        "assert main(['recommend', '--server', '127.0.0.1:1', '--timeout', '0.2']) == 1\n"
        "assert main(['evaluate', '--run', 'nowhere']) == 1\n"
        "assert main(['train', '--run', 'new', '--data', 'nowhere.csv']) == 1\n"
        "assert main(['serve', 'nowhere']) == 1\n"
        "assert not {'tensorflow', 'tf_keras'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == 4
    assert all(line.startswith("error: ") for line in errors)
    assert not list(tmp_path.iterdir())


def test_a_training_is_one_json_object(run, capsys):
    answer = run_json(capsys, "train", "--run", str(run))  # trained already: says what there is
    assert answer["family"] == "two_tower"
    assert [epoch["epoch"] for epoch in answer["curve"]] == [1, 2]
    assert (run / "training" / "history.jsonl").is_file()
    assert cli.main(["train", "--run", str(run)]) == 0
    assert "trained already" in capsys.readouterr().err


def test_a_run_with_other_settings_is_refused_in_one_line(run, capsys):
    assert cli.main(["train", "--run", str(run), "--epochs", "3"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run} holds a run with strategy.training.epochs=2, not 3.")
    assert error.count("\n") == 1


def test_an_evaluation_is_printed_and_kept(run, capsys):
    answer = run_json(capsys, "evaluate", "--run", str(run), "--baselines", "popularity,ease")
    assert list(answer["evaluations"]) == ["two_tower", "popularity", "ease"]
    figure = answer["evaluations"]["two_tower"]["metrics"]["ndcg@10"]
    assert figure["low"] < figure["value"] < figure["high"]

    kept = json.loads((run / "evaluation.json").read_text())
    assert kept["evaluations"] == answer["evaluations"]
    again = Run.open(run).evaluations()
    assert again["ease"].as_dict() == answer["evaluations"]["ease"]


def test_a_report_evaluates_if_need_be(run, capsys, tmp_path):
    page = tmp_path / "page.html"
    answer = run_json(capsys, "report", "--run", str(run), "--users", "u1, u2", "--to", str(page))
    assert answer == {"report": str(page)}
    assert "u2" in page.read_text()
    assert (run / "evaluation.json").is_file()

    assert cli.main(["report", "--run", str(run), "--users", "u1,nobody"]) == 1
    assert "--users names ['nobody']" in capsys.readouterr().err


def test_an_export_takes_the_next_version(run, base, capsys):
    answer = run_json(capsys, "export", "--run", str(run), "--to", str(base))
    assert answer["version"] > 1
    assert (base / str(answer["version"]) / "saved_model.pb").is_file()
    assert cli.main(["export", "--run", str(run), "--to", str(base), "--version", "1"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_recommendations_come_with_titles(run, base, capsys):
    with LocalServer(base) as server:
        asked = ["recommend", "--server", server.address]
        answer = run_json(
            capsys, *asked, "--user", "u1", "--history", "i3,i7", "-k", "3", "--titles", str(base)
        )
        assert answer["history"] == ["i3", "i7"]
        found = answer["recommendations"]
        assert len(found) == 3
        assert not {"i3", "i7"} & {one["item_id"] for one in found}
        assert all(one["title"] for one in found)

        of_the_run = run_json(capsys, *asked, "--user", "u1", "--run", str(run))
        assert of_the_run["history"] == Run.open(run).history("u1")
        assert all(one["title"] for one in of_the_run["recommendations"])

        assert not of_the_run["warnings"]

        assert cli.main([*asked, "--user", "nobody", "--run", str(run), "-k", "2"]) == 0
        shown = capsys.readouterr()
        expected = f"warning: {run} knows no user 'nobody'; these are the popular items.\n"
        assert shown.err == expected
        assert shown.out.count("\n") == 2

        answer = run_json(capsys, *asked, "--run", str(run))
        assert (answer["model"], answer["history"], answer["warnings"]) == ("first", [], [])

        for place in (["--titles", str(base)], ["--run", str(run)]):
            answer = run_json(capsys, *asked, "--history", "i3,x1,x2", *place)
            assert answer["warnings"] == ["the catalogue has no 'x1', 'x2', of --history."]
        answer = run_json(capsys, *asked, "--history", "x1", "--titles", str(base))
        assert answer["warnings"][0].endswith("'x1', of --history; these are the popular items.")

        assert cli.main([*asked, "--model", "books"]) == 1
        assert "'books'" in capsys.readouterr().err


def test_the_defaults_go_from_a_run_to_its_answers(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    assert run_json(capsys, "export")["export"] == str(Path("models", "first", "1"))
    command = [sys.executable, "-m", "tfrec_meta.commands.main", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:")
        address = line.split()[-1]
        asked = ["recommend", "--server", address]
        answer = run_json(capsys, *asked, "--run", "runs/first", "--user", "u1")
        assert answer["recommendations"]
        assert (
            answer["recommendations"]
            == run_json(capsys, *asked, "--user", "u1", "--history", ",".join(answer["history"]))[
                "recommendations"
            ]
        )
    finally:
        server.terminate()
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (0, "")
    shown = f"next: tfrec-meta {' '.join(asked)} --model first --run runs/first --user ID"
    assert shown in err.splitlines()


def test_messages_name_the_options_of_the_command(tmp_path, capsys):
    assert cli.main(["recommend", "--server", "nowhere"]) == 1
    assert "error: --server='nowhere'; give host:port" in capsys.readouterr().err
    (tmp_path / "log.csv").write_text("who,item_id\nann,tea\nbob,\n")
    command = ["train", "--run", str(tmp_path / "run"), "--data", str(tmp_path / "log.csv")]
    assert cli.main(command) == 1
    assert "--columns user_id=..." in capsys.readouterr().err
    assert cli.main([*command, "--columns", "user_id=who"]) == 1
    assert "or pass --bad-rows drop." in capsys.readouterr().err


def test_what_was_dropped_is_said_once(tmp_path):
    lines = [f"c{n % 7},p{n % 5 + n % 3},{1_700_000_000 + n}" for n in range(100)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,time", *lines, "c1,,1"]) + "\n")
    run = ["--run", str(tmp_path / "run")]
    data = ["--data", str(tmp_path / "log.csv"), "--bad-rows", "drop", "--family", "popularity"]
    code = "import sys; from tfrec_meta.commands.main import main; sys.exit(main(sys.argv[1:]))"
    again = ["evaluate", *run, "-k", "5", "--baselines", "none"]
    for command, said in ((["train", *run, *data], 1), (again, 0)):
        done = subprocess.run(  # as pytest takes the log of this process
            [sys.executable, "-c", code, *command],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.count("log: dropped 1") == said, done.stderr


def test_a_file_with_a_mapping_of_columns_trains(tmp_path, capsys):
    lines = [f"c{n % 7},p{n % 5 + n % 3},{1_700_000_000 + n}" for n in range(100)]
    (tmp_path / "log.csv").write_text("\n".join(["who,what,when", *lines, "c1,,1"]) + "\n")
    command = ["train", "--run", str(tmp_path / "run"), "--family", "ease"]
    command += ["--data", str(tmp_path / "log.csv"), "--split", "time"]
    columns = ["--columns", "user_id=who,item_id=what,time=when"]

    assert cli.main([*command, *columns]) == 1  # the bad row is named
    assert "row 101 (line 102), column `item_id`" in capsys.readouterr().err
    answer = run_json(capsys, *command, *columns, "--bad-rows", "drop")
    assert answer["family"] == "ease"
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["data"]["columns"] == {"user_id": "who", "item_id": "what", "time": "when"}


def test_a_strategy_file_is_taken_and_checked(tmp_path, capsys):
    path = tmp_path / "strategy.json"
    path.write_text('{"family": "ease", "model": {"l2": 10.0}}')
    command = ["train", "--run", str(tmp_path / "run"), "--data", "synthetic-40x20x300"]
    assert cli.main([*command, "--strategy", str(path)]) == 0
    assert Run.open(tmp_path / "run").strategy.model.l2 == 10.0

    for wrong, said in (
        ("{", "is not JSON"),
        ('{"familly": "ease"}', "must hold one JSON object"),
        ('{"training": {"epoch": 3}}', "epoch"),
    ):
        path.write_text(wrong)
        capsys.readouterr()
        assert cli.main([*command[:2], str(tmp_path / "other"), "--strategy", str(path)]) == 1
        assert said in capsys.readouterr().err


def test_an_interrupted_training_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "train", interrupt)
    command = ["train", "--run", str(tmp_path / "my run"), "--data", "synthetic-40x20x300"]
    assert cli.main([*command, "--overwrite"]) == 130
    expected = f"tfrec-meta train --run '{tmp_path / 'my run'}' --data synthetic-40x20x300"
    assert f"interrupted: `{expected}` goes on where it stopped." in capsys.readouterr().err


def test_debug_shows_the_traceback():
    with pytest.raises(FileNotFoundError):
        cli.main(["evaluate", "--run", "nowhere", "--debug"])


def test_the_doctor_has_a_status_and_json(capsys, monkeypatch):
    checks = [doctor.Check("Python", True, "here"), doctor.Check("TFX", False, "gone", "mend it")]
    monkeypatch.setattr(doctor, "_checks", lambda: iter(checks))
    assert cli.main(["doctor"]) == 1
    assert "mend it" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in answer["checks"]] == ["Python", "TFX"]
