"""Runs the nodes of a compiled pipeline one at a time.

`begin_run` creates the folder of a run, `<pipeline's folder>/runs/<run id>`, with the pipeline of
that run. `run_node` runs one node there and appends the outcome to `nodes.jsonl`.

    python -m tfrec_meta.pipeline.runners.nodes run --run .runs/movies/runs/1 --node Trainer
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, outputs_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from tfx.proto.orchestration import pipeline_pb2

from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.metadata_store import open_connection
from tfrec_meta.pipeline.runners import compilation
from tfrec_meta.pipeline.runners.logs import show_log
from tfrec_meta.pipeline.runners.run_folder import (
    NodeRecord,
    NodeState,
    append_record,
    read_records,
    run_folder,
)
from tfrec_meta.pipeline.runners.worker_client import DEPLOYMENT, PIPELINE

_RESOLVER = "tfx.dsl.components.common.resolver.Resolver"

Outputs = dict[str, list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class _Result:
    """The result of a node that finished in this run."""

    state: NodeState
    outputs: Outputs = dataclasses.field(default_factory=dict)


def begin_run(
    ir: pipeline_pb2.Pipeline,
    run_id: str,
    folder: Path | str | None = None,
    deployment: Mapping[str, Any] | None = None,
) -> Path:
    """Creates the folder of a run; a run that has begun keeps its pipeline.

    Args:
        ir: the compiled pipeline.
        run_id: the run's id.
        folder: the pipeline's folder; its root if None.
        deployment: the record that `compilation.deploy` wrote, to be copied into the folder.

    Returns:
        The run's folder, `<folder>/runs/<run id>`.
    """
    run = run_folder(folder or compilation.pipeline_root(ir), run_id)
    run.mkdir(parents=True, exist_ok=True)
    if deployment is not None and not (run / DEPLOYMENT).exists():
        write_text(run / DEPLOYMENT, json.dumps(deployment, indent=1))
    if not (run / PIPELINE).exists():
        compilation.write_pipeline(compilation.with_run_id(ir, run_id), run / PIPELINE)
    return run


def run_node(
    ir: pipeline_pb2.Pipeline, node_id: str, run_id: str, folder: Path | str | None = None
) -> NodeRecord:
    """Runs one node; its upstream nodes must have finished under the same run id.

    A node that has finished under this run id is not run again. A node that was killed or failed
    runs again, from an empty output folder.

    Args:
        ir: the compiled pipeline.
        node_id: the node's id, such as "Trainer".
        run_id: the run's id.
        folder: the pipeline's folder, which receives the records; its root if None.

    Raises:
        ValueError: if the pipeline has no such node.
        Exception: any exception of the node's executor.
    """
    run = run_folder(folder or compilation.pipeline_root(ir), run_id)
    ir = compilation.with_run_id(ir, run_id)
    node = compilation.node_of(ir, node_id)
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    started = time.monotonic()

    def record(state: NodeState, **further: Any) -> NodeRecord:
        return NodeRecord(node_id, state, began, round(time.monotonic() - started, 3), **further)

    try:
        result, was_finished = _launch(ir, node)
    except BaseException as error:
        # KeyboardInterrupt and the like too: the page shows where a run was stopped.
        message = f"{type(error).__name__}: {error}".strip(": ")
        append_record(run, record(NodeState.FAILED, error=message))
        raise
    if was_finished:
        for known in reversed(read_records(run)):
            if known.node == node_id and known.state != NodeState.FAILED:
                return known
    finished = record(result.state, outputs=result.outputs)
    append_record(run, finished)
    return finished


def _launch(ir: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode) -> tuple[_Result, bool]:
    """Returns the result, and whether the node had finished before."""
    node_id = node.node_info.id
    if node.execution_options.HasField("skip"):
        return _Result(NodeState.SKIPPED), False
    deployment = runner_utils.extract_local_deployment_config(ir)
    kind = deployment.metadata_connection_config.WhichOneof("connection_config")
    if kind is None:
        raise ValueError(
            "The pipeline was compiled without a metadata connection; create it with "
            "`metadata_connection_config=metadata_store.metadata_connection(config)`."
        )
    connection = open_connection(getattr(deployment.metadata_connection_config, kind))
    if connection.WhichOneof("config") == "sqlite":
        Path(connection.sqlite.filename_uri).parent.mkdir(parents=True, exist_ok=True)
    store = metadata.Metadata(connection)
    with store as handle:
        result = _finished(handle, node)
        if result is None:
            _remove_leftovers(handle, ir, node)
    if result is not None:
        return result, True
    # TFX passes the rest of the command line to Beam, which must not see this module's arguments.
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        launcher.Launcher(
            pipeline_node=node,
            mlmd_connection=store,
            pipeline_info=ir.pipeline_info,
            pipeline_runtime_spec=ir.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
        ).launch()
    finally:
        sys.argv = arguments
    with store as handle:
        result = _finished(handle, node)
        if result is not None:
            return result, False
        # The launcher only logs that inputs are missing, and returns.
        executions = _executions(handle, node)
        if executions:
            found = execution_lib.get_execution_result(executions[-1], ignore_parse_errors=True)
            message = found.result_message.strip() if found else ""
            raise RuntimeError(
                f"{node_id} did not run; run its upstream nodes first. {message}".strip()
            )
    return _Result(NodeState.SKIPPED), False


def _executions(
    handle: metadata.Metadata, node: pipeline_pb2.PipelineNode
) -> list[metadata_store_pb2.Execution]:
    """Returns the node's executions in this run, oldest first."""
    contexts = context_lib.prepare_contexts(metadata_handle=handle, node_contexts=node.contexts)
    found = execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
    return sorted(found, key=lambda execution: execution.id)


