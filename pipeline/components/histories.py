"""Histories: each event with the user's strictly earlier events, and the split, by Beam.

Users are divided into partitions by a hash of their id, and each partition is one call of the
in-memory algorithm of `tfrec_meta.data`. Beam keeps no order, so the rows of a partition are first
sorted by user, time, item and value: whatever order they arrive in, the outcome is that of
`Interactions` in that order.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
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

from tfrec_meta.data import Interactions, histories, split_leave_last_out
from tfrec_meta.data.events import RowCheck, tokens_of, typed_events
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.artifacts import SPLIT_BY, Catalogue, SeenItems
from tfrec_meta.pipeline.config import SplitConfig, as_json, from_json
from tfrec_meta.pipeline.tables import Kind

# Of the examples: JSON, "<table>: <reason>" -> how many rows were left out.
DROPPED = "dropped"

_ROWS_A_BATCH = 1 << 15
_ROWS_ENCODED = 1 << 12  # histories make rows long
_COUNTERS = "tfrec_meta.histories"
_KEYS = {"users": "user_id", "items": "item_id"}
_TYPES = {
    "int": (pa.int64(), schema_pb2.INT),
    "float": (pa.float32(), schema_pb2.FLOAT),
    "text": (pa.string(), schema_pb2.BYTES),
}
_EVENTS = {
    names.USER_ID: Kind("text"),
    names.ITEM_ID: Kind("text"),
    names.TIME: Kind("int"),
    names.VALUE: Kind("float"),
    names.HISTORY: Kind("text", True),
}


@dataclasses.dataclass(frozen=True)
class Survey:
    """What has to be known of all rows of a table before any is written.

    Attributes:
        kinds: of the columns whose type we do not decide.
        rows: how many.
        times: int64 [t], the different times in rising order.
        counts: int64 [t], how many events have each.
        valued: whether a row has a value, good or bad; of events only.
    """

    kinds: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    rows: int = 0
    times: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    valued: bool = False

    def __add__(self, other: Survey) -> Survey:
        kinds = dict(self.kinds)
        for name, kind in other.kinds.items():
            kinds[name] = kinds[name] | kind if name in kinds else kind
        times, place = np.unique(np.concatenate([self.times, other.times]), return_inverse=True)
        counts = np.zeros(len(times), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Survey(kinds, self.rows + other.rows, times, counts, self.valued or other.valued)


def time_cuts(survey: Survey, config: SplitConfig) -> tuple[int, int]:
    """The times at which validation and test begin, as `split_by_time` finds them."""
    below = np.cumsum(survey.counts)
    shares = (config.train, config.train + config.validation)
    places = [min(round(share * survey.rows), survey.rows - 1) for share in shares]
    first, second = survey.times[np.searchsorted(below, places, side="right")]
    return int(first), int(second)


def parts_of(
    data: Interactions, config: SplitConfig, cuts: tuple[int, int] | None, seed: int
) -> np.ndarray:
    """The part of each event: 0 is train, 1 validation, 2 test.

    Args:
        data: all events of some users.
        config: the protocol and its shares.
        cuts: of the protocol "time".
        seed: of "cold-users". Whether a user is held out depends on nothing but id and seed, so
            that he stays where he is as data comes in; the shares are met on average.
    """
    parts = np.zeros(len(data), np.int8)
    if config.protocol == SplitProtocol.TIME:
        assert cuts is not None
        times = data.events["time"].to_numpy()
        parts[times >= cuts[0]] = 1
        parts[times >= cuts[1]] = 2
    elif config.protocol == SplitProtocol.LEAVE_LAST_OUT:
        split = split_leave_last_out(data)
        parts[split.validation_index] = 1
        parts[split.test_index] = 2
    else:
        drawn = np.array([_hash(user, str(seed)) / 2**64 for user in data.user_ids])
        part = (drawn >= config.train).astype(np.int8) + (drawn >= config.train + config.validation)
        parts = part[data.user_codes].astype(np.int8)
    return parts


class HistoriesSpec(types.ComponentSpec):
    """What `Histories` takes and gives; `config` is a `SplitConfig` as JSON."""

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
        "catalogue": component_spec.ChannelParameter(type=Catalogue),
        "seen": component_spec.ChannelParameter(type=SeenItems),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the tables, divides the users, writes a shard a partition and split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes examples, schema, catalogue and seen.

        Raises:
            ValueError: a part of the split would be empty, events lack the times that the protocol
                needs, or a column of the users is called as one of the events.
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
        examples.set_string_custom_property(SPLIT_BY, config.told(exec_properties["seed"]))
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
            logging.warning("%s: %d rows were left out.", reason, count)
        for split in names.EVENT_SPLITS:
            if not glob.glob(os.path.join(folders[split], "data_*")):
                raise ValueError(
                    f"{split} would be empty by the protocol {config.protocol!r}; change "
                    "split.train and split.validation, take another protocol or bring more data."
                )


class Histories(base_beam_component.BaseBeamComponent):
    """Each event with the items that the user met strictly before, split for training.

    Args:
        interactions: Examples with `user_id`, `item_id`, `time` (Unix seconds), `value`, and any
            further columns, all of which become context.
        users: Examples with `user_id` and attributes.
        items: Examples with `item_id` and attributes.
        config: protocol, shares, length of the histories.
        seed: of the protocol "cold-users".

    Outputs: `examples`, whose splits and columns `features.transform` names; the `schema` of them
    all; `catalogue` and `seen`, as `artifacts` describes. A history may reach into earlier splits.
    Events that are not to be understood and ids that stand twice in a table are left out and
    counted in the examples' property `dropped`; `split_by` says how they were split.
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
                catalogue=types.Channel(type=Catalogue),
                seen=types.Channel(type=SeenItems),
            )
        )


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What a worker needs: the config, and where things go."""

    config: SplitConfig
    seed: int
    folders: Mapping[str, str]
    schema: str
    catalogue: str
    seen: str


def _build(pipeline: beam.Pipeline, tables: Mapping[str, list[str]], to: _Settings) -> None:
    rows, surveys = {}, {}
    for name, files in tables.items():
        read = (
            pipeline
            | f"Files[{name}]" >> beam.Create(files)
            | f"Spread[{name}]" >> beam.Reshuffle()
            | f"Read[{name}]"
            >> beam.ParDo(_Read(name, to.config.partitions)).with_outputs("survey", main="rows")
        )
        rows[name] = read.rows
        surveys[name] = (
            read.survey
            | f"Survey[{name}]" >> beam.CombineGlobally(_sums)
            | f"Settle[{name}]" >> beam.Map(_settled, name)
        )
    known = {name: beam.pvalue.AsSingleton(survey) for name, survey in surveys.items()}
    by_user = {name: rows[name] for name in ("interactions", "users") if name in rows}
    written = (
        by_user
        | "Gather" >> beam.CoGroupByKey()
        | "Write"
        >> beam.ParDo(_Write(to), known["interactions"], known.get("users")).with_outputs(
            "seen", "users"
        )
    )
    _ = written.seen | "Seen" >> _Together(known["interactions"], to.seen, "interactions")
    if "users" in rows:
        path = os.path.join(to.catalogue, "users.parquet")
        _ = written.users | "Users" >> _Together(known["users"], path, "users")
    if "items" in rows:
        items = (
            rows["items"]
            | "GatherItems" >> beam.GroupByKey()
            | "WriteItems" >> beam.ParDo(_WriteItems(to), known["items"])
        )
        path = os.path.join(to.catalogue, "items.parquet")
        _ = items | "Items" >> _Together(known["items"], path, "items")
    _ = pipeline | "Once" >> beam.Create([to.schema]) | "Schema" >> beam.Map(_write_schema, **known)


class _Together(beam.PTransform):
    """Writes one Parquet file of all tables of a collection."""

    def __init__(self, survey: Any, path: str, name: str):
        super().__init__()
        self._survey = survey
        self._path = path
        self._name = name

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        listed = tables | "Listed" >> beam.combiners.ToList()
        return listed | "Parquet" >> beam.Map(_write_parquet, self._survey, self._path, self._name)


class _Read(beam.DoFn):
    """A file becomes cleaned rows by partition, and two surveys.

    The second is of the events of batches without any value, which are null until all files are
    known: where others have values these are missing, and where none has each is 1.
    """

    def __init__(self, table: str, partitions: int):
        self._table = table
        self._partitions = partitions if table != "items" else 1

    def process(self, file: str) -> Iterator[Any]:
        survey, valueless = Survey(), Survey()
        for batch in _batches(file):
            clean = _events if self._table == "interactions" else _attributes
            table, dropped = clean(batch, self._table)
            for reason, count in dropped.items():
                _count_dropped(self._table, reason, count)
            if self._table == "interactions" and names.VALUE not in batch.column_names:
                valueless += _survey(table)
                nulls = pa.nulls(table.num_rows, pa.float32())
                place = table.column_names.index(names.VALUE)
                table = table.set_column(place, names.VALUE, nulls)
            else:
                survey += dataclasses.replace(_survey(table), valued=self._table == "interactions")
            for partition, part in _divided(table, self._partitions, self._table):
                yield partition, _packed(part)
        yield beam.pvalue.TaggedOutput("survey", (survey, valueless))


class _Write(beam.DoFn):
    """A partition of the users: the one call of the in-memory algorithm, and its shards."""

    def __init__(self, to: _Settings):
        self._to = to

    def process(
        self,
        gathered: tuple[int, Mapping[str, Iterable[bytes]]],
        events_survey: Survey,
        users_survey: Survey | None,
    ) -> Iterator[Any]:
        partition, parts = gathered
        to = self._to
        shard = f"data_tfrecord-{partition:05d}-of-{to.config.partitions:05d}.gz"
        users = None
        packed_users = list(parts.get("users", ()))
        if packed_users and users_survey is not None:
            users = _unique(_joined(packed_users, users_survey.kinds), "users")
            _write_shard(_prefixed(users, names.user_column), to.folders["users"], shard)
            yield beam.pvalue.TaggedOutput("users", _packed(users))
        packed = list(parts.get("interactions", ()))
        if not packed:
            return
        _check(events_survey, users_survey, to.config)
        table = _with_values(_joined(packed, events_survey.kinds), events_survey.valued)
        if not table.num_rows:
            return
        keys = [names.USER_ID, names.TIME, names.ITEM_ID, names.VALUE]
        data = Interactions(table.sort_by([(key, "ascending") for key in keys]))
        cuts = (
            time_cuts(events_survey, to.config)
            if to.config.protocol == SplitProtocol.TIME
            else None
        )
        split = parts_of(data, to.config, cuts, to.seed)
        yield beam.pvalue.TaggedOutput("seen", _packed(data.events.filter(pa.array(split < 2))))
        past = histories(data)
        for number, name in enumerate(names.EVENT_SPLITS):
            chosen = np.flatnonzero(split == number)
            slices = (
                _event_columns(data, past, chosen[i : i + _ROWS_ENCODED], users, to.config)
                for i in range(0, len(chosen), _ROWS_ENCODED)
            )
            _write_batches(slices, to.folders[name], shard)


class _WriteItems(beam.DoFn):
    """The items table as examples."""

    def __init__(self, to: _Settings):
        self._to = to

    def process(self, gathered: tuple[int, Iterable[bytes]], survey: Survey) -> Iterator[bytes]:
        items = _unique(_joined(list(gathered[1]), survey.kinds), "items")
        shard = "data_tfrecord-00000-of-00001.gz"
        _write_shard(_prefixed(items, names.item_column), self._to.folders["items"], shard)
        yield _packed(items)


def _files(artifacts: Sequence[types.Artifact]) -> list[str]:
    found: list[str] = []
    for artifact in artifacts:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            folder = artifact_utils.get_split_uri([artifact], split)
            found += sorted(glob.glob(os.path.join(folder, "data_*")))
    return found


def _batches(file: str) -> Iterator[pa.Table]:
    """Rows of a file of tf.Examples, each column a list a row."""
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    decoder = ExamplesToRecordBatchDecoder()
    records = tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "")
    for batch in records.batch(_ROWS_A_BATCH).as_numpy_iterator():
        decoded = decoder.DecodeBatch(batch.tolist())
        yield pa.table(
            {
                name: _plain_lists(column, name)
                for name, column in zip(decoded.schema.names, decoded.columns, strict=True)
                if not pa.types.is_null(column.type)
            }
        )


def _plain_lists(column: pa.Array, name: str) -> pa.Array:
    """A list column of int64, float32 or strings; of ids, bytes.

    Bytes that are not UTF-8 are replaced, as `features.text` does, since no road could look them
    up; ids of such bytes are left out instead.
    """
    kind = column.type.value_type
    if not pa.types.is_large_binary(kind):
        return column.cast(pa.list_(kind))
    if name in _EVENTS:
        return column.cast(pa.list_(pa.binary()))
    try:
        return column.cast(pa.list_(pa.string()))
    except pa.ArrowInvalid:
        cells = [cell.decode("utf-8", "replace") for cell in column.flatten().to_pylist()]
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.array(cells), mask=column.is_null())


def _events(table: pa.Table, name: str) -> tuple[pa.Table, Mapping[str, int]]:
    check = RowCheck("drop")
    for column in (names.USER_ID, names.ITEM_ID, names.TIME, names.VALUE):
        if column in table.column_names:
            place = table.column_names.index(column)
            table = table.set_column(place, column, _scalars(table[column]))
    table = _with_ids(table, (names.USER_ID, names.ITEM_ID))
    typed = typed_events(table, check, source=name)
    return typed, check.dropped


def _attributes(table: pa.Table, name: str) -> tuple[pa.Table, Mapping[str, int]]:
    key = _KEYS[name]
    table = _with_ids(table, (key,))
    tokens, unreadable = tokens_of(_scalars(table[key]), f"{name}, column `{key}`")
    missing = pc.fill_null(pc.equal(tokens, ""), True).to_numpy(zero_copy_only=False) & ~unreadable
    broken = pc.fill_null(pc.match_substring_regex(tokens, "[\r\n]"), False)
    broken = broken.to_numpy(zero_copy_only=False)
    bad = {"unreadable": unreadable, "missing": missing, "line break in": broken}
    table = table.set_column(table.column_names.index(key), key, tokens)
    kept = table.filter(pa.array(~(unreadable | missing | broken)))
    return kept, {f"{why} {key}": int(rows.sum()) for why, rows in bad.items() if rows.any()}


def _with_ids(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """A batch in which nobody has an id lacks the column."""
    for key in keys:
        if key not in table.column_names:
            table = table.append_column(key, pa.nulls(table.num_rows, pa.string()))
    return table


def _scalars(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The first value of each row's list; null where there is none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not (pa.types.is_list(column.type)):
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    first = np.cumsum(lengths) - lengths
    return column.flatten().take(pa.array(first, pa.int64(), mask=lengths == 0))


def _survey(table: pa.Table) -> Survey:
    kinds = {}
    for field in table.schema:
        if pa.types.is_list(field.type):
            many = (pc.max(pc.list_value_length(table[field.name])).as_py() or 0) > 1
            kinds[field.name] = Kind(_base(field.type.value_type), many)
    if names.TIME not in table.column_names or table.schema.field(names.TIME).type != pa.int64():
        return Survey(kinds, table.num_rows)
    times = table[names.TIME].drop_null().to_numpy()
    return Survey(kinds, table.num_rows, *np.unique(times, return_counts=True))


def _base(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "int"
    return "float" if pa.types.is_floating(kind) else "text"


def _sums(surveys: Iterable[tuple[Survey, Survey]]) -> tuple[Survey, Survey]:
    return reduce(
        lambda one, other: (one[0] + other[0], one[1] + other[1]), surveys, (Survey(), Survey())
    )


def _settled(surveys: tuple[Survey, Survey], name: str) -> Survey:
    """The survey of the rows that stay, by what is known of all; counts those that do not."""
    survey, valueless = surveys
    if not survey.valued:
        return survey + valueless
    if valueless.rows:
        _count_dropped(name, "missing value", valueless.rows)
    return survey


def _with_values(table: pa.Table, valued: bool) -> pa.Table:
    """Events without a value are left out if others have one; else each has 1."""
    column = table[names.VALUE]
    if valued:
        return table.filter(column.is_valid()).combine_chunks()
    place = table.column_names.index(names.VALUE)
    return table.set_column(place, names.VALUE, column.fill_null(1.0))


def _check(events: Survey, users: Survey | None, config: SplitConfig) -> None:
    untimed = events.rows - int(events.counts.sum())
    if untimed and (config.protocol != SplitProtocol.COLD_USERS or untimed < events.rows):
        raise ValueError(
            f"{untimed:,} of {events.rows:,} events have no time, but a history by the protocol "
            f"{config.protocol!r} needs the times of all; give each event one, or leave it out."
        )
    event_columns = {*_EVENTS, *events.kinds}
    both = sorted(event_columns & set(users.kinds)) if users is not None else []
    if both:
        raise ValueError(
            f"The users have a column `{both[0]}`, but so have the events, and both would stand in "
            f"one example; rename it: data.users.columns."
        )


def _divided(table: pa.Table, partitions: int, name: str) -> Iterator[tuple[int, pa.Table]]:
    if partitions == 1:
        yield 0, table
        return
    coded = table[names.USER_ID].combine_chunks().dictionary_encode()
    partition = np.array([_hash(user, "") % partitions for user in coded.dictionary.to_pylist()])
    if not len(partition):
        return
    row_partition = partition[coded.indices.to_numpy()]
    order = np.argsort(row_partition, kind="stable")
    ends = np.cumsum(np.bincount(row_partition, minlength=partitions))
    ordered = table.take(pa.array(order))
    for number, end in enumerate(ends):
        start = ends[number - 1] if number else 0
        if end > start:
            yield number, ordered.slice(start, end - start)


def _hash(token: str, key: str) -> int:
    """64 bits that no process, version or platform changes, unlike Python's own hash."""
    digest = hashlib.blake2b(token.encode(), digest_size=8, key=key.encode()).digest()
    return int.from_bytes(digest, "little")


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _unpacked(packed: bytes) -> pa.Table:
    return pa.ipc.open_stream(packed).read_all()


