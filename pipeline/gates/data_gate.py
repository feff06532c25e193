"""DataGate: stops a run whose data does not match its schemas, or moved too far.

ExampleValidator only records anomalies, and compares neither spans nor splits. This node reads the
anomalies, compares, and raises one error that names every feature and reason. What it accepts is
the reference for later runs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv
from absl import logging
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta.io.files import atomic_file, write_bytes, write_text
from tfrec_meta.pipeline.artifacts import AcceptedData
from tfrec_meta.pipeline.components.example_gen import NOT_NUMERIC
from tfrec_meta.pipeline.components.schemas import (
    SCHEMA_FILE,
    load_statistics,
    read_schema,
    write_schema,
)
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.pipeline.configs.data_config import DataConfig
from tfrec_meta.pipeline.example_files import record_batches
from tfrec_meta.pipeline.gates import drift
from tfrec_meta.pipeline.gates.drift import Drift, Limits, Statistics
from tfrec_meta.pipeline.rows.sources import IDS

STATISTICS_FILE = "FeatureStats.pb"
IDS_FILE = "ids.parquet"
REPORT_FILE = "anomalies.json"

_Channel = component_spec.ChannelParameter


@dataclasses.dataclass(frozen=True)
class GateLimits:
    """What DataGate accepts.

    Args:
        drift: the largest accepted drift of the features.
        warn_new_ids: the gate warns if the share of events with a new user or item exceeds this.
        schemas: absolute path of the folder of curated schemas, for messages; None without one.
    """

    drift: Limits
    warn_new_ids: float
    schemas: str | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """A reason not to accept the data.

    Args:
        table: "interactions", "users" or "items".
        column: of the table; None if all columns are concerned.
        words: the reason, without the final period.
    """

    table: str
    column: str | None
    words: str

    def __str__(self) -> str:
        name = self.table if self.column is None else f"{self.table}.{self.column}"
        return f"{name}: {self.words}"


class DataGateSpec(types.ComponentSpec):
    """Inputs, outputs and parameters; `limits` is `GateLimits` as JSON."""

    PARAMETERS = {"limits": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        **{
            f"{table}_{kind}": _Channel(type=artifact_type, optional=table != "interactions")
            for table in IDS
            for kind, artifact_type in (
                ("examples", standard_artifacts.Examples),
                ("statistics", standard_artifacts.ExampleStatistics),
                ("schema", standard_artifacts.Schema),
                ("anomalies", standard_artifacts.ExampleAnomalies),
            )
        },
        "earlier": _Channel(type=AcceptedData, optional=True),
    }
    OUTPUTS = {"accepted": _Channel(type=AcceptedData)}


class Executor(base_executor.BaseExecutor):
    """Checks all tables, then writes the accepted state."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the accepted state, or stops the run.

        Raises:
            ValueError: if the data is not accepted; one line per problem names feature and reason,
                and the last lines how to accept it. Nothing is written then.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        limits = from_json(GateLimits, exec_properties["limits"])
        earlier = [Path(artifact.uri) for artifact in input_dict.get("earlier") or []]
        problems: list[Problem] = []
        drifts: list[Drift] = []
        schemas: dict[str, schema_pb2.Schema] = {}
        statistics: dict[str, dict[str, Statistics]] = {}
        schema_paths: dict[str, Path] = {}
        for table in IDS:
            if not input_dict.get(f"{table}_statistics"):
                continue
            inputs = {
                kind: artifact_utils.get_single_instance(input_dict[f"{table}_{kind}"])
                for kind in ("examples", "statistics", "schema", "anomalies")
            }
            schema_paths[table] = Path(inputs["schema"].uri, SCHEMA_FILE)
            schemas[table] = read_schema(schema_paths[table])
            statistics[table] = load_statistics(inputs["statistics"])
            cells = json.loads(inputs["examples"].get_string_custom_property(NOT_NUMERIC) or "{}")
            problems += _anomalies(table, inputs["anomalies"], statistics[table], cells)
            before = earlier[0] / table / STATISTICS_FILE if earlier else None
            drifts += _drifts(
                table,
                schemas[table],
                statistics[table],
                tfdv.load_stats_binary(str(before)) if before and before.is_file() else None,
                limits.drift,
            )
        problems = list(dict.fromkeys(problems))
        moved = [each for each in drifts if each.is_too_much]
        if problems or moved:
            raise ValueError(_refusal(problems, moved, schema_paths, limits.schemas))

        ids = _ids(input_dict["interactions_examples"][0])
        accepted = artifact_utils.get_single_instance(output_dict["accepted"])
        report: dict[str, Any] = {"drift": [dataclasses.asdict(each) for each in drifts]}
        known = {}
        for name, table in (("user_id", "users"), ("item_id", "items")):
            file = earlier[0] / table / IDS_FILE if earlier else None
            before_ids = pq.read_table(file)[name] if file and file.is_file() else None
            known[table], share = _known_ids(ids[name], before_ids)
            if share is None:
                continue
            report[f"new_{table}"] = share
            accepted.set_float_custom_property(f"new_{table}", share)
            if share > limits.warn_new_ids:
                logging.warning(
                    "%.1f %% of the events have new %s, more than data.warn_new_ids=%g.",
                    100 * share,
                    table,
                    limits.warn_new_ids,
                )
        for table, splits in statistics.items():
            rows = sum(part.datasets[0].num_examples for part in splits.values())
            report[f"{table}_rows"] = int(rows)
            accepted.set_int_custom_property(f"{table}_rows", int(rows))
        _write(Path(accepted.uri), schemas, statistics, known, report)


