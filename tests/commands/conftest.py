"""A small trained run and its exported model, shared by the tests of the commands."""

import json
from pathlib import Path

import pytest

from tests.data.survey.log import write_log
from tfrec_meta.commands import main as cli


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """The folder of a trained run, runs/first."""
    folder = tmp_path_factory.mktemp("command") / "runs" / "first"
    data = ["--data", "synthetic-60x30x600", "--epochs", "2", "--seed", "5"]
    assert cli.main(["train", "--run", str(folder), *data]) == 0
    return folder


@pytest.fixture(scope="session")
def base(run) -> Path:
    """The folder of the run's exported model, models/first."""
    base = run.parents[1] / "models" / "first"
    assert cli.main(["export", "--run", str(run), "--to", str(base)]) == 0
    return base


@pytest.fixture(scope="session")
def ratings(run) -> Path:
    """The folder of a trained run whose model predicts ratings."""
    folder, strategy = run.parent / "ratings", run.parents[1] / "ratings.json"
    model = {"target": "rating", "embedding_dim": 4, "hidden": [8]}
    strategy.write_text(json.dumps({"family": "ranker", "model": model}))
    data = ["--data", "synthetic-30x20x200", "--epochs", "1", "--strategy", str(strategy)]
    assert cli.main(["train", "--run", str(folder), *data]) == 0
    return folder


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A working directory with a log on which a model can be trained, and its config."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"u{n % 11},p{n % 17},{1_700_000_000 + n}\n" for n in range(200))
    write_log(tmp_path, "client,sku,ts", rows)
    assert cli.main(["data", "check", "log.csv", "--to", "shop.yaml"]) == 0
    return tmp_path