def _joined(packed: Sequence[bytes], kinds: Mapping[str, Kind]) -> pa.Table:
    """One table of all; columns whose type we do not decide as lists of the type agreed on."""
    tables = []
    for part in map(_unpacked, packed):
        for place, field in enumerate(part.schema):
            if field.name in kinds:
                kind = pa.list_(_TYPES[kinds[field.name].base][0])
                part = part.set_column(place, field.name, part[field.name].cast(kind, safe=False))
        tables.append(part)
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _unique(table: pa.Table, name: str) -> pa.Table:
    """By id; of rows with one id, one stays, the same whatever order they came in."""
    key = _KEYS[name]
    table = table.sort_by(key).combine_chunks()
    ids = table[key].to_numpy(zero_copy_only=False)
    twice = np.zeros(len(ids), bool)
    twice[1:] = ids[1:] == ids[:-1]
    if not twice.any():
        return table
    _count_dropped(name, f"repeated {key}", int(twice.sum()))
    alike = np.flatnonzero(twice | np.append(twice[1:], False))
    rows = table.take(pa.array(alike)).to_pylist()
    order = np.arange(len(ids))
    by_row = sorted(range(len(rows)), key=lambda row: _sortable(rows[row], key))
    order[alike] = alike[by_row]
    return table.take(pa.array(order[~twice]))


