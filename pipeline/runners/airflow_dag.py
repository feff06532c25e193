"""The DAG file for Airflow 3.1 and later: one DAG per deployed pipeline, one task per node.

Copy it into a DAG folder; docs/airflow.md explains how, and describes the environment variables. It
imports neither TFX nor this package: the graph comes from `pipeline.json`, and the tasks pass their
nodes to a worker in the environment with TFX.

A run begins with `begin`, which starts the run's warm worker, and ends with `end`, which stops the
worker and writes the run's page, also when nodes failed. After the Pusher, `announce` emits the
asset event `<pipeline>.pushed`; it is skipped if no new version was pushed. The DAG run's id is the
pipeline's run id, so that a retried task continues the same run.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from airflow.sdk import DAG, Asset, BaseOperator, Param

try:
    from airflow.sdk.exceptions import AirflowException, AirflowSkipException
except ImportError:  # before Airflow 3.2
    from airflow.exceptions import AirflowException, AirflowSkipException

PIPELINES = "TFREC_META_PIPELINES"  # deployed pipelines, or folders of them, separated by ":"
SCHEDULE = "TFREC_META_SCHEDULE"  # for all DAGs, or with _<DAG> for one: cron, or @daily
RETRIES = "TFREC_META_RETRIES"
RETRY_SECONDS = "TFREC_META_RETRY_SECONDS"

SETTINGS = "Settings that override the config in this run, such as tuner.trials=3, one per line."


class RunOperator(BaseOperator):
    """A task of a run of a deployed pipeline.

    Args:
        deployed: the folder with `pipeline.json` and `deployment.json`.
    """

    running = False

    def __init__(self, *, deployed: str, **further: Any) -> None:
        super().__init__(**further)
        self.deployed = deployed

    def client(self) -> ModuleType:
        """Imports the worker client from the environment with TFX."""
        path = deployment_of(Path(self.deployed))["client"]
        spec = importlib.util.spec_from_file_location("tfrec_meta_worker_client", path)
        if spec is None or spec.loader is None:
            raise AirflowException(f"{path} does not exist; deploy the pipeline again.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def run_folder(self, context: Any) -> Path:
        """Returns the run's folder, creating it if needed."""
        settings = context["params"].get("set") or []
        try:
            return Path(self.client().begin(self.deployed, context["run_id"], settings))
        except ValueError as error:
            raise AirflowException(str(error)) from None

    def on_kill(self) -> None:
        """Closes the connection of the running node, which ends the node."""
        if self.running:
            raise SystemExit(143)


class Begin(RunOperator):
    """Creates the run's folder, and starts its worker."""

    def execute(self, context: Any) -> str:
        run = self.run_folder(context)
        pid = self.client().start(run)
        self.log.info("The run's folder: %s; its worker: process %d", run, pid)
        return str(run)


class Node(RunOperator):
    """Runs one node, and logs its output."""

    def __init__(self, *, node: str, **further: Any) -> None:
        super().__init__(**further)
        self.node = node

    def execute(self, context: Any) -> None:
        run = self.run_folder(context)
        if context["ti"].try_number > 1:
            self.client().start(run)  # if the worker died; a second worker ends immediately
        self.running = True
        try:
            status = self.client().run(run, self.node, self.log.info)
        except ConnectionError as error:
            raise AirflowException(str(error)) from None
        finally:
            self.running = False
        if status:
            raise AirflowException(f"{self.node} failed, exit status {status}; see the log above.")


class Announce(RunOperator):
    """Succeeds, and emits the event of its asset, if this run pushed a new version."""

    def execute(self, context: Any) -> str:
        pushed = None
        for record in records_of(self.run_folder(context)):
            for artifact in [a for made in record["outputs"].values() for a in made]:
                if artifact["type"] == "PushedModel" and record["state"] == "ran":
                    pushed = artifact["properties"]
        if pushed is None:
            raise AirflowSkipException(
                "The Pusher did not run: an earlier run pushed this version."
            )
        if not pushed.get("new_version", pushed.get("pushed")):
            raise AirflowSkipException(pushed.get("reason") or "No new version was pushed.")
        extra = {key: pushed.get(key) for key in ("pushed_version", "pushed_destination")}
        for asset in self.outlets:
            context["outlet_events"][asset].extra.update(extra, run_id=context["run_id"])
        return str(extra["pushed_version"])


