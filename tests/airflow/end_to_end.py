"""Pipelines on a real Airflow 3 on loopback, started by the command of `make airflow`.

These tests take minutes, so they run separately: `make test-airflow`.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest

import tfrec_meta as tm
from examples.demo import served
from examples.pipeline import CONFIG, write_tables
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.runners.airflow_server import USER, _descendants, call
from tfrec_meta.serving import Client

ROOT = Path(__file__).parents[2]
AIRFLOW = ROOT / ".venv-airflow"
COMPILE = """
import sys
from pathlib import Path
from tests.pipeline import toy_nodes
from tfrec_meta.pipeline.runners import compilation

folder = Path(sys.argv[1])
for number, name in ((21, "toy"), (-1, "refused")):
    place = folder / name
    place.mkdir()
    ir = compilation.compile_pipeline(toy_nodes.create(place, number, name))
    compilation.deploy(ir, folder / "pipelines" / name, pipeline_folder=place / name, retries=2)
"""

# Time limits in seconds: several times the time on a busy machine with two cores, to detect hangs.
SHORT, TOY_RUN, DEMO_RUN = 300, 600, 1500
# The demo's pipeline takes minutes; each step has a limit of its own.
pytestmark = pytest.mark.timeout(2 * DEMO_RUN + SHORT)


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except urllib.error.HTTPError:
            raise
        except (TimeoutError, urllib.error.URLError):  # a busy API server
            found = None
        if found:
            return found
        assert time.monotonic() < end, f"timed out after {seconds} s: {what}"
        time.sleep(0.2)


def processes(of):
    """Returns process id -> command line of the processes that mention `of`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                words += (entry / "environ").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if of in words:
                found[int(entry.name)] = words[:200]
    return found