def _finished(handle: metadata.Metadata, node: pipeline_pb2.PipelineNode) -> _Result | None:
    """Returns the result of the node if it has finished in this run.

    The launcher checks this for components too, but would run a resolver again.
    """
    for execution in reversed(_executions(handle, node)):
        if execution_lib.is_execution_successful(execution):
            cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
            if node.node_info.type.name == _RESOLVER:
                cached = False  # a resolver always queries the store
            outputs = execution_lib.get_output_artifacts(handle, execution.id)
            described = {
                key: [_described(artifact) for artifact in artifacts]
                for key, artifacts in outputs.items()
            }
            return _Result(NodeState.CACHED if cached else NodeState.RAN, described)
    return None


def _described(artifact: Any) -> dict[str, Any]:
    stored = artifact.mlmd_artifact
    properties = {
        name: getattr(value, value.WhichOneof("value"))
        for values in (stored.properties, stored.custom_properties)
        for name, value in values.items()
        if value.WhichOneof("value") in ("int_value", "double_value", "string_value", "bool_value")
    }
    return {
        "type": artifact.type_name,
        "uri": artifact.uri,
        "id": artifact.id,
        "properties": dict(sorted(properties.items())),
    }


def _remove_leftovers(
    handle: metadata.Metadata, ir: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode
) -> None:
    """Removes the output of a killed execution: the launcher reuses its folders."""
    resolver = outputs_utils.OutputsResolver(node, ir.pipeline_info, ir.runtime_spec)
    for execution in _executions(handle, node):
        outputs = resolver.generate_output_artifacts(execution.id)
        for key, artifacts in outputs.items():
            existing = [artifact for artifact in artifacts if os.path.exists(artifact.uri)]
            outputs_utils.remove_output_dirs({key: existing})


def run_node_in(run: Path | str, node_id: str) -> NodeRecord:
    """Runs one node of a run that has begun, as soon as no other process runs it.

    The other process may be one that the scheduler considers dead, or that is about to be killed.
    """
    run = Path(run).absolute()
    ir = compilation.read_pipeline(run / PIPELINE)
    compilation.node_of(ir, node_id)  # before the id becomes a part of a file name
    with open(run / f".{node_id}.lock", "w") as lock, _working_directory_of(run):
        _lock(lock, node_id)
        return run_node(ir, node_id, run.name, run.parents[1])


@contextlib.contextmanager
def _working_directory_of(run: Path) -> Iterator[None]:
    """Changes to the directory that the run's relative paths are relative to."""
    deployment = run / DEPLOYMENT
    before = os.getcwd()
    if deployment.exists():
        os.chdir(json.loads(deployment.read_text(encoding="utf-8")).get("directory") or before)
    try:
        yield
    finally:
        os.chdir(before)


def _lock(lock: IO[str], node_id: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{node_id} is running in another process; wait for it or stop it."
                ) from None
            time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: `run` runs one node of a run that has begun."""
    parser = argparse.ArgumentParser(prog="python -m tfrec_meta.pipeline.runners.nodes")
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run one node of a run")
    run.add_argument("--run", type=Path, required=True, help="the run's folder")
    run.add_argument("--node", required=True, help="the node's id, such as Trainer")
    options = parser.parse_args(arguments)
    show_log()
    print(run_node_in(options.run, options.node), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
