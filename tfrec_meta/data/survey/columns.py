"""What the columns of a log hold: their types, and how times are written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.column_types import typed
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.survey.time_formats import FORMATS, formats_of
from tfrec_meta.data.times import TICKS_PER_SECOND, TimeReader
from tfrec_meta.errors import ParameterError

ColumnKind = Literal["text", "whole number", "number", "true or false", "time", "list", "empty"]

_FEW = 30  # distinct values that are listed
_MOSTLY = 0.8  # share of the cells that decide what a column is
_EARLIEST = 400_000_000  # 1982 in seconds: smaller numbers are rarely times
_DAY = 86_400
# With more or fewer than three digits after it, a comma is no separator of thousands.
_DECIMAL_COMMA = r"^\s*[+-]?[0-9]+,([0-9]{1,2}|[0-9]{4,})\s*$"
_OTHER_NUMBER = r"^\s*[+-]?[0-9]+(,[0-9]{3})?\s*$"


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column holds, by its first rows.

    Attributes:
        name: as in the file.
        kind: the type.
        rows: number of rows that were looked at.
        missing: how many of them have no value.
        distinct: number of distinct values; 0 for lists.
        values: these values as text, the most frequent first, if they are few.
        unit: unit of numbers that can be times since 1970: s, ms, us or ns; else "".
        formats: formats of times that read all cells, if ISO 8601 does not. Two formats mean that
            the day or the month may come first.
    """

    name: str
    kind: ColumnKind
    rows: int
    missing: int
    distinct: int
    values: tuple[str, ...] = ()
    unit: str = ""
    formats: tuple[str, ...] = ()

    @property
    def can_be_time(self) -> bool:
        """Whether the values can be times."""
        return self.kind == "time" or bool(self.unit or self.formats)

    @property
    def is_constant(self) -> bool:
        """Whether all rows have the same value."""
        return self.distinct == 1 < self.rows

    @property
    def is_unique(self) -> bool:
        """Whether each row has a value of its own, as the number of an order."""
        return self.distinct == self.rows - self.missing > 1


def column_of(name: str, cells: pa.ChunkedArray, form: FileFormat) -> Column:
    """Describes a column.

    Args:
        name: its name.
        cells: its first rows, as the file has them; text in text files.
        form: the format of the file.
    """
    table = pa.table({name: cells})
    table = typed(table, name, None, name, bad_rows="drop", decimal=form.decimal)
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.nulls(0)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    filled = column.drop_null()
    kind = _kind(column.type) if len(filled) else "empty"
    distinct, values = (0, ()) if kind == "list" else _values(filled)
    unit = ""
    formats: tuple[str, ...] = ()
    given = form.time_format
    if kind == "whole number":
        unit = "" if given else _unit(filled)
        formats = () if unit else _formats(filled, (given,) if given else ("%Y%m%d",), 8)
    elif kind == "text":
        is_iso = given is None and _is_iso(filled)
        formats = () if is_iso else _formats(filled, (given,) if given else FORMATS, 6)
        kind = "time" if is_iso or formats else "text"
    return Column(
        name, kind, len(column), column.null_count, distinct, values, unit, tuple(formats)
    )


def has_decimal_commas(cells: pa.ChunkedArray) -> bool:
    """Returns whether most cells of a column of text are numbers such as 12,34."""
    if not pa.types.is_string(cells.type):
        return False
    cells = cells.drop_null()
    commas = pc.sum(pc.match_substring_regex(cells, _DECIMAL_COMMA)).as_py() or 0
    others = pc.sum(pc.match_substring_regex(cells, _OTHER_NUMBER)).as_py() or 0
    return commas > others and commas + others >= _MOSTLY * len(cells)


def _kind(kind: pa.DataType) -> ColumnKind:
    types = pa.types
    if types.is_integer(kind):
        return "whole number"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_boolean(kind):
        return "true or false"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    return "list" if types.is_nested(kind) else "text"


def _values(filled: pa.Array) -> tuple[int, tuple[str, ...]]:
    """Returns the number of distinct values, and these if they are few."""
    if not len(filled):
        return 0, ()
    counts = pc.value_counts(filled)
    if len(counts) > _FEW:
        return len(counts), ()
    ranked = sorted(counts.to_pylist(), key=lambda one: -one["counts"])
    return len(counts), tuple(_text(one["values"]) for one in ranked)


def _text(value: object) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def _unit(filled: pa.Array) -> str:
    """The unit in which most of the numbers are times from 1982 to tomorrow; "" for none."""
    numbers = filled.to_numpy(zero_copy_only=False)
    latest = time.time() + _DAY
    for unit, ticks in TICKS_PER_SECOND.items():
        if np.mean((numbers >= _EARLIEST * ticks) & (numbers <= latest * ticks)) >= _MOSTLY:
            return unit
    return ""


def _is_iso(filled: pa.Array) -> bool:
    """Whether most cells are times of ISO 8601."""
    try:
        _, bad = TimeReader().read(filled)
    except (ParameterError, TypeError):  # the day or the month may come first
        return False
    cells = pa.array([_text(cell) for cell in filled.to_pylist()], pa.string())
    dates = pc.match_substring_regex(cells, r"^\s*[0-9]{4}[-/]").to_numpy(zero_copy_only=False)
    return bool((dates & ~bad).mean() >= _MOSTLY)


def _formats(filled: pa.Array, tried: Sequence[str], shortest: int) -> tuple[str, ...]:
    """The formats that read most of the first distinct cells."""
    cells = [_text(cell) for cell in filled.unique().to_pylist()]
    return formats_of(cells, tried, shortest=shortest, share=_MOSTLY)
