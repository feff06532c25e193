"""The files of a table, and their rows as typed batches: the first step of `tables`."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import SCHEMA, BadRows, RowCheck, flat, typed_events
from tfrec_meta.data.ids import Spelling, tokens_of, without_decimals
from tfrec_meta.data.sources.formats import JSON_LINES, SUFFIXES, FileFormat, suffix_of
from tfrec_meta.data.sources.json_lines import json_batches, json_names
from tfrec_meta.data.sources.text_files import damaged, header_of, text_batches
from tfrec_meta.data.tables.sessions import SESSION
from tfrec_meta.data.times import TimeReader, TimeUnit
from tfrec_meta.io.pseudonyms import key_of, pseudonym
from tfrec_meta.pipeline.configs.data_config import TABLE_FORMAT, TableConfig
from tfrec_meta.pipeline.rows.removed_rows import DELETED, EVENT_ID, Removed, without_removed

IDS: Mapping[str, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id"),
    "users": ("user_id",),
    "items": ("item_id",),
}
_ROWS_PER_BATCH = 1 << 16
_ROWS_PER_UNIT = 1 << 17  # smaller row groups are combined
# What Arrow raises for files and columns; its errors are of these classes, and the last of its own.
UNREADABLE = (OSError, TypeError, ValueError, pa.ArrowNotImplementedError)


@dataclass(frozen=True)
class Unit:
    """Some rows of one file, and the number of their shard."""

    file: str
    shard: int
    shards: int
    row_groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """How the files of a table are read.

    Attributes:
        table: "interactions", "users" or "items".
        config: of the table.
        time_unit, time_format, bad_rows, pseudonyms: of the `DataConfig`.
        needs: what the needed columns of the table are for, by their names in `data.needs`.
        recognized: the unit of the times of all files, see `with_recognized_unit`.
    """

    table: str
    config: TableConfig
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    bad_rows: BadRows = "raise"
    pseudonyms: str | None = None
    needs: Mapping[str, str] = field(default_factory=dict)
    recognized: TimeUnit | None = None

    @property
    def key(self) -> str | None:
        """The column of the ids by which later rows replace earlier ones; None if none do.

        It is the id of an event, or of a user or item if the spans are increments.
        """
        if self.config.event_id is not None:
            return EVENT_ID
        is_increment = self.config.span == "increment" and self.table != "interactions"
        return IDS[self.table][0] if is_increment else None

    @property
    def form(self) -> FileFormat:
        """The format of the files, as the library describes it."""
        given = {name: getattr(self.config, name) for name in TABLE_FORMAT}
        return FileFormat(
            **given,
            time_unit=self.time_unit,
            time_format=self.time_format,
            bad_rows=self.bad_rows,
        )

    def times(self, name: str = "time") -> TimeReader:
        """Returns a reader of a column of times; only the events' `time` has a recognized unit."""
        recognized = self.recognized if name == "time" else None
        return TimeReader(
            self.time_unit, self.time_format, self.config.decimal, recognized=recognized
        )


def units_of(files: Iterable[Path]) -> list[Unit]:
    """Divides files into units.

    Raises:
        ValueError: if a file has an unknown format or is damaged.
    """
    parts: list[tuple[Path, tuple[int, ...] | None]] = []
    for path in files:
        suffix = suffix_of(path)
        if suffix is None:
            raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
        if suffix != ".parquet":
            parts.append((path, None))
            continue
        with _open_parquet(path) as file:
            rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        groups: list[int] = []
        for group in range(len(rows)):
            groups.append(group)
            if sum(rows[i] for i in groups) >= _ROWS_PER_UNIT or group == len(rows) - 1:
                parts.append((path, tuple(groups)))
                groups = []
        if not rows:
            parts.append((path, ()))  # keeps its columns and errors
    return [Unit(str(p), i, len(parts), groups) for i, (p, groups) in enumerate(parts)]


def has_rows(file: Path, source: Source) -> bool:
    """Returns whether a file has rows, valid or not."""
    check = RowCheck("drop")
    return any(
        table.num_rows or check.dropped
        for unit in units_of([file])
        for table, _ in raw_batches(unit, source, check)
    )


def with_recognized_unit(units: Iterable[Unit], source: Source) -> Source:
    """Returns the source with the unit of its times, for all files alike.

    The first number of the first rows of a file decides, as in `read_interactions`. Files that
    can't be read are passed over; `survey` returns their errors.
    """
    if source.table != "interactions" or source.time_unit or source.time_format:
        return source
    times = source.times()
    for unit in units:
        try:
            table, row_name = next(raw_batches(unit, source, RowCheck("drop")), (None, None))
            if table is None or row_name is None:
                continue
            if "time" not in table.column_names:
                return source
            times.read(flat(table["time"]), f"{unit.file}, column `time`", row_name)
        except UNREADABLE:
            continue
        if times.unit is not None:
            return replace(source, recognized=times.unit)
    return source


