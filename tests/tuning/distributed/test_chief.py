"""A chief and its clients in one process: leases, heartbeats, errors and the token."""

import threading
import time

import keras_tuner
import pytest

from tests.tuning.distributed.search_samples import LEASE, build
from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning import ChiefFailed
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.distributed.chief import MAX_WORKER_DEATHS, Chief, study_token
from tfrec_meta.tuning.distributed.remote_oracle import RemoteOracle


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
    assert trial[Objective.NDCG] is None
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="2 workers died"):
        running.study.run_trial(last.get_trial(trial["trial_id"]))  # only reads the outcome
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
