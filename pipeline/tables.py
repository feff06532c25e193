"""Reads tables from CSV and Parquet files, and writes them as tf.Examples, by whole columns.

A file, or some row groups of a Parquet file, is a unit of work. `survey` determines the types of a
unit's columns, `merge` chooses one type per column for all units, and `write` writes a unit as one
TFRecord file. This module does not import TFX: Beam's workers load it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import RowCheck, flat, times_of
from tfrec_meta.data.ids import tokens_of
from tfrec_meta.data.sources.formats import DELIMITERS, SUFFIXES, FileFormat, suffix_of
from tfrec_meta.data.sources.text_files import (
    damaged,
    header_of,
    text_batches,
)
from tfrec_meta.data.times import TimeUnit
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.config import TableConfig
from tfrec_meta.pipeline.example_files import write_examples
from tfrec_meta.pipeline.table_columns import Kind, as_feature, first_text, is_list, kind_of

IDS: Mapping[str, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id"),
    "users": ("user_id",),
    "items": ("item_id",),
}

_ROWS_PER_BATCH = 1 << 16
_ROWS_PER_UNIT = 1 << 17  # smaller row groups are combined


@dataclass(frozen=True)
class Unit:
    """Some rows of one file, and the number of their shard."""

    file: str
    shard: int
    shards: int
    row_groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """How the files of a table are read."""

    table: str
    config: TableConfig
    time_unit: TimeUnit = "s"


@dataclass(frozen=True)
class Survey:
    """The content of some units.

    Attributes:
        rows: number of rows.
        kinds: types of the columns, by this pipeline's names.
        not_numeric: for `time` and `value`, a description of the first cell that is not a number.
        errors: reasons why units can't be read.
    """

    rows: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    not_numeric: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def merge(surveys: Iterable[Survey]) -> Survey:
    """Returns one survey of all units, with the narrowest common type of each column."""

    def both(one: Survey, other: Survey) -> Survey:
        kinds = dict(one.kinds)
        for name, kind in other.kinds.items():
            kinds[name] = kinds[name] | kind if name in kinds else kind
        return Survey(
            one.rows + other.rows,
            kinds,
            {**other.not_numeric, **one.not_numeric},
            tuple(dict.fromkeys(one.errors + other.errors)),
        )

    return reduce(both, surveys, Survey())


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


def survey(unit: Unit, source: Source) -> Survey:
    """Returns the content of a unit; `errors` has the reason if it can't be read."""
    return _or_error(unit, lambda: _survey(unit, source))


def write(unit: Unit, found: Survey, source: Source, folder: str) -> Survey:
    """Writes a unit as one gzipped TFRecord file of tf.Examples, which appears when it is complete.

    Args:
        unit: the rows.
        found: the survey of all units; if it has errors or no rows, nothing is written.
        source: how the files are read.
        folder: output folder.

    Returns:
        The number of written rows, and errors.
    """
    if found.errors or not found.rows:
        return Survey()
    return _or_error(unit, lambda: Survey(_write(unit, found.kinds, source, Path(folder))))


def report(found: Survey, written: Survey, path: str) -> None:
    """Writes the result for the process that started Beam, which can't receive it otherwise.

    Args:
        found: the survey of all units.
        written: the merged results of `write`.
        path: output file.
    """
    record = {
        "rows": written.rows,
        "kinds": dict(found.kinds),
        "not_numeric": dict(found.not_numeric),
        "errors": list(dict.fromkeys(found.errors + written.errors)),
    }
    write_text(path, json.dumps(record))