def _sortable(row: Mapping[str, Any], key: str) -> tuple[str, str]:
    return row[key], json.dumps(row, sort_keys=True, default=str)


def _event_columns(
    data: Interactions,
    past: Any,
    rows: np.ndarray,
    users: pa.Table | None,
    config: SplitConfig,
) -> dict[str, pa.Array]:
    """The columns of some events' examples, a list a row each."""
    taken = data.events.take(pa.array(rows)).combine_chunks()
    columns = {name: _as_lists(taken[name]) for name in taken.column_names}
    columns[names.HISTORY] = _history(data, past, rows, config.history_length)
    if users is not None:
        known = pc.index_in(taken[names.USER_ID].combine_chunks(), value_set=users["user_id"])
        theirs = users.drop_columns(["user_id"]).take(known)
        columns.update({name: _as_lists(theirs[name]) for name in theirs.column_names})
    return columns


def _history(data: Interactions, past: Any, rows: np.ndarray, length: int) -> pa.Array:
    stop = past.stop[rows]
    count = np.minimum(stop - past.start[rows], length)
    offsets = np.concatenate([[0], np.cumsum(count)])
    place = np.arange(offsets[-1]) + np.repeat(stop - count - offsets[:-1], count)
    codes = pa.array(data.item_codes[past.order[place]])
    items = pa.array(data.item_ids, pa.string()).cast(pa.binary()).take(codes)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)