def typed_batches(
    unit: Unit, source: Source, check: RowCheck, removed: Removed | None = None
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """Yields the unit's rows with this pipeline's column names, and a function that names a row.

    Events are typed, and invalid rows are dropped or refused, as by `read_interactions`. The rows
    that corrections remove are left out.
    """
    times, first = source.times(), 0
    for raw, raw_name in raw_batches(unit, source, check):
        table, row_name = without_removed(raw, raw_name, check, unit.file, first, removed)
        first += raw.num_rows
        if source.table == "interactions":
            columns = table.column_names
            table = typed_events(
                table,
                check,
                source=unit.file,
                row_name=row_name,
                times=times,
                decimal=source.config.decimal,
            ).select(columns)
        else:
            table = _with_ids(table, source, check, unit.file, row_name)
        yield table, row_name


def has_pseudonyms(source: Source) -> bool:
    return source.pseudonyms is not None and "user_id" in IDS[source.table]


def with_pseudonyms(table: pa.Table, source: Source, users: Spelling) -> pa.Table:
    """Returns the rows with pseudonyms in place of the ids of users and sessions, if wanted."""
    if not has_pseudonyms(source):
        return table
    if users.has_decimals:
        table = without_decimals(table, "user_id")
    key = key_of(str(source.pseudonyms))
    # Session ids that the config names become the ids of users.
    for name in ("user_id", *(name for name in source.config.columns if name == SESSION)):
        if name not in table.column_names:
            continue
        ids, _ = tokens_of(flat(table[name]), f"column `{name}`")
        coded = ids.dictionary_encode()
        names = [pseudonym(one, key) if one else one for one in coded.dictionary.to_pylist()]
        replaced = pa.array(names, pa.string()).take(coded.indices)
        table = table.set_column(table.column_names.index(name), name, replaced)
    return table


def _with_ids(
    table: pa.Table, source: Source, check: RowCheck, file: str, row_name: Callable[[int], str]
) -> pa.Table:
    """Returns users or items whose ids are text; the other rows are dropped or refused."""
    (key,) = IDS[source.table]
    where = f"{file}, column `{key}`"
    tokens, unreadable = tokens_of(flat(table[key]), where)
    empty = pc.fill_null(pc.equal(tokens, ""), True).to_numpy(zero_copy_only=False)
    for bad, reason, what in (
        (unreadable, f"unreadable {key}", "the id is not UTF-8 text"),
        (empty & ~unreadable, f"missing {key}", "the id is missing"),
    ):
        if bad.any():
            first = row_name(int(bad.argmax()))
            check.bad(reason, int(bad.sum()), partial(_message, file, first, key, what))
    table = table.set_column(table.column_names.index(key), key, tokens)
    return table if not empty.any() else table.filter(pa.array(~empty))


def _message(file: str, row: str, key: str, what: str) -> str:
    return f"{file}, {row}, column `{key}`: {what}."


def raw_batches(
    unit: Unit, source: Source, check: RowCheck, only: Container[str] | None = None
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """Yields the unit's rows untyped, with this pipeline's column names, and names of the rows.

    Args:
        unit: the rows.
        source: how they are read.
        check: handles lines that are no rows.
        only: the columns of Parquet files that are read; None reads all.
    """
    path = Path(unit.file)
    if suffix_of(path) in JSON_LINES:
        encoding = source.config.encoding
        columns = _columns(path, json_names(path, encoding), source)
        yield from json_batches(path, columns, check, encoding, optional=columns)
        return
    if suffix_of(path) != ".parquet":
        text = source.form.text(path)
        columns = _columns(path, header_of(path, text), source)
        undecoded = SCHEMA.names if source.table == "interactions" else IDS[source.table]
        yield from text_batches(path, columns, check, text, undecoded=undecoded)
        return
    with _open_parquet(path) as file:
        columns = {
            name: source_name
            for name, source_name in _columns(path, file.schema_arrow.names, source).items()
            if only is None or name in only
        }
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        wanted = unit.row_groups or ()
        offset = sum(groups[: wanted[0]]) if wanted else 0
        sources = list(dict.fromkeys(columns.values()))
        try:
            for batch in file.iter_batches(
                _ROWS_PER_BATCH, row_groups=list(wanted), columns=sources
            ):
                first = offset

                def row_name(row: int, first: int = first) -> str:
                    return f"row {first + row + 1}"

                yield (
                    pa.table(
                        {name: batch.column(source_name) for name, source_name in columns.items()}
                    ),
                    row_name,
                )
                offset += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise ValueError(damaged(path, error)) from error


def _open_parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(damaged(path, error)) from error


def _columns(path: Path, header: list[str], source: Source) -> dict[str, str]:
    """Returns this pipeline's column name -> the file's.

    Raises:
        ValueError: if a name stands for two columns, or a column of ids is missing.
    """
    given = source.config.columns
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has several columns `{twice[0]}`; use distinct names.")
    columns = {name: source_name for name, source_name in given.items() if source_name in header}
    for name in header:
        if name in given.values():
            continue
        if name in columns:
            raise ValueError(
                f"{path} has a column `{name}`, but data.{source.table}.columns maps "
                f"`{columns[name]}` to `{name}`; drop or rename one of them."
            )
        columns[name] = name
    for name, of_rows in ((EVENT_ID, source.config.event_id), (DELETED, source.config.deleted)):
        if of_rows in header:
            columns = {key: theirs for key, theirs in columns.items() if theirs != of_rows}
            columns[name] = str(of_rows)
        elif name == EVENT_ID and of_rows is not None:
            raise ValueError(
                f"{path} has no column `{of_rows}`, which data.{source.table}.event_id names; it "
                f"has {', '.join(header)}. Add the column to all files, or correct the name."
            )
    for name in IDS[source.table]:
        if name not in columns:
            raise ValueError(
                f"{path} has no column `{given.get(name, name)}` (for `{name}`); it has "
                f"{', '.join(header)}. Name the column: data.{source.table}.columns.{name}=..."
            )
    return columns
