"""The rows of Histories: cleaning, partitions of users, splits, and the columns of examples.

All functions work on Arrow tables in memory. Beam's workers load this module; it imports neither
TFX nor TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from tfrec_meta.data import Interactions, split_leave_last_out
from tfrec_meta.data.cleaning import CleaningRules, Removal, clean_events
from tfrec_meta.data.events import SCHEMA, BadRows, RowCheck, typed_events
from tfrec_meta.data.feedback import (
    TARGET,
    WEIGHT,
    Feedback,
    check_types,
    type_counts,
    with_columns,
)
from tfrec_meta.data.histories import Histories, histories
from tfrec_meta.data.ids import (
    DECIMALS,
    Spelling,
    has_line_breaks,
    without_decimals,
)
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.data.times import TimeReader
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.table_columns import LARGEST_WHOLE, Kind

NAME = "interactions"  # of the events in messages
POSITION = "\0position"  # no column of a table has this name
_FILE = 40  # bits of a position that number the row of a file
# The parts of events, the first three in the order of `features.transform.EVENT_SPLITS`. Events of
# the last two are not of the target: they are known at test time only, or in no part.
TRAIN, VALIDATION, TEST, PAST_ONLY, NO_PART = range(5)
KEYS = {"users": "user_id", "items": "item_id"}
_ID_COLUMNS = ("user_id", "item_id")
TYPES = {
    "int": (pa.int64(), schema_pb2.INT),
    "float": (pa.float32(), schema_pb2.FLOAT),
    "text": (pa.string(), schema_pb2.BYTES),
}
EVENT_COLUMNS = {
    names.USER_ID: Kind("text"),
    names.ITEM_ID: Kind("text"),
    names.TIME: Kind("int"),
    names.VALUE: Kind("float"),
    names.HISTORY: Kind("text", True),
}


@dataclasses.dataclass(frozen=True)
class RowSurvey:
    """The facts about all rows of a table that are needed before any row is written.

    Of cleaned events with a target, `rows`, `times` and `counts` are about target events only.

    Attributes:
        kinds: types of the columns that the data determines.
        rows: number of rows.
        times: int64 [t], the distinct times in rising order.
        counts: int64 [t], number of events at each time.
        spellings: of the ids, by column.
        event_types: number of events of each type before cleaning, if the feedback names types.
    """

    kinds: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    rows: int = 0
    times: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    spellings: Mapping[str, Spelling] = dataclasses.field(default_factory=dict)
    event_types: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __add__(self, other: RowSurvey) -> RowSurvey:
        kinds = dict(self.kinds)
        for name, kind in other.kinds.items():
            kinds[name] = kinds[name] | kind if name in kinds else kind
        times, position = np.unique(np.concatenate([self.times, other.times]), return_inverse=True)
        counts = np.zeros(len(times), np.int64)
        np.add.at(counts, position, np.concatenate([self.counts, other.counts]))
        return RowSurvey(
            kinds,
            self.rows + other.rows,
            times,
            counts,
            _joined_spellings((self.spellings, other.spellings)),
            Counter(self.event_types) + Counter(other.event_types),
        )


def time_cuts(survey: RowSurvey, config: SplitConfig) -> tuple[int, int]:
    """Returns the times at which validation and test begin, as in `split_by_time`.

    Args:
        survey: of the cleaned events, see `plausible_events`.
        config: the shares.
    """
    below = np.cumsum(survey.counts)
    shares = (config.train, config.train + config.validation)
    positions = [min(round(share * survey.rows), survey.rows - 1) for share in shares]
    first, second = survey.times[np.searchsorted(below, positions, side="right")]
    return int(first), int(second)


def parts_of(
    data: Interactions, config: SplitConfig, cuts: tuple[int, int] | None, seed: int
) -> np.ndarray:
    """Returns the part of each event, int8 [n]: TRAIN, VALIDATION, TEST, PAST_ONLY or NO_PART.

    Args:
        data: all events of some users.
        config: the protocol and its shares.
        cuts: for the protocol "time", see `time_cuts`.
        seed: for "cold-users". Whether a user is held out depends on id and seed only, so that it
            does not change as data is added; the shares are met on average.
    """
    parts = np.full(len(data), TRAIN, np.int8)
    is_target = np.ones(len(data), bool) if data.is_target is None else data.is_target
    if config.protocol == SplitProtocol.TIME:
        assert cuts is not None
        times = data.events["time"].to_numpy()
        parts[times >= cuts[0]] = VALIDATION
        parts[(times >= cuts[0]) & ~is_target] = PAST_ONLY
        parts[times >= cuts[1]] = TEST
        parts[(times >= cuts[1]) & ~is_target] = NO_PART
    elif config.protocol == SplitProtocol.LEAVE_LAST_OUT:
        if is_target.any():  # other users may have target events
            split = split_leave_last_out(data)
            parts[:] = NO_PART
            parts[split.train_index] = TRAIN
            parts[split.validation_index] = VALIDATION
            parts[split.test_index] = TEST
            parts[split.past_only_index] = PAST_ONLY
    else:
        drawn = np.array([_hash(user, str(seed)) / 2**64 for user in data.user_ids])
        part = (drawn >= config.train).astype(np.int8) + (drawn >= config.train + config.validation)
        parts = part[data.user_codes].astype(np.int8)
        parts[(parts != TRAIN) & ~is_target] = NO_PART
    return parts


def check_events(left: RowSurvey, feedback: Feedback | None) -> None:
    """Checks the event types that the feedback names, and that cleaning left a target event.

    Args:
        left: of all cleaned events.
        feedback: how they count.

    Raises:
        ParameterError: as `Interactions.with_feedback` and the splits raise it.
    """
    if feedback is None:
        return
    check_types(left.event_types, feedback, NAME)
    if feedback.target is not None and not left.rows:
        raise ParameterError(
            f"`target`={list(feedback.target)}, but {NAME} has no such event after cleaning, so "
            "that none could be held out. Add some, or change `target`.",
            "target",
        )


def check_columns(
    events: RowSurvey,
    users: RowSurvey | None,
    config: SplitConfig,
    feedback: Feedback | None = None,
) -> None:
    """Checks that the events have the times they need, and no column in common with the users.

    Args:
        events: of all events before cleaning, which removes those without a time if others have
            one.
        users: of all users.
        config: the protocol.
        feedback: how the events count; it adds columns.

    Raises:
        ValueError: if they do not.
    """
    if not len(events.times) and config.protocol != SplitProtocol.COLD_USERS:
        raise ValueError(
            f"No event has a time, which the protocol '{config.protocol}' needs; add a column of "
            "times, or use the protocol 'cold-users'."
        )
    event_columns = {*EVENT_COLUMNS, *events.kinds, *declared_columns(feedback)}
    both = sorted(event_columns & set(users.kinds)) if users is not None else []
    if both:
        raise ValueError(
            f"Both users and events have a column `{both[0]}`, and an example would have both; "
            "rename it: data.users.columns."
        )


def typed_batch(table: pa.Table) -> pa.Table:
    """Returns events of ExampleGen, which are valid, with the columns of `Interactions.events`."""
    for column in SCHEMA.names:
        if column in table.column_names:
            position = table.column_names.index(column)
            table = table.set_column(position, column, first_values(table[column]))
    return typed_events(table, RowCheck(), source=NAME, times=TimeReader("s"))


def with_valid_ids(table: pa.Table, name: str) -> tuple[pa.Table, int]:
    """Returns users or items, and the number of removed rows.

    Ids with a line break are removed: no event has such an id, and no vocabulary could hold it.
    """
    key = KEYS[name]
    ids = first_values(table[key]).cast(pa.string())
    table = table.set_column(table.column_names.index(key), key, ids)
    broken = has_line_breaks(ids)
    return (table.filter(pa.array(~broken)) if broken.any() else table), int(broken.sum())


def plain_lists(column: pa.Array, name: str) -> pa.Array:
    """Returns a list column as int64, float32 or strings; as bytes for ids.

    Bytes that are not UTF-8 are replaced, as in `features.text`, since no lookup could find them.
    Ids with such bytes are dropped instead.
    """
    kind = column.type.value_type
    if not pa.types.is_large_binary(kind):
        return column.cast(pa.list_(kind))
    if name in EVENT_COLUMNS:
        return column.cast(pa.list_(pa.binary()))
    try:
        return column.cast(pa.list_(pa.string()))
    except pa.ArrowInvalid:
        cells = [cell.decode("utf-8", "replace") for cell in column.flatten().to_pylist()]
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.array(cells), mask=column.is_null())


def first_values(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns the first value of each row's list; null where there is none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not (pa.types.is_list(column.type)):
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    first = np.cumsum(lengths) - lengths
    return column.flatten().take(pa.array(first, pa.int64(), mask=lengths == 0))


def survey_of(table: pa.Table) -> RowSurvey:
    """Returns the survey of a table with valid ids."""
    kinds = {}
    spellings = {key: Spelling.of(table[key]) for key in _ID_COLUMNS if key in table.column_names}
    for field in table.schema:
        if pa.types.is_list(field.type):
            many = (pc.max(pc.list_value_length(table[field.name])).as_py() or 0) > 1
            base = _base(field.type.value_type)
            if base == "float" and not many and _is_whole(table[field.name]):
                base = "int"
            kinds[field.name] = Kind(base, many)
    if names.TIME not in table.column_names or table.schema.field(names.TIME).type != pa.int64():
        return RowSurvey(kinds, table.num_rows, spellings=spellings)
    times = table[names.TIME].drop_null().to_numpy()
    distinct, counts = np.unique(times, return_counts=True)
    return RowSurvey(kinds, table.num_rows, distinct, counts, spellings)


def _is_whole(column: pa.ChunkedArray) -> bool:
    """Returns whether all numbers are whole; ExampleGen writes such columns as floats."""
    values = column.combine_chunks().flatten().drop_null()
    small = pc.less_equal(pc.abs(values), LARGEST_WHOLE)
    whole = pc.and_(small, pc.equal(pc.floor(values), values))
    return bool(pc.all(whole, min_count=0).as_py())


def _base(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "int"
    return "float" if pa.types.is_floating(kind) else "text"


def plausible_events(
    packed: Sequence[bytes],
    survey: RowSurvey,
    rules: CleaningRules,
    feedback: Feedback | None = None,
    decimals: Sequence[str] = (),
) -> tuple[pa.Table, Removal, RowSurvey]:
    """Returns the plausible events of some users by user, time and row.

    They are those that `Interactions.with_feedback` and `clean` leave of the events in the order of
    the files.

    Args:
        packed: tables of all events of these users, with the column `POSITION`.
        survey: of all events.
        rules: which events are implausible.
        feedback: how the events count.
        decimals: columns of ids from which ".0" is removed, see `with_decimals`.

    Returns:
        The events, with the columns of the feedback; what was removed; and a survey of them without
        `kinds`.

    Raises:
        ParameterError: for an event without a type, or without a valid weight.
    """
    table = joined(packed, survey.kinds)
    for key in decimals:
        table = without_decimals(table, key)
    event_types: Mapping[str, int] = {}
    differ_in: tuple[str, ...] = ()
    if feedback is not None:
        table = _with_feedback(table, feedback, survey.kinds)
        event_types = type_counts(table, feedback, NAME)
        differ_in = feedback.columns_of_duplicates
    order = [(names.USER_ID, "ascending"), (names.TIME, "ascending"), (POSITION, "ascending")]
    table = table.sort_by(order).drop_columns([POSITION]).combine_chunks()
    timed = bool(len(survey.times))
    clean, removed = clean_events(table, rules, timed=timed, differ_in=differ_in)
    clean = clean.combine_chunks()
    targets = clean if TARGET not in declared_columns(feedback) else clean.filter(clean[TARGET])
    left = dataclasses.replace(survey_of(targets), kinds={}, event_types=event_types)
    return clean, removed, left


def _with_feedback(table: pa.Table, feedback: Feedback, kinds: Mapping[str, Kind]) -> pa.Table:
    """Adds the columns of the feedback; those that it reads become plain columns."""
    for name in feedback.columns_read:
        if name in kinds and not kinds[name].many:
            place = table.column_names.index(name)
            table = table.set_column(place, name, first_values(table[name]))
    positions = table[POSITION].to_numpy()

    def row_name(row: int) -> str:
        file, place = divmod(int(positions[row]), 1 << _FILE)
        return f"row {place + 1} of shard {file + 1}"

    return with_columns(table, feedback, NAME, row_name)


def declared_columns(feedback: Feedback | None) -> dict[str, Kind]:
    """Returns the event columns that a feedback adds, with their types in examples."""
    if feedback is None:
        return {}
    added = {WEIGHT: Kind("float")}
    return added if feedback.target is None else {**added, TARGET: Kind("int")}


def positive_histories(data: Interactions) -> Histories:
    """Returns the histories of all events, without the events that are not positive."""
    past, weights = histories(data), data.weights
    if weights is None:
        return past
    positive = weights[past.order] > 0
    before = np.concatenate([[0], np.cumsum(positive)])
    return Histories(past.order[positive], before[past.start], before[past.stop])


def with_decimals(*surveys: RowSurvey | None) -> list[str]:
    """Returns the columns of ids from which ".0" is removed, as by `ids.written_alike`.

    Args:
        surveys: of all events, and of the tables with the same ids; None is accepted.
    """
    spellings = _joined_spellings(survey.spellings for survey in surveys if survey is not None)
    return [key for key, spelling in spellings.items() if spelling.has_decimals]


def _joined_spellings(each: Iterable[Mapping[str, Spelling]]) -> dict[str, Spelling]:
    found: dict[str, Spelling] = {}
    for spellings in each:
        for key, spelling in spellings.items():
            found[key] = found.get(key, Spelling()) | spelling
    return found


def with_positions(table: pa.Table, file: int, first: int) -> pa.Table:
    """Adds the column `POSITION`: each row's position in the files.

    Beam keeps no order, but of equal events cleaning keeps the first one.

    Args:
        table: some rows of a file.
        file: number of the file.
        first: number of its first row.
    """
    start = (file << _FILE) + first
    return table.append_column(POSITION, pa.array(np.arange(start, start + table.num_rows)))


def by_partition(table: pa.Table, partitions: int, name: str) -> Iterator[tuple[int, pa.Table]]:
    """Yields each partition of the users that has rows, with its rows.

    10 and 10.0 are in one partition, since they may be one user.
    """
    if partitions == 1:
        yield 0, table
        return
    coded = table[names.USER_ID].combine_chunks().dictionary_encode()
    users = pc.replace_substring_regex(coded.dictionary, DECIMALS, "").to_pylist()
    partition = np.array([_hash(user, "") % partitions for user in users])
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
    """Returns 64 bits that are the same in every process, version and platform."""
    digest = hashlib.blake2b(token.encode(), digest_size=8, key=key.encode()).digest()
    return int.from_bytes(digest, "little")


def serialized(table: pa.Table) -> bytes:
    """Returns a table as bytes, for Beam."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def deserialized(packed: bytes) -> pa.Table:
    """Returns the table of `serialized`."""
    return pa.ipc.open_stream(packed).read_all()


