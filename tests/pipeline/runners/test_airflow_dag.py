"""The DAG file with a stand-in for Airflow; tests/airflow uses a real Airflow."""

import ast
import importlib.util
import json
import logging
import socket
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.processes import Script
from tfrec_meta.pipeline.runners import airflow_server

ROOT = Path(__file__).parents[3]
FILE = ROOT / "pipeline" / "runners" / "airflow_dag.py"


class Operator:
    """The parts of Airflow's BaseOperator that the file uses."""

    def __init__(self, *, task_id, retries=None, outlets=()):
        self.task_id, self.retries, self.outlets = task_id, retries, list(outlets)
        self.downstream_list = []
        self.log = logging.getLogger("task")
        self.role = ""
        Dag.open.tasks[task_id] = self

    def set_upstream(self, others):
        for other in others:
            other.downstream_list.append(self)

    def __rshift__(self, other):
        self.downstream_list.append(other)
        return other

    def as_setup(self):
        self.role = "setup"

    def as_teardown(self, setups):
        self.role = f"teardown of {setups.task_id}"


class Dag:
    open = None

    def __init__(self, **arguments):
        self.arguments, self.tasks, self.dag_id = arguments, {}, arguments["dag_id"]

    def __enter__(self):
        Dag.open = self

    def __exit__(self, *_):
        Dag.open = None

    @property
    def edges(self):
        return {
            name: sorted(t.task_id for t in task.downstream_list)
            for name, task in self.tasks.items()
        }


class FailedError(Exception):
    pass


class SkippedError(FailedError):
    pass


