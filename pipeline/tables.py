"""Tables from CSV and Parquet files as tf.Examples, whole columns at a time.

A file (of Parquet: some row groups of it) is a unit of work. `survey` finds out what its columns
hold, `merge` agrees on one type a column for all units, `write` turns a unit into one TFRecord
file. No TFX here: Beam's workers load this module.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import RowCheck, TimeUnit, flat, times_of, tokens_of
from tfrec_meta.data.reading import (
    DELIMITERS,
    SUFFIXES,
    TextFormat,
    damaged,
    header_of,
    suffix_of,
    text_batches,
)
from tfrec_meta.pipeline.config import TableConfig

IDS: Mapping[str, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id"),
    "users": ("user_id",),
    "items": ("item_id",),
}

_BASES = ("none", "int", "float", "text")  # each holds the ones before
_TYPES = {"int": pa.int64(), "float": pa.float32(), "text": pa.string()}
_ROWS_A_BATCH = 1 << 16
_ROWS_A_UNIT = 1 << 17  # smaller row groups are put together


class Kind(NamedTuple):
    """What a column holds: nothing, whole numbers, numbers or text; one a row, or a list."""

    base: str
    many: bool = False

    def __or__(self, other: Kind) -> Kind:
        return Kind(max(self.base, other.base, key=_BASES.index), self.many or other.many)


@dataclass(frozen=True)
class Unit:
    """Some rows of one file, and which of the shards they become."""

    file: str
    shard: int
    shards: int
    row_groups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """How a table's files are to be read."""

    table: str
    config: TableConfig
    time_unit: TimeUnit = "s"


@dataclass(frozen=True)
class Survey:
    """What was found in some units.

    Attributes:
        rows: how many.
        kinds: of the columns, by our names.
        no_numbers: the first cell of `time` or `value` that is none, in words.
        errors: why units can't be read.
    """

    rows: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    no_numbers: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def merge(surveys: Iterable[Survey]) -> Survey:
    """One survey of all units; of the types of a column, the one that can hold the others."""

    def both(one: Survey, other: Survey) -> Survey:
        kinds = dict(one.kinds)
        for name, kind in other.kinds.items():
            kinds[name] = kinds[name] | kind if name in kinds else kind
        return Survey(
            one.rows + other.rows,
            kinds,
            {**other.no_numbers, **one.no_numbers},
            tuple(dict.fromkeys(one.errors + other.errors)),
        )

    return reduce(both, surveys, Survey())


def units_of(files: Iterable[Path]) -> list[Unit]:
    """Divides files into units.

    Raises:
        ValueError: a file is of no format that is known here, or damaged.
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
            if sum(rows[i] for i in groups) >= _ROWS_A_UNIT or group == len(rows) - 1:
                parts.append((path, tuple(groups)))
                groups = []
        if not rows:
            parts.append((path, ()))  # its columns count, and an error is to name it
    return [Unit(str(p), i, len(parts), groups) for i, (p, groups) in enumerate(parts)]


def survey(unit: Unit, source: Source) -> Survey:
    """Finds out what a unit holds; what makes it unreadable stands in `errors`."""
    return _or_error(unit, lambda: _survey(unit, source))


def write(unit: Unit, found: Survey, source: Source, folder: str) -> Survey:
    """Writes a unit as one gzipped TFRecord file of tf.Examples, which appears once it is whole.

    Args:
        unit: the rows.
        found: the survey of all units; when it has errors or no row, nothing is written.
        source: how they are to be read.
        folder: where to.

    Returns:
        The rows written, and errors.
    """
    if found.errors or not found.rows:
        return Survey()
    return _or_error(unit, lambda: Survey(_write(unit, found.kinds, source, Path(folder))))


def report(found: Survey, written: Survey, path: str) -> None:
    """Tells the program that made the Beam pipeline what came of it: workers can't but by a file.

    Args:
        found: the survey of all units.
        written: what `write` gave, merged.
        path: where to.
    """
    record = {
        "rows": written.rows,
        "kinds": dict(found.kinds),
        "no_numbers": dict(found.no_numbers),
        "errors": list(dict.fromkeys(found.errors + written.errors)),
    }
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump(record, file)
    os.replace(f"{path}.part", path)


def read_report(path: str) -> Survey:
    """Takes back what `report` wrote: the rows are those written."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    kinds = {name: Kind(*kind) for name, kind in record["kinds"].items()}
    return Survey(record["rows"], kinds, record["no_numbers"], tuple(record["errors"]))


