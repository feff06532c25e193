"""The types of further event columns and of attributes: declared, or recognized."""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.sources.formats import ColumnType, FileFormat
from tfrec_meta.data.times import TimeReader
from tfrec_meta.errors import ParameterError

_NUMBER = r"^(?i:[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf|infinity))$"
_CODE = r"^[+-]?0[0-9]+$"
_MISSING = ("", "-", "–", "—", "n/a", "na", "null", "none", "nan", "?")
_MOSTLY = 0.5  # share of numbers from which a column of text is likely to be meant as numbers
_log = logging.getLogger(__name__)


def with_types(table: pa.Table, form: FileFormat, ids: Collection[str], where: str) -> pa.Table:
    """Returns the table with its columns in their declared types, and text as numbers if it is.

    Args:
        table: any table.
        form: has the declared types, and the character before decimals.
        ids: columns that stay as they are.
        where: names the table in messages.

    Raises:
        ParameterError: for a cell that is not of the declared type.
    """
    for place, name in enumerate(table.column_names):
        if name not in ids:
            column = _typed(table[name], form, form.types.get(name), f"{where}, column `{name}`")
            table = table.set_column(place, name, column)
    return table


def check_names(form: FileFormat, tables: Collection[pa.Table | None]) -> None:
    """Raises if `lists` or `types` names a column that no table has."""
    known = {name for table in tables if table is not None for name in table.column_names}
    for option in ("lists", "types"):
        for name in getattr(form, option):
            if name not in known:
                raise ParameterError(
                    f"`{option}` names the column `{name}`, but the columns that are read are "
                    f"{', '.join(sorted(known))}; correct the name, or add it to `columns`.",
                    option,
                )


def _typed(
    column: pa.ChunkedArray, form: FileFormat, kind: ColumnType | None, where: str
) -> pa.ChunkedArray:
    is_text = pa.types.is_string(column.type)
    if pa.types.is_nested(column.type) or (kind is None and not is_text):
        return column
    if kind == "text":
        return column.cast(pa.string())
    if kind == "time":
        reader = TimeReader(form.time_unit, form.time_format, form.decimal)
        flat = column.combine_chunks()
        flat = flat.chunk(0) if isinstance(flat, pa.ChunkedArray) else flat
        times, bad = reader.read(flat, where)
        if bad.any():
            _refuse(column, bad, where, "is not a time")
        return pa.chunked_array([times])
    if not is_text:
        return column if pa.types.is_integer(column.type) else column.cast(pa.float64())
    text = pc.utf8_trim_whitespace(column)
    if form.decimal != ".":
        text = pc.replace_substring(text, form.decimal, ".")
    if kind == "number":
        missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(_MISSING))
        text = pc.if_else(missing, None, text)
    elif pc.any(pc.match_substring_regex(text, _CODE)).as_py():
        return column  # as an integer, the code 02139 would be 2139
    numbers = _numbers(text)
    if numbers is not None:
        return numbers
    is_number = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
    bad = ~is_number.to_numpy().astype(bool) & text.is_valid().to_numpy().astype(bool)
    if kind == "number":
        _refuse(column, bad, where, "is not a number")
    present = len(text) - text.null_count
    if bad.sum() <= (1 - _MOSTLY) * present:
        first = int(np.argmax(bad))
        _log.warning(
            "%s: %s of %s cells are numbers, but row %s is %r, so that the column is read as text. "
            "Set `types` of the column to 'number' or 'text' to say what it is.",
            where,
            f"{present - int(bad.sum()):,}",
            f"{present:,}",
            first + 1,
            column[first].as_py(),
        )
    return column


def _numbers(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Returns integers if all cells are, else floats if all are, else None."""
    if text.null_count == len(text):
        return None
    head = text.drop_null().slice(0, 1)[0]
    for kind in (pa.int64(), pa.float64()):
        try:
            head.cast(kind)  # a cast of many cells that fails takes long
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _refuse(column: pa.ChunkedArray, bad: np.ndarray, where: str, what: str) -> None:
    row = int(np.argmax(bad))
    raise ParameterError(
        f"{where}, row {row + 1}: {column[row].as_py()!r} {what}, as `types` declares; fix the "
        "cell, or declare the column as 'text'.",
        "types",
    )
