"""The cleaning of some users' events, and of the tables of users and items."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec_meta.data.cleaning import CleaningRules, Removal, clean_events
from tfrec_meta.data.events import SCHEMA, BadRows, RowCheck, typed_events
from tfrec_meta.data.feedback import TARGET, Feedback, type_counts, with_columns
from tfrec_meta.data.ids import has_line_breaks, without_decimals
from tfrec_meta.data.tables.sessions import SESSION, session_ids
from tfrec_meta.data.times import TimeReader
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.rows.partitions import joined
from tfrec_meta.pipeline.rows.sessions import sessions_as_users
from tfrec_meta.pipeline.rows.surveys import (
    KEYS,
    NAME,
    RowSurvey,
    declared_columns,
    first_values,
    survey_of,
)
from tfrec_meta.pipeline.table_columns import Kind

POSITION = "\0position"  # no column of a table has this name
_ORDER = [(names.USER_ID, "ascending"), (names.TIME, "ascending"), (POSITION, "ascending")]
_FILE = 40  # bits of a position that number the row of a file


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


def with_session_ids(events: pa.Table) -> pa.Table:
    """Returns events with the column `session_id` as text.

    Raises:
        ValueError: if there is no such column, or a session id is missing.
    """
    if SESSION not in events.column_names:
        raise ValueError(
            f"{NAME} has no column for `{SESSION}`, which data.sessions names; use the name of the "
            "column in the files, or an idle gap such as 30m."
        )
    place = events.column_names.index(SESSION)
    events = events.set_column(place, SESSION, first_values(events[SESSION]))
    return events.set_column(place, SESSION, session_ids(events, NAME))


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


def plausible_events(
    packed: Sequence[bytes],
    survey: RowSurvey,
    rules: CleaningRules,
    feedback: Feedback | None = None,
    decimals: Sequence[str] = (),
    sessions: str | None = None,
) -> tuple[pa.Table, Removal, RowSurvey]:
    """Returns the plausible events of some users by user, time and row.

    They are those that `Interactions.with_feedback` and `clean` leave of the events in the order of
    the files. Minimum numbers of events, which need all users, come later: see `minimums`.

    Args:
        packed: tables of all events of these users, with the column `POSITION`.
        survey: of all events.
        rules: which events are implausible.
        feedback: how the events count.
        decimals: columns of ids from which ".0" is removed, see `with_decimals`.
        sessions: an idle gap, or the column of session ids: sessions become the users.

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
    rules, timed = rules.without_minimums(), bool(len(survey.times))
    before = Removal()
    if sessions is not None:
        table, before = sessions_as_users(table, sessions, rules, timed)
    table = table.sort_by(_ORDER).drop_columns([POSITION]).combine_chunks()
    clean, removed = clean_events(table, rules, timed=timed, differ_in=differ_in)
    clean = clean.combine_chunks()
    left = dataclasses.replace(survey_of_targets(clean, feedback), event_types=event_types)
    if before.rows:
        removed = dataclasses.replace(before + removed, rows=before.rows)
    return clean, removed, left


def survey_of_targets(events: pa.Table, feedback: Feedback | None) -> RowSurvey:
    """Returns a survey, without `kinds`, of the cleaned events that validation and test are about.

    These are all events, unless the feedback declares a target.
    """
    targets = events if TARGET not in declared_columns(feedback) else events.filter(events[TARGET])
    return dataclasses.replace(survey_of(targets), kinds={})


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
