"""Histories: each event with the user's strictly earlier events, and the split, with Beam.

Users are divided into partitions by a hash of their id, and each partition is one call of the
in-memory algorithm of `tfrec_meta.data`. Beam keeps no order, so the rows of a partition are first
sorted by user, time, item and value: the result is that of `Interactions` in this order, whatever
the order of arrival.
"""

from __future__ import annotations

import dataclasses
import glob
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta.data import Interactions, histories
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.features import transform as names
from tfrec_meta.io.files import atomic_file, write_text
from tfrec_meta.pipeline.artifacts import SPLIT_IDENTITY, CatalogueTables, SeenItems
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.pipeline.example_files import record_batches, write_examples
from tfrec_meta.pipeline.history_rows import (
    EVENT_COLUMNS,
    KEYS,
    TYPES,
    RowSurvey,
    by_partition,
    check_columns,
    clean_attributes,
    clean_events,
    deserialized,
    event_columns,
    first_values,
    joined,
    parts_of,
    plain_lists,
    prefixed,
    serialized,
    survey_of,
    time_cuts,
    with_values,
    without_repeats,
)
from tfrec_meta.pipeline.table_columns import Kind

# Custom property of the examples: JSON, "<table>: <reason>" -> number of dropped rows.
DROPPED = "dropped"

_ROWS_PER_BATCH = 1 << 15
_ROWS_PER_ENCODING = 1 << 12  # fewer, since histories make rows long
_COUNTERS = "tfrec_meta.histories"


class HistoriesSpec(types.ComponentSpec):
    """Inputs, outputs and parameters; `config` is a `SplitConfig` as JSON."""

    PARAMETERS = {
        "config": component_spec.ExecutionParameter(type=str),
        "seed": component_spec.ExecutionParameter(type=int),
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
            ValueError: if a split has no events, events lack the times that the protocol needs, or
                users and events have a column in common.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = from_json(SplitConfig, exec_properties["config"])
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
            SPLIT_IDENTITY, config.identity(exec_properties["seed"])
        )
        folders = {split: artifact_utils.get_split_uri([examples], split) for split in splits}
        for folder in (*folders.values(), schema.uri, catalogue.uri, seen.uri):
            os.makedirs(folder, exist_ok=True)

        pipeline = self._make_beam_pipeline()
        _build(
            pipeline,
            tables,
            _Settings(
                config,
                exec_properties["seed"],
                folders,
                schema=os.path.join(schema.uri, "schema.pbtxt"),
                catalogue=catalogue.uri,
                seen=os.path.join(seen.uri, "events.parquet"),
            ),
        )
        result = pipeline.run()
        result.wait_until_finish()
        dropped = _dropped(result)
        examples.set_string_custom_property(DROPPED, json.dumps(dropped))
        for reason, count in dropped.items():
            logging.warning("%s: %d rows were dropped.", reason, count)
        for split in names.EVENT_SPLITS:
            if not glob.glob(os.path.join(folders[split], "data_*")):
                raise ValueError(
                    f"The protocol '{config.protocol}' leaves no events for {split}; change "
                    "split.train and split.validation, use another protocol or add data."
                )


class Histories(base_beam_component.BaseBeamComponent):
    """Adds each user's strictly earlier items to each event, and splits the events.

    Args:
        interactions: Examples with `user_id`, `item_id`, `time` (Unix seconds), `value`, and
            further columns, which become context.
        users: Examples with `user_id` and attributes.
        items: Examples with `item_id` and attributes.
        config: protocol, shares, and length of the histories.
        seed: for the protocol "cold-users".

    Outputs: `examples`, with the splits and columns of `features.transform`; their `schema`;
    `catalogue` and `seen`, see `artifacts`. A history may contain events of earlier splits. Invalid
    events and repeated ids are dropped and counted in the examples' property `dropped`;
    `split_identity` identifies the split.
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
        seed: int,
    ) -> None:
        super().__init__(
            spec=HistoriesSpec(
                interactions=interactions,
                users=users,
                items=items,
                config=as_json(config),
                seed=seed,
                examples=types.Channel(type=standard_artifacts.Examples),
                schema=types.Channel(type=standard_artifacts.Schema),
                catalogue=types.Channel(type=CatalogueTables),
                seen=types.Channel(type=SeenItems),
            )
        )


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The config and the output paths of the workers."""

    config: SplitConfig
    seed: int
    folders: Mapping[str, str]
    schema: str
    catalogue: str
    seen: str


