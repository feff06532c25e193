"""Distributed search: roles, the launcher, leases, and a real run with a killed worker."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter

import pytest

from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning import ChiefFailed, SearchOptions, StrategySpace, StrategyTuner
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.distributed.chief import MAX_WORKER_DEATHS, Chief, study_token
from tfrec_meta.tuning.distributed.remote_oracle import RemoteOracle

ADDRESSES = {workers.ID: "chief", workers.ADDRESS: "127.0.0.1", workers.PORT: "1"}


# Roles.


def test_the_environment_sets_the_role_of_a_process():
    assert workers.role({}) == "alone"
    assert workers.role({workers.ID: "another program"}) == "alone"
    for name, role in (("chief", "chief"), ("worker-0", "worker"), ("tuner7", "worker")):
        variables = workers.environment(name, 8000)
        assert variables == {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": "8000",
        }
        assert workers.role(variables) == role
        assert workers.address_of_chief(variables) == "127.0.0.1:8000"
    assert workers.address_of_chief(workers.environment("w", 1, "::1")) == "[::1]:1"


@pytest.mark.parametrize("missing", list(ADDRESSES))
def test_an_incomplete_environment_is_refused_with_the_missing_variables(missing):
    variables = {**ADDRESSES, missing: ""}
    with pytest.raises(ValueError, match=f"^{missing} not set; .*127.0.0.1"):
        workers.role(variables)


# The launcher, with scripts that do not search.


def launched(tmp_path, script, count=2):
    path = tmp_path / "script.py"
    head = """
        import os, sys, time
        from pathlib import Path
        folder = Path(__file__).parent
        name = os.environ["KERASTUNER_TUNER_ID"]
        (folder / name).touch()
        """
    path.write_text(textwrap.dedent(head) + textwrap.dedent(script))
    return workers.launch([sys.executable, "-S", str(path)], count)


def names(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".py")


def test_a_chief_and_its_workers_run_until_the_chief_ends(tmp_path):
    wait = """
        while len(list(folder.iterdir())) < 5:
            time.sleep(0.01)
        sys.exit(7 if name == "chief" else 0)
        """
    assert launched(tmp_path, wait, count=3) == 7
    assert names(tmp_path) == ["chief", "worker-0", "worker-1", "worker-2"]


def test_a_dead_worker_is_replaced(tmp_path, capfd):
    die_once = """
        if name == "worker-0":
            sys.exit(3)
        while not (folder / "worker-2").exists():
            time.sleep(0.01)
        """
    assert launched(tmp_path, die_once) == 0
    assert names(tmp_path) == ["chief", "worker-0", "worker-1", "worker-2"]
    assert "A worker ended with exit status 3; worker-2 replaces it." in capfd.readouterr().err


def test_the_chief_ends_if_all_workers_die(tmp_path, capfd):
    die = """
        if name != "chief":
            sys.exit(3)
        time.sleep(60)
        """
    began = time.monotonic()
    assert launched(tmp_path, die, count=1) == 1
    assert time.monotonic() - began < 20
    assert names(tmp_path) == ["chief", *(f"worker-{n}" for n in range(4))]
    assert "too many workers have ended" in capfd.readouterr().err


def test_a_launch_without_workers_is_refused():
    with pytest.raises(ValueError, match="`workers`=0"):
        workers.launch(["true"], 0)


# A chief and clients in one process.

SPACE = StrategySpace(("ials",))
LEASE = 0.6


def score(record, epochs, folder, report):
    return {Objective.NDCG: record["model"]["embedding_dim"] / 1000}


def build(folder, **options):
    evaluate = options.pop("evaluate", score)
    options = {"trials": 3, "oracle": "random", "progress": False, **options}
    return StrategyTuner(evaluate, SPACE, folder, SearchOptions(**options))


class Running:
    """A chief of the study in a folder, in a thread."""

    def __init__(self, folder, **options):
        self.study = build(folder, **options)
        self.study.save()
        self.address = f"127.0.0.1:{workers._free_port()}"
        self.error = None
        self.chief = Chief(self.study.oracle, "token", self.study._fail_trial, LEASE)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        try:
            self.chief.serve(self.address, lambda: None)
        except ChiefFailed as error:
            self.error = error

    def client(self, name="w", has_ended=lambda: False, token="token"):
        client = RemoteOracle(self.study.oracle, token, self.address, name, has_ended, LEASE)
        client.worker = name  # a name for each of several clients of one process
        return client

    def wait(self):
        self.thread.join(20)
        assert not self.thread.is_alive()


def next_trial(client, seconds=10):
    """Returns the next trial of a client, or the end of the search; waits for it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        trial = client.create_trial("")
        if trial.status != "IDLE":
            return trial
    raise AssertionError("no trial in time")