@pytest.fixture
def parse(monkeypatch):
    """Returns a function that executes the file and returns it as a module."""
    sdk = ModuleType("airflow.sdk")
    sdk.DAG, sdk.BaseOperator = Dag, Operator
    sdk.Asset = lambda name, uri: (name, uri)
    sdk.Param = lambda default, **schema: default
    exceptions = ModuleType("airflow.sdk.exceptions")
    exceptions.AirflowException, exceptions.AirflowSkipException = FailedError, SkippedError
    for name, module in {
        "airflow": ModuleType("airflow"),
        "airflow.sdk": sdk,
        "airflow.sdk.exceptions": exceptions,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)

    def parsed(pipelines):
        monkeypatch.setenv("TFREC_META_PIPELINES", str(pipelines))
        spec = importlib.util.spec_from_file_location("a_dag_file", FILE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return parsed


def deploy(folder, name, connection, nodes, **deployment):
    """Writes a deployed pipeline; `nodes` are (id, upstream, output type)."""
    record = {
        "pipeline_info": {"id": name},
        "deployment_config": {"metadata_connection_config": {connection: {}}},
        "nodes": [
            {
                "pipeline_node": {
                    "node_info": {"id": node},
                    "upstream_nodes": upstream,
                    "outputs": {"outputs": {"o": {"artifact_spec": {"type": {"name": kind}}}}},
                }
            }
            for node, upstream, kind in nodes
        ],
    }
    deployed = folder / name
    deployed.mkdir(parents=True)
    (deployed / "pipeline.json").write_text(json.dumps(record))
    client = str(ROOT / "pipeline" / "runners" / "worker_client.py")
    (deployed / "deployment.json").write_text(
        json.dumps({"folder": str(folder / "home"), "client": client, **deployment})
    )
    return deployed


@pytest.fixture
def films(tmp_path):
    nodes = [
        ("Gen", [], "Examples"),
        ("Statistics", ["Gen"], "ExampleStatistics"),
        ("Trainer", ["Gen"], "Model"),
        ("Pusher", ["Trainer"], "PushedModel"),
    ]
    deploy(tmp_path, "films", "sqlite", nodes, schedule="@daily", retries=3)
    return tmp_path


def test_imports_neither_tfx_nor_this_package():
    imported = set()
    for node in ast.walk(ast.parse(FILE.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"airflow"}


def test_each_node_is_a_task_between_begin_and_end(parse, films):
    dag = parse(films).dag_films
    assert dag.edges == {
        "begin": ["Gen"],
        "end": [],
        "Gen": ["Statistics", "Trainer"],
        "Statistics": ["end"],
        "Trainer": ["Pusher"],
        "Pusher": ["announce"],
        "announce": ["end"],
    }
    assert dag.tasks["announce"].outlets == [("films.pushed", "x-tfrec-meta://films/pushed")]
    assert (dag.tasks["begin"].role, dag.tasks["end"].role) == ("setup", "teardown of begin")


def test_reads_schedule_retries_and_concurrency_from_deployment_and_environment(
    parse, films, monkeypatch
):
    arguments = parse(films).dag_films.arguments
    assert (arguments["schedule"], arguments["default_args"]["retries"]) == ("@daily", 3)
    assert (arguments["max_active_runs"], arguments["max_active_tasks"]) == (1, 1)
    deploy(films, "my-books", "mysql", [("Gen", [], "Examples")])
    monkeypatch.setenv("TFREC_META_SCHEDULE_MY_BOOKS", "@weekly")
    monkeypatch.setenv("TFREC_META_RETRIES", "0")
    books = vars(parse(films))["dag_my-books"].arguments
    assert (books["schedule"], books["default_args"]["retries"]) == ("@weekly", 0)
    assert "max_active_tasks" not in books


def test_a_damaged_pipeline_does_not_hide_the_others(parse, films, caplog):
    (films / "broken").mkdir()
    (films / "broken" / "pipeline.json").write_text("{")
    assert [name for name in vars(parse(films)) if name.startswith("dag_f")] == ["dag_films"]
    assert "No DAG could be made of" in caplog.text


def test_parses_many_pipelines_in_under_a_second(parse, tmp_path):
    nodes = [(f"Node{i}", [f"Node{i - 1}"] if i else [], "Examples") for i in range(30)]
    for number in range(20):
        place = deploy(tmp_path, f"p{number}", "sqlite", nodes)
        record = json.loads((place / "pipeline.json").read_text())
        record["filling"] = "x" * 300_000  # about the size of a real pipeline
        (place / "pipeline.json").write_text(json.dumps(record))
    started = time.process_time()
    module = parse(tmp_path)
    assert time.process_time() - started < 1
    assert len(module.dag_p19.tasks) == 32


# --- Its tasks ---------------------------------------------------------------------------------


@pytest.fixture
def task(parse, films):
    """Returns the tasks by name, a run's context, and the run's folder."""
    dag = parse(films).dag_films
    context = {
        "run_id": "r1",
        "params": {"set": []},
        "ti": SimpleNamespace(try_number=1),
        "outlet_events": {
            ("films.pushed", "x-tfrec-meta://films/pushed"): SimpleNamespace(extra={})
        },
    }
    return dag.tasks, context, films / "home" / "runs" / "r1"


def push(run, state, **properties):
    run.mkdir(parents=True)
    artifact = {"type": "PushedModel", "properties": properties}
    record = {"node": "Pusher", "state": state, "outputs": {"pushed_model": [artifact]}}
    (run / "nodes.jsonl").write_text(json.dumps(record) + '\n{"node": "Tra')


def test_announces_a_new_version_and_its_folder(task):
    tasks, context, run = task
    push(run, "ran", pushed=1, new_version=1, pushed_version="7", pushed_destination="/served/7")
    assert tasks["announce"].execute(context) == "7"
    (event,) = context["outlet_events"].values()
    assert event.extra == {
        "pushed_version": "7",
        "pushed_destination": "/served/7",
        "run_id": "r1",
    }


@pytest.mark.parametrize(
    "state, properties, why",
    [
        ("ran", {"pushed": 0, "reason": "Not pushed: not blessed."}, "not blessed"),
        ("ran", {"pushed": 1, "new_version": 0, "reason": "It is served."}, "It is served"),
        ("cached", {"pushed": 1, "new_version": 1}, "an earlier run pushed"),
    ],
)
def test_announces_nothing_without_a_new_version(task, state, properties, why):
    tasks, context, run = task
    push(run, state, **properties)
    with pytest.raises(SkippedError, match=why):
        tasks["announce"].execute(context)


def test_a_failed_node_fails_its_task(task, monkeypatch, caplog):
    tasks, context, run = task
    caplog.set_level(logging.INFO)
    python = run.parents[2] / "python"
    python.write_text("#!/bin/sh\necho the reason\nexit 3\n")
    python.chmod(0o755)
    record = json.loads((run.parents[2] / "films" / "deployment.json").read_text())
    (run.parents[2] / "films" / "deployment.json").write_text(
        json.dumps({**record, "python": str(python)})
    )
    with pytest.raises(FailedError, match="Trainer failed, exit status 3"):
        tasks["Trainer"].execute(context)
    assert "the reason" in caplog.text
    assert not tasks["Trainer"].running


def test_a_retried_task_starts_a_worker(task, monkeypatch):
    tasks, context, run = task
    calls = []
    client = SimpleNamespace(
        begin=lambda *_: run, start=calls.append, run=lambda run, node, say: calls.append(node) or 0
    )
    monkeypatch.setattr(type(tasks["Trainer"]), "client", lambda self: client)
    tasks["Trainer"].execute(context)
    tasks["Trainer"].execute({**context, "ti": SimpleNamespace(try_number=2)})
    assert calls == ["Trainer", run, "Trainer"]


def test_invalid_settings_and_run_ids_fail_the_task(task):
    tasks, context, _ = task
    with pytest.raises(FailedError, match="deployed without its config"):
        tasks["begin"].execute({**context, "params": {"set": ["tuner.trials=3"]}})
    with pytest.raises(FailedError, match="not a valid folder name"):
        tasks["begin"].execute({**context, "run_id": ".."})


# --- The server --------------------------------------------------------------------------------


def test_reports_a_port_in_use_and_a_missing_airflow(tmp_path, capsys):
    command = ["--pipelines", str(tmp_path), "--home", str(tmp_path / "home")]
    assert airflow_server.main([*command, "--airflow", str(tmp_path / "none")]) == 1
    assert "`make airflow` sets it up" in capsys.readouterr().err
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "airflow").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command += ["--airflow", str(tmp_path), "--port", str(port)]
        assert airflow_server.main(command) == 1
    assert f"Port {port} is in use; choose another" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_a_server_that_ends_leaves_the_callers_other_processes_alone(tmp_path):
    airflow = tmp_path / "bin" / "airflow"
    airflow.parent.mkdir()
    airflow.write_text("#!/bin/sh\necho no database; exit 1\n")
    airflow.chmod(0o700)
    script = """
        import subprocess, sys
        from tfrec_meta.pipeline.runners import airflow_server

        folder, port = sys.argv[1:]
        other = subprocess.Popen(["sleep", "60"])
        command = ["--pipelines", folder, "--home", folder, "--airflow", folder, "--port", port]
        print(airflow_server.main(command), other.poll())
        other.kill()
    """
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        in_use = Script(script, tmp_path, port).communicate(60)
    failed = Script(script, tmp_path, port).communicate(60)
    for (output, error), reason in ((in_use, "is in use"), (failed, "no database")):
        assert reason in error
        assert output.endswith("1 None\n")


def test_ignores_airflow_settings_of_the_calling_process(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "mysql://production")
    monkeypatch.setenv("TFREC_META_METADATA_USER", "recsys")
    found = airflow_server.Server(tmp_path, tmp_path / "h", [tmp_path], 8123).environment()
    assert "production" not in str(found)
    assert found["TFREC_META_METADATA_USER"] == "recsys"
    assert found["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8123/execution/"
    assert found["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
