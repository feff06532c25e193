"""The frozen configuration of a pipeline's tables. This module does not import TFX."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

from tfrec_meta.checks import Interval, between, check, check_fields, not_empty, whole_number
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.column_types import TABLE_PREFIXES
from tfrec_meta.data.events import MAX_BAD_SHARE
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.tables.needs import no_table
from tfrec_meta.data.tables.sessions import SESSION, is_gap, seconds_of
from tfrec_meta.pipeline.rows.spans import check_pattern, has_span

# Fields of `TableConfig` and of `FileFormat`.
TABLE_FORMAT = ("delimiter", "encoding", "decimal", "quote", "lists", "types")
_DRIFT = Interval(0, 1, "a number above 0, up to 1", open_low=True)
Drift = Annotated[float, _DRIFT]


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """The files of one table.

    Args:
        path: a file or a glob pattern, in a file system that all workers share. `{SPAN}` and
            `{VERSION}` stand for numbers, and `{YYYY}`, `{MM}` and `{DD}` for the date of a span; a
            run uses the highest. The suffix gives the format, as in `read_interactions`:
            Parquet (.parquet), or CSV, TSV or JSON Lines (.csv, .tsv, .jsonl, .ndjson, also with
            .gz or .zst).
        columns: this pipeline's column name -> the name in the files, for `user_id`, `item_id`,
            `time` and `value` of the interactions, `user_id` of the users and `item_id` of the
            items, if their names differ. Further columns keep their names.
        lists: the separator of the entries of a cell, by column of a CSV file, such as
            {"genres": "|"}.
        types: "text", "number" or "time", by column, such as {"zip": "text"}. Without a type,
            numbers with leading zeros are text, and other numbers are numbers.
        delimiter, encoding, decimal, quote: of text files, as in `read_interactions`.
        span: "snapshot", if each span is the complete table; "increment", if it has only the rows
            of a day, say: spans are read together. Of users and items with the same id, the row of
            the latest span counts.
        window: the number of the newest spans that are read together; None reads all.
        event_id: the column of the ids of events, by its name in the files: a later row replaces
            earlier ones with its id.
        deleted: a column of truth values, by its name in the files: where it is true, the row
            deletes the event, user or item.
    """

    path: str
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lists: Mapping[str, str] = dataclasses.field(default_factory=dict)
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    delimiter: str | None = None
    encoding: str = "utf8"
    decimal: str = "."
    quote: str | None = None
    span: Literal["snapshot", "increment"] = "snapshot"
    window: Annotated[int, whole_number(1)] | None = None
    event_id: Annotated[str, not_empty()] | None = None
    deleted: Annotated[str, not_empty()] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        FileFormat(**{name: getattr(self, name) for name in TABLE_FORMAT})
        if not self.path:
            raise ValueError("`path` is empty; use a file or a pattern.")
        check_folder("path", self.path)
        check_pattern(self.path)
        if "{VERSION}" in self.path and "{SPAN}" not in self.path:
            raise ValueError(
                f"`path`={self.path!r} has {{VERSION}} but not {{SPAN}}; add {{SPAN}}."
            )
        if self.span == "increment" and not has_span(self.path):
            raise ValueError(
                f"`span`='increment', but `path`={self.path!r} has no {{SPAN}}, the number of a "
                "span, and no date {YYYY}, {MM}, {DD}; add one of them."
            )
        if self.window is not None and self.span != "increment":
            raise ValueError(
                f"`window`={self.window} has no effect on snapshots, of which the newest is read; "
                "set `span` to 'increment', or leave out `window`."
            )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The input tables and their validation.

    Args:
        interactions: one row per event.
        users: one row per user; None if there is no such table.
        items: one row per item; None if there is no such table.
        time_unit: the unit of numeric times; None recognizes it by the size of the numbers.
        time_format: format of times in text, as for `datetime.strptime`; None for ISO 8601.
        bad_rows: "raise" stops the run at invalid rows; "drop" removes and counts them.
        max_bad_share: with "drop", the highest share of invalid rows of a table that is accepted.
        pseudonyms: the environment variable with the key of pseudonyms, which replace the ids of
            users as they are read, as in `pseudonymise`; None keeps the ids.
        schemas: a folder of curated schemas, `<table>.pbtxt`. None uses the schemas that were last
            accepted; the first run infers them.
        max_drift: the largest accepted drift of a feature between spans: the Jensen-Shannon
            divergence of numbers, the largest change of a share (L-infinity) of categories, and for
            both the change of the share of rows with a value.
        drift: `max_drift` of single features, such as {"users.age": 0.1}.
        max_split_drift: the largest accepted drift of values, context and user attributes from the
            train split to validation and test, by the same measures; None skips the comparison.
        split_drift: `max_split_drift` of single features.
        sessions: makes sessions the users, as for anonymous visitors: an idle gap such as "30m", or
            the name in the files of the column of session ids. Then the table of users is left out,
            since its rows describe people. None keeps the users.
        clean: which events are removed, as in `Interactions.clean`. One worker of Beam must have
            memory for the minimum numbers of events, some 60 bytes per event.
        needs: what a column is for, by its name here, such as {"items.in_stock": "requests leave it
            out"}. Reading stops with this text if the column is missing.
        warn_new_ids: the gate warns if the share of events with a new user or item exceeds this
            share; new ids are never an anomaly.
    """

    interactions: TableConfig
    users: TableConfig | None = None
    items: TableConfig | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    time_format: str | None = None
    bad_rows: Literal["raise", "drop"] = "raise"
    max_bad_share: Annotated[float, between(0, 1)] = MAX_BAD_SHARE
    pseudonyms: str | None = None
    schemas: str | None = None
    max_drift: Drift = 0.3
    drift: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_split_drift: Drift | None = 0.3
    split_drift: Mapping[str, float] = dataclasses.field(default_factory=dict)
    warn_new_ids: Annotated[float, between(0, 1)] = 0.5
    clean: CleaningRules = dataclasses.field(default_factory=CleaningRules)
    sessions: Annotated[str, not_empty()] | None = None
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for column, purpose in self.needs.items():
            if getattr(self, _table_of(column)) is None:
                raise no_table(column, purpose)
        FileFormat(time_format=self.time_format)
        if self.sessions is not None and is_gap(self.sessions):
            seconds_of(self.sessions, "sessions")
        if self.pseudonyms == "":
            raise ValueError("`pseudonyms` is empty; name the environment variable with the key.")
        for name in ("users", "items"):
            table = getattr(self, name)
            if table is not None and table.event_id is not None:
                raise ValueError(
                    f"`{name}.event_id` has no effect: rows of {name} have an id already; leave it "
                    "out."
                )
            if table is not None and table.deleted is not None and table.span != "increment":
                raise ValueError(
                    f"`{name}.deleted` has no effect on a snapshot; leave out the deleted rows."
                )
        if self.interactions.deleted is not None and self.interactions.event_id is None:
            raise ValueError(
                "`interactions.deleted` needs `interactions.event_id`, the column of the ids of "
                "events; set it, or leave out `deleted`."
            )
        for feature, limit in (*self.drift.items(), *self.split_drift.items()):
            check(feature, limit, _DRIFT)

    @property
    def tables(self) -> dict[str, TableConfig]:
        """The tables that are read, by name."""
        found = {"interactions": self.interactions, "users": self.users, "items": self.items}
        if self.sessions is not None:
            found["users"] = None
            if not is_gap(self.sessions):
                columns = {**self.interactions.columns, SESSION: self.sessions}
                types = {**self.interactions.types, SESSION: "text"}
                found["interactions"] = dataclasses.replace(
                    self.interactions, columns=columns, types=types
                )
        return {name: table for name, table in found.items() if table is not None}

    def needs_of(self, table: str) -> dict[str, str]:
        """Returns the part of `needs` with the columns of one table."""
        return {name: text for name, text in self.needs.items() if _table_of(name) == table}


def _table_of(column: str) -> str:
    is_attribute = column.startswith(TABLE_PREFIXES)
    return column.partition(".")[0] if is_attribute else "interactions"


def check_folder(name: str, value: str) -> None:
    """Raises a ValueError for a URL, since some steps read and write paths only."""
    if "://" in value:
        raise ValueError(
            f"`{name}`={value!r} is a URL; use a path in a file system that all workers share, "
            "mounted if necessary."
        )
