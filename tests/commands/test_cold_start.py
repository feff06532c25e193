"""`tfrec-meta cold-start`: its output and its errors."""

import json

import pytest

from tfrec_meta.commands import main as cli

DATA = ["--data", "synthetic-240x40x4000", "--seed", "3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "newcomers"
    given = folder.with_suffix(".json")
    shape = {"embedding_dim": 6, "steps": 3, "folds": 2, "iterations": 2}
    given.write_text(json.dumps({"family": "meta_learned", "model": shape}))
    train = ["train", "--run", str(folder), "--strategy", str(given), *DATA]
    assert cli.main([*train, "--split", "cold-users"]) == 0
    return folder


def test_cold_start_writes_the_page_and_prints_the_curves(run, capsys):
    command = ["cold-start", "--run", str(run), "--shots", "0,3", "--later", "4", "-k", "5"]
    capsys.readouterr()
    assert cli.main([*command, "--baselines", "popularity", "--resamples", "20", "--json"]) == 0
    shown = capsys.readouterr()
    assert "--validation 0.1" in shown.err
    answer = json.loads(shown.out)
    assert answer["metric"] == "ndcg@5"
    assert list(answer["methods"]) == ["meta_learned", "no_adaptation", "fine_tuning", "popularity"]
    assert answer["report"] == str(run / "cold_start.html")
    assert "fine_tuning" in (run / "cold_start.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "one"], "'--shots': 'one' is not a list of whole numbers"),
        (["--metric", "coverage"], "--metric='coverage' has no value"),
        (["--baselines", "nobody"], "--baselines has 'nobody'"),
        (["--later", "99"], "No user has 119 items"),
    ],
)
def test_errors_are_one_line(run, capsys, arguments, message):
    assert cli.main(["cold-start", "--run", str(run), *arguments]) in (1, 2)
    assert message in capsys.readouterr().err


def test_cold_start_refuses_a_run_with_known_test_users(capsys, tmp_path):
    folder = tmp_path / "usual"
    assert cli.main(["train", "--run", str(folder), "--family", "popularity", *DATA]) == 0
    assert cli.main(["cold-start", "--run", str(folder)]) == 1
    assert "--family meta_learned --split cold-users" in capsys.readouterr().err
