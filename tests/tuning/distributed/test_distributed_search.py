"""A distributed search in several processes, with a killed worker."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from tests.tuning.distributed.search_samples import build
from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning.distributed import workers

pytestmark = pytest.mark.slow

TRIALS = 6
SEARCH = """
    import os, sys, time
    from pathlib import Path
    from tfrec_meta.evaluation import Objective
    from tfrec_meta.tuning import (
        SearchOptions, StrategySpace, StrategyTuner, StudyStore, TransferOptions
    )

    folder = Path(sys.argv[1])

    def evaluate(record, epochs, trial_folder, report):
        with open(folder / "runs", "a") as runs:
            runs.write(f"{trial_folder.name} {os.getpid()}\\n")
        time.sleep(0.2)
        if trial_folder.name == "trial_2" and not (folder / "victim").exists():
            (folder / ".victim").write_text(str(os.getpid()))
            (folder / ".victim").rename(folder / "victim")
            time.sleep(300)
        return {Objective.NDCG: record["model"]["embedding_dim"] / 1000, "ran_by": os.getpid()}

    options = SearchOptions(oracle="random", trials=int(sys.argv[2]), lease_seconds=3.0)
    transfer = TransferOptions(StudyStore(folder / "store"))
    study = StrategyTuner(
        evaluate, StrategySpace(("ials",)), folder / "study", options, transfer=transfer
    )
    study.search()
    print(len(study.trials()), study.best_strategy_record()["model"]["embedding_dim"])
    """


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A search by a chief and two workers, one of them killed during its trial."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "search.py"
    script.write_text(textwrap.dedent(SEARCH))
    port = workers._free_port()
    logs = {}

    def start(name):
        logs[name] = (folder / name).open("w+")
        return subprocess.Popen(
            [sys.executable, str(script), str(folder), str(TRIALS)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                **workers.environment(name, port),
            },
            stdout=logs[name],
            stderr=subprocess.STDOUT,
        )

    processes = {name: start(name) for name in ("chief", "worker-0", "worker-1")}
    try:
        until = time.monotonic() + 150
        while not (folder / "victim").exists() and time.monotonic() < until:
            time.sleep(0.05)
        victim = int((folder / "victim").read_text())
        (name,) = [name for name, child in processes.items() if child.pid == victim]
        os.kill(victim, signal.SIGKILL)
        for child in processes.values():
            child.wait(max(1, until - time.monotonic()))
    finally:
        for child in processes.values():
            child.kill()
        for log in logs.values():
            log.close()
    output = {name: (folder / name).read_text() for name in processes}
    return folder, victim, name, {n: child.returncode for n, child in processes.items()}, output


@pytest.mark.timeout(400)
def test_a_distributed_search_survives_a_killed_worker(killed):
    folder, victim, name, codes, output = killed
    expected = {"chief": 0, "worker-0": 0, "worker-1": 0, name: -signal.SIGKILL}
    assert codes == expected, output
    study = build(folder / "study", trials=TRIALS, lease_seconds=3.0)
    trials = study.trials()
    assert len(trials) == TRIALS
    assert all(trial["status"] == "completed" for trial in trials)
    assert trials[2]["ran_by"] != victim
    assert len(study.oracle.end_order) == TRIALS


def test_only_the_interrupted_trial_ran_twice(killed):
    folder, victim, *_ = killed
    runs = [line.split() for line in (folder / "runs").read_text().splitlines()]
    count = Counter(trial for trial, _ in runs)
    assert count == {f"trial_{n}": 2 if n == 2 else 1 for n in range(TRIALS)}
    assert len({process for _, process in runs}) == 2  # the chief runs none
    first, second = (int(process) for trial, process in runs if trial == "trial_2")
    assert first == victim != second


def test_a_distributed_random_search_equals_a_local_one(killed, tmp_path):
    folder, *_ = killed
    alone, together = build(tmp_path, trials=TRIALS), build(folder / "study", trials=TRIALS)
    alone.search()
    for one, other in zip(alone.trials(), together.trials(), strict=True):
        assert (one["values"], one[Objective.NDCG]) == (other["values"], other[Objective.NDCG])
    scores = [
        [study.oracle.trials[name].score for name in study.oracle.start_order]
        for study in (alone, together)
    ]
    assert scores[0] == scores[1]


def test_all_processes_have_the_result_and_the_chief_shows_progress(killed):
    _, _, name, _, output = killed
    (last,) = {text.splitlines()[-1] for process, text in output.items() if process != name}
    assert last.startswith(f"{TRIALS} ")
    lines = [line for line in output["chief"].splitlines() if line.startswith("trial ")]
    assert len(lines) == TRIALS
    assert lines[-1].startswith(f"trial {TRIALS}/{TRIALS}: {Objective.NDCG} ")


def test_only_the_chief_writes_each_trial_to_the_store(killed):
    lines = (killed[0] / "store" / "studies.jsonl").read_text().splitlines()
    ids = [json.loads(line).get("trial_id") for line in lines]
    assert sorted(ids, key=str) == ["0", "1", "2", "3", "4", "5", None]


def test_an_ended_study_is_only_read_by_chief_and_workers(killed, monkeypatch):
    folder, *_ = killed
    for name in ("chief", "worker-9"):
        for variable, value in workers.environment(name, workers._free_port()).items():
            monkeypatch.setenv(variable, value)
        study = build(folder / "study", trials=TRIALS, evaluate=None)
        study.search()
        assert len(study.trials()) == TRIALS


def test_a_worker_of_another_study_is_refused(killed, monkeypatch):
    folder, *_ = killed
    for variable, value in workers.environment("worker-9", 1).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=r"another seed \(42, now 7\)"):
        build(folder / "study", trials=TRIALS, seed=7).search()