class DataGate(base_component.BaseComponent):
    """Stops a run whose data does not match its schemas, or moved too far.

    Args:
        config: of the data; `max_drift`, `drift`, `warn_new_ids` and `schemas` are used.
        examples: Examples by table.
        statistics: ExampleStatistics by table.
        schemas: Schema by table.
        anomalies: ExampleAnomalies by table, from ExampleValidator.
        accepted: the AcceptedData of the last run on other data; may be empty when the pipeline
            runs.

    Outputs: `accepted`, AcceptedData. Its custom properties `new_users` and `new_items` are the
    shares of events with a new user or item (absent in the first run), `<table>_rows` the number of
    rows. Its file `anomalies.json` has the same values, and the drift of each feature.
    """

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        config: DataConfig,
        examples: Mapping[str, types.BaseChannel],
        statistics: Mapping[str, types.BaseChannel],
        schemas: Mapping[str, types.BaseChannel],
        anomalies: Mapping[str, types.BaseChannel],
        accepted: types.BaseChannel | None = None,
    ) -> None:
        limits = GateLimits(
            Limits(config.max_drift, dict(config.drift)),
            config.warn_new_ids,
            os.path.abspath(config.schemas) if config.schemas else None,
        )
        by_kind = {
            "examples": examples,
            "statistics": statistics,
            "schema": schemas,
            "anomalies": anomalies,
        }
        channels = {
            f"{table}_{kind}": channels[table]
            for kind, channels in by_kind.items()
            for table in examples
        }
        super().__init__(
            spec=DataGateSpec(
                limits=as_json(limits),
                earlier=accepted,
                accepted=types.Channel(type=AcceptedData),
                **channels,
            )
        )


def read_ids(accepted: Path, table: str) -> pa.ChunkedArray:
    """Returns all accepted ids of users or items, from an AcceptedData's folder."""
    return pq.read_table(accepted / table / IDS_FILE).column(0)


def _anomalies(
    table: str,
    anomalies: types.Artifact,
    statistics: Mapping[str, Statistics],
    cells: Mapping[str, str],
) -> Iterator[Problem]:
    """Yields the anomalies of ExampleValidator.

    `cells` has the first cell of each column that was read as text because of that cell.
    """
    splits = artifact_utils.decode_split_names(anomalies.split_names)
    for split in splits:
        found = anomalies_pb2.Anomalies()
        folder = Path(artifact_utils.get_split_uri([anomalies], split))
        found.ParseFromString((folder / "SchemaDiff.pb").read_bytes())
        where = f" (split {split})" if len(splits) > 1 else ""
        if found.data_missing or not statistics[split].datasets[0].num_examples:
            yield Problem(table, None, f"no rows{where}")
            continue
        for reason in found.dataset_anomaly_info.reason:
            yield Problem(table, None, f"{_lower(reason.description)}{where}")
        for key, info in sorted(found.anomaly_info.items()):
            name = ".".join(info.path.step) or key
            for reason in info.reason:
                yield Problem(table, name, f"{_words(reason, cells.get(name))}{where}")


