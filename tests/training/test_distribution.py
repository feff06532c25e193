"""Distribution: real processes on loopback have the curve and weights of a single process."""

import json
import socket

import pytest
import tensorflow as tf

import tfrec_meta as tm
from tests.processes import Script
from tests.training import training_run
from tfrec_meta import training
from tfrec_meta.models import TwoTower
from tfrec_meta.training import distribution

# Several processes, each of which starts the TensorFlow runtime.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def alone():
    return training_run.run("none")


@pytest.fixture
def start():
    """Starts a training in a process of its own, which ends with the test at the latest."""
    started = []

    def one(*arguments):
        started.append(started_process(*arguments))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.communicate()


def started_process(distribute, folder="", cluster=None, task=None):
    environment = {}
    if cluster:
        task = {"type": task[0], "index": task[1]}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    code = "import runpy; runpy.run_module('tests.training.training_run', run_name='__main__')"
    return Script(code, distribute, folder, environment=environment)


def result(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def free_addresses(count):
    """Returns addresses of free ports; the sockets are open together, so that the ports differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def assert_alike(one, other):
    for line, same in zip(one["curve"], other["curve"], strict=True):
        assert line == pytest.approx(same, rel=1e-5)
    assert one["size"] == pytest.approx(other["size"], rel=1e-5)


@pytest.mark.slow
def test_two_workers_have_the_curve_of_one_process_and_one_of_them_writes(alone, start, tmp_path):
    cluster = {"worker": free_addresses(2)}
    folder = tmp_path / "run"
    workers = [start("multi_worker", folder, cluster, ("worker", n)) for n in range(2)]
    for each in [result(worker) for worker in workers]:
        assert_alike(each, alone)
    lines = (folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert (folder / "checkpoints" / "epoch-3" / "state.index").is_file()
    # The same call again finds a finished run, and returns the same curve.
    workers = [start("multi_worker", folder, cluster, ("worker", n)) for n in range(2)]
    for each in [result(worker) for worker in workers]:
        assert_alike(each, alone)


@pytest.mark.slow
def test_two_devices_have_the_curve_of_one(alone, start):
    assert_alike(result(start("mirrored")), alone)


@pytest.mark.slow
def test_one_worker_of_a_parameter_server_has_the_curve_of_one_process(alone, start):
    addresses = free_addresses(3)
    roles = ("chief", "worker", "ps")
    cluster = {role: [address] for role, address in zip(roles, addresses, strict=True)}
    for role in ("worker", "ps"):
        start("parameter_server", "", cluster, (role, 0))
    # Several workers are asynchronous, so that no two runs would be the same.
    assert_alike(result(start("parameter_server", "", cluster, ("chief", 0))), alone)


@pytest.mark.parametrize("axis", [0, 1])
def test_each_worker_takes_its_part_of_a_batch_worked_by_hand(axis):
    """Six rows for two workers with one replica each."""

    class TwoWorkers:
        num_replicas_in_sync = 2

        def distribute_datasets_from_function(self, of_worker):
            return [of_worker(tf.distribute.InputContext(2, n, 2)) for n in range(2)]

    batch = {"item_id": tf.expand_dims(tf.range(6), 1 - axis)}
    batches = tf.data.Dataset.from_tensors(batch).repeat(2)
    parts = distribution.distribute_batches(lambda: batches, TwoWorkers(), 6, axis)
    taken = [[part["item_id"].numpy().ravel().tolist() for part in worker] for worker in parts]
    assert taken == [[[0, 1, 2]] * 2, [[3, 4, 5]] * 2]


def test_refuses_rows_that_cannot_be_divided_evenly():
    class Three:
        num_replicas_in_sync = 3

    with pytest.raises(ValueError, match="64 rows cannot be divided evenly among 3 replicas"):
        distribution.distribute_batches(lambda: None, Three(), 64)


@pytest.mark.parametrize("given", [None, "", "[]", "{}", "not json"])
@pytest.mark.parametrize("name", ["multi_worker", "parameter_server"])
def test_refuses_a_missing_or_invalid_cluster(name, given, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_CONFIG", given)
    with pytest.raises(ValueError, match=f"`distribute`='{name}' reads the cluster from TF_CONFIG"):
        distribution.distribution_strategy(name)


def test_refuses_options_that_several_devices_do_not_support():
    with pytest.raises(ValueError, match="`distribute`='cloud'; use one of"):
        tm.TrainingConfig(distribute="cloud")
    with pytest.raises(ValueError, match=r"`adversarial_weight`=1 .*Use 0, or 'none'"):
        tm.TrainingConfig(distribute="mirrored", adversarial_weight=1)


def test_refuses_a_model_of_another_scope():
    data = tm.synthetic(20, 10, 60, seed=1)
    recipe = tm.TrainingConfig(epochs=1, batch_size=4, distribute="mirrored")
    model = TwoTower(tm.TwoTowerConfig(embedding_dim=2), tm.FeatureSpec().fit(data))
    with pytest.raises(ValueError, match="`distribute`='mirrored', but the model was made in"):
        training.fit(model, data, recipe)
