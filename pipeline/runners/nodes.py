"""A pipeline as a file, and one of its nodes at a time.

Compiled, a pipeline is a JSON file (TFX's intermediate representation), which other programs read
without TFX. `begin_run` gives a run its folder, `<pipeline's folder>/runs/<run id>`, with the
pipeline as it is in that run; `run_node` runs one node there, and notes in `nodes.jsonl` what
became of it.

    python -m tfrec_meta.pipeline.runners.nodes run --run .runs/movies/runs/1 --node Trainer
"""

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from absl import flags, logging
from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import (
    launcher,
    outputs_utils,
    runtime_parameter_utils,
)
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from tfx.proto.orchestration import pipeline_pb2

from tfrec_meta.pipeline.config import PipelineConfig

PIPELINE = "pipeline.json"
DEPLOYMENT = "deployment.json"
RECORDS = "nodes.jsonl"

# Where a database's connection is named; a user and a password never go into a file.
ENVIRONMENT = "TFREC_META_METADATA_"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.~:+-]*")
_RESOLVER = "tfx.dsl.components.common.resolver.Resolver"


@dataclasses.dataclass(frozen=True)
class NodeRecord:
    """What became of one node of a run.

    Args:
        node: its id.
        state: "ran", "cached" (its outputs are an earlier run's), "skipped" (it had nothing to do)
            or "failed".
        began: in ISO 8601, UTC.
        seconds: that it took.
        error: why it failed.
        outputs: output key -> artifacts, each with `type`, `uri`, `id` and `properties`.
    """

    node: str
    state: str
    began: str
    seconds: float
    error: str | None = None
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)


# --- A pipeline as a file ----------------------------------------------------------------------


def compile_pipeline(tfx_pipeline: Any) -> pipeline_pb2.Pipeline:
    """TFX's intermediate representation of a `tfx.dsl.Pipeline`, its run id still open.

    Of a MySQL or PostgreSQL connection nothing but the kind is kept, whatever the pipeline was
    given: `run_node` reads the rest from the environment.
    """
    ir = compiler.Compiler().compile(tfx_pipeline)
    config = pipeline_pb2.IntermediateDeploymentConfig()
    if ir.deployment_config.Unpack(config):
        connection = metadata_store_pb2.ConnectionConfig()
        if config.metadata_connection_config.Unpack(connection):
            kind = connection.WhichOneof("config")
            if kind in ("mysql", "postgresql"):
                bare = metadata_store_pb2.ConnectionConfig()
                getattr(bare, kind).SetInParent()
                config.metadata_connection_config.Pack(bare)
                ir.deployment_config.Pack(config)
    return ir


def write_pipeline(ir: pipeline_pb2.Pipeline, path: Path | str) -> Path:
    """Writes a compiled pipeline as JSON; readers see the earlier file or the whole new one."""
    text = json_format.MessageToJson(ir, preserving_proto_field_name=True, sort_keys=True, indent=1)
    return _write(Path(path), text)


def read_pipeline(path: Path | str) -> pipeline_pb2.Pipeline:
    """Reads what `write_pipeline` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no compiled pipeline.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        return json_format.Parse(text, pipeline_pb2.Pipeline())
    except json_format.ParseError as error:
        raise ValueError(f"{path} is no compiled pipeline: {error}") from error


def deploy(
    ir: pipeline_pb2.Pipeline,
    folder: Path | str,
    *,
    pipeline_folder: Path | str | None = None,
    config: Path | str | None = None,
    settings: Sequence[str] = (),
    schedule: str | None = None,
    retries: int | None = None,
) -> Path:
    """Lays out a compiled pipeline for a scheduler: `pipeline.json`, `deployment.json`.

    Args:
        ir: the compiled pipeline.
        folder: to write into; its name is the DAG's.
        pipeline_folder: where the pipeline keeps its runs; its root if None.
        config: the YAML file that it was compiled from, for runs with settings of their own.
        settings: what went over that file, as "tuner.trials=3".
        schedule: a cron expression or a preset such as "@daily"; None runs on demand only.
        retries: of a failed node; None leaves it to the scheduler's side.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "python": os.path.abspath(sys.executable),
        # Relative paths of the config are relative to where it was compiled.
        "directory": os.getcwd(),
        "folder": os.path.abspath(pipeline_folder or _root(ir)),
        "client": str(Path(__file__).resolve().with_name("worker_client.py")),
        "config": config and os.path.abspath(config),
        "settings": list(settings),
        "schedule": schedule,
        "retries": retries,
    }
    write_pipeline(ir, folder / PIPELINE)
    _write(folder / DEPLOYMENT, json.dumps(record, indent=1))
    return folder


