"""Reads tables from CSV and Parquet files, and writes them as tf.Examples, by whole columns.

A file, or some row groups of a Parquet file, is a unit of work. `survey` determines the types of a
unit's columns, `merge` chooses one type per column for all units, and `write` writes a unit as one
TFRecord file. This module does not import TFX: Beam's workers load it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import BadRows, RowCheck, flat, typed_events
from tfrec_meta.data.ids import tokens_of
from tfrec_meta.data.sources.formats import JSON_LINES, SUFFIXES, FileFormat, suffix_of
from tfrec_meta.data.sources.json_lines import json_batches, read_json_table
from tfrec_meta.data.sources.text_files import (
    damaged,
    header_of,
    text_batches,
)
from tfrec_meta.data.times import TimeReader, TimeUnit
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.config import TABLE_FORMAT, TableConfig
from tfrec_meta.pipeline.example_files import write_examples
from tfrec_meta.pipeline.table_columns import (
    Kind,
    as_feature,
    exception_among_numbers,
    first_not_number,
    first_text,
    is_list,
    kind_of,
)

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
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    bad_rows: BadRows = "raise"

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


@dataclass(frozen=True)
class Survey:
    """The content of some units.

    Attributes:
        rows: number of rows.
        kinds: types of the columns, by this pipeline's names.
        not_numeric: for `time`, `value` and columns of mostly numbers, a description of the first
            cell that is not a number.
        errors: reasons why units can't be read.
        dropped: number of invalid rows by reason.
        examples: a description of the first invalid row, by reason.
    """

    rows: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    not_numeric: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)


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
            dict(Counter(one.dropped) + Counter(other.dropped)),
            {**other.examples, **one.examples},
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
        "dropped": dict(found.dropped),
        "examples": dict(found.examples),
    }
    write_text(path, json.dumps(record))


def read_report(path: str) -> Survey:
    """Reads the file of `report`; `rows` is the number of written rows."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    kinds = {name: Kind(*kind) for name, kind in record["kinds"].items()}
    return Survey(**{**record, "kinds": kinds, "errors": tuple(record["errors"])})


def _or_error(unit: Unit, work: Callable[[], Survey]) -> Survey:
    # Returned as a value: Beam would bury an exception in a long trace of its workers.
    try:
        return work()
    except (OSError, TypeError, ValueError) as error:
        return Survey(errors=(str(error),))
    except pa.ArrowNotImplementedError as error:  # not a ValueError, and without the file's name
        return Survey(errors=(f"{unit.file}: {error}; write the column as another type.",))


class _Check(RowCheck):
    """Counts invalid rows by reason, each with one example, or raises at the first one."""

    def __init__(self, bad_rows: BadRows) -> None:
        super().__init__(bad_rows, advice="Fix the file, or set data.bad_rows to 'drop'.")
        self.examples: dict[str, str] = {}

    def bad(self, reason: str, count: int, message: Callable[[], str]) -> None:
        super().bad(reason, count, message)
        if reason not in self.examples:
            self.examples[reason] = message()