def _or_error(unit: Unit, work: Callable[[], Survey]) -> Survey:
    # As a value: through Beam, an exception would arrive within a long trace of the workers'.
    try:
        return work()
    except (OSError, TypeError, ValueError) as error:
        return Survey(errors=(str(error),))
    except pa.ArrowNotImplementedError as error:  # no ValueError, and names no file
        return Survey(errors=(f"{unit.file}: {error}; write the column as another type.",))


def _survey(unit: Unit, source: Source) -> Survey:
    rows = 0
    kinds: dict[str, Kind] = {}
    no_numbers: dict[str, str] = {}
    from_text = suffix_of(Path(unit.file)) in DELIMITERS
    for table, row_name in _batches(unit, source):
        rows += table.num_rows
        for name in table.column_names:
            where = f"{unit.file}, column `{name}`"
            column = _column(table, name, source, unit.file)
            known = kinds.get(name, Kind("none"))
            kind = known | _kind(column, known.base if from_text else None, where)
            if name in IDS[source.table]:
                kind = Kind("text")
            elif source.table == "interactions" and name in ("time", "value"):
                if kind == Kind("text") and name not in no_numbers:
                    row = _first_text(column, name, source)
                    cell = column[row].as_py()
                    no_numbers[name] = f"{unit.file}, {row_name(row)}: {cell!r}"[:300]
                if name == "value" and kind.base == "int":
                    # 4 in this span and 4.5 in the next are the same feature.
                    kind = Kind("float", kind.many)
            kinds[name] = kind
    return Survey(rows, kinds, no_numbers)


def _write(unit: Unit, kinds: Mapping[str, Kind], source: Source, folder: Path) -> int:
    import tensorflow as tf
    from tfx_bsl.public.tfxio import RecordBatchToExamplesEncoder

    encoder = RecordBatchToExamplesEncoder()
    name = f"data_tfrecord-{unit.shard:05d}-of-{unit.shards:05d}.gz"
    work = folder / f".{name}.{os.getpid()}"  # a retried worker may write the same shard
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
    rows = 0
    try:
        with tf.io.TFRecordWriter(str(work), options) as writer:
            for table, _ in _batches(unit, source):
                columns = {
                    key: _feature(
                        _column(table, key, source, unit.file, kinds[key]),
                        kinds[key].base,
                        f"{unit.file}, column `{key}`",
                    )
                    for key in table.column_names
                    if kinds[key].base != "none"
                }
                for example in encoder.encode(pa.RecordBatch.from_pydict(columns)):
                    writer.write(example)
                rows += table.num_rows
        os.replace(work, folder / name)
    finally:
        work.unlink(missing_ok=True)
    return rows


def _batches(unit: Unit, source: Source) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """The unit's rows, columns by our names, and words for each row; text files give text."""
    path = Path(unit.file)
    suffix = suffix_of(path)
    if suffix in DELIMITERS:
        text = TextFormat(DELIMITERS[suffix])
        columns = _columns(path, header_of(path, text), source)
        check = RowCheck(advice="Mend the file.")
        yield from text_batches(path, columns, check, text, as_bytes=())
        return
    with _open_parquet(path) as file:
        columns = _columns(path, file.schema_arrow.names, source)
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        wanted = unit.row_groups or ()
        offset = sum(groups[: wanted[0]]) if wanted else 0
        sources = list(dict.fromkeys(columns.values()))
        try:
            for batch in file.iter_batches(_ROWS_A_BATCH, row_groups=list(wanted), columns=sources):
                first = offset

                def row_name(row: int, first: int = first) -> str:
                    return f"row {first + row + 1}"

                yield pa.table({k: batch.column(theirs) for k, theirs in columns.items()}), row_name
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
    """Our name -> the file's.

    Raises:
        ValueError: a name stands for two columns, or a column of ids is missing.
    """
    given = source.config.columns
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path}, column `{twice[0]}` is there more than once; name each once.")
    columns = {ours: theirs for ours, theirs in given.items() if theirs in header}
    for name in header:
        if name in given.values():
            continue
        if name in columns:
            raise ValueError(
                f"{path} has a column `{name}` beside `{columns[name]}`, which "
                f"data.{source.table}.columns calls `{name}`; drop or rename one of them."
            )
        columns[name] = name
    for name in IDS[source.table]:
        if name not in columns:
            raise ValueError(
                f"{path} has no column `{given.get(name, name)}` (for `{name}`), but it has "
                f"{', '.join(header)}; say which one it is: data.{source.table}.columns.{name}=..."
            )
    return columns


