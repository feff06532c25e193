"""The schemas of the tables: curated, or last accepted; only the first run infers them.

Once there is another schema, no schema is inferred from the data that is validated by it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta import __version__
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.artifacts import AcceptedData
from tfrec_meta.pipeline.components.property_driver import PropertyDriver
from tfrec_meta.pipeline.config_values import VERSION
from tfrec_meta.pipeline.configs.data_config import DataConfig
from tfrec_meta.pipeline.rows.sources import IDS

SCHEMA_FILE = "schema.pbtxt"

# An inferred domain is closed only if each value has so many rows that a new one is unlikely.
_LARGEST_DOMAIN = 100
_ROWS_PER_VALUE = 10

_Channel = component_spec.ChannelParameter
_Parameter = component_spec.ExecutionParameter


class SchemasSpec(types.ComponentSpec):
    """Inputs, outputs and parameters.

    `columns` is JSON, {table: {"named": ..., "lists": ...}}: the columns that the config names, and
    those whose cells are split. `folder` has the curated schemas; it is "" if there are none. The
    driver adds `digest`, the digest of the folder's content.
    """

    PARAMETERS = {"columns": _Parameter(type=str), "folder": _Parameter(type=str)}
    INPUTS = {
        "interactions_statistics": _Channel(type=standard_artifacts.ExampleStatistics),
        "users_statistics": _Channel(type=standard_artifacts.ExampleStatistics, optional=True),
        "items_statistics": _Channel(type=standard_artifacts.ExampleStatistics, optional=True),
        "accepted": _Channel(type=AcceptedData, optional=True),
    }
    OUTPUTS = {
        "interactions": _Channel(type=standard_artifacts.Schema),
        "users": _Channel(type=standard_artifacts.Schema, optional=True),
        "items": _Channel(type=standard_artifacts.Schema, optional=True),
    }


class Driver(PropertyDriver):
    """Adds `digest`, the digest of the curated folder, so that the cache notices edits."""

    def further_properties(self, exec_properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the digest."""
        return {"digest": _digest(exec_properties["folder"])}


class Executor(base_executor.BaseExecutor):
    """Copies or infers the schema of each table."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `schema.pbtxt` for each table with statistics.

        Raises:
            FileNotFoundError: if the curated folder or a table's file in it does not exist.
            ValueError: if a curated file is not a schema or lacks an id column; or if a configured
                column is missing in the data that a schema is inferred from.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        columns = json.loads(exec_properties["columns"])
        accepted = input_dict.get("accepted") or []
        schemas = {}
        for table in IDS:
            statistics = input_dict.get(f"{table}_statistics")
            if not statistics:
                continue
            before = [Path(artifact.uri, table, SCHEMA_FILE) for artifact in accepted]
            if exec_properties["folder"]:
                schema, inferred = curated(Path(exec_properties["folder"]), table), False
            elif before and before[0].is_file():
                schema, inferred = read_schema(before[0]), False
            else:
                named = columns.get(table, {})
                splits = list(load_statistics(statistics[0]).values())
                schema = infer(table, splits, named.get("named", {}), named.get("lists", ()))
                inferred = True
            schemas[table] = schema, inferred
        for table, (schema, inferred) in schemas.items():
            artifact = artifact_utils.get_single_instance(output_dict[table])
            if inferred:
                logging.warning(
                    "The schema of %s was inferred from this data, since no earlier one was "
                    "accepted and data.schemas is not set. Errors in this data would be accepted "
                    "from now on: check %s.",
                    table,
                    Path(artifact.uri, SCHEMA_FILE),
                )
            artifact.set_int_custom_property("inferred", int(inferred))
            write_schema(schema, Path(artifact.uri, SCHEMA_FILE))


class Schemas(base_component.BaseComponent):
    """Chooses the schema of each table.

    Args:
        config: of the data; a relative `schemas` is relative to the current working directory.
        statistics: ExampleStatistics by table, from StatisticsGen.
        accepted: the AcceptedData of the last run on other data; may be empty when the pipeline
            runs.

    Outputs: `interactions`, `users`, `items`: a Schema for each table with statistics. Its custom
    property `inferred` is 1 if it was inferred.
    """

    SPEC_CLASS = SchemasSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        config: DataConfig,
        statistics: Mapping[str, types.BaseChannel],
        accepted: types.BaseChannel | None = None,
    ) -> None:
        columns = {
            name: {"named": dict(table.columns), "lists": sorted(table.lists)}
            for name, table in config.tables.items()
        }
        super().__init__(
            spec=SchemasSpec(
                columns=json.dumps({VERSION: __version__, **columns}, sort_keys=True),
                folder=os.path.abspath(config.schemas) if config.schemas else "",
                accepted=accepted,
                **{f"{name}_statistics": channel for name, channel in statistics.items()},
                **{name: types.Channel(type=standard_artifacts.Schema) for name in statistics},
            )
        )


def infer(
    table: str,
    statistics: Sequence[statistics_pb2.DatasetFeatureStatisticsList],
    named: Mapping[str, str],
    lists: Sequence[str],
) -> schema_pb2.Schema:
    """Returns a schema that the data matches, except for wrong types of ids, times and values.

    Ids are required in every row; other columns must exist, but may have empty cells. Domains are
    closed only for text with few values, each of them frequent.

    Args:
        table: name of the table.
        statistics: of each split.
        named: this pipeline's column name -> the file's, for the columns that the config names.
        lists: columns whose cells are lists.

    Raises:
        ValueError: if a column that the config names is missing in the data.
    """
    schema = tfdv.infer_schema(statistics[0], False, _LARGEST_DOMAIN)
    for more in statistics[1:]:
        schema = tfdv.update_schema(schema, more, False, _LARGEST_DOMAIN)
    known = {feature.name for feature in schema.feature}
    for name in IDS[table]:
        if name not in known:  # present in no row, which the validation reports
            schema.feature.add(name=name)
    for name, source in named.items():
        if name not in known and name not in IDS[table]:
            raise ValueError(
                f"{table}.{name}: the data has no column `{source}`, or no values in it, which "
                f"data.{table}.columns maps to `{name}`; name another column or remove it there."
            )
    found = {
        feature.path.step[0]: feature
        for part in statistics
        for feature in part.datasets[0].features
    }
    for feature in schema.feature:
        _loosen(feature, table, found.get(feature.name), feature.name in lists)
    used = {feature.domain for feature in schema.feature}
    for domain in [domain for domain in schema.string_domain if domain.name not in used]:
        schema.string_domain.remove(domain)
    return schema


def curated(folder: Path, table: str) -> schema_pb2.Schema:
    """Returns the curated schema of a table.

    Raises:
        FileNotFoundError: if the folder or the file does not exist.
        ValueError: if the file is not a schema, or lacks an id column.
    """
    path = folder / f"{table}.pbtxt"
    if not path.is_file():
        what = f"has no {path.name}" if folder.is_dir() else "is not a folder"
        raise FileNotFoundError(
            f"data.schemas={str(folder)!r} {what}; every table needs its curated schema there. "
            "Start with the one that a run without data.schemas infers."
        )
    schema = read_schema(path)
    names = [feature.name for feature in schema.feature]
    for name in IDS[table]:
        if name not in names:
            raise ValueError(f"{path} has no `{name}`, which {table} need; add it.")
    return schema


def read_schema(path: Path) -> schema_pb2.Schema:
    """Reads a schema in the text format of protocol buffers.

    Raises:
        ValueError: if the file is not a schema.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a schema: {error}. Fix the file.") from error