def _build(pipeline: beam.Pipeline, tables: Mapping[str, list[str]], settings: _Settings) -> None:
    rows, surveys = {}, {}
    for name, files in tables.items():
        read = (
            pipeline
            | f"Files[{name}]" >> beam.Create(files)
            | f"Spread[{name}]" >> beam.Reshuffle()
            | f"Read[{name}]"
            >> beam.ParDo(_Read(name, settings.config.partitions)).with_outputs(
                "survey", main="rows"
            )
        )
        rows[name] = read.rows
        surveys[name] = (
            read.survey
            | f"Survey[{name}]" >> beam.CombineGlobally(_sums)
            | f"Settle[{name}]" >> beam.Map(_remaining, name)
        )
    known = {name: beam.pvalue.AsSingleton(survey) for name, survey in surveys.items()}
    by_user = {name: rows[name] for name in ("interactions", "users") if name in rows}
    written = (
        by_user
        | "Gather" >> beam.CoGroupByKey()
        | "Write"
        >> beam.ParDo(_Write(settings), known["interactions"], known.get("users")).with_outputs(
            "seen", "users"
        )
    )
    _ = written.seen | "Seen" >> _WriteParquet(known["interactions"], settings.seen, "interactions")
    if "users" in rows:
        path = os.path.join(settings.catalogue, "users.parquet")
        _ = written.users | "Users" >> _WriteParquet(known["users"], path, "users")
    if "items" in rows:
        items = (
            rows["items"]
            | "GatherItems" >> beam.GroupByKey()
            | "WriteItems" >> beam.ParDo(_WriteItems(settings), known["items"])
        )
        path = os.path.join(settings.catalogue, "items.parquet")
        _ = items | "Items" >> _WriteParquet(known["items"], path, "items")
    _ = (
        pipeline
        | "Once" >> beam.Create([settings.schema])
        | "Schema" >> beam.Map(_write_schema, **known)
    )


class _WriteParquet(beam.PTransform):
    """Writes all tables of a collection into one Parquet file."""

    def __init__(self, survey: Any, path: str, name: str):
        super().__init__()
        self._survey = survey
        self._path = path
        self._name = name

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        listed = tables | "Listed" >> beam.combiners.ToList()
        return listed | "Parquet" >> beam.Map(_write_parquet, self._survey, self._path, self._name)


class _Read(beam.DoFn):
    """Reads a file into cleaned rows by partition, and two surveys.

    The second survey covers the events of batches without any value. Their values are null until
    all files are known: they are dropped if other events have values; otherwise each value is 1.
    """

    def __init__(self, table: str, partitions: int):
        self._table = table
        self._partitions = partitions if table != "items" else 1

    def process(self, file: str) -> Iterator[Any]:
        survey, valueless = RowSurvey(), RowSurvey()
        for batch in _batches(file):
            clean = clean_events if self._table == "interactions" else clean_attributes
            table, dropped = clean(batch, self._table)
            for reason, count in dropped.items():
                _count_dropped(self._table, reason, count)
            if self._table == "interactions" and names.VALUE not in batch.column_names:
                valueless += survey_of(table)
                nulls = pa.nulls(table.num_rows, pa.float32())
                position = table.column_names.index(names.VALUE)
                table = table.set_column(position, names.VALUE, nulls)
            else:
                survey += dataclasses.replace(
                    survey_of(table), valued=self._table == "interactions"
                )
            for partition, part in by_partition(table, self._partitions, self._table):
                yield partition, serialized(part)
        yield beam.pvalue.TaggedOutput("survey", (survey, valueless))


class _Write(beam.DoFn):
    """Runs the in-memory algorithm on one partition of the users, and writes its shards."""

    def __init__(self, settings: _Settings):
        self._settings = settings

    def process(
        self,
        gathered: tuple[int, Mapping[str, Iterable[bytes]]],
        events_survey: RowSurvey,
        users_survey: RowSurvey | None,
    ) -> Iterator[Any]:
        partition, parts = gathered
        settings = self._settings
        shard = f"data_tfrecord-{partition:05d}-of-{settings.config.partitions:05d}.gz"
        users = None
        packed_users = list(parts.get("users", ()))
        if packed_users and users_survey is not None:
            users = _unique(joined(packed_users, users_survey.kinds), "users")
            _write_shard(prefixed(users, names.user_column), settings.folders["users"], shard)
            yield beam.pvalue.TaggedOutput("users", serialized(users))
        packed = list(parts.get("interactions", ()))
        if not packed:
            return
        check_columns(events_survey, users_survey, settings.config)
        table = with_values(joined(packed, events_survey.kinds), events_survey.valued)
        if not table.num_rows:
            return
        keys = [names.USER_ID, names.TIME, names.ITEM_ID, names.VALUE]
        data = Interactions(table.sort_by([(key, "ascending") for key in keys]))
        cuts = (
            time_cuts(events_survey, settings.config)
            if settings.config.protocol == SplitProtocol.TIME
            else None
        )
        split = parts_of(data, settings.config, cuts, settings.seed)
        yield beam.pvalue.TaggedOutput("seen", serialized(data.events.filter(pa.array(split < 2))))
        past = histories(data)
        for number, name in enumerate(names.EVENT_SPLITS):
            chosen = np.flatnonzero(split == number)
            slices = (
                event_columns(
                    data, past, chosen[i : i + _ROWS_PER_ENCODING], users, settings.config
                )
                for i in range(0, len(chosen), _ROWS_PER_ENCODING)
            )
            _write_shard_batches(slices, settings.folders[name], shard)


