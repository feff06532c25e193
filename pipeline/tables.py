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
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import NUMBERS, SCHEMA, BadRows, RowCheck, flat, typed_events
from tfrec_meta.data.ids import Spelling, tokens_of, without_decimals
from tfrec_meta.data.sources.formats import JSON_LINES, SUFFIXES, FileFormat, suffix_of
from tfrec_meta.data.sources.json_lines import json_batches, json_names
from tfrec_meta.data.sources.text_files import (
    damaged,
    header_of,
    text_batches,
)
from tfrec_meta.data.times import TimeReader, TimeUnit
from tfrec_meta.io.files import write_text
from tfrec_meta.io.pseudonyms import key_of, pseudonym
from tfrec_meta.pipeline.config import TABLE_FORMAT, TableConfig
from tfrec_meta.pipeline.example_files import write_examples
from tfrec_meta.pipeline.table_columns import (
    Kind,
    as_feature,
    exception_among_numbers,
    first_not_number,
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
_UNREADABLE = (OSError, TypeError, ValueError, pa.ArrowNotImplementedError)


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
        recognized: the unit of the times of all files, see `with_recognized_unit`.
    """

    table: str
    config: TableConfig
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    bad_rows: BadRows = "raise"
    pseudonyms: str | None = None
    recognized: TimeUnit | None = None

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

    def times(self) -> TimeReader:
        """Returns a reader of the times."""
        recognized = self.recognized if self.table == "interactions" else None
        return TimeReader(
            self.time_unit, self.time_format, self.config.decimal, recognized=recognized
        )


@dataclass(frozen=True)
class Survey:
    """The content of some units.

    Attributes:
        rows: number of rows.
        kinds: types of the columns, by this pipeline's names.
        not_numeric: for columns of mostly numbers, a description of the first cell that is not a
            number.
        users: the spelling of the ids of users, if pseudonyms replace them.
        having, lacking: for `time` and `value`, the first file of events with such a column, and
            the first one without.
        errors: reasons why units can't be read.
        dropped: number of invalid rows by reason.
        examples: a description of the first invalid row, by reason.
    """

    rows: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    not_numeric: Mapping[str, str] = field(default_factory=dict)
    users: Spelling = field(default_factory=Spelling)
    having: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)


def merge(surveys: Iterable[Survey]) -> Survey:
    """Returns one survey of all units, with the narrowest common type of each column.

    Times and values in some files only are an error: without it, the events of the other files
    would have the value 1.
    """

    def both(one: Survey, other: Survey) -> Survey:
        kinds = dict(one.kinds)
        for name, kind in other.kinds.items():
            kinds[name] = kinds[name] | kind if name in kinds else kind
        having, lacking = {**other.having, **one.having}, {**other.lacking, **one.lacking}
        return Survey(
            one.rows + other.rows,
            kinds,
            {**other.not_numeric, **one.not_numeric},
            one.users | other.users,
            having,
            lacking,
            tuple(dict.fromkeys(one.errors + other.errors)),
            dict(Counter(one.dropped) + Counter(other.dropped)),
            {**other.examples, **one.examples},
        )

    found = reduce(both, surveys, Survey())
    errors = [
        f"{found.lacking[name]} has no column for `{name}`, but {file} has; make them agree."
        for name, file in found.having.items()
        if name in found.lacking
    ]
    return replace(found, errors=tuple(dict.fromkeys([*found.errors, *errors])))


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
            table, row_name = next(_raw_batches(unit, source, RowCheck("drop")), (None, None))
            if table is None or row_name is None:
                continue
            if "time" not in table.column_names:
                return source
            times.read(flat(table["time"]), f"{unit.file}, column `time`", row_name)
        except _UNREADABLE:
            continue
        if times.unit is not None:
            return replace(source, recognized=times.unit)
    return source


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
    return _or_error(unit, lambda: Survey(_write(unit, found, source, Path(folder))))


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
    except pa.ArrowNotImplementedError as error:  # without the file's name
        return Survey(errors=(f"{unit.file}: {error}; write the column as another type.",))
    except _UNREADABLE as error:
        return Survey(errors=(str(error),))


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
    present: set[str] = set()
    users = Spelling()
    check = _Check(source.bad_rows)
    from_text = suffix_of(Path(unit.file)) != ".parquet"
    for table, row_name in _batches(unit, source, check):
        rows += table.num_rows
        present.update(table.column_names)
        if _has_pseudonyms(source):
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
    files = {}
    if source.table == "interactions" and present:
        files = dict.fromkeys(NUMBERS, unit.file)
    return Survey(
        rows,
        kinds,
        not_numeric,
        users,
        {name: file for name, file in files.items() if name in present},
        {name: file for name, file in files.items() if name not in present},
        (),
        dict(check.dropped),
        check.examples,
    )


def _cell(column: pa.Array, row: int, file: str, row_name: Callable[[int], str]) -> str:
    return f"{file}, {row_name(row)}: {column[row].as_py()!r}"[:300]


def _has_pseudonyms(source: Source) -> bool:
    return source.pseudonyms is not None and "user_id" in IDS[source.table]


def _with_pseudonyms(table: pa.Table, source: Source, users: Spelling) -> pa.Table:
    """Returns the rows with pseudonyms in place of the ids of users, if these are wanted."""
    if not _has_pseudonyms(source):
        return table
    if users.has_decimals:
        table = without_decimals(table, "user_id")
    key = key_of(str(source.pseudonyms))
    coded = flat(table["user_id"]).dictionary_encode()
    names = [pseudonym(user, key) for user in coded.dictionary.to_pylist()]
    replaced = pa.array(names, pa.string()).take(coded.indices)
    return table.set_column(table.column_names.index("user_id"), "user_id", replaced)


def _write(unit: Unit, found: Survey, source: Source, folder: Path) -> int:
    rows, kinds = 0, found.kinds

    def batches() -> Iterator[dict[str, pa.Array]]:
        nonlocal rows
        for table, _ in _batches(unit, source, _Check(source.bad_rows)):
            table = _with_pseudonyms(table, source, found.users)
            yield {
                key: as_feature(
                    _column(table, key, source, unit.file),
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

    Events are typed, and invalid rows are dropped or refused, as by `read_interactions`.
    """
    times = source.times()
    for table, row_name in _raw_batches(unit, source, check):
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


def _raw_batches(
    unit: Unit, source: Source, check: RowCheck
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
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
        times, bad = source.times().read(flat(column), where)
        column = column if bad.any() else times
    return column