# --- Where metadata lives ----------------------------------------------------------------------


def metadata_connection(config: PipelineConfig) -> metadata_store_pb2.ConnectionConfig:
    """What a pipeline of `config` is to be created with.

    SQLite's file is `<the pipeline's folder>/metadata.sqlite`; its folder is made. Of MySQL and
    PostgreSQL it holds the kind alone: host, port, database, user and password are read from
    TFREC_META_METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD when a node runs, so that no
    compiled pipeline carries them.
    """
    connection = metadata_store_pb2.ConnectionConfig()
    if config.metadata == "sqlite":
        config.folder.mkdir(parents=True, exist_ok=True)
        connection.sqlite.filename_uri = str(config.folder / "metadata.sqlite")
        connection.sqlite.connection_mode = (
            metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        )
    else:
        getattr(connection, config.metadata).SetInParent()
    return connection


def open_connection(
    connection: metadata_store_pb2.ConnectionConfig, environment: Mapping[str, str] = os.environ
) -> metadata_store_pb2.ConnectionConfig:
    """The connection with what the environment says of a database; SQLite's stays as it is.

    Raises:
        ValueError: for a variable that is missing or makes no sense, by name.
    """
    kind = connection.WhichOneof("config")
    if kind not in ("mysql", "postgresql"):
        return connection

    def value(name: str, default: str | None = None) -> str:
        found = environment.get(ENVIRONMENT + name) or default
        if found is None:
            raise ValueError(f"Metadata is kept in {kind}: set {ENVIRONMENT}{name}.")
        return found

    port = value("PORT", "3306" if kind == "mysql" else "5432")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{ENVIRONMENT}PORT={port!r} is no port.")
    opened = metadata_store_pb2.ConnectionConfig()
    if kind == "mysql":
        opened.mysql.host = value("HOST")
        opened.mysql.port = int(port)
        opened.mysql.database = value("DATABASE", "tfrec_meta")
        opened.mysql.user = value("USER")
        opened.mysql.password = value("PASSWORD", "")
    else:
        opened.postgresql.host = value("HOST")
        opened.postgresql.port = port
        opened.postgresql.dbname = value("DATABASE", "tfrec_meta")
        opened.postgresql.user = value("USER")
        opened.postgresql.password = value("PASSWORD", "")
    return opened


# --- A run and its nodes -----------------------------------------------------------------------


def run_folder(pipeline_folder: Path | str, run_id: str) -> Path:
    """Where a run keeps its pipeline, its records, its worker's socket and its page.

    Raises:
        ValueError: if the run id can't name a folder.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"The run id {run_id!r} can't name a folder; use letters, digits and '_.~:+-', "
            "beginning with a letter or a digit."
        )
    return Path(pipeline_folder) / "runs" / run_id


def begin_run(
    ir: pipeline_pb2.Pipeline,
    run_id: str,
    folder: Path | str | None = None,
    deployment: Mapping[str, Any] | None = None,
) -> Path:
    """Makes the run's folder; a run that has begun already keeps the pipeline that it has.

    Args:
        ir: the compiled pipeline.
        run_id: of the run.
        folder: the pipeline's; its root if None.
        deployment: what `deploy` wrote, to be kept beside.

    Returns:
        The run's folder, `<folder>/runs/<run id>`.
    """
    run = run_folder(folder or _root(ir), run_id)
    run.mkdir(parents=True, exist_ok=True)
    if deployment is not None and not (run / DEPLOYMENT).exists():
        _write(run / DEPLOYMENT, json.dumps(deployment, indent=1))
    if not (run / PIPELINE).exists():
        write_pipeline(_of_run(ir, run_id), run / PIPELINE)
    return run


def run_node(
    ir: pipeline_pb2.Pipeline, node_id: str, run_id: str, folder: Path | str | None = None
) -> NodeRecord:
    """Runs one node, whose upstream nodes have run under the same run id.

    A node that has finished under this run id is not run again. One that was killed or failed is,
    from a clean output folder.

    Args:
        ir: the compiled pipeline.
        node_id: as "Trainer".
        run_id: of the run.
        folder: the pipeline's, which takes the records; its root if None.

    Raises:
        ValueError: if the pipeline has no such node.
        Exception: whatever the node's executor raised.
    """
    run = run_folder(folder or _root(ir), run_id)
    ir = _of_run(ir, run_id)
    node = _node(ir, node_id)
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    started = time.monotonic()

    def record(state: str, **further: Any) -> NodeRecord:
        return NodeRecord(node_id, state, began, round(time.monotonic() - started, 3), **further)

    try:
        made, earlier = _launch(ir, node)
    except BaseException as error:
        # KeyboardInterrupt and the like too: the page shows where a run was stopped.
        _append(run, record("failed", error=f"{type(error).__name__}: {error}".strip(": ")))
        raise
    if earlier:
        for known in reversed(read_records(run)):
            if known.node == node_id and known.state != "failed":
                return known
    done = record(made[0], outputs=made[1])
    _append(run, done)
    return done


def read_records(run: Path | str) -> list[NodeRecord]:
    """The records of a run, oldest first; a node that was retried has several."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in (Path(run) / RECORDS).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the end of a record that a kill cut off
                found.append(NodeRecord(**json.loads(line)))
    return found


