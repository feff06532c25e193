"""Histories with Beam: reads the tables, divides the users, cleans, splits and writes."""

from __future__ import annotations

import dataclasses
import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from tfrec_meta.data import Interactions
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.events import BadRows
from tfrec_meta.data.feedback import Feedback
from tfrec_meta.data.ids import without_decimals
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.data.tables.sessions import SESSION, is_gap
from tfrec_meta.features import transform as names
from tfrec_meta.io.files import atomic_file, write_text
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.example_files import record_batches, write_examples
from tfrec_meta.pipeline.rows.cleaning import (
    plausible_events,
    typed_batch,
    with_positions,
    with_session_ids,
    with_valid_ids,
    without_repeats,
)
from tfrec_meta.pipeline.rows.counters import INVALID, count, count_removed
from tfrec_meta.pipeline.rows.examples import (
    event_columns,
    plain_lists,
    positive_histories,
    prefixed,
)
from tfrec_meta.pipeline.rows.minimums import Minimums
from tfrec_meta.pipeline.rows.partitions import by_partition, deserialized, joined, serialized
from tfrec_meta.pipeline.rows.splits import PAST_ONLY, TEST, parts_of, time_cuts
from tfrec_meta.pipeline.rows.surveys import (
    EVENT_COLUMNS,
    KEYS,
    TYPES,
    RowSurvey,
    check_columns,
    check_events,
    declared_columns,
    first_values,
    survey_of,
    with_decimals,
)
from tfrec_meta.pipeline.table_columns import Kind

_ROWS_PER_BATCH = 1 << 15
_ROWS_PER_ENCODING = 1 << 12  # fewer, since histories make rows long


@dataclasses.dataclass(frozen=True)
class Settings:
    """The config and the output paths of the workers."""

    config: SplitConfig
    rules: CleaningRules
    feedback: Feedback | None
    bad_rows: BadRows
    seed: int
    sessions: str | None
    folders: Mapping[str, str]
    schema: str
    catalogue: str
    seen: str


def build(pipeline: beam.Pipeline, tables: Mapping[str, list[str]], settings: Settings) -> None:
    rows, surveys = {}, {}
    for name, files in tables.items():
        read = (
            pipeline
            | f"Files[{name}]" >> beam.Create(list(enumerate(files)))
            | f"Spread[{name}]" >> beam.Reshuffle()
            | f"Read[{name}]"
            >> beam.ParDo(_Read(name, settings)).with_outputs("survey", main="rows")
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
    events, of_events = cleaned.rows, cleaned.survey
    if settings.rules.has_minimums:
        enough = events | "Minimums" >> Minimums(settings.rules, settings.feedback)
        events, of_events = enough.rows, (of_events, enough.survey) | beam.Flatten()
    left = of_events | "Left" >> beam.CombineGlobally(_sum)
    by_user = {"interactions": events}
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

    def __init__(self, table: str, settings: Settings):
        self._table = table
        self._partitions = settings.config.partitions if table != "items" else 1
        given = settings.sessions is not None and not is_gap(settings.sessions)
        self._key = SESSION if given else names.USER_ID

    def process(self, numbered_file: tuple[int, str]) -> Iterator[Any]:
        number, file = numbered_file
        survey = RowSurvey()
        first = 0
        for batch in _batches(file):
            table = self._valid(batch, number, first)
            first += batch.num_rows
            survey += survey_of(table)
            for partition, part in by_partition(table, self._partitions, self._key):
                yield partition, serialized(part)
        yield beam.pvalue.TaggedOutput("survey", survey)

    def _valid(self, batch: pa.Table, number: int, first: int) -> pa.Table:
        """Returns the valid rows of a batch."""
        if self._table == "interactions":
            events = typed_batch(with_positions(batch, number, first))
            return with_session_ids(events) if self._key == SESSION else events
        table, dropped = with_valid_ids(batch, self._table)
        if dropped:
            count(INVALID, f"{self._table}: line break in {KEYS[self._table]}", dropped)
        return table


class _Clean(beam.DoFn):
    """Removes the implausible events of one partition of the users; returns a survey of the rest.

    The survey is that of `plausible_events`.
    """

    def __init__(self, settings: Settings):
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
            self._settings.sessions,
        )
        count_removed(removed)
        if events.num_rows:
            yield partition, serialized(events)
        if self._settings.rules.has_minimums:  # the rest is surveyed after them
            left = RowSurvey(event_types=left.event_types)
        yield beam.pvalue.TaggedOutput("survey", left)


class _Write(beam.DoFn):
    """Runs the in-memory algorithm on one partition of the users, and writes its shards."""

    def __init__(self, settings: Settings):
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

    def __init__(self, settings: Settings):
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
        count(INVALID, f"{name}: repeated {key}", repeats)
    return table