class End(RunOperator):
    """Stops the worker, and writes the run's page."""

    def execute(self, context: Any) -> None:
        run = self.run_folder(context)
        self.client().stop(run)
        deployment = deployment_of(run)
        command = [deployment.get("python") or sys.executable, "-m"]
        command += ["tfrec_meta.pipeline.pages.run_page", "--run", str(run)]
        finished = subprocess.run(
            command,
            cwd=deployment.get("directory"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in (finished.stdout + finished.stderr).splitlines():
            self.log.info(line)
        if finished.returncode:
            # The nodes have finished: a missing page must not fail the run.
            self.log.warning("The run's page was not written, exit status %d", finished.returncode)


def deployment_of(folder: Path) -> dict[str, Any]:
    """Reads the deployment record of a pipeline."""
    record = json.loads((folder / "deployment.json").read_text(encoding="utf-8"))
    assert isinstance(record, dict), f"{folder} contains no deployment; deploy the pipeline again"
    return record


def records_of(run: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a run's nodes, oldest first."""
    for line in (run / "nodes.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # a kill may leave an incomplete last line


def deployed_pipelines() -> list[Path]:
    """Returns the folders with a `pipeline.json`, from the environment or next to this file."""
    named = os.environ.get(PIPELINES) or str(Path(__file__).parent / "pipelines")
    found: list[Path] = []
    for path in map(Path, named.split(os.pathsep)):
        inside = [path] if (path / "pipeline.json").exists() else sorted(path.glob("*/"))
        found += [folder for folder in inside if (folder / "pipeline.json").exists()]
    return found


def dag_of(folder: Path) -> DAG:
    """Returns the DAG of one deployed pipeline."""
    pipeline = json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))
    deployment = deployment_of(folder)
    name = pipeline["pipeline_info"]["id"]
    connection = pipeline["deployment_config"].get("metadata_connection_config", {})
    further = {}
    if "sqlite" in connection:
        further["max_active_tasks"] = 1  # SQLite allows one writer
    for_this_dag = f"{SCHEDULE}_{re.sub('[^A-Z0-9]', '_', name.upper())}"
    retries = os.environ.get(RETRIES) or deployment.get("retries")
    dag = DAG(
        dag_id=name,
        description="From data to a served recommender, with TFX",
        schedule=os.environ.get(for_this_dag)
        or os.environ.get(SCHEDULE)
        or deployment.get("schedule"),
        start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),  # noqa: UP017
        catchup=False,
        max_active_runs=1,  # a run reads the results of the previous one
        params={
            "set": Param([], type="array", items={"type": "string"}, description=SETTINGS),
        },
        default_args={
            "retries": 1 if retries is None else int(retries),
            "retry_delay": datetime.timedelta(seconds=float(os.environ.get(RETRY_SECONDS) or 30)),
        },
        tags=["tfrec-meta"],
        **further,
    )
    pushed = Asset(name=f"{name}.pushed", uri=f"x-tfrec-meta://{name}/pushed")
    deployed = str(folder)
    with dag:
        begin = Begin(task_id="begin", deployed=deployed)
        end = End(task_id="end", deployed=deployed)
        tasks: dict[str, Node] = {}
        for entry in pipeline["nodes"]:
            node = entry["pipeline_node"]
            node_id = node["node_info"]["id"]
            tasks[node_id] = Node(task_id=node_id, node=node_id, deployed=deployed)
            upstream = [tasks[name] for name in node.get("upstream_nodes", [])]
            tasks[node_id].set_upstream(upstream or [begin])
            outputs = node.get("outputs", {}).get("outputs", {}).values()
            if any(o["artifact_spec"]["type"]["name"] == "PushedModel" for o in outputs):
                announce = Announce(
                    task_id="announce", deployed=deployed, outlets=[pushed], retries=0
                )
                tasks[node_id] >> announce >> end
        for task in tasks.values():
            if not task.downstream_list:
                task >> end
        # A teardown runs after failed nodes too, and does not mark a failed run as successful.
        begin.as_setup()
        end.as_teardown(setups=begin)
    return dag


for _folder in deployed_pipelines():
    try:
        _dag = dag_of(_folder)
        globals()[f"dag_{_dag.dag_id}"] = _dag
    except Exception:  # one damaged pipeline must not hide the others
        logging.getLogger(__name__).exception("No DAG could be made of %s", _folder)
