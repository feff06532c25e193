"""SplitGate: the rows that a model is judged by have to be like those that it learns from.

DataGate sees the tables as they come in; train, validation and test are made later, by Histories.
Where that goes wrong nothing else tells: the search chooses and the ranking gate blesses by rows
that are of another kind.
"""

from __future__ import annotations

import dataclasses
import glob
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.artifacts import ComparedSplits
from tfrec_meta.pipeline.components.schemas import SCHEMA_FILE, read_schema
from tfrec_meta.pipeline.config import as_json, from_json
from tfrec_meta.pipeline.events import record_batches
from tfrec_meta.pipeline.gates import drift
from tfrec_meta.pipeline.gates.drift import Limits, Statistics

DRIFT_FILE = "drift.json"


def compared_features(schema: schema_pb2.Schema) -> dict[str, schema_pb2.Feature]:
    """What is compared of the rows of Histories: "<table>.<column>" -> its feature.

    Values, context and the users' attributes. Ids are open, histories are ids, and a split by time
    parts the times; items are the same for all splits.

    Args:
        schema: of Histories, in which a column of the users table stands as `user/age`, too.
    """
    known = {feature.name for feature in schema.feature}
    users = {name for name in known if names.user_column(name) in known}
    passed_over = {names.USER_ID, names.ITEM_ID, names.TIME, names.HISTORY}
    of_tables = (names.user_column(""), names.item_column(""))
    return {
        f"{'users' if feature.name in users else 'interactions'}.{feature.name}": feature
        for feature in schema.feature
        if feature.name not in passed_over and not feature.name.startswith(of_tables)
    }


class SplitGateSpec(types.ComponentSpec):
    """What `SplitGate` takes and gives; `limits` is `Limits` as JSON."""

    PARAMETERS = {"limits": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {"compared": component_spec.ChannelParameter(type=ComparedSplits)}


class Executor(base_executor.BaseExecutor):
    """Compares validation and test with train."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Lets the splits through, and writes how far each feature moved; or raises.

        Raises:
            ValueError: with a line for each feature that moved too far, naming the split and by how
                much, and how that could be accepted. Then nothing is written.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        limits = from_json(Limits, exec_properties["limits"])
        schema = Path(artifact_utils.get_single_uri(input_dict["schema"]), SCHEMA_FILE)
        features = compared_features(read_schema(schema))
        splits = {
            split: _statistics(
                artifact_utils.get_split_uri(input_dict["examples"], split), features
            )
            for split in names.EVENT_SPLITS
        }
        drifts = list(drift.between_splits(splits, features, limits))
        moved = [each for each in drifts if each.is_too_much]
        if moved:
            raise ValueError(
                "\n".join(
                    [
                        "The splits are not alike:",
                        *map(str, moved),
                        "Mend the data, or split them otherwise; or, if that is meant, accept it:",
                        f"set {drift.accepting(moved, 'data.split_drift')} for this run.",
                    ]
                )
            )
        folder = Path(artifact_utils.get_single_uri(output_dict["compared"]))
        folder.mkdir(parents=True, exist_ok=True)
        report = {"drift": [dataclasses.asdict(each) for each in drifts]}
        (folder / DRIFT_FILE).write_text(json.dumps(report, indent=1), encoding="utf-8")


class SplitGate(base_component.BaseComponent):
    """Stops a run whose validation or test rows are not like those that are learnt from.

    Args:
        limits: how far features may move from train.
        examples: of Histories.
        schema: of Histories.

    Outputs: `compared`, ComparedSplits.
    """

    SPEC_CLASS = SplitGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, limits: Limits, examples: types.BaseChannel, schema: types.BaseChannel
    ) -> None:
        super().__init__(
            spec=SplitGateSpec(
                limits=as_json(limits),
                examples=examples,
                schema=schema,
                compared=types.Channel(type=ComparedSplits),
            )
        )


def _statistics(folder: str, features: Mapping[str, schema_pb2.Feature]) -> Statistics:
    """Of the given features alone: histories make rows long, and are not even decoded."""
    columns = schema_pb2.Schema(feature=features.values())
    batches = list(record_batches(glob.glob(f"{folder}/*"), columns))
    (whole,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return stats_impl.generate_statistics_in_memory(whole)