def _survey(unit: Unit, source: Source) -> Survey:
    rows = 0
    kinds: dict[str, Kind] = {}
    not_numeric: dict[str, str] = {}
    check = _Check(source.bad_rows)
    from_text = suffix_of(Path(unit.file)) != ".parquet"
    for table, row_name in _batches(unit, source, check):
        rows += table.num_rows
        for name in table.column_names:
            where = f"{unit.file}, column `{name}`"
            column = _column(table, name, source, unit.file)
            known = kinds.get(name, Kind("none"))
            declared = source.config.types.get(name)
            parsed = from_text and declared != "text"
            kind = known | kind_of(column, known.base if parsed else None, where)
            if name in IDS[source.table]:
                kind = Kind("text")
            elif source.table == "interactions" and name in ("time", "value"):
                if kind == Kind("text") and name not in not_numeric:
                    row = first_text(column, name, source.time_unit)
                    not_numeric[name] = _cell(column, row, unit.file, row_name)
                if kind.base in ("int", "code"):
                    # Values may be 4 in this span and 4.5 in the next; times are integers.
                    kind = Kind("float" if name == "value" else "code", kind.many)
            elif declared in ("number", "time"):
                if kind.base == "text":
                    row = first_not_number(column)
                    cell = _cell(column, row, unit.file, row_name)
                    raise ValueError(
                        f"{cell} is not a number, but data.{source.table}.types declares `{name}` "
                        f"as a {declared}. Fix the file, or declare it as text."
                    )
                kind = Kind("float" if declared == "number" else "code", kind.many)
            elif declared is None and kind.base == "text" and name not in not_numeric:
                odd = exception_among_numbers(column)
                if odd is not None:
                    not_numeric[name] = _cell(column, odd, unit.file, row_name)
            kinds[name] = kind
    return Survey(rows, kinds, not_numeric, (), dict(check.dropped), check.examples)


def _cell(column: pa.Array, row: int, file: str, row_name: Callable[[int], str]) -> str:
    return f"{file}, {row_name(row)}: {column[row].as_py()!r}"[:300]


def _write(unit: Unit, kinds: Mapping[str, Kind], source: Source, folder: Path) -> int:
    rows = 0

    def batches() -> Iterator[dict[str, pa.Array]]:
        nonlocal rows
        for table, _ in _batches(unit, source, _Check(source.bad_rows)):
            yield {
                key: as_feature(
                    _column(table, key, source, unit.file, kinds[key]),
                    kinds[key].written,
                    f"{unit.file}, column `{key}`",
                )
                for key in table.column_names
                if kinds[key].base != "none"
            }
            rows += table.num_rows

    name = f"data_tfrecord-{unit.shard:05d}-of-{unit.shards:05d}.gz"
    write_examples(batches(), folder / name)
    return rows


def _batches(
    unit: Unit, source: Source, check: RowCheck
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """Yields the unit's rows with this pipeline's column names, and a function that names a row.

    If invalid rows are dropped, events are typed as `read_interactions` does it.
    """
    form = source.form
    times = TimeReader(form.time_unit, form.time_format, form.decimal)
    for table, row_name in _raw_batches(unit, source, check):
        if source.table == "interactions" and source.bad_rows == "drop":
            columns = table.column_names
            table = typed_events(
                table,
                check,
                source=unit.file,
                row_name=row_name,
                times=times,
                decimal=form.decimal,
            ).select(columns)
        yield table, row_name


def _raw_batches(
    unit: Unit, source: Source, check: RowCheck
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    path = Path(unit.file)
    if suffix_of(path) in JSON_LINES:
        encoding = source.config.encoding
        columns = _columns(path, read_json_table(path, encoding).column_names, source)
        yield from json_batches(path, columns, check, encoding, optional=columns)
        return
    if suffix_of(path) != ".parquet":
        text = source.form.text(path)
        columns = _columns(path, header_of(path, text), source)
        yield from text_batches(path, columns, check, text, undecoded=IDS[source.table])
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
        if (
            source.bad_rows == "raise"
            and not is_list(column.type)
            and (kind is None or kind.base != "text")
        ):
            times, bad = _times(column, source, where)
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
    declared = source.config.types.get(name)
    if declared == "text" and pa.types.is_primitive(column.type):
        column = column.cast(pa.string())
    elif declared == "number" and pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(pc.replace_substring(column, source.config.decimal, "."))
        column = pc.if_else(pc.equal(column, ""), None, column)
    elif declared == "time" and not is_list(column.type):
        times, bad = _times(column, source, where)
        column = column if bad.any() else times
    return column


def _times(column: pa.Array, source: Source, where: str) -> tuple[pa.Array, np.ndarray]:
    """Returns Unix seconds and a mask of the cells that are not times."""
    reader = TimeReader(source.time_unit, source.time_format, source.config.decimal)
    return reader.read(flat(column), where)
