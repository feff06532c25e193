"""The facts about all rows of a table that are needed before any row is written."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from tfrec_meta.data.feedback import TARGET, WEIGHT, Feedback, check_types
from tfrec_meta.data.ids import Spelling
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.table_columns import LARGEST_WHOLE, Kind

NAME = "interactions"  # of the events in messages
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


def first_values(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns the first value of each row's list; null where there is none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not (pa.types.is_list(column.type)):
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    first = np.cumsum(lengths) - lengths
    return column.flatten().take(pa.array(first, pa.int64(), mask=lengths == 0))


def with_decimals(*surveys: RowSurvey | None) -> list[str]:
    """Returns the columns of ids from which ".0" is removed, as by `ids.written_alike`.

    Args:
        surveys: of all events, and of the tables with the same ids; None is accepted.
    """
    spellings = _joined_spellings(survey.spellings for survey in surveys if survey is not None)
    return [key for key, spelling in spellings.items() if spelling.has_decimals]


def declared_columns(feedback: Feedback | None) -> dict[str, Kind]:
    """Returns the event columns that a feedback adds, with their types in examples."""
    if feedback is None:
        return {}
    added = {WEIGHT: Kind("float")}
    return added if feedback.target is None else {**added, TARGET: Kind("int")}


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


def _joined_spellings(each: Iterable[Mapping[str, Spelling]]) -> dict[str, Spelling]:
    found: dict[str, Spelling] = {}
    for spellings in each:
        for key, spelling in spellings.items():
            found[key] = found.get(key, Spelling()) | spelling
    return found


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