def _launch(
    ir: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode
) -> tuple[tuple[str, dict[str, list[dict[str, Any]]]], bool]:
    """((state, outputs), whether it had finished before)."""
    node_id = node.node_info.id
    if node.execution_options.HasField("skip"):
        return ("skipped", {}), False
    deployment = runner_utils.extract_local_deployment_config(ir)
    kind = deployment.metadata_connection_config.WhichOneof("connection_config")
    if kind is None:
        raise ValueError(
            "The pipeline was compiled without a metadata connection; create it with "
            "`metadata_connection_config=nodes.metadata_connection(config)`."
        )
    connection = open_connection(getattr(deployment.metadata_connection_config, kind))
    if connection.WhichOneof("config") == "sqlite":
        Path(connection.sqlite.filename_uri).parent.mkdir(parents=True, exist_ok=True)
    store = metadata.Metadata(connection)
    with store as m:
        finished = _finished(m, node)
        if finished is None:
            _remove_leftovers(m, ir, node)
    if finished is not None:
        return finished, True
    # TFX hands the rest of the command line on to Beam: ours is none of Beam's business.
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
    with store as m:
        finished = _finished(m, node)
        if finished is not None:
            return finished, False
        # The launcher only logs that inputs are missing, and returns.
        executions = _executions(m, node)
        if executions:
            result = execution_lib.get_execution_result(executions[-1], ignore_parse_errors=True)
            said = result.result_message.strip() if result else ""
            raise RuntimeError(f"{node_id} did not run; have its upstream nodes? {said}".strip())
    return ("skipped", {}), False


def _executions(
    m: metadata.Metadata, node: pipeline_pb2.PipelineNode
) -> list[metadata_store_pb2.Execution]:
    """The node's executions in this run, oldest first."""
    contexts = context_lib.prepare_contexts(metadata_handle=m, node_contexts=node.contexts)
    found = execution_lib.get_executions_associated_with_all_contexts(m, contexts)
    return sorted(found, key=lambda execution: execution.id)


def _finished(
    m: metadata.Metadata, node: pipeline_pb2.PipelineNode
) -> tuple[str, dict[str, list[dict[str, Any]]]] | None:
    """State and outputs of the node if it has finished in this run.

    The launcher asks this of components, too, but would run a resolver again.
    """
    for execution in reversed(_executions(m, node)):
        if execution_lib.is_execution_successful(execution):
            cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
            if node.node_info.type.name == _RESOLVER:
                cached = False  # it has looked, and says what it found
            outputs = execution_lib.get_output_artifacts(m, execution.id)
            described = {
                key: [_described(artifact) for artifact in artifacts]
                for key, artifacts in outputs.items()
            }
            return "cached" if cached else "ran", described
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
    m: metadata.Metadata, ir: pipeline_pb2.Pipeline, node: pipeline_pb2.PipelineNode
) -> None:
    """Removes what a killed execution wrote: the launcher gives its folders to the next one."""
    resolver = outputs_utils.OutputsResolver(node, ir.pipeline_info, ir.runtime_spec)
    for execution in _executions(m, node):
        outputs = resolver.generate_output_artifacts(execution.id)
        for key, artifacts in outputs.items():
            there = [artifact for artifact in artifacts if os.path.exists(artifact.uri)]
            outputs_utils.remove_output_dirs({key: there})


