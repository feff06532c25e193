"""Compiles a pipeline to a file, and deploys it for a scheduler.

A compiled pipeline is a JSON file (TFX's intermediate representation), which other programs read
without TFX.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.metadata_store import without_credentials
from tfrec_meta.pipeline.runners.worker_client import DEPLOYMENT, PIPELINE

_CLIENT = "worker_client.py"


def compile_pipeline(tfx_pipeline: Any) -> pipeline_pb2.Pipeline:
    """Returns TFX's intermediate representation of a `tfx.dsl.Pipeline`, without a run id.

    Credentials of a database are left out, whatever the pipeline was created with:
    `metadata_store.open_connection` reads them from the environment when a node runs.
    """
    ir = compiler.Compiler().compile(tfx_pipeline)
    config = pipeline_pb2.IntermediateDeploymentConfig()
    if ir.deployment_config.Unpack(config):
        connection = metadata_store_pb2.ConnectionConfig()
        if config.metadata_connection_config.Unpack(connection):
            config.metadata_connection_config.Pack(without_credentials(connection))
            ir.deployment_config.Pack(config)
    return ir


def write_pipeline(ir: pipeline_pb2.Pipeline, path: Path | str) -> Path:
    """Writes a compiled pipeline as JSON; readers see the earlier file or the complete new one."""
    text = json_format.MessageToJson(ir, preserving_proto_field_name=True, sort_keys=True, indent=1)
    write_text(path, text)
    return Path(path)


def read_pipeline(path: Path | str) -> pipeline_pb2.Pipeline:
    """Reads a compiled pipeline.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not a compiled pipeline.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        return json_format.Parse(text, pipeline_pb2.Pipeline())
    except json_format.ParseError as error:
        raise ValueError(
            f"{path} is not a compiled pipeline: {error}. Compile the pipeline again."
        ) from error


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
    """Writes `pipeline.json` and `deployment.json` for a scheduler.

    Args:
        ir: the compiled pipeline.
        folder: output folder.
        pipeline_folder: where the pipeline stores its runs; its root if None.
        config: the YAML file that it was compiled from, for runs with settings of their own.
        settings: settings that override that file, such as "tuner.trials=3".
        schedule: a cron expression or a preset such as "@daily"; None runs on demand only.
        retries: retries of a failed node; None uses the scheduler's setting.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "python": os.path.abspath(sys.executable),
        # Relative paths of the config are relative to the directory where it was compiled.
        "directory": os.getcwd(),
        "folder": os.path.abspath(pipeline_folder or pipeline_root(ir)),
        "client": str(Path(__file__).resolve().with_name(_CLIENT)),
        "config": config and os.path.abspath(config),
        "settings": list(settings),
        "schedule": schedule,
        "retries": retries,
    }
    write_pipeline(ir, folder / PIPELINE)
    write_text(folder / DEPLOYMENT, json.dumps(record, indent=1))
    return folder


def with_run_id(ir: pipeline_pb2.Pipeline, run_id: str) -> pipeline_pb2.Pipeline:
    """Returns a copy of the pipeline with its run id filled in.

    Raises:
        ValueError: if the pipeline has another run id already.
    """
    filled = pipeline_pb2.Pipeline()
    filled.CopyFrom(ir)
    runtime_parameter_utils.substitute_runtime_parameter(
        filled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    compiled_for = filled.runtime_spec.pipeline_run_id.field_value.string_value
    if compiled_for != run_id:
        raise ValueError(f"This pipeline belongs to run {compiled_for!r}, not to {run_id!r}.")
    return filled


def node_of(ir: pipeline_pb2.Pipeline, node_id: str) -> pipeline_pb2.PipelineNode:
    """Returns a node by its id.

    Raises:
        ValueError: if the pipeline has no such node.
    """
    nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in ir.nodes}
    if node_id not in nodes:
        raise ValueError(f"The pipeline has no node {node_id!r}; use one of {', '.join(nodes)}.")
    return nodes[node_id]


def node_ids(ir: pipeline_pb2.Pipeline) -> list[str]:
    """Returns the ids of the nodes, each after those that it waits for."""
    return [node.pipeline_node.node_info.id for node in ir.nodes]


def pipeline_root(ir: pipeline_pb2.Pipeline) -> str:
    """Returns the folder of the pipeline's artifacts."""
    filled = pipeline_pb2.PipelineRuntimeSpec()
    filled.CopyFrom(ir.runtime_spec)
    runtime_parameter_utils.substitute_runtime_parameter(filled, {})  # fills in the default
    return str(filled.pipeline_root.field_value.string_value)
