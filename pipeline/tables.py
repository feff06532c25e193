"""Reads tables from CSV and Parquet files, and writes them as tf.Examples, by whole columns.

A file, or some row groups of a Parquet file, is a unit of work. `survey` determines the types of a
unit's columns, `merge` chooses one type per column for all units, and `write` writes a unit as one
TFRecord file. This module does not import TFX: Beam's workers load it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from tfrec_meta.data.events import NUMBERS, RowCheck, flat
from tfrec_meta.data.ids import Spelling
from tfrec_meta.data.sources.formats import suffix_of
from tfrec_meta.data.sources.lists import divided
from tfrec_meta.data.tables.needs import no_column
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.example_files import write_examples
from tfrec_meta.pipeline.rows.numeric_cells import NumericCells, only_numbers, plain
from tfrec_meta.pipeline.rows.removed_rows import Removed
from tfrec_meta.pipeline.rows.sources import (
    IDS,
    UNREADABLE,
    Source,
    Unit,
    has_pseudonyms,
    typed_batches,
    with_pseudonyms,
)
from tfrec_meta.pipeline.table_columns import (
    Kind,
    as_feature,
    exception_among_numbers,
    first_not_number,
    is_list,
    kind_of,
)

_NONE: Mapping[int, Removed] = MappingProxyType({})


@dataclass(frozen=True)
class Survey:
    """The content of some units.

    Attributes:
        rows: number of rows.
        kinds: types of the columns, by this pipeline's names.
        not_numeric: for columns of mostly numbers, a description of the first cell that is not a
            number.
        cells: numbers in columns of text without a declared type, or declared as numbers.
        users: the spelling of the ids of users, if pseudonyms replace them.
        having, lacking: for `time` and `value`, the first file of events with such a column, and
            the first one without.
        numeric, textual: the first file in which a column has numbers only, and the first one in
            which it has text only.
        errors: reasons why units can't be read.
        dropped: number of invalid rows by reason.
        examples: a description of the first invalid row, by reason.
        corrected: number of rows that corrections remove, by reason.
    """

    rows: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    not_numeric: Mapping[str, str] = field(default_factory=dict)
    cells: Mapping[str, NumericCells] = field(default_factory=dict)
    users: Spelling = field(default_factory=Spelling)
    having: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    numeric: Mapping[str, str] = field(default_factory=dict)
    textual: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    corrected: Mapping[str, int] = field(default_factory=dict)


def merge(surveys: Iterable[Survey]) -> Survey:
    """Returns one survey of all units, with the narrowest common type of each column.

    Times and values in some files only are an error: without it, the events of the other files
    would have the value 1.
    """

    def both(one: Survey, other: Survey) -> Survey:
        kinds = dict(one.kinds)
        for name, kind in other.kinds.items():
            kinds[name] = kinds[name] | kind if name in kinds else kind
        cells = dict(one.cells)
        for name, part in other.cells.items():
            cells[name] = cells[name] + part if name in cells else part
        having, lacking = {**other.having, **one.having}, {**other.lacking, **one.lacking}
        return Survey(
            one.rows + other.rows,
            kinds,
            {**other.not_numeric, **one.not_numeric},
            cells,
            one.users | other.users,
            having,
            lacking,
            {**other.numeric, **one.numeric},
            {**other.textual, **one.textual},
            tuple(dict.fromkeys(one.errors + other.errors)),
            dict(Counter(one.dropped) + Counter(other.dropped)),
            {**other.examples, **one.examples},
            dict(Counter(one.corrected) + Counter(other.corrected)),
        )

    found = reduce(both, surveys, Survey())
    errors = [
        f"{found.lacking[name]} has no column for `{name}`, but {file} has; make them agree."
        for name, file in found.having.items()
        if name in found.lacking
    ]
    return replace(found, errors=tuple(dict.fromkeys([*found.errors, *errors])))


def with_numbers(found: Survey, source: Source) -> Survey:
    """Returns the survey of all units with the types of columns of numbers in text.

    Cells that are not numbers are errors, or with `bad_rows` "drop" missing values. If the spans
    are increments, a column must not be one of numbers in one file and one of text in another.
    Needed columns that no file has are errors.
    """
    kinds, errors, mistakes = dict(found.kinds), list(found.errors), dict(found.not_numeric)
    for name, cells in found.cells.items():
        declared = source.config.types.get(name) == "number"
        if not (declared or cells.are_numbers):
            continue
        kinds[name] = Kind("float") if declared else cells.kind
        mistakes.pop(name, None)
        if cells.others and source.bad_rows == "raise":
            filled = cells.numbers + cells.others
            errors.append(
                f"{cells.first} is not a number, as {cells.numbers:,} of {filled:,} cells are. "
                "Leave the cell empty, set data.bad_rows to 'drop' to read such cells as missing, "
                f"or declare data.{source.table}.types.{name} as text."
            )
    if source.config.span == "increment":
        for name, file in found.textual.items():
            if kinds[name].base == "text" and name in found.numeric:
                errors.append(
                    f"{file} has text in column `{name}`, but {found.numeric[name]} has numbers: "
                    "the schema of the increments has changed. Write the column alike in all "
                    f"spans of the window, or declare data.{source.table}.types.{name}."
                )
    if found.rows and not errors:
        errors = list(_missing(found, source))
    return replace(found, kinds=kinds, errors=tuple(errors), not_numeric=mistakes)


def _missing(found: Survey, source: Source) -> Iterator[str]:
    """Yields an error for each needed column that no file has."""
    of_rows = (source.config.event_id, source.config.deleted)  # under other names
    known = [*found.kinds, *(name for name in of_rows if name is not None)]
    for column, purpose in source.needs.items():
        if column.removeprefix(f"{source.table}.") not in known:
            yield str(no_column(column, purpose, source.config.path, known))


def survey(unit: Unit, source: Source, removed: Mapping[int, Removed] = _NONE) -> Survey:
    """Returns the content of a unit; `errors` has the reason if it can't be read.

    Args:
        unit: the rows.
        source: how the files are read.
        removed: the rows that corrections remove, by shard.
    """
    return _or_error(unit, lambda: _survey(unit, source, removed.get(unit.shard)))


def write(
    unit: Unit,
    found: Survey,
    source: Source,
    folder: str,
    removed: Mapping[int, Removed] = _NONE,
) -> Survey:
    """Writes a unit as one gzipped TFRecord file of tf.Examples, which appears when it is complete.

    Args:
        unit: the rows.
        found: the survey of all units, from `with_numbers`; if it has errors or no rows, nothing
            is written.
        source: how the files are read.
        folder: output folder.
        removed: the rows that corrections remove, by shard.

    Returns:
        The number of written rows, and errors.
    """
    if found.errors or not found.rows:
        return Survey()
    rows_out = removed.get(unit.shard)
    return _or_error(unit, lambda: Survey(_write(unit, found, source, Path(folder), rows_out)))


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
        "corrected": dict(found.corrected),
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
    except pa.ArrowNotImplementedError as error:  # without the file's name
        return Survey(errors=(f"{unit.file}: {error}; write the column as another type.",))
    except UNREADABLE as error:
        return Survey(errors=(str(error),))


def _check(source: Source) -> RowCheck:
    return RowCheck(source.bad_rows, advice="Fix the file, or set data.bad_rows to 'drop'.")


def _survey(unit: Unit, source: Source, removed: Removed | None) -> Survey:
    rows = 0
    kinds: dict[str, Kind] = {}
    not_numeric: dict[str, str] = {}
    present: set[str] = set()
    users = Spelling()
    cells: dict[str, NumericCells] = {}
    check = _check(source)
    from_text = suffix_of(Path(unit.file)) != ".parquet"
    for table, row_name in typed_batches(unit, source, check, removed):
        rows += table.num_rows
        present.update(table.column_names)
        if has_pseudonyms(source):
            users |= Spelling.of(table["user_id"])
        for name in table.column_names:
            where = f"{unit.file}, column `{name}`"
            column = _column(table, name, source, unit.file)
            known = kinds.get(name, Kind("none"))
            declared = source.config.types.get(name)
            parsed = from_text and declared != "text"
            kind = known | kind_of(column, known.base if parsed else None, where)
            if name in IDS[source.table]:
                kind = Kind("text")
            elif source.table == "interactions" and name in NUMBERS:
                if kind.base != "none":
                    kind = Kind("float" if name == "value" else "code")
            elif declared == "time":
                if kind.base == "text":
                    row = first_not_number(column)
                    raise ValueError(
                        f"{_cell(column, row, unit.file, row_name)} is not a time, but "
                        f"data.{source.table}.types declares `{name}` as one. Fix the file, or "
                        "declare it as text."
                    )
                kind = Kind("code", kind.many)
            elif declared != "text" and pa.types.is_string(column.type):
                part = NumericCells(is_text=True)
                if parsed or declared == "number":
                    describe = partial(_cell, column, file=unit.file, row_name=row_name)
                    text = plain(column, source.config.decimal)
                    part = NumericCells.of(text, declared == "number", describe, where)
                cells[name] = cells[name] + part if name in cells else part
                odd = exception_among_numbers(column) if declared is None else None
                if odd is not None and name not in not_numeric:
                    not_numeric[name] = _cell(column, odd, unit.file, row_name)
            elif declared == "number":
                kind = Kind("float", kind.many)
            kinds[name] = kind
    files = {}
    if source.table == "interactions" and present:
        files = dict.fromkeys(NUMBERS, unit.file)
    return Survey(
        rows,
        kinds,
        not_numeric,
        cells,
        users,
        {name: file for name, file in files.items() if name in present},
        {name: file for name, file in files.items() if name not in present},
        {name: unit.file for name in kinds if _is_all(name, kinds, cells, text=False)},
        {name: unit.file for name in kinds if _is_all(name, kinds, cells, text=True)},
        (),
        dict(check.dropped),
        {reason: texts[0] for reason, texts in check.examples.items()},
        {} if removed is None else removed.counts,
    )


def _is_all(
    name: str, kinds: Mapping[str, Kind], cells: Mapping[str, NumericCells], text: bool
) -> bool:
    """Returns whether a column of a unit holds only text, or only numbers."""
    found = cells.get(name)
    if found is not None and found.is_text and found.numbers:
        return False  # codes such as 02139, beside others such as 10115
    if found is None or found.is_text:
        return kinds[name].base == "text" if text else kinds[name].base not in ("none", "text")
    words = found.others - found.placeholders
    return words > 0 and not found.numbers if text else found.numbers > 0 and not words


def _cell(column: pa.Array, row: int, file: str, row_name: Callable[[int], str]) -> str:
    return f"{file}, {row_name(row)}: {column[row].as_py()!r}"[:300]


def _write(unit: Unit, found: Survey, source: Source, folder: Path, removed: Removed | None) -> int:
    rows, kinds = 0, found.kinds

    def batches() -> Iterator[dict[str, pa.Array]]:
        nonlocal rows
        for table, _ in typed_batches(unit, source, _check(source), removed):
            table = with_pseudonyms(table, source, found.users)
            yield {
                key: as_feature(
                    _as_numbers(_column(table, key, source, unit.file), kinds[key], source),
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


def _as_numbers(column: pa.Array, kind: Kind, source: Source) -> pa.Array:
    """Returns a column of text without the cells that are not numbers, if its type is a number."""
    if kind.base == "text" or not pa.types.is_string(column.type):
        return column
    return only_numbers(plain(column, source.config.decimal))


def _column(table: pa.Table, name: str, source: Source, file: str) -> pa.Array:
    """Returns a column of `_batches` for `kind_of` and `as_feature`, with lists and types applied.

    Args:
        table: the rows.
        name: name of the column.
        source: how the files are read.
        file: for error messages.
    """
    where = f"{file}, column `{name}`"
    column = flat(table[name])
    if name in IDS[source.table] or (source.table == "interactions" and name in NUMBERS):
        return column if column.null_count < len(column) else pa.nulls(len(column))
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    mark = source.config.lists.get(name)
    if mark and pa.types.is_string(column.type):
        column = divided(column, mark)
    declared = source.config.types.get(name)
    if declared == "text" and pa.types.is_primitive(column.type):
        column = column.cast(pa.string())
    elif declared == "time" and not is_list(column.type):
        times, bad = source.times(name).read(flat(column), where)
        column = column if bad.any() else times
    return column
