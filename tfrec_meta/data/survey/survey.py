"""`survey`: what a log holds, how it can be read, and the facts that guide its settings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec_meta.checks import check, whole_number
from tfrec_meta.data.cleaning import CleaningRules, clean_events
from tfrec_meta.data.column_types import with_schema
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.places.files import data_files
from tfrec_meta.data.privacy.personal_columns import PersonalColumn, personal_column
from tfrec_meta.data.profile import date_of
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.sources.reading import EventFiles
from tfrec_meta.data.survey.columns import Column, column_of, has_decimal_commas
from tfrec_meta.data.survey.facts import Newcomers, Repeats, newcomers, repeats
from tfrec_meta.data.survey.item_tables import ItemTable, item_table
from tfrec_meta.data.survey.mapping import Proposal, propose
from tfrec_meta.data.survey.raw_rows import first_rows, with_delimiter
from tfrec_meta.io.files import PathLike

_HEAD = 10_000  # rows by which types and names of columns are judged
_OFTEN = 0.1  # share of repeated pairs from which repetition is part of the use
_MOST_INVALID = 0.9  # share of the rows from which the mapping or the format is wrong
_ONE_TO_ONE = 1.1  # pairs per user and per item up to which the columns say the same
_SOME = 10  # users and items from which that is no chance
_TYPE = "event_type"
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a log holds.

    Attributes:
        files: the files, in the order of reading.
        form: their format, with the recognized delimiter and format of times.
        columns: all columns, by the first 10,000 rows of the first file.
        mapping: the proposed columns, by key.
        personal: columns that look like data about people.
        rows: number of rows that were read.
        is_sample: whether the files have more rows.
        dropped: number of rows that training would drop, by reason.
        examples: sentences about the first of them, by reason. They hold no cell of a log with
            personal columns.
        users, items, events: their numbers in the rows that are left.
        first_time, last_time: Unix seconds; None without times.
        event_types: number of events of each type, the most frequent first.
        repeats: repeated user-item pairs; None if no row is left.
        newcomers: new users and items at the end; None without times.
        items_in: the table of items; None without one.
        described_items: how many items of the events it has.
    """

    files: tuple[str, ...]
    form: FileFormat
    columns: tuple[Column, ...]
    mapping: Mapping[str, Proposal]
    personal: tuple[PersonalColumn, ...]
    rows: int = 0
    is_sample: bool = False
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    users: int = 0
    items: int = 0
    events: int = 0
    first_time: int | None = None
    last_time: int | None = None
    event_types: Mapping[str, int] = dataclasses.field(default_factory=dict)
    repeats: Repeats | None = None
    newcomers: Newcomers | None = None
    items_in: ItemTable | None = None
    described_items: int = 0

    @property
    def is_readable(self) -> bool:
        """Whether there is a column of users and one of items."""
        return all(self.mapping[key].column is not None for key in ("user_id", "item_id"))

    @property
    def times(self) -> str:
        """How times are written, such as "milliseconds since 1970"; "" without times."""
        column = self._column("time")
        if column is None:
            return ""
        if self.form.time_format is not None:
            return f"format {self.form.time_format}"
        unit = self.form.time_unit or column.unit
        if unit:
            return f"{_UNITS[unit]} since 1970"
        return "dates" if column.kind == "time" else "numbers in an unknown unit"

    @property
    def time_formats(self) -> tuple[str, ...]:
        """The formats that read all times, if ISO 8601 does not; the first one is used."""
        column = self._column("time")
        return () if column is None else column.formats

    @property
    def invalid_share(self) -> float:
        """The share of the rows that cannot be read, and are dropped with `bad_rows="drop"`."""
        invalid = sum(self.dropped[reason] for reason in self.examples)
        return invalid / self.rows if self.rows else 0.0

    @property
    def is_usable(self) -> bool:
        """Whether events were read, and not nearly all rows are invalid."""
        return self.events > 0 and self.invalid_share <= _MOST_INVALID

    @property
    def is_one_to_one(self) -> bool:
        """Whether nearly each user has one item, which no other user has."""
        fewest = min(self.users, self.items)
        pairs = self.repeats.pairs if self.repeats is not None else 0
        return fewest >= _SOME and pairs <= _ONE_TO_ONE * fewest

    @property
    def is_sure(self) -> bool:
        """Whether the columns of users and items are certain enough to train without a look."""
        ids = (self.mapping[key] for key in ("user_id", "item_id"))
        return all(one.column is not None and one.sure for one in ids) and not self.is_one_to_one

    @property
    def recommends_history(self) -> bool:
        """Whether so many pairs are repeated that known items should be recommended again."""
        return self.repeats is not None and self.repeats.share >= _OFTEN

    @property
    def split(self) -> str:
        """The protocol of a split that fits: "time" if there are several times, else "item"."""
        return "item" if self.newcomers is None else "time"

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {
            "files": list(self.files),
            "format": self.form.as_dict(),
            "columns": [
                {name: value for name, value in vars(column).items() if name != "values"}
                for column in self.columns
            ],
            "mapping": {key: dataclasses.asdict(one) for key, one in self.mapping.items()},
            "personal_columns": [dataclasses.asdict(one) for one in self.personal],
            "rows": self.rows,
            "is_sample": self.is_sample,
            "dropped": dict(self.dropped),
            "invalid_share": self.invalid_share,
            "examples": {reason: list(texts) for reason, texts in self.examples.items()},
            "users": self.users,
            "items": self.items,
            "events": self.events,
            "times": self.times,
            "first_time": date_of(self.first_time),
            "last_time": date_of(self.last_time),
            "event_types": dict(self.event_types),
            "repeats": self.repeats and {**vars(self.repeats), "share": self.repeats.share},
            "newcomers": self.newcomers
            and {
                **vars(self.newcomers),
                "since": date_of(self.newcomers.since),
                "user_share": self.newcomers.user_share,
                "item_share": self.newcomers.item_share,
            },
            "items_table": self.items_in
            and {
                "file": self.items_in.name,
                "rows": len(self.items_in.ids),
                "described_items": self.described_items,
                "has_titles": self.items_in.has_titles,
            },
            "split": self.split,
            "recommend_history": self.recommends_history,
        }

    def _column(self, key: str) -> Column | None:
        name = self.mapping[key].column
        return next((column for column in self.columns if column.name == name), None)