def read_report(path: str) -> Survey:
    """Reads the file of `report`; `rows` is the number of written rows."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    kinds = {name: Kind(*kind) for name, kind in record["kinds"].items()}
    return Survey(record["rows"], kinds, record["not_numeric"], tuple(record["errors"]))


def _or_error(unit: Unit, work: Callable[[], Survey]) -> Survey:
    # Returned as a value: Beam would bury an exception in a long trace of its workers.
    try:
        return work()
    except (OSError, TypeError, ValueError) as error:
        return Survey(errors=(str(error),))
    except pa.ArrowNotImplementedError as error:  # not a ValueError, and without the file's name
        return Survey(errors=(f"{unit.file}: {error}; write the column as another type.",))


def _survey(unit: Unit, source: Source) -> Survey:
    rows = 0
    kinds: dict[str, Kind] = {}
    not_numeric: dict[str, str] = {}
    from_text = suffix_of(Path(unit.file)) in DELIMITERS
    for table, row_name in _batches(unit, source):
        rows += table.num_rows
        for name in table.column_names:
            where = f"{unit.file}, column `{name}`"
            column = _column(table, name, source, unit.file)
            known = kinds.get(name, Kind("none"))
            kind = known | kind_of(column, known.base if from_text else None, where)
            if name in IDS[source.table]:
                kind = Kind("text")
            elif source.table == "interactions" and name in ("time", "value"):
                if kind == Kind("text") and name not in not_numeric:
                    row = first_text(column, name, source.time_unit)
                    cell = column[row].as_py()
                    not_numeric[name] = f"{unit.file}, {row_name(row)}: {cell!r}"[:300]
                if name == "value" and kind.base == "int":
                    # Values may be 4 in this span and 4.5 in the next.
                    kind = Kind("float", kind.many)
            kinds[name] = kind
    return Survey(rows, kinds, not_numeric)


def _write(unit: Unit, kinds: Mapping[str, Kind], source: Source, folder: Path) -> int:
    rows = 0

    def batches() -> Iterator[dict[str, pa.Array]]:
        nonlocal rows
        for table, _ in _batches(unit, source):
            yield {
                key: as_feature(
                    _column(table, key, source, unit.file, kinds[key]),
                    kinds[key].base,
                    f"{unit.file}, column `{key}`",
                )
                for key in table.column_names
                if kinds[key].base != "none"
            }
            rows += table.num_rows

    name = f"data_tfrecord-{unit.shard:05d}-of-{unit.shards:05d}.gz"
    write_examples(batches(), folder / name)
    return rows


def _batches(unit: Unit, source: Source) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """Yields the unit's rows with this pipeline's column names, and a function that names a row."""
    path = Path(unit.file)
    suffix = suffix_of(path)
    if suffix != ".parquet":
        text = FileFormat().text(path)
        columns = _columns(path, header_of(path, text), source)
        check = RowCheck(advice="Fix the file.")
        yield from text_batches(path, columns, check, text)
        return
    with _open_parquet(path) as file:
        columns = _columns(path, file.schema_arrow.names, source)
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
    for name in IDS[source.table]:
        if name not in columns:
            raise ValueError(
                f"{path} has no column `{given.get(name, name)}` (for `{name}`); it has "
                f"{', '.join(header)}. Name the column: data.{source.table}.columns.{name}=..."
            )
    return columns


def _column(
    table: pa.Table, name: str, source: Source, file: str, kind: Kind | None = None
) -> pa.Array:
    """Returns a column for `kind_of` and `as_feature`, with ids, times and lists converted.

    Args:
        table: the rows.
        name: name of the column.
        source: how the files are read.
        file: for error messages.
        kind: the type of the column in all units; None if it is not known yet.
    """
    where = f"{file}, column `{name}`"
    column = flat(table[name])
    if name in IDS[source.table]:
        column, bad = tokens_of(column, where)
        if bad.any():
            raise ValueError(f"{where} has bytes that are not UTF-8 text; write ids as text.")
        return pc.if_else(pc.equal(column, ""), None, column)
    if name == "time" and source.table == "interactions":
        if not is_list(column.type) and (kind is None or kind.base != "text"):
            times, bad = times_of(table, where, source.time_unit)
            column = column if bad.any() else times
    elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    if name == "value" and source.table == "interactions" and pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(column, ""), None, column)
    mark = source.config.lists.get(name)
    if mark and pa.types.is_string(column.type):
        parts = pc.split_pattern(column, mark)
        entries = pc.if_else(pc.equal(parts.values, ""), None, parts.values)
        column = pa.ListArray.from_arrays(parts.offsets, entries, mask=parts.is_null())
    return column
