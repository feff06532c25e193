"""Histories: each event with the user's strictly earlier events, and the split, with Beam.

Users are divided into partitions by a hash of their id, and each partition is one call of the
in-memory algorithms of `tfrec_meta.data`: `Interactions.clean`, a split, and histories. Beam keeps
no order, so the rows of a partition are first sorted by user, time and position in the files: the
result is that of `Interactions` in the order of the files.
"""

from __future__ import annotations

import dataclasses
import glob
import itertools
import json
import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta.data import Interactions
from tfrec_meta.data.cleaning import REASONS, CleaningRules, Removal
from tfrec_meta.data.events import BadRows
from tfrec_meta.data.feedback import Feedback
from tfrec_meta.data.ids import warn_if_unrelated, without_decimals
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.features import transform as names
from tfrec_meta.io.files import atomic_file, write_text
from tfrec_meta.pipeline.artifacts import SPLIT_IDENTITY, CatalogueTables, SeenItems
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.pipeline.events import FEEDBACK
from tfrec_meta.pipeline.example_files import record_batches, write_examples
from tfrec_meta.pipeline.history_rows import (
    EVENT_COLUMNS,
    KEYS,
    NAME,
    PAST_ONLY,
    TEST,
    TYPES,
    RowSurvey,
    by_partition,
    check_columns,
    check_events,
    declared_columns,
    deserialized,
    event_columns,
    first_values,
    joined,
    parts_of,
    plain_lists,
    plausible_events,
    positive_histories,
    prefixed,
    serialized,
    survey_of,
    time_cuts,
    typed_batch,
    with_decimals,
    with_positions,
    with_valid_ids,
    without_repeats,
)
from tfrec_meta.pipeline.table_columns import Kind

# Custom property of the examples: JSON, "<table>: <reason>" -> number of dropped rows.
DROPPED = "dropped"