class _WriteItems(beam.DoFn):
    """Writes the items table as examples."""

    def __init__(self, settings: _Settings):
        self._settings = settings

    def process(self, gathered: tuple[int, Iterable[bytes]], survey: RowSurvey) -> Iterator[bytes]:
        items = _unique(joined(list(gathered[1]), survey.kinds), "items")
        shard = "data_tfrecord-00000-of-00001.gz"
        _write_shard(prefixed(items, names.item_column), self._settings.folders["items"], shard)
        yield serialized(items)


def _files(artifacts: Sequence[types.Artifact]) -> list[str]:
    found: list[str] = []
    for artifact in artifacts:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            folder = artifact_utils.get_split_uri([artifact], split)
            found += sorted(glob.glob(os.path.join(folder, "data_*")))
    return found


def _batches(file: str) -> Iterator[pa.Table]:
    """Yields the rows of a file of tf.Examples, each column one list per row."""
    for decoded in record_batches([file], rows=_ROWS_PER_BATCH):
        yield pa.table(
            {
                name: plain_lists(column, name)
                for name, column in zip(decoded.schema.names, decoded.columns, strict=True)
                if not pa.types.is_null(column.type)
            }
        )


def _sums(surveys: Iterable[tuple[RowSurvey, RowSurvey]]) -> tuple[RowSurvey, RowSurvey]:
    return reduce(
        lambda one, other: (one[0] + other[0], one[1] + other[1]),
        surveys,
        (RowSurvey(), RowSurvey()),
    )


def _remaining(surveys: tuple[RowSurvey, RowSurvey], name: str) -> RowSurvey:
    """Returns the survey of the remaining rows, and counts the dropped ones."""
    survey, valueless = surveys
    if not survey.valued:
        return survey + valueless
    if valueless.rows:
        _count_dropped(name, "missing value", valueless.rows)
    return survey


def _write_shard(columns: dict[str, pa.Array], folder: str, name: str) -> None:
    _write_shard_batches([columns], folder, name)


def _write_shard_batches(batches: Iterable[dict[str, pa.Array]], folder: str, name: str) -> None:
    """Writes a shard, which appears when it is complete; none if there are no rows."""
    batches = iter(batches)
    first = next(batches, None)
    if first is not None:
        write_examples(itertools.chain([first], batches), os.path.join(folder, name))


def _write_parquet(packed: Sequence[bytes], survey: RowSurvey, path: str, name: str) -> None:
    """Writes one table; columns with one value per row become plain columns."""
    if not packed:
        return
    table = pa.concat_tables(map(deserialized, packed), promote_options="default")
    key = names.USER_ID if name == "interactions" else KEYS[name]
    order = [key, names.TIME, names.ITEM_ID, names.VALUE] if name == "interactions" else [key]
    table = table.sort_by([(column, "ascending") for column in order])
    for position, column in enumerate(table.column_names):
        if column in survey.kinds and not survey.kinds[column].many:
            table = table.set_column(position, column, first_values(table[column]))
    with atomic_file(path) as work:
        pq.write_table(table, work)


def _write_schema(
    path: str,
    interactions: RowSurvey,
    users: RowSurvey | None = None,
    items: RowSurvey | None = None,
) -> None:
    kinds = {**EVENT_COLUMNS, **interactions.kinds}
    for survey, key, name_of in (
        (users, "user_id", names.user_column),
        (items, "item_id", names.item_column),
    ):
        if survey is not None:
            columns = {key: Kind("text"), **survey.kinds}
            kinds.update({name_of(name): kind for name, kind in columns.items()})
    if users is not None:
        kinds.update(users.kinds)
    # Without presence and shape: a row of one table lacks the columns of the others.
    schema = schema_pb2.Schema(
        feature=[
            schema_pb2.Feature(name=name, type=TYPES[kind.base][1]) for name, kind in kinds.items()
        ]
    )
    write_text(path, text_format.MessageToString(schema))


def _unique(table: pa.Table, name: str) -> pa.Table:
    """Returns the table with one row per id, and counts the removed rows."""
    table, repeats = without_repeats(table, name)
    if repeats:
        _count_dropped(name, f"repeated {KEYS[name]}", repeats)
    return table


def _count_dropped(table: str, reason: str, count: int) -> None:
    beam.metrics.Metrics.counter(_COUNTERS, f"{table}: {reason}").inc(count)


def _dropped(result: Any) -> dict[str, int]:
    """Returns the counts of the workers."""
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(_COUNTERS))
    counts: dict[str, int] = {}
    for counter in found["counters"]:
        count = counter.committed if counter.committed is not None else counter.attempted
        counts[counter.key.metric.name] = counts.get(counter.key.metric.name, 0) + count
    return dict(sorted(counts.items()))