def survey(
    paths: PathLike | Iterable[PathLike],
    columns: Mapping[str, str] | None = None,
    form: FileFormat | None = None,
    rules: CleaningRules | None = None,
    rows: int | None = None,
    items: PathLike | None = None,
) -> Survey:
    """Reads a log whose columns are unknown, and describes it.

    Args:
        paths: files, folders or patterns, as for `read_interactions`.
        columns: names in the files by the names used here, as far as they are known.
        form: the format of the files. A missing delimiter, a missing format of times and
            decimal commas are recognized. Invalid rows are counted, whatever `bad_rows` says.
        rules: which events are implausible.
        rows: the number of rows after which reading stops, at the end of the block of the file
            that is being read; None for all.
        items: a table of items, whose id column has the same name as in the log.

    Raises:
        FileNotFoundError: if a path does not exist, or a folder or pattern has no data file.
        ParameterError: if a given column is missing, or `rows` is below 1.
        ValueError: if a file is empty or damaged, or files have different columns.
    """
    if rows is not None:
        check("rows", rows, whole_number(1))
    given = dict(columns or {})
    files = data_files([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    form = with_delimiter(files[0], form or FileFormat())
    head = first_rows(files[0], form, min(rows or _HEAD, _HEAD))
    if not head.num_rows:
        raise ValueError(f"{files[0]} holds no row that can be read; check its format.")
    found = tuple(column_of(name, head[name], form) for name in head.column_names)
    if _has_decimal_comma(head, found, form):
        form = dataclasses.replace(form, decimal=",")
        found = tuple(column_of(name, head[name], form) for name in head.column_names)
    people = [
        name for name in head.column_names if personal_column("items", name, _text(head[name]))
    ]
    mapping = propose(found, given, people)
    form = _with_times(form, found, mapping["time"])
    personal = tuple(
        one
        for name in head.column_names
        if (one := personal_column(_table(name, mapping), name, _text(head[name]))) is not None
    )
    result = Survey(tuple(map(str, files)), form, found, mapping, personal)
    if not result.is_readable:
        return result
    read = {key: one.column for key, one in mapping.items() if one.column is not None}
    if items is not None:
        result = dataclasses.replace(result, items_in=item_table(items, {**given, **read}, form))
    return _with_events(result, {**given, **read}, rules or CleaningRules(), rows)


def _has_decimal_comma(head: pa.Table, columns: Sequence[Column], form: FileFormat) -> bool:
    """Whether a text file writes numbers as 12,34, and none as 12.34.

    Cells with commas between commas are quoted, and are rather thousands or lists.
    """
    if form.decimal != "." or form.delimiter in (None, ","):
        return False
    if any(column.kind == "number" for column in columns):
        return False
    return any(has_decimal_commas(head[one.name]) for one in columns if one.kind == "text")


def _with_times(form: FileFormat, columns: Sequence[Column], proposal: Proposal) -> FileFormat:
    """Returns the format with the unit or the format of times, unless reading recognizes them."""
    column = next((column for column in columns if column.name == proposal.column), None)
    if column is None or form.time_format or form.time_unit:
        return form
    if column.formats:
        return dataclasses.replace(form, time_format=column.formats[0])
    if column.unit not in ("", "s"):
        return dataclasses.replace(form, time_unit=column.unit)  # type: ignore[arg-type]
    return form


def _table(name: str, mapping: Mapping[str, Proposal]) -> Any:
    """The table to which a column of the log would belong, for the recognition of personal data."""
    return {mapping["user_id"].column: "users", mapping["item_id"].column: "items"}.get(
        name, "events"
    )


def _text(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns bytes, which are cells in another encoding, as text."""
    if not pa.types.is_binary(cells.type):
        return cells
    texts = [None if cell is None else cell.decode("utf8", "replace") for cell in cells.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _with_events(
    found: Survey, columns: Mapping[str, str], rules: CleaningRules, rows: int | None
) -> Survey:
    """Returns the survey with the facts of the events, read as training would read them."""
    form = dataclasses.replace(found.form, bad_rows="drop", max_bad_share=1.0)
    source = EventFiles(found.files, columns, form, None)
    tables: list[pa.Table] = []
    dropped: dict[str, int] = {}
    kept, read, is_sample = 0, 0, False
    try:
        for batch in source.batches():
            if rows is not None and read >= rows:
                is_sample = True
                break
            tables.append(batch)
            kept += len(batch)
            dropped = dict(source.dropped)
            read = kept + sum(dropped.values())
        else:
            dropped = dict(source.dropped)
    except ValueError:
        dropped = dict(source.dropped)
        if kept or not dropped:
            raise
        # Else all rows are invalid, and the counts say why.
    shown = _without_cells(source.examples) if found.personal else source.examples
    examples = {reason: tuple(texts) for reason, texts in shown.items() if reason in dropped}
    found = dataclasses.replace(
        found,
        rows=kept + sum(dropped.values()),
        is_sample=is_sample,
        dropped=dropped,
        examples=examples,
    )
    if not kept:
        return found
    events = pa.concat_tables(with_schema(one, source.schema, source.name) for one in tables)
    data = Interactions.assembled(events, None, None, source.name, {})
    differ_in = (_TYPE,) if _TYPE in events.column_names else ()
    events, removed = clean_events(data.events, rules, differ_in=differ_in)
    found = dataclasses.replace(found, dropped={**dropped, **removed.dropped})
    return _with_facts(found, dataclasses.replace(data, events=events)) if len(events) else found


def _with_facts(found: Survey, data: Interactions) -> Survey:
    types, counts = None, dict[str, int]()
    if _TYPE in data.events.column_names:
        names, types = np.unique(
            data.events[_TYPE].cast(pa.string()).fill_null("").to_numpy(), return_inverse=True
        )
        numbers = np.bincount(types)
        counts = {str(names[code]): int(numbers[code]) for code in np.argsort(-numbers)}
    times = data.times
    return dataclasses.replace(
        found,
        users=len(data.user_ids),
        items=len(data.item_ids),
        described_items=0 if found.items_in is None else found.items_in.found(data.item_ids),
        events=len(data),
        first_time=None if times is None else int(times.min()),
        last_time=None if times is None else int(times.max()),
        event_types=counts,
        repeats=repeats(data.user_codes, data.item_codes, types),
        newcomers=None if times is None else newcomers(data.user_codes, data.item_codes, times),
    )


def _without_cells(examples: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Returns the examples without the cells that they show: they end after the row."""
    return {
        reason: [text.partition(": ")[0] for text in texts] for reason, texts in examples.items()
    }
