"""Histories: each event with the user's strictly earlier events, and the split, with Beam.

Users are divided into partitions by a hash of their id, and each partition is one call of the
in-memory algorithms of `tfrec_meta.data`: `Interactions.clean`, a split, and histories. Beam keeps
no order, so the rows of a partition are first sorted by user, time and position in the files: the
result is that of `Interactions` in the order of the files.
"""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from absl import logging
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta.data import Interactions, personal_columns
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.events import BadRows
from tfrec_meta.data.feedback import Feedback
from tfrec_meta.data.ids import warn_if_unrelated
from tfrec_meta.features import transform as names
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.artifacts import SPLIT_IDENTITY, CatalogueTables, SeenItems
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.pipeline.events import FEEDBACK
from tfrec_meta.pipeline.rows.beam_steps import Settings, build
from tfrec_meta.pipeline.rows.counters import INVALID, counted_rows, removal
from tfrec_meta.pipeline.rows.surveys import KEYS, NAME

# Custom property of the examples: JSON, "<table>: <reason>" -> number of dropped rows.
DROPPED = "dropped"
# Custom property of the examples: JSON, pairs of a table and a sentence about one of its columns.
PERSONAL = "personal"
_SAMPLED_ROWS = 1 << 16  # of the events, in the search for personal columns


class HistoriesSpec(types.ComponentSpec):
    """Inputs, outputs and parameters.

    `config` is a `SplitConfig`, `clean` are `CleaningRules`, and `feedback` is a `Feedback`, all as
    JSON.
    """

    PARAMETERS = {
        "config": component_spec.ExecutionParameter(type=str),
        "clean": component_spec.ExecutionParameter(type=str, optional=True),
        "feedback": component_spec.ExecutionParameter(type=str, optional=True),
        "bad_rows": component_spec.ExecutionParameter(type=str, optional=True),
        "seed": component_spec.ExecutionParameter(type=int),
        "sessions": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        "interactions": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "users": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "items": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
        "catalogue": component_spec.ChannelParameter(type=CatalogueTables),
        "seen": component_spec.ChannelParameter(type=SeenItems),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the tables, divides the users, and writes one shard per partition and split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes examples, schema, catalogue and seen items.

        Raises:
            ValueError: if cleaning leaves no events, a split has no events, no event has the time
                that the protocol or the sessions need, users and events have a column in common,
                the feedback names an unknown column or event type, or session ids are missing or
                have several users; and, unless `bad_rows` is "drop", for a repeated id of users or
                items.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = from_json(SplitConfig, exec_properties["config"])
        given = exec_properties.get("clean")
        rules = from_json(CleaningRules, given) if given else CleaningRules()
        given = exec_properties.get("feedback")
        feedback = from_json(Feedback, given) if given else None
        sessions = exec_properties.get("sessions")
        tables = {
            name: _files(input_dict[name])
            for name in ("interactions", "users", "items")
            if input_dict.get(name)
        }
        examples, schema, catalogue, seen = (
            artifact_utils.get_single_instance(output_dict[key])
            for key in ("examples", "schema", "catalogue", "seen")
        )
        splits = [*names.EVENT_SPLITS, *(n for n in names.TABLE_SPLITS if n in tables)]
        examples.split_names = artifact_utils.encode_split_names(splits)
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        examples.set_string_custom_property(
            SPLIT_IDENTITY, config.identity(exec_properties["seed"], feedback, sessions)
        )
        folders = {split: artifact_utils.get_split_uri([examples], split) for split in splits}
        for folder in (*folders.values(), schema.uri, catalogue.uri, seen.uri):
            os.makedirs(folder, exist_ok=True)
        if feedback is not None:
            write_text(os.path.join(catalogue.uri, FEEDBACK), json.dumps(feedback.as_dict()))

        pipeline = self._make_beam_pipeline()
        build(
            pipeline,
            tables,
            Settings(
                config,
                rules.with_latest_time(),
                feedback,
                exec_properties.get("bad_rows") or "raise",
                exec_properties["seed"],
                sessions,
                folders,
                schema=os.path.join(schema.uri, "schema.pbtxt"),
                catalogue=catalogue.uri,
                seen=os.path.join(seen.uri, "events.parquet"),
            ),
        )
        result = pipeline.run()
        result.wait_until_finish()
        invalid, removed = counted_rows(result, INVALID), removal(result)
        dropped = Counter(invalid)
        dropped.update({f"interactions: {why}": n for why, n in removed.dropped.items()})
        examples.set_string_custom_property(DROPPED, json.dumps(dict(sorted(dropped.items()))))
        for reason, count in invalid.items():
            logging.warning("%s: %d rows were dropped.", reason, count)
        removed.check(NAME)
        _warn_of_unrelated(catalogue.uri, seen.uri)
        for split in names.EVENT_SPLITS:
            if not glob.glob(os.path.join(folders[split], "data_*")):
                raise ValueError(
                    f"The protocol '{config.protocol}' leaves no events for {split}; change "
                    "split.train and split.validation, use another protocol or add data."
                )
        examples.set_string_custom_property(
            PERSONAL, json.dumps(_personal_columns(catalogue.uri, seen.uri))
        )


class Histories(base_beam_component.BaseBeamComponent):
    """Adds each user's strictly earlier items to each event, and splits the events.

    Args:
        interactions: Examples with `user_id`, `item_id`, `time` (Unix seconds), `value`, and
            further columns, which become context.
        users: Examples with `user_id` and attributes.
        items: Examples with `item_id` and attributes.
        config: protocol, shares, and length of the histories.
        clean: which events are implausible, as in `Interactions.clean`.
        feedback: how the events count, as in `Interactions.with_feedback`; None counts all alike.
        bad_rows: "raise" stops at a repeated id of users or items; "drop" keeps one row per id.
        seed: for the protocol "cold-users".
        sessions: an idle gap, or the column of session ids: sessions become the users.

    Outputs: `examples`, with the splits and columns of `features.transform`; their `schema`;
    `catalogue` and `seen`, see `artifacts`. A history may contain events of earlier splits. Invalid
    and implausible events and repeated ids are dropped and counted in the examples' property
    `dropped`; `personal` names the columns that look personal, and `split_identity` identifies the
    split.
    """

    SPEC_CLASS = HistoriesSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        interactions: types.BaseChannel,
        users: types.BaseChannel | None = None,
        items: types.BaseChannel | None = None,
        *,
        config: SplitConfig,
        clean: CleaningRules = CleaningRules(),  # noqa: B008 (frozen)
        feedback: Feedback | None = None,
        bad_rows: BadRows = "raise",
        seed: int,
        sessions: str | None = None,
    ) -> None:
        super().__init__(
            spec=HistoriesSpec(
                interactions=interactions,
                users=users,
                items=items,
                config=as_json(config),
                clean=as_json(clean),
                feedback=None if feedback is None else as_json(feedback),
                bad_rows=bad_rows,
                seed=seed,
                sessions=sessions,
                examples=types.Channel(type=standard_artifacts.Examples),
                schema=types.Channel(type=standard_artifacts.Schema),
                catalogue=types.Channel(type=CatalogueTables),
                seen=types.Channel(type=SeenItems),
            )
        )