def _as_lists(column: pa.ChunkedArray) -> pa.Array:
    """A list a row, null where there is nothing, text as bytes: what the encoder takes."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_list(array.type):
        present = array.is_valid().to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(present)]), pa.int32())
        array = pa.ListArray.from_arrays(offsets, array.drop_null(), mask=pa.array(~present))
    text = pa.types.is_string(array.type.value_type)
    return array.cast(pa.list_(pa.binary())) if text else array


def _prefixed(table: pa.Table, name_of: Callable[[str], str]) -> dict[str, pa.Array]:
    return {name_of(name): _as_lists(table[name]) for name in table.column_names}


def _write_shard(columns: dict[str, pa.Array], folder: str, name: str) -> None:
    _write_batches([columns], folder, name)


def _write_batches(batches: Iterable[dict[str, pa.Array]], folder: str, name: str) -> None:
    """Writes a shard, which appears once it is whole; none if there is no row."""
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

    encoder = RecordBatchToExamplesEncoder()
    work = os.path.join(folder, f".{name}.{os.getpid()}")  # a retried worker may write it, too
    # Level 1 takes a fifth of the time of the default, for a tenth more bytes.
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    writer = None
    try:
        for columns in batches:
            writer = writer or tf.io.TFRecordWriter(work, options)
            for example in encoder.encode(pa.RecordBatch.from_pydict(columns)):
                writer.write(example)
        if writer is not None:
            writer.close()
            os.replace(work, os.path.join(folder, name))
    finally:
        Path(work).unlink(missing_ok=True)


def _write_parquet(packed: Sequence[bytes], survey: Survey, path: str, name: str) -> None:
    """One table, columns that hold one value a row as values and not as lists."""
    if not packed:
        return
    table = pa.concat_tables(map(_unpacked, packed), promote_options="default")
    key = names.USER_ID if name == "interactions" else _KEYS[name]
    order = [key, names.TIME, names.ITEM_ID, names.VALUE] if name == "interactions" else [key]
    table = table.sort_by([(column, "ascending") for column in order])
    for place, column in enumerate(table.column_names):
        if column in survey.kinds and not survey.kinds[column].many:
            table = table.set_column(place, column, _scalars(table[column]))
    work = f"{path}.part"
    pq.write_table(table, work)
    os.replace(work, path)


def _write_schema(
    path: str, interactions: Survey, users: Survey | None = None, items: Survey | None = None
) -> None:
    kinds = {**_EVENTS, **interactions.kinds}
    for survey, key, name_of in (
        (users, "user_id", names.user_column),
        (items, "item_id", names.item_column),
    ):
        if survey is not None:
            columns = {key: Kind("text"), **survey.kinds}
            kinds.update({name_of(name): kind for name, kind in columns.items()})
    if users is not None:
        kinds.update(users.kinds)
    # No presence and no shape: a row of one kind has no column of the others.
    schema = schema_pb2.Schema(
        feature=[
            schema_pb2.Feature(name=name, type=_TYPES[kind.base][1]) for name, kind in kinds.items()
        ]
    )
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(text_format.MessageToString(schema))
    os.replace(f"{path}.part", path)


def _count_dropped(table: str, reason: str, count: int) -> None:
    beam.metrics.Metrics.counter(_COUNTERS, f"{table}: {reason}").inc(count)


def _dropped(result: Any) -> dict[str, int]:
    """What the workers counted."""
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(_COUNTERS))
    counts: dict[str, int] = {}
    for counter in found["counters"]:
        count = counter.committed if counter.committed is not None else counter.attempted
        counts[counter.key.metric.name] = counts.get(counter.key.metric.name, 0) + count
    return dict(sorted(counts.items()))