def _words(reason: anomalies_pb2.AnomalyInfo.Reason, cell: str | None) -> str:
    kind, text = reason.type, reason.description.strip()
    types_of = re.fullmatch(r"Expected data of type: (\w+) but got (\w+)", text)
    if kind == anomalies_pb2.AnomalyInfo.UNEXPECTED_DATA_TYPE and types_of:
        expected, got = (name.replace("STRING", "BYTES") for name in types_of.groups())
        return f"expected {expected}, got {got}" + (f" ({cell})" if cell else "")
    if kind == anomalies_pb2.AnomalyInfo.SCHEMA_MISSING_COLUMN:
        return "the column is missing, or empty in all rows"
    if kind == anomalies_pb2.AnomalyInfo.SCHEMA_NEW_COLUMN:
        return "a new column that the schema does not have"
    if kind == anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES:
        values = text.removeprefix("Examples contain values missing from the schema:").strip()
        return f"values outside its domain: {values}"
    if kind == anomalies_pb2.AnomalyInfo.FEATURE_TYPE_LOW_FRACTION_PRESENT:
        return f"cells are missing: {_lower(text)}"
    return _lower(text)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(". ")


def _drifts(
    table: str,
    schema: schema_pb2.Schema,
    splits: Mapping[str, Statistics],
    before: Statistics | None,
    limits: Limits,
) -> Iterator[Drift]:
    """Yields the drift of features from the last accepted data, and between the splits."""
    # Ids are an open set, and times always change.
    ignored = {*IDS[table], *(("time",) if table == "interactions" else ())}
    features = {
        f"{table}.{feature.name}": feature
        for feature in schema.feature
        if feature.name not in ignored
    }
    for split, now in splits.items():
        if before is not None:
            against = "the last accepted data" + (f", split {split}" if len(splits) > 1 else "")
            yield from drift.between(now, before, against, features, limits)
    yield from drift.between_splits(splits, features, limits)


def _refusal(
    problems: Sequence[Problem],
    moved: Sequence[Drift],
    schema_paths: Mapping[str, Path],
    folder: str | None,
) -> str:
    lines = ["The data is not accepted:", *map(str, problems), *map(str, moved)]
    lines.append("Fix the data. To accept the change,")
    if problems:
        tables = dict.fromkeys(problem.table for problem in problems)
        if folder:
            files = ", ".join(str(Path(folder, f"{table}.pbtxt")) for table in tables)
            lines.append(f"edit {files}.")
        else:
            copies = ", ".join(f"{path} as {table}.pbtxt" for table, path in schema_paths.items())
            lines.append(
                f"copy {copies} into a folder, edit {', '.join(tables)} there, and set "
                "data.schemas to that folder."
            )
    if moved:
        lines.append(f"set {drift.accepting(moved, 'data.drift')} for this run.")
    return "\n".join(lines)


def _ids(examples: types.Artifact) -> dict[str, pa.ChunkedArray]:
    """Returns the ids of all events; other columns are not decoded."""
    wanted = schema_pb2.Schema()
    for name in IDS["interactions"]:
        wanted.feature.add(name=name, type=schema_pb2.BYTES)
    chunks: dict[str, list[pa.Array]] = {name: [] for name in IDS["interactions"]}
    for split in artifact_utils.decode_split_names(examples.split_names):
        folder = Path(artifact_utils.get_split_uri([examples], split))
        files = [str(path) for path in sorted(folder.iterdir())]
        for batch in record_batches(files, wanted):
            for name, parts in chunks.items():
                parts.append(batch.column(name).flatten().cast(pa.string()))
    return {name: pa.chunked_array(parts, pa.string()) for name, parts in chunks.items()}


def _known_ids(
    ids: pa.ChunkedArray, before: pa.ChunkedArray | None
) -> tuple[pa.Array, float | None]:
    """Returns all ids so far, earlier ones first, and the share of events with a new id."""
    distinct = pc.unique(ids)
    if before is None:
        return distinct, None
    new = pc.invert(pc.is_in(ids, value_set=before.combine_chunks()))
    fresh = pc.unique(ids.filter(new))
    share = pc.sum(new).as_py() / len(ids) if len(ids) else 0.0
    return pa.concat_arrays([before.combine_chunks(), fresh]), share


def _write(
    folder: Path,
    schemas: Mapping[str, schema_pb2.Schema],
    statistics: Mapping[str, Mapping[str, Statistics]],
    known: Mapping[str, pa.Array],
    report: Mapping[str, Any],
) -> None:
    for table, schema in schemas.items():
        write_schema(schema, folder / table / SCHEMA_FILE)
        # The largest split represents all splits, which were compared with each other.
        largest = max(statistics[table].values(), key=lambda part: part.datasets[0].num_examples)
        write_bytes(folder / table / STATISTICS_FILE, largest.SerializeToString())
    for table, ids in known.items():
        with atomic_file(folder / table / IDS_FILE) as path:
            pq.write_table(pa.table({IDS[table][0]: ids}), path)
    write_text(folder / REPORT_FILE, json.dumps(report, indent=1))