def _column(
    table: pa.Table, name: str, source: Source, file: str, kind: Kind | None = None
) -> pa.Array:
    """A column in a form that `_kind` and `_feature` understand: ids, times and lists are made.

    Args:
        table: the rows.
        name: of the column.
        source: what is said of it.
        file: for messages.
        kind: what the column has to become; None where that is still to be found out.
    """
    where = f"{file}, column `{name}`"
    column = flat(table[name])
    if name in IDS[source.table]:
        column, bad = tokens_of(column, where)
        if bad.any():
            raise ValueError(f"{where} holds bytes that are no UTF-8 text; an id is text.")
        return pc.if_else(pc.equal(column, ""), None, column)
    if name == "time" and source.table == "interactions":
        if not _is_list(column.type) and (kind is None or kind.base != "text"):
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


def _kind(column: pa.Array, known: str | None, where: str) -> Kind:
    """What a column holds.

    Args:
        column: as `_column` makes it.
        known: the base so far, if text is to be tried as numbers; None leaves it text.
        where: names the column in errors.
    """
    many = _is_list(column.type)
    kind = column.type.value_type if many else column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return Kind("none", many)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return Kind("int", many)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Kind("float", many)
    if _is_text(kind):
        return Kind("text" if known is None else _text_base(column, known), many)
    raise TypeError(
        f"{where} is of type {column.type}, which has no place in a tf.Example; leave it out, or "
        "write it as numbers, text or lists of these."
    )


def _text_base(column: pa.Array, known: str) -> str:
    """The narrowest base, `known` at least, that all cells can be read as."""
    values = (column.flatten() if _is_list(column.type) else column).drop_null()
    if not len(values):
        return known
    for base in ("int", "float"):
        if _BASES.index(base) >= _BASES.index(known):
            try:
                values.cast(pa.int64() if base == "int" else pa.float64())
                return base
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
    return "text"


def _first_text(column: pa.Array, name: str, source: Source) -> int:
    """The first row that is no time or no number; the first that is there if all are."""
    if name == "time":
        _, bad = times_of(pa.table({"time": column}), "", source.time_unit)
        return int(bad.argmax())
    start, stop = 0, len(column)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            column.slice(start, middle - start).cast(pa.float64())
            start = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            stop = middle
    return start


def _feature(column: pa.Array, base: str, where: str) -> pa.ListArray:
    """One list of values a row, null where there are none: what the encoder takes."""
    rows = len(column)
    if _is_list(column.type):
        parents = pc.list_parent_indices(column).to_numpy()
        values = column.flatten()
    else:
        parents, values = np.arange(rows), column
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        if base == "float" and _is_text(values.type):
            values = values.cast(pa.float64())
        if base != "text" or not _is_text(values.type):  # bytes need not be UTF-8
            # Not safe, so that whole numbers beyond 2**24 may become floats.
            values = values.cast(_TYPES[base], safe=base != "float")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{where}: {error}. Mend the file.") from error
    there = values.is_valid()
    if base == "float":
        there = pc.and_(there, pc.invert(pc.fill_null(pc.is_nan(values), False)))
    counts = np.bincount(parents[there.to_numpy(zero_copy_only=False)], minlength=rows)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = values.filter(there)
    if base == "text":
        values = values.cast(pa.binary())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(counts == 0))


def _is_list(kind: pa.DataType) -> bool:
    is_of = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(fits(kind) for fits in is_of)


def _is_text(kind: pa.DataType) -> bool:
    is_of = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(fits(kind) for fits in is_of)
