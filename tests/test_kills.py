"""SIGKILL inside each write: the same call then goes on, to the result of an unkilled run.

A child process kills itself at the n-th flush or rename, for each n that the work has.
"""

import json
import signal

import numpy as np
import pytest

from tests.processes import Script

# Kills the process at flush or rename number `at`; prints the count at the end.
FAULT = """
import os, signal, sys
import tfrec_meta.io.files as files

at, calls = int(sys.argv[1]), 0

def deadly(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

for module, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (files, "_swap")):
    setattr(module, name, deadly(getattr(module, name)))
"""
COUNT = "\nprint('calls', calls)\n"


def run(code, at, folder):
    """Runs a script that is killed at a call; returns whether it was, and the number of calls."""
    script = Script(FAULT + code + COUNT, at, folder)
    out, err = script.communicate(200)
    if script.returncode == -signal.SIGKILL:
        return True, 0
    assert script.returncode == 0, err
    return False, int(out.split()[-1])


def kill_everywhere(code, folder, check, most):
    """Kills the work at up to `most` different calls, and goes on after each kill.

    Args:
        code: the work, on the folder `sys.argv[2]`.
        folder: in which each attempt has a folder of its own.
        check: of a finished folder.
        most: the number of kills, spread evenly over all calls.
    """
    killed, calls = run(code, 0, folder / "whole")
    assert not killed
    check(folder / "whole")
    for at in sorted(set(np.linspace(1, calls, min(most, calls)).astype(int))):
        attempt = folder / f"killed-{at}"
        assert run(code, at, attempt)[0], at
        assert not run(code, 0, attempt)[0]
        check(attempt)
        assert not leftovers(attempt), at


def leftovers(folder):
    return [
        path
        for path in folder.rglob("*")
        if path.name.endswith((".part", ".old", "_temp")) or ".tmp" in path.name
    ]


@pytest.mark.slow
def test_training_goes_on_after_a_kill_in_any_write(tmp_path):
    code = """
from pathlib import Path
import numpy as np
from tests.training.small_run import fitted
model, curve = fitted(folder=Path(sys.argv[2]) / "training")
model.save(Path(sys.argv[2]) / "model", overwrite=True)
"""
    expected = {}

    def check(folder):
        lines = (folder / "training" / "history.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        assert len(losses) == 3
        assert expected.setdefault("losses", losses) == losses
        with np.load(folder / "model" / "weights.npz") as arrays:
            found = {name: arrays[name] for name in arrays.files}
        for name, value in expected.setdefault("weights", found).items():
            np.testing.assert_array_equal(found[name], value)

    kill_everywhere(code, tmp_path, check, most=6)


@pytest.mark.slow
def test_tuning_and_the_store_go_on_after_a_kill_in_any_write(tmp_path):
    code = """
from pathlib import Path
import tfrec_meta as tm
data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
tm.tune(data, 2, families=["popularity", "ease"], strategy=tm.Strategy("popularity"),
        oracle="random", folder=Path(sys.argv[2]) / "study", store=Path(sys.argv[2]) / "store",
        progress=False)
"""
    expected = {}

    def check(folder):
        lines = (folder / "store" / "studies.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert len({record["study_id"] for record in records}) == 1
        trials = [record for record in records if record["kind"] == "trial"]
        found = [(trial["trial_id"], trial["value"]) for trial in trials]
        assert len(found) == 2
        assert expected.setdefault("trials", sorted(found)) == sorted(found)
        assert (folder / "study" / "report.html").is_file()

    kill_everywhere(code, tmp_path, check, most=6)


@pytest.mark.slow
def test_exports_and_run_folders_go_on_after_a_kill_in_any_write(tmp_path):
    code = """
from pathlib import Path
import tfrec_meta as tm
from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
from tfrec_meta.workflows.runs import Run
folder = Path(sys.argv[2])
given = {"data": {"source": ["synthetic-30x20x300"]}, "strategy": {"family": "popularity"}}
run = Run.begin(folder / "run", given)
model = run.model() if run.is_trained else run.train()
run.evaluations() or run.evaluate(EvaluationSettings(baselines=(), resamples=10))
run.report()
base = folder / "models" / "shop"
if not (base / "1").exists():
    tm.export(model, base, tm.ExportConfig(history_width=10, max_k=5, k=5))
"""
    expected = {}

    def check(folder):
        found = json.loads((folder / "run" / "evaluation.json").read_text())
        assert expected.setdefault("evaluation", found) == found
        assert (folder / "run" / "report.html").is_file()
        base = folder / "models" / "shop"
        assert [path.name for path in base.iterdir()] == ["1"]
        files = json.loads((base / "1" / "assets.extra" / "manifest.json").read_text())["files"]
        assert expected.setdefault("files", files.keys()) == files.keys()

    kill_everywhere(code, tmp_path, check, most=6)


@pytest.mark.slow
def test_a_refit_goes_on_after_a_kill_in_any_write(tmp_path):
    code = """
from tfrec_meta.workflows.runs import Run
given = {"data": {"source": ["synthetic-30x20x300"]}, "strategy": {"family": "ease"}}
run = Run.begin(sys.argv[2], given)
if not run.is_trained:
    run.train()
run.refit()
"""

    def check(folder):
        for name, events in (("model", 240), ("final/model", 300)):
            record = json.loads((folder / name / "model.json").read_text())
            assert record["trained_on"]["events"] == events

    kill_everywhere(code, tmp_path, check, most=2)