def finish(client, trial, value=0.5):
    client.update_trial(trial.trial_id, {Objective.NDCG: value})
    trial.status = "COMPLETED"
    client.end_trial(trial)


def test_workers_get_different_trials_with_exact_values(tmp_path):
    alone = build(tmp_path / "alone")
    alone.search()
    running = Running(tmp_path / "study")
    one, two = running.client("one"), running.client("two")
    first, second = next_trial(one), next_trial(two)
    assert first.trial_id != second.trial_id
    finish(one, first, 0.1)
    finish(two, second, 0.2)
    third = next_trial(one)
    values = [trial.hyperparameters.values for trial in (first, second, third)]
    assert values == [trial["values"] for trial in alone.trials()]
    assert two.create_trial("").status == "IDLE"  # the third may be requeued
    finish(one, third, 0.3)
    assert next_trial(two).status == next_trial(one).status == "STOPPED"
    running.wait()
    oracle = running.study.oracle
    assert [oracle.trials[name].score for name in oracle.start_order] == [0.1, 0.2, 0.3]
    assert oracle.get_best_trials(1)[0].trial_id == third.trial_id


def test_another_worker_gets_the_trial_of_a_silent_worker(tmp_path):
    running = Running(tmp_path, trials=1)
    dead, live = running.client("dead"), running.client("live")
    lost = next_trial(dead)
    dead.close()
    trial = next_trial(live)
    assert trial.trial_id == lost.trial_id
    assert trial.hyperparameters.values == lost.hyperparameters.values
    finish(live, trial)
    assert next_trial(live).status == "STOPPED"
    running.wait()


def test_a_slow_worker_keeps_its_trial(tmp_path):
    running = Running(tmp_path, trials=1)
    slow, other = running.client("slow"), running.client("other")
    trial = next_trial(slow)
    until = time.monotonic() + 3 * LEASE
    while time.monotonic() < until:
        assert other.create_trial("").status == "IDLE"
    finish(slow, trial)
    assert next_trial(slow).status == next_trial(other).status == "STOPPED"
    running.wait()


def test_the_first_of_two_results_of_a_trial_counts(tmp_path):
    running = Running(tmp_path, trials=1)
    late, live = running.client("late"), running.client("live")
    lost = next_trial(late)
    late._closed.set()  # no heartbeats, but it is alive
    trial = next_trial(live)
    finish(live, trial, 0.2)
    finish(late, lost, 0.9)
    assert next_trial(live).status == "STOPPED"
    running.wait()
    oracle = running.study.oracle
    assert oracle.end_order == [trial.trial_id]
    assert oracle.trials[trial.trial_id].score == 0.2


def test_a_trial_that_kills_its_workers_fails(tmp_path):
    running = Running(tmp_path, trials=1)
    for number in range(MAX_WORKER_DEATHS):
        victim = running.client(f"victim-{number}")
        next_trial(victim)
        victim.close()
    last = running.client("last")
    next_trial(last)
    (trial,) = running.study.trials()
    assert trial["status"] == "failed"
    assert trial["error"] == "2 workers died while they ran it"
    assert trial[Objective.NDCG] == 0
    outcome = running.study.run_trial(last.get_trial(trial["trial_id"]))  # only reads the outcome
    assert outcome == {Objective.NDCG: 0}
    finish(last, last.get_trial(trial["trial_id"]), 0.0)
    assert next_trial(last).status == "STOPPED"
    running.wait()