def _files(artifacts: Sequence[types.Artifact]) -> list[str]:
    found: list[str] = []
    for artifact in artifacts:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            folder = artifact_utils.get_split_uri([artifact], split)
            found += sorted(glob.glob(os.path.join(folder, "data_*")))
    return found


def _warn_of_unrelated(catalogue: str, seen: str) -> None:
    """Logs a warning if few ids of the events before the test split have a row in their table."""
    for name, key in KEYS.items():
        path = os.path.join(catalogue, f"{name}.parquet")
        if os.path.isfile(path):
            ids = pq.read_table(os.path.join(seen, "events.parquet"), columns=[key])[key]
            warn_if_unrelated(pc.unique(ids).to_pylist(), pq.read_table(path), key, name, NAME)


def _personal_columns(catalogue: str, seen: str) -> list[tuple[str, str]]:
    """Returns the columns that look personal, each as its table and a description."""
    events = pq.ParquetFile(os.path.join(seen, "events.parquet"))
    tables = {
        name: pq.read_table(file)
        for name in KEYS
        if os.path.isfile(file := os.path.join(catalogue, f"{name}.parquet"))
    }
    sample = pa.Table.from_batches([next(events.iter_batches(_SAMPLED_ROWS))])
    data = Interactions(sample, **tables)
    found = personal_columns(data)
    return [(NAME if column.table == "events" else column.table, str(column)) for column in found]