class Airflow:
    """The REST API of a running Airflow."""

    def __init__(self, server, address, password):
        self.server = server
        self.api = f"{address}/api/v2"
        login = {"username": USER, "password": password}
        self.token = call(f"{address}/auth/token", record=login)["access_token"]

    def get(self, path):
        return call(f"{self.api}/{path}", self.token)

    def trigger(self, dag, run_id, *settings):
        record = {"dag_run_id": run_id, "logical_date": None, "conf": {}}
        if settings:
            record["conf"] = {"set": list(settings)}
        call(f"{self.api}/dags/{dag}/dagRuns", self.token, record)

    def tasks(self, dag, run_id):
        """Returns the latest instance of each task."""
        found = self.get(f"dags/{dag}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def states(self, dag, run_id):
        return {name: task["state"] for name, task in self.tasks(dag, run_id).items()}

    def ended(self, dag, run_id, seconds):
        """Waits until the run has ended; returns its state."""

        def state():
            found = self.get(f"dags/{dag}/dagRuns/{run_id}")["state"]
            return found if found in ("success", "failed") else None

        return until(state, seconds, f"{dag} {run_id}: {self.states(dag, run_id)}")

    def log(self, dag, run_id, task, attempt=1):
        """Returns the lines of a task's log, and the messages of its exceptions."""
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}"
        lines = []
        for line in self.get(path)["content"]:
            lines.append(line["event"])
            lines += [error["exc_value"] for error in line.get("error_detail") or ()]
        return "\n".join(lines)

    def pushes(self, dag, run_id):
        """Returns the extras of the asset events that a run emitted."""
        found = self.get(f"assets/events?source_dag_id={dag}")["asset_events"]
        return [event["extra"] for event in found if event["source_run_id"] == run_id]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Returns a function that starts an Airflow; afterwards none of its processes remains."""
    home = tmp_path_factory.mktemp("airflow")
    servers = []

    def started(*arguments):
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            port = trial.getsockname()[1]
        command = [sys.executable, "-m", "tfrec_meta.pipeline.runners.airflow_server", *arguments]
        command += ["--home", str(home), "--airflow", str(AIRFLOW), "--port", str(port)]
        log = home.with_suffix(".log")
        with open(log, "ab") as out:
            environment = {**os.environ, "TFREC_META_RETRY_SECONDS": "1"}
            server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        servers.append(server)

        def ready():
            assert server.poll() is None, log.read_text()
            return "Ctrl-C stops it" in log.read_text()

        until(ready, TOY_RUN, "Airflow")
        password = json.loads((home / "passwords.json").read_text())[USER]
        return Airflow(server.pid, f"http://127.0.0.1:{port}", password)

    yield started
    for server in servers:
        # Airflow overwrites its processes' command lines and environments: checks descendants too.
        started_by_it = list(_descendants(server.pid))
        assert len(started_by_it) > 2
        server.send_signal(signal.SIGINT)
        assert server.wait(SHORT) == 0
        assert [pid for pid in started_by_it if Path(f"/proc/{pid}").exists()] == []
    assert processes(str(home)) == {}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A folder with two toy pipelines: `toy` pushes, `refused` does not."""
    folder = tmp_path_factory.mktemp("toys")
    command = [sys.executable, "-c", COMPILE, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    yield folder
    assert processes(str(folder)) == {}


@pytest.fixture(scope="module")
def airflow(toys, start):
    """An Airflow with the toys, and with pipelines that are compiled into their folder later."""
    return start("--pipelines", str(toys / "pipelines"))


def records(folder, dag, run_id):
    path = folder / dag / dag / "runs" / run_id / "nodes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_set_up_compiles_the_bytecode_of_airflow():
    (package,) = AIRFLOW.glob("lib/python3*/site-packages/airflow")
    assert list((package / "__pycache__").glob("__init__.*.pyc"))


def test_the_dags_load_without_errors(airflow):
    until(lambda: len(airflow.get("dags")["dags"]) == 2, SHORT, "the DAGs")
    assert airflow.get("importErrors")["total_entries"] == 0
    toy = airflow.get("dags/toy/details")
    assert toy["max_active_tasks"] == 1
    assert toy["timetable_summary"] is None
    tasks = {task["task_id"]: task for task in airflow.get("dags/toy/tasks")["tasks"]}
    edges = {name: sorted(task["downstream_task_ids"]) for name, task in tasks.items()}
    assert edges == {
        "begin": ["Count", "end"],
        "Count": ["Double"],
        "Double": ["Push"],
        "Push": ["announce"],
        "announce": ["end"],
        "end": [],
    }
    assert tasks["Count"]["retries"] == 2


def test_a_run_succeeds_logs_its_nodes_and_emits_an_event(airflow, toys):
    airflow.trigger("toy", "first")
    assert airflow.ended("toy", "first", TOY_RUN) == "success"
    assert set(airflow.states("toy", "first").values()) == {"success"}
    assert "Double says hello" in airflow.log("toy", "first", "Double")
    found = records(toys, "toy", "first")
    assert [(record["node"], record["state"]) for record in found] == [
        ("Count", "ran"),
        ("Double", "ran"),
        ("Push", "ran"),
    ]
    pids = [(toys / "toy" / f"{node}.ran").read_text() for node in ("Count", "Double", "Push")]
    assert len(set(pids)) == 3  # three processes, but one import
    log = (toys / "toy" / "toy" / "runs" / "first" / "worker.log").read_text()
    assert log.count("exit status 0") == 3
    (pushed,) = airflow.pushes("toy", "first")
    assert (pushed["pushed_version"], pushed["run_id"]) == ("42", "first")


def test_emits_no_event_without_a_new_version(airflow, toys):
    airflow.trigger("toy", "again")
    airflow.trigger("refused", "first")
    assert airflow.ended("toy", "again", TOY_RUN) == "success"
    assert [record["state"] for record in records(toys, "toy", "again")] == ["cached"] * 3
    assert airflow.ended("refused", "first", TOY_RUN) == "success"
    for dag, run_id in (("toy", "again"), ("refused", "first")):
        assert airflow.states(dag, run_id)["announce"] == "skipped"
        assert airflow.pushes(dag, run_id) == []


def fresh(folder):
    """Removes the toy's artifacts and metadata, so that its nodes run again."""
    shutil.rmtree(folder / "toy" / "toy")
    for path in (folder / "toy").glob("*.ran"):
        path.unlink()


def test_a_failed_node_fails_its_task_and_stops_the_nodes_downstream(airflow, toys):
    fresh(toys)
    (toys / "toy" / "Double.fail").write_text("drift of age: 0.4")
    airflow.trigger("toy", "failing")
    assert airflow.ended("toy", "failing", TOY_RUN) == "failed"
    (toys / "toy" / "Double.fail").unlink()
    assert airflow.states("toy", "failing") == {
        "begin": "success",
        "Count": "success",
        "Double": "failed",
        "Push": "upstream_failed",
        "announce": "upstream_failed",
        "end": "success",
    }
    assert airflow.tasks("toy", "failing")["Double"]["try_number"] == 3
    assert "ArithmeticError: drift of age: 0.4" in airflow.log("toy", "failing", "Double")
    assert [record["state"] for record in records(toys, "toy", "failing")] == ["ran"] + [
        "failed"
    ] * 3


@pytest.mark.parametrize("victim", ["node", "task", "worker"])
def test_retries_a_killed_node_task_or_worker(airflow, toys, victim):
    fresh(toys)
    (toys / "toy" / "Double.wait").touch()
    run_id = f"killed-{victim}"
    airflow.trigger("toy", run_id)
    ran = toys / "toy" / "Double.ran"
    until(ran.exists, SHORT, "Double")
    node = int(ran.read_text())
    if victim == "node":
        killed = node
    elif victim == "task":
        # The task's process has the connection to the worker.
        killed = airflow.tasks("toy", run_id)["Double"]["pid"]
    else:
        killed = parent_of(node)
    os.kill(killed, signal.SIGKILL)
    (toys / "toy" / "Double.wait").unlink()
    assert airflow.ended("toy", run_id, TOY_RUN) == "success"
    assert airflow.tasks("toy", run_id)["Double"]["try_number"] == 2
    assert len((toys / "toy" / "Count.ran").read_text().splitlines()) == 1
    until(lambda: not processes(f"runs/{run_id}"), SHORT, "all of the run to end")


# --- The demo ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def movies(toys, airflow):
    """The config of the demo's pipeline, deployed as `movies`."""
    record = PipelineConfig.read(CONFIG).as_dict()
    record |= {"root": str(toys), "serving": str(toys / "movies" / "served" / "movies")}
    for name, table in record["data"].items():
        if isinstance(table, dict) and "path" in table:
            table["path"] = str(toys / "tables" / f"{name}.parquet")
    config = PipelineConfig.from_dict(record)
    write_tables(tm.movielens("100k"), config)
    file = toys / "movies.yaml"
    file.write_text(json.dumps(config.as_dict()))  # JSON is YAML
    command = [sys.executable, "-m", "tfrec_meta.pipeline.runners.local_runner"]
    command += ["--config", str(file), "--compile", str(toys / "pipelines" / "movies")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    def known():
        return "movies" in {dag["dag_id"] for dag in airflow.get("dags")["dags"]}

    until(known, SHORT, "the DAG movies")
    return config


def answers(config):
    """Returns the pushed model's recommendations for a new user, over gRPC."""
    with served(Path(config.serving)) as address, Client(address, model="movies") as client:
        return client.recommend("new-user", history=["50", "181", "1"], k=5)


def why(airflow, dag, run_id):
    """Returns states and the ends of failed tasks' logs, for the message of a failing test."""
    lines = [str(airflow.states(dag, run_id))]
    for name, task in airflow.tasks(dag, run_id).items():
        if task["state"] == "failed":
            lines.append(airflow.log(dag, run_id, name, task["try_number"])[-2000:])
    return "\n".join(lines)


def test_the_demo_pushes_a_model_that_answers_although_its_training_was_killed(airflow, movies):
    run = movies.folder / "runs" / "first"
    airflow.trigger("movies", "first", "tuner.trials=1")

    def training():
        started = processes(f"worker serve --run {run}")
        states = airflow.states("movies", "first")
        assert "failed" not in states.values(), why(airflow, "movies", "first")
        if states["Trainer"] != "running":
            return None
        try:
            parents = {pid: parent_of(pid) for pid in started}
        except OSError:  # a process has just ended
            return None
        return [pid for pid, parent in parents.items() if parent in parents]

    (node,) = until(training, DEMO_RUN, "the Trainer")
    time.sleep(2)
    os.kill(node, signal.SIGKILL)
    assert airflow.ended("movies", "first", DEMO_RUN) == "success", why(airflow, "movies", "first")
    tries = {name: task["try_number"] for name, task in airflow.tasks("movies", "first").items()}
    assert tries.pop("Trainer") == 2
    assert set(tries.values()) == {1}
    announced = airflow.log("movies", "first", "announce")
    assert set(airflow.states("movies", "first").values()) == {"success"}, announced
    assert re.search(r'trials\\+": 1', (run / "pipeline.json").read_text())
    assert (run / "index.html").exists()
    (pushed,) = airflow.pushes("movies", "first")
    assert Path(pushed["pushed_destination"]).parent == Path(movies.serving)
    assert len(answers(movies)) == 5


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# --- Refusals ---------------------------------------------------------------------------


def test_invalid_settings_fail_the_first_task(airflow, toys):
    airflow.trigger("toy", "set", "tuner.trials=3")
    assert airflow.ended("toy", "set", SHORT) == "failed"
    assert airflow.states("toy", "set")["Count"] == "upstream_failed"
    assert "deployed without its config" in airflow.log("toy", "set", "begin")
    with pytest.raises(urllib.error.HTTPError):  # not a list
        call(
            f"{airflow.api}/dags/toy/dagRuns",
            airflow.token,
            {"dag_run_id": "x", "logical_date": None, "conf": {"set": 3}},
        )


def test_refuses_requests_without_a_token(airflow):
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(f"{airflow.api}/dags")
    assert refused.value.code == 401


def test_listens_on_loopback_only(airflow):
    """Checks all processes of this Airflow in the kernel's tables."""
    sockets = set()
    for pid in _descendants(airflow.server):
        try:
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                sockets.add(os.readlink(entry))
        except OSError:
            continue
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                listening.append(fields[1].split(":")[0])
    assert listening
    assert set(listening) == {"0100007F"}