def test_a_worker_stops_trials_by_the_chiefs_oracle(tmp_path):
    running = Running(tmp_path, trials=1)
    client = running.client()
    trial = next_trial(client)
    assert client.should_stop(trial.trial_id, (0.1,)) is False  # KerasTuner's oracles stop no trial
    running.study.oracle.should_stop = lambda trial_id, curve: (
        (trial_id, curve) == (trial.trial_id, (0.1, 1 / 3))
    )
    assert client.should_stop(trial.trial_id, (0.1, 1 / 3)) is True
    assert client.should_stop(trial.trial_id, (0.1, 0.3)) is False
    finish(client, trial)
    assert next_trial(client).status == "STOPPED"
    running.wait()


def test_a_restarted_chief_waits_for_the_workers_of_the_previous_one(tmp_path):
    before = build(tmp_path, trials=2)
    one = before.oracle.create_trial("one")
    two = before.oracle.create_trial("two")
    before.save()
    running = Running(tmp_path, trials=2)
    client = running.client("one")
    client._trial_id = one.trial_id  # it ran this trial when the chief died
    other = running.client("three")
    taken = next_trial(other)
    assert taken.trial_id == two.trial_id  # of a worker without heartbeats
    assert other.create_trial("").trial_id == two.trial_id
    finish(other, taken)
    finish(client, one)
    assert next_trial(client).status == next_trial(other).status == "STOPPED"
    running.wait()


def test_an_error_of_the_oracle_ends_the_chief_and_its_workers(tmp_path):
    running = Running(tmp_path)

    def broken(*_):
        raise ZeroDivisionError("the oracle is broken")

    running.study.oracle.populate_space = broken
    client = running.client()
    with pytest.raises(ChiefFailed, match="the oracle is broken"):
        client.create_trial("")
    with pytest.raises(ChiefFailed, match="the oracle is broken"):  # without a second call
        client.get_trial("0")
    running.wait()
    assert "the oracle is broken" in str(running.error)


def test_a_second_chief_at_the_same_address_is_refused(tmp_path):
    running = Running(tmp_path, trials=1)
    client = running.client()
    client.wait()
    second = build(tmp_path / "second")
    with pytest.raises(ChiefFailed, match=f"cannot listen at {running.address}"):
        Chief(second.oracle, "token", second._fail_trial, LEASE).serve(
            running.address, lambda: None
        )
    finish(client, next_trial(client))
    assert next_trial(client).status == "STOPPED"
    running.wait()


def test_a_client_without_the_token_is_refused(tmp_path):
    running = Running(tmp_path, trials=1)
    stranger = running.client("stranger", token="guessed")
    with pytest.raises(ChiefFailed, match="chief of another study"):
        stranger.create_trial("")
    assert not running.study.oracle.trials
    client = running.client()
    finish(client, next_trial(client))
    assert next_trial(client).status == "STOPPED"
    running.wait()


def test_the_token_is_created_once_and_private(tmp_path, monkeypatch):
    token = study_token(tmp_path, create=True)
    assert len(token) == 64
    assert study_token(tmp_path, create=True) == study_token(tmp_path, create=False) == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr("tfrec_meta.tuning.distributed.chief.PATIENCE_SECONDS", 0.1)
    with pytest.raises(ChiefFailed, match=r"No chief started in .*see the same folder"):
        study_token(tmp_path / "elsewhere", create=False)


def test_a_worker_without_a_chief_ends_if_the_study_has_ended(tmp_path):
    study = build(tmp_path)
    address = f"127.0.0.1:{workers._free_port()}"
    client = RemoteOracle(study.oracle, "token", address, "w", lambda: True, LEASE)
    client.wait()
    assert client.create_trial("").status == "STOPPED"
    client.close()


def test_a_worker_waits_for_its_chief_for_a_limited_time(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec_meta.tuning.distributed.chief.PATIENCE_SECONDS", 0.5)
    study = build(tmp_path)
    address = f"127.0.0.1:{workers._free_port()}"
    client = RemoteOracle(study.oracle, "token", address, "w", lambda: False, LEASE)
    with pytest.raises(ChiefFailed, match=f"{address} failed, or did not respond within 0.5 s"):
        client.create_trial("")
    client.close()


# Several processes.

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