def _of_run(ir: pipeline_pb2.Pipeline, run_id: str) -> pipeline_pb2.Pipeline:
    """A copy of the pipeline with its run id filled in."""
    filled = pipeline_pb2.Pipeline()
    filled.CopyFrom(ir)
    runtime_parameter_utils.substitute_runtime_parameter(
        filled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    its = filled.runtime_spec.pipeline_run_id.field_value.string_value
    if its != run_id:
        raise ValueError(f"This pipeline belongs to run {its!r}, not to {run_id!r}.")
    return filled


def _node(ir: pipeline_pb2.Pipeline, node_id: str) -> pipeline_pb2.PipelineNode:
    nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in ir.nodes}
    if node_id not in nodes:
        raise ValueError(f"There is no node {node_id!r}; there are {', '.join(nodes)}.")
    return nodes[node_id]


def _root(ir: pipeline_pb2.Pipeline) -> str:
    filled = pipeline_pb2.PipelineRuntimeSpec()
    filled.CopyFrom(ir.runtime_spec)
    runtime_parameter_utils.substitute_runtime_parameter(filled, {})  # its default
    return str(filled.pipeline_root.field_value.string_value)


def _append(run: Path, record: NodeRecord) -> None:
    """Appends one line, whole, whoever else writes and whatever a kill left unfinished."""
    run.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dataclasses.asdict(record), sort_keys=True) + "\n"
    with open(run / RECORDS, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())


def _write(path: Path, text: str) -> Path:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


# --- On the command line -----------------------------------------------------------------------


# Said by every node, of no use to anybody.
_NOISE = ("MetadataStore with DB connection initialized", "Fallback to non-ZetaSQL")


class _Shorten(logging.logging.Filter):
    """Drops noise, and keeps the first line of messages that TFX writes out over hundreds."""

    def filter(self, record: Any) -> bool:
        if record.levelno <= logging.logging.WARNING:
            text = record.getMessage()
            if text.startswith(_NOISE):
                return False
            first, _, rest = text.partition("\n")
            if record.levelno <= logging.logging.INFO and (rest or len(first) > 300):
                record.msg, record.args = first[:300] + " …", ()
        return True


def show_log() -> None:
    """TFX's log from INFO on, to standard error, without written-out messages."""
    logging.use_absl_handler()
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # or every log would begin with a warning of absl's
    handler = logging.get_absl_handler()
    if not any(isinstance(known, _Shorten) for known in handler.filters):
        handler.addFilter(_Shorten())
    logging.set_verbosity(logging.INFO)


@contextlib.contextmanager
def _inside(run: Path) -> Iterator[None]:
    """In the directory that the run's relative paths are relative to."""
    deployment = run / DEPLOYMENT
    before = os.getcwd()
    if deployment.exists():
        os.chdir(json.loads(deployment.read_text(encoding="utf-8")).get("directory") or before)
    try:
        yield
    finally:
        os.chdir(before)


def run_node_in(run: Path | str, node_id: str) -> NodeRecord:
    """Runs one node of a run that has begun, as soon as no other process runs it.

    That may be one of which the scheduler thinks that it is dead, or that is about to be.
    """
    run = Path(run).absolute()
    ir = read_pipeline(run / PIPELINE)
    _node(ir, node_id)  # it names a file
    with open(run / f".{node_id}.lock", "w") as lock, _inside(run):
        _lock(lock, node_id)
        return run_node(ir, node_id, run.name, run.parents[1])


def _lock(lock: IO[str], node_id: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{node_id} is running already, in another process.") from None
            time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    """`run` runs one node of a run that has begun."""
    parser = argparse.ArgumentParser(prog="python -m tfrec_meta.pipeline.runners.nodes")
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run one node of a run")
    run.add_argument("--run", type=Path, required=True, help="the run's folder")
    run.add_argument("--node", required=True)
    options = parser.parse_args(arguments)
    show_log()
    done = run_node_in(options.run, options.node)
    print(summary(done), flush=True)
    return 0


def summary(record: NodeRecord) -> str:
    """One line for a log."""
    uris = [artifact["uri"] for made in record.outputs.values() for artifact in made]
    where = f": {', '.join(uris)}" if uris else ""
    return f"{record.node} {record.state}, {record.seconds:.1f} s{where}"


if __name__ == "__main__":
    sys.exit(main())
