"""SplitGate: stops a run whose validation or test split differs too much from the train split.

DataGate checks the tables as they come in; train, validation and test are created later, by
Histories. No other node notices if the search and the ranking gate evaluate rows of another kind
than those that the model was trained on.
"""

from __future__ import annotations

import dataclasses
import glob
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta.data.feedback import TARGET
from tfrec_meta.features import transform as names
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline import events
from tfrec_meta.pipeline.artifacts import CatalogueTables, SplitComparison
from tfrec_meta.pipeline.components.schemas import SCHEMA_FILE, read_schema
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.pipeline.example_files import record_batches
from tfrec_meta.pipeline.gates import drift
from tfrec_meta.pipeline.gates.drift import Limits, Statistics
from tfrec_meta.pipeline.rows.surveys import declared_columns

DRIFT_FILE = "drift.json"


def compared_features(
    schema: schema_pb2.Schema, declared: Collection[str] = ()
) -> dict[str, schema_pb2.Feature]:
    """Returns the compared features of Histories: "<table>.<column>" -> feature.

    These are values, context and user attributes. Ids and histories are open sets, a split by time
    separates the times, and all splits share the items.

    Args:
        schema: of Histories, in which a column of the users table is also present as `user/age`.
        declared: the columns that a declared feedback added; they are not compared.
    """
    known = {feature.name for feature in schema.feature}
    users = {name for name in known if names.user_column(name) in known}
    ignored = {names.USER_ID, names.ITEM_ID, names.TIME, names.HISTORY, *declared}
    of_tables = (names.user_column(""), names.item_column(""))
    return {
        f"{'users' if feature.name in users else 'interactions'}.{feature.name}": feature
        for feature in schema.feature
        if feature.name not in ignored and not feature.name.startswith(of_tables)
    }


class SplitGateSpec(types.ComponentSpec):
    """Inputs, outputs and parameters; `limits` is `Limits` as JSON."""

    PARAMETERS = {"limits": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
        "catalogue": component_spec.ChannelParameter(type=CatalogueTables),
    }
    OUTPUTS = {"compared": component_spec.ChannelParameter(type=SplitComparison)}


class Executor(base_executor.BaseExecutor):
    """Compares validation and test with train.

    Validation and test have only target events of a declared feedback, so they are compared with
    the target events of train.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the drift of each feature, or stops the run.

        Raises:
            ValueError: if features moved too far; one line per feature names the split, the measure
                and the value, and the last line how to accept it. Nothing is written then.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        limits = from_json(Limits, exec_properties["limits"])
        schema = Path(artifact_utils.get_single_uri(input_dict["schema"]), SCHEMA_FILE)
        feedback = events.declared_feedback(artifact_utils.get_single_uri(input_dict["catalogue"]))
        declared = declared_columns(feedback)
        features = compared_features(read_schema(schema), declared)
        splits = {
            split: _statistics(
                artifact_utils.get_split_uri(input_dict["examples"], split),
                features,
                TARGET in declared,
            )
            for split in names.EVENT_SPLITS
        }
        drifts = list(drift.between_splits(splits, features, limits))
        moved = [each for each in drifts if each.is_too_much]
        if moved:
            raise ValueError(
                "\n".join(
                    [
                        "The splits differ too much:",
                        *map(str, moved),
                        "Fix the data or use another split. To accept the difference,",
                        f"set {drift.accepting(moved, 'data.split_drift')} for this run.",
                    ]
                )
            )
        folder = Path(artifact_utils.get_single_uri(output_dict["compared"]))
        report = {"drift": [dataclasses.asdict(each) for each in drifts]}
        write_text(folder / DRIFT_FILE, json.dumps(report, indent=1))


class SplitGate(base_component.BaseComponent):
    """Stops a run whose validation or test rows differ too much from the train rows.

    Args:
        limits: the largest accepted drift from train.
        examples: Examples of Histories.
        schema: Schema of Histories.
        catalogue: CatalogueTables of Histories, with the declared feedback.

    Outputs: `compared`, a SplitComparison.
    """

    SPEC_CLASS = SplitGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        limits: Limits,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        catalogue: types.BaseChannel,
    ) -> None:
        super().__init__(
            spec=SplitGateSpec(
                limits=as_json(limits),
                examples=examples,
                schema=schema,
                catalogue=catalogue,
                compared=types.Channel(type=SplitComparison),
            )
        )


def _statistics(
    folder: str, features: Mapping[str, schema_pb2.Feature], of_target: bool
) -> Statistics:
    """Returns statistics of the given features; histories, which are long, are not decoded.

    Args:
        folder: of the split.
        features: the features.
        of_target: whether only target events count.
    """
    columns = schema_pb2.Schema(feature=features.values())
    if of_target:
        columns.feature.add(name=TARGET, type=schema_pb2.INT)
    table = pa.Table.from_batches(list(record_batches(glob.glob(f"{folder}/*"), columns)))
    if of_target:
        is_target = pc.equal(pc.list_flatten(table[TARGET]), 1)
        table = table.filter(is_target).drop_columns([TARGET])
    (rows,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    return stats_impl.generate_statistics_in_memory(rows)