_ROWS_PER_BATCH = 1 << 15
_ROWS_PER_ENCODING = 1 << 12  # fewer, since histories make rows long
# Namespaces of Beam's counters: rows of users and items, and events that cleaning removes.
_INVALID = "tfrec_meta.histories"
_REMOVED = "tfrec_meta.cleaning"
_ROWS, _FAR_TIMES = "rows", "far_times"  # of `Removal`


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
                that the protocol needs, users and events have a column in common, or the feedback
                names an unknown column or event type; and, unless `bad_rows` is
                "drop", for a repeated id of users or items.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = from_json(SplitConfig, exec_properties["config"])
        given = exec_properties.get("clean")
        rules = from_json(CleaningRules, given) if given else CleaningRules()
        given = exec_properties.get("feedback")
        feedback = from_json(Feedback, given) if given else None
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
            SPLIT_IDENTITY, config.identity(exec_properties["seed"], feedback)
        )
        folders = {split: artifact_utils.get_split_uri([examples], split) for split in splits}
        for folder in (*folders.values(), schema.uri, catalogue.uri, seen.uri):
            os.makedirs(folder, exist_ok=True)
        if feedback is not None:
            write_text(os.path.join(catalogue.uri, FEEDBACK), json.dumps(feedback.as_dict()))

        pipeline = self._make_beam_pipeline()
        _build(
            pipeline,
            tables,
            _Settings(
                config,
                rules.with_latest_time(),
                feedback,
                exec_properties.get("bad_rows") or "raise",
                exec_properties["seed"],
                folders,
                schema=os.path.join(schema.uri, "schema.pbtxt"),
                catalogue=catalogue.uri,
                seen=os.path.join(seen.uri, "events.parquet"),
            ),
        )
        result = pipeline.run()
        result.wait_until_finish()
        invalid, removed = _counts(result, _INVALID), _removal(result)
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

    Outputs: `examples`, with the splits and columns of `features.transform`; their `schema`;
    `catalogue` and `seen`, see `artifacts`. A history may contain events of earlier splits. Invalid
    and implausible events and repeated ids are dropped and counted in the examples' property
    `dropped`; `split_identity` identifies the split.
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
    rules: CleaningRules
    feedback: Feedback | None
    bad_rows: BadRows
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
            | f"Files[{name}]" >> beam.Create(list(enumerate(files)))
            | f"Spread[{name}]" >> beam.Reshuffle()
            | f"Read[{name}]"
            >> beam.ParDo(_Read(name, settings.config.partitions)).with_outputs(
                "survey", main="rows"
            )
        )
        rows[name] = read.rows
        surveys[name] = read.survey | f"Survey[{name}]" >> beam.CombineGlobally(_sum)
    known = {name: beam.pvalue.AsSingleton(survey) for name, survey in surveys.items()}
    cleaned = (
        rows["interactions"]
        | "ByUser" >> beam.GroupByKey()
        | "Clean"
        >> beam.ParDo(
            _Clean(settings), known["interactions"], known.get("users"), known.get("items")
        ).with_outputs("survey", main="rows")
    )
    left = cleaned.survey | "Left" >> beam.CombineGlobally(_sum)
    by_user = {"interactions": cleaned.rows}
    if "users" in rows:
        by_user["users"] = rows["users"]
    written = (
        by_user
        | "Gather" >> beam.CoGroupByKey()
        | "Write"
        >> beam.ParDo(
            _Write(settings),
            known["interactions"],
            beam.pvalue.AsSingleton(left),
            known.get("users"),
        ).with_outputs("seen", "users")
    )
    _ = written.seen | "Seen" >> _WriteParquet(known["interactions"], settings.seen, "interactions")
    if "users" in rows:
        path = os.path.join(settings.catalogue, "users.parquet")
        _ = written.users | "Users" >> _WriteParquet(known["users"], path, "users")
    if "items" in rows:
        items = (
            rows["items"]
            | "GatherItems" >> beam.GroupByKey()
            | "WriteItems"
            >> beam.ParDo(_WriteItems(settings), known["items"], known["interactions"])
        )
        path = os.path.join(settings.catalogue, "items.parquet")
        _ = items | "Items" >> _WriteParquet(known["items"], path, "items")
    _ = (
        pipeline
        | "Once" >> beam.Create([settings.schema])
        | "Schema" >> beam.Map(_write_schema, settings.feedback, **known)
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
    """Reads a file into valid rows by partition, and their survey."""

    def __init__(self, table: str, partitions: int):
        self._table = table
        self._partitions = partitions if table != "items" else 1

    def process(self, numbered_file: tuple[int, str]) -> Iterator[Any]:
        number, file = numbered_file
        survey = RowSurvey()
        first = 0
        for batch in _batches(file):
            table = self._valid(batch, number, first)
            first += batch.num_rows
            survey += survey_of(table)
            for partition, part in by_partition(table, self._partitions, self._table):
                yield partition, serialized(part)
        yield beam.pvalue.TaggedOutput("survey", survey)

    def _valid(self, batch: pa.Table, number: int, first: int) -> pa.Table:
        """Returns the valid rows of a batch."""
        if self._table == "interactions":
            return typed_batch(with_positions(batch, number, first))
        table, dropped = with_valid_ids(batch, self._table)
        if dropped:
            _count(_INVALID, f"{self._table}: line break in {KEYS[self._table]}", dropped)
        return table


class _Clean(beam.DoFn):
    """Removes the implausible events of one partition of the users; returns a survey of the rest.

    The survey is that of `plausible_events`.
    """

    def __init__(self, settings: _Settings):
        self._settings = settings

    def process(
        self,
        gathered: tuple[int, Iterable[bytes]],
        survey: RowSurvey,
        users: RowSurvey | None,
        items: RowSurvey | None,
    ) -> Iterator[Any]:
        partition, parts = gathered
        events, removed, left = plausible_events(
            list(parts),
            survey,
            self._settings.rules,
            self._settings.feedback,
            with_decimals(survey, users, items),
        )
        _count(_REMOVED, _ROWS, removed.rows)
        _count(_REMOVED, _FAR_TIMES, removed.far_times)
        for reason, count in removed.dropped.items():
            _count(_REMOVED, reason, count)
        if events.num_rows:
            yield partition, serialized(events)
        yield beam.pvalue.TaggedOutput("survey", left)


class _Write(beam.DoFn):
    """Runs the in-memory algorithm on one partition of the users, and writes its shards."""

    def __init__(self, settings: _Settings):
        self._settings = settings

    def process(
        self,
        gathered: tuple[int, Mapping[str, Iterable[bytes]]],
        events_survey: RowSurvey,
        left: RowSurvey,
        users_survey: RowSurvey | None,
    ) -> Iterator[Any]:
        partition, parts = gathered
        settings = self._settings
        shard = f"data_tfrecord-{partition:05d}-of-{settings.config.partitions:05d}.gz"
        users = None
        packed_users = list(parts.get("users", ()))
        if packed_users and users_survey is not None:
            decimals = with_decimals(users_survey, events_survey)
            users = _unique(packed_users, users_survey, "users", decimals, settings.bad_rows)
            _write_shard(prefixed(users, names.user_column), settings.folders["users"], shard)
            yield beam.pvalue.TaggedOutput("users", serialized(users))
        packed = list(parts.get("interactions", ()))
        if not packed:
            return
        check_columns(events_survey, users_survey, settings.config, settings.feedback)
        check_events(left, settings.feedback)
        (cleaned,) = map(deserialized, packed)
        data = Interactions(cleaned, feedback=settings.feedback)
        cuts = (
            time_cuts(left, settings.config)
            if settings.config.protocol == SplitProtocol.TIME
            else None
        )
        split = parts_of(data, settings.config, cuts, settings.seed)
        seen = (split < TEST) | (split == PAST_ONLY)
        yield beam.pvalue.TaggedOutput("seen", serialized(data.events.filter(pa.array(seen))))
        past = positive_histories(data)
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

    def process(
        self, gathered: tuple[int, Iterable[bytes]], survey: RowSurvey, events_survey: RowSurvey
    ) -> Iterator[bytes]:
        decimals = with_decimals(survey, events_survey)
        bad_rows = self._settings.bad_rows
        items = _unique(list(gathered[1]), survey, "items", decimals, bad_rows)
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


def _sum(surveys: Iterable[RowSurvey]) -> RowSurvey:
    return reduce(operator.add, surveys, RowSurvey())


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
    # A stable sort: the events of a user stay in their order.
    table = table.combine_chunks().sort_by(key)
    for position, column in enumerate(table.column_names):
        if column in survey.kinds and not survey.kinds[column].many:
            table = table.set_column(position, column, first_values(table[column]))
    with atomic_file(path) as work:
        pq.write_table(table, work)


def _write_schema(
    path: str,
    feedback: Feedback | None,
    interactions: RowSurvey,
    users: RowSurvey | None = None,
    items: RowSurvey | None = None,
) -> None:
    kinds = {**EVENT_COLUMNS, **interactions.kinds, **declared_columns(feedback)}
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


def _unique(
    packed: Sequence[bytes],
    survey: RowSurvey,
    name: str,
    decimals: Sequence[str],
    bad_rows: BadRows,
) -> pa.Table:
    """Returns a table with one row per id, and counts the removed rows."""
    table, key = joined(packed, survey.kinds), KEYS[name]
    if key in decimals:
        table = without_decimals(table, key)
    table, repeats = without_repeats(table, name, bad_rows)
    if repeats:
        _count(_INVALID, f"{name}: repeated {key}", repeats)
    return table


def _warn_of_unrelated(catalogue: str, seen: str) -> None:
    """Logs a warning if few ids of the events before the test split have a row in their table."""
    for name, key in KEYS.items():
        path = os.path.join(catalogue, f"{name}.parquet")
        if os.path.isfile(path):
            ids = pq.read_table(os.path.join(seen, "events.parquet"), columns=[key])[key]
            warn_if_unrelated(pc.unique(ids).to_pylist(), pq.read_table(path), key, name, NAME)


def _count(namespace: str, name: str, count: int) -> None:
    beam.metrics.Metrics.counter(namespace, name).inc(count)


def _counts(result: Any, namespace: str) -> dict[str, int]:
    """Returns the workers' counts of a namespace, by name."""
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(namespace))
    counts: dict[str, int] = {}
    for counter in found["counters"]:
        count = counter.committed if counter.committed is not None else counter.attempted
        counts[counter.key.metric.name] = counts.get(counter.key.metric.name, 0) + count
    return dict(sorted(counts.items()))


def _removal(result: Any) -> Removal:
    """Returns what cleaning removed."""
    counts = _counts(result, _REMOVED)
    dropped = {reason: counts[reason] for reason in REASONS if counts.get(reason)}
    return Removal(counts.get(_ROWS, 0), dropped, counts.get(_FAR_TIMES, 0))