def write_schema(schema: schema_pb2.Schema, path: Path) -> None:
    """Writes a schema in the text format of protocol buffers."""
    write_text(path, text_format.MessageToString(schema))


def load_statistics(
    artifact: types.Artifact,
) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Returns the statistics of each split."""
    splits = artifact_utils.decode_split_names(artifact.split_names)
    return {
        split: stats_artifact_utils.load_statistics(artifact, split).proto() for split in splits
    }


def common_statistics(
    found: statistics_pb2.FeatureNameStatistics,
) -> statistics_pb2.CommonStatistics:
    """Returns the counts of a feature of any type; empty ones if it has no values."""
    stats = found.WhichOneof("stats")
    return getattr(found, stats).common_stats if stats else statistics_pb2.CommonStatistics()


def _loosen(
    feature: schema_pb2.Feature,
    table: str,
    found: statistics_pb2.FeatureNameStatistics | None,
    is_list: bool,
) -> None:
    feature.presence.Clear()
    feature.presence.min_count = 1
    feature.value_count.Clear()
    feature.value_count.min = 1
    is_id = feature.name in IDS[table]
    if is_id:
        feature.presence.min_fraction = 1
        feature.type = schema_pb2.BYTES
    elif table == "interactions" and feature.name in ("value", "time"):
        feature.type = schema_pb2.FLOAT if feature.name == "value" else schema_pb2.INT
    elif found is not None:
        is_list = is_list or common_statistics(found).max_num_values > 1
    if not is_list:
        feature.value_count.max = 1
    domain = feature.WhichOneof("domain_info")
    if domain and (is_id or is_list or not _is_closed(found)):
        feature.ClearField(domain)


def _is_closed(found: statistics_pb2.FeatureNameStatistics | None) -> bool:
    if found is None or not found.string_stats.unique:
        return False
    return common_statistics(found).num_non_missing >= _ROWS_PER_VALUE * found.string_stats.unique


def _digest(folder: str) -> str:
    """Returns the digest of the names and contents of the schemas in a folder; "" without one."""
    if not folder:
        return ""
    total = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.pbtxt")):
        total.update(f"{path.name}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