def joined(packed: Sequence[bytes], kinds: Mapping[str, Kind]) -> pa.Table:
    """Returns one table of all; columns of data-dependent type become lists of the common type."""
    tables = []
    for part in map(deserialized, packed):
        for position, field in enumerate(part.schema):
            if field.name in kinds:
                kind = pa.list_(TYPES[kinds[field.name].base][0])
                part = part.set_column(
                    position, field.name, part[field.name].cast(kind, safe=False)
                )
        tables.append(part)
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def without_repeats(table: pa.Table, name: str, bad_rows: BadRows) -> tuple[pa.Table, int]:
    """Returns the table with one row per id, sorted by id, and the number of removed rows.

    Which of several rows with one id is kept does not depend on their order.

    Raises:
        ValueError: if an id is repeated, unless `bad_rows` is "drop".
    """
    key = KEYS[name]
    table = table.sort_by(key).combine_chunks()
    ids = table[key].to_numpy(zero_copy_only=False)
    repeated = np.zeros(len(ids), bool)
    repeated[1:] = ids[1:] == ids[:-1]
    if not repeated.any():
        return table, 0
    if bad_rows == "raise":
        found = ids[repeated.argmax()]
        raise ValueError(
            f"{name}, column `{key}`: {found!r} is in {(ids == found).sum()} rows; keep one row "
            "per id, or set data.bad_rows to 'drop'."
        )
    alike = np.flatnonzero(repeated | np.append(repeated[1:], False))
    rows = table.take(pa.array(alike)).to_pylist()
    order = np.arange(len(ids))
    by_row = sorted(range(len(rows)), key=lambda row: _sortable(rows[row], key))
    order[alike] = alike[by_row]
    return table.take(pa.array(order[~repeated])), int(repeated.sum())


def _sortable(row: Mapping[str, Any], key: str) -> tuple[str, str]:
    return row[key], json.dumps(row, sort_keys=True, default=str)


def event_columns(
    data: Interactions,
    past: Any,
    rows: np.ndarray,
    users: pa.Table | None,
    config: SplitConfig,
) -> dict[str, pa.Array]:
    """Returns the columns of the examples of some events, one list per row."""
    taken = data.events.take(pa.array(rows)).combine_chunks()
    columns = {name: _as_lists(taken[name]) for name in taken.column_names}
    columns[names.HISTORY] = _history(data, past, rows, config.history_length)
    if users is not None:
        user_rows = pc.index_in(taken[names.USER_ID].combine_chunks(), value_set=users["user_id"])
        attributes = users.drop_columns(["user_id"]).take(user_rows)
        columns.update({name: _as_lists(attributes[name]) for name in attributes.column_names})
    return columns


def _history(data: Interactions, past: Any, rows: np.ndarray, length: int) -> pa.Array:
    stop = past.stop[rows]
    count = np.minimum(stop - past.start[rows], length)
    offsets = np.concatenate([[0], np.cumsum(count)])
    position = np.arange(offsets[-1]) + np.repeat(stop - count - offsets[:-1], count)
    codes = pa.array(data.item_codes[past.order[position]])
    items = pa.array(data.item_ids, pa.string()).cast(pa.binary()).take(codes)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)


def _as_lists(column: pa.ChunkedArray) -> pa.Array:
    """Returns one list per row, null where there is no value; text as bytes, bools as integers."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int64())
    if not pa.types.is_list(array.type):
        present = array.is_valid().to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(present)]), pa.int32())
        array = pa.ListArray.from_arrays(offsets, array.drop_null(), mask=pa.array(~present))
    text = pa.types.is_string(array.type.value_type)
    return array.cast(pa.list_(pa.binary())) if text else array


def prefixed(table: pa.Table, name_of: Callable[[str], str]) -> dict[str, pa.Array]:
    """Returns the columns of the examples of users or items, by their names in examples."""
    return {name_of(name): _as_lists(table[name]) for name in table.column_names}
