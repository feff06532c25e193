"""Ids of users and items as text, written alike wherever they come from.

- Blanks around an id are removed.
- Whole numbers are written without a decimal point, whatever their type: 10, 10.0 and Decimal(10).
- Text is kept as it is: "007", "1e5" and "1.1" stay. There is one exception. pandas writes whole
  numbers as "10.0" if one of them is missing. If all ids of a column are whole numbers, then ".0"
  is removed from those that have it. A table of users or items counts as a part of the column.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import logger

_WHOLE = r"^-?(0|[1-9][0-9]*)(\.0+)?$"
DECIMALS = r"\.0+$"  # at the end of a whole number
# Whole numbers up to here are exact in a floating-point column.
_EXACT = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): 2.0**53}
_HARDLY = 0.5  # share of ids with a counterpart, below which tables probably do not belong together
_EXAMPLES = 3
_log = logger(__name__)


def tokens_of(column: pa.Array, where: str) -> tuple[pa.Array, np.ndarray]:
    """Returns ids as trimmed text.

    Args:
        column: text, bytes in UTF-8, or whole numbers of any type.
        where: names the column in errors.

    Returns:
        string [n], null where the id is missing, and a bool mask [n] of bytes that are not UTF-8,
        whose ids are null.

    Raises:
        TypeError: for another type, fractions, or numbers too large for their type.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind):
        column = _whole(column, where)
    elif pa.types.is_decimal(kind):
        if not pc.all(pc.equal(pc.round(column), column), min_count=0).as_py():
            raise TypeError(f"{where} holds fractions, but an id is text or a whole number.")
        text = pc.replace_substring_regex(column.cast(pa.string()), r"\..*$", "")
        return text, np.zeros(len(column), bool)
    elif _is_bytes(kind):
        column, bad = text_of(column)
        return _trimmed(column), bad
    elif not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise TypeError(f"{where} is of type {kind}, but an id is text or a whole number.")
    column = column.cast(pa.string())
    return (_trimmed(column) if is_text(kind) else column), np.zeros(len(column), bool)


def text_of(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Decodes bytes as UTF-8.

    Returns:
        string [n], null for bytes that are not UTF-8, and a bool mask [n] of these.
    """
    bad = np.zeros(len(column), bool)
    try:
        return column.cast(pa.string()), bad
    except pa.ArrowInvalid:
        column = column.cast(pa.binary())
    offsets, data = buffers(column)
    # Only rows with a byte outside of ASCII can be invalid.
    rows = np.unique(np.searchsorted(offsets, np.flatnonzero(data >= 0x80), side="right") - 1)
    for row, cell in zip(rows, column.take(pa.array(rows)).to_pylist(), strict=True):
        try:
            (cell or b"").decode()
        except UnicodeDecodeError:
            bad[row] = True
    good = pc.if_else(pa.array(bad), pa.scalar(None, pa.binary()), column)
    return good.cast(pa.string()), bad


def has_line_breaks(tokens: pa.Array) -> np.ndarray:
    """Returns a mask of the ids, string [n], that contain a line break, which no id can."""
    _, data = buffers(tokens)
    if not ((data == 10) | (data == 13)).any():
        return np.zeros(len(tokens), bool)
    found = pc.fill_null(pc.match_substring_regex(tokens, "[\r\n]"), False)
    return found.to_numpy(zero_copy_only=False).astype(bool)


def given_ids(values: Any, name: str, *, trim: bool = True) -> pa.Array:
    """Returns the ids of an argument, such as those of `recommend`, as text.

    Args:
        values: [n] text, bytes or whole numbers, also mixed, since "" pads lists of numbers. None
            and NaN become "".
        name: name of the argument in errors.
        trim: whether blanks around ids are removed. An exported model does not remove them.

    Returns:
        string [n] without nulls.

    Raises:
        ParameterError: for a single string, or values that are not one list.
        TypeError: for ids of another type.
    """
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise ParameterError(f"`{name}`={values!r}; use a list of ids, such as ['42'].", name)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        if isinstance(values, np.ndarray) and values.ndim != 1:
            shape = list(values.shape)
            raise ParameterError(f"`{name}` has shape {shape}; use a list of ids.", name)
        values = id_array(values, name, mixed=True)
    if pa.types.is_list(values.type):
        raise ParameterError(
            f"`{name}`={values.to_pylist()!r}; use a list of ids, such as ['42'].", name
        )
    if not trim and pa.types.is_string(values.type):
        return pc.fill_null(values, "")
    tokens, bad = tokens_of(values, f"`{name}`")
    if bad.any():
        raise ParameterError(f"`{name}` has bytes that are not UTF-8 text.", name)
    return pc.fill_null(tokens, "")


def id_array(values: Any, name: str, *, mixed: bool = False) -> pa.Array:
    """Returns a sequence of ids as an Arrow array.

    Args:
        values: [n] ids, of one type.
        name: name of the argument in errors.
        mixed: whether several types are accepted; the result is then text.

    Raises:
        TypeError: if the types are mixed, or no types of ids.
    """
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError) as error:
        cells = list(values)
        if mixed or all(isinstance(cell, numbers.Integral) for cell in cells):
            return pa.array([_token(cell, name) for cell in cells], pa.string())
        reason = str(error).splitlines()[0]
        raise TypeError(
            f"`{name}` mixes types: {reason}; give it one type, such as text."
        ) from error


def _token(value: Any, name: str) -> str | None:
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return str(value)
    whole = isinstance(value, numbers.Number | Decimal) and not isinstance(value, bool | np.bool_)
    if whole and value == int(value):
        return str(int(value))
    raise TypeError(f"`{name}` has {value!r}, but an id is text or a whole number.")


@dataclass(frozen=True)
class Spelling:
    """The spelling of the ids of a column, or of some of its rows; `|` combines them.

    Attributes:
        whole: whether all ids are whole numbers, with or without ".0".
        decimal: whether some ids have ".0".
    """

    whole: bool = True
    decimal: bool = False

    @classmethod
    def of(cls, ids: pa.Array | pa.ChunkedArray) -> Spelling:
        """Returns the spelling of trimmed ids; missing ones do not count."""
        found = cls()
        for chunk in ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]:
            if found.whole:
                found = found | cls._of_chunk(chunk)
        return found

    @classmethod
    def _of_chunk(cls, ids: pa.Array) -> Spelling:
        offsets, data = buffers(ids)
        digits = data - np.uint8(ord("0")) < 10
        if digits.all():  # the usual case, without a regular expression per id
            lengths = np.diff(offsets)
            begins = data[offsets[:-1][lengths > 1]]
            return cls(whole=not (begins == ord("0")).any())
        if not (digits | (data == ord(".")) | (data == ord("-"))).all():
            return cls(whole=False)
        tokens = pc.unique(ids).drop_null()
        tokens = tokens.filter(pc.not_equal(tokens, ""))
        whole = pc.all(pc.match_substring_regex(tokens, _WHOLE), min_count=0).as_py()
        return cls(whole, whole and pc.any(pc.match_substring(tokens, "."), min_count=0).as_py())

    def __or__(self, other: Spelling) -> Spelling:
        return Spelling(self.whole and other.whole, self.decimal or other.decimal)

    @property
    def has_decimals(self) -> bool:
        """Whether ".0" is to be removed."""
        return self.whole and self.decimal


def written_alike(
    events: pa.Table, table: pa.Table | None, key: str
) -> tuple[pa.Table, pa.Table | None]:
    """Returns events and a table of users or items whose ids are written in the same way.

    Args:
        events: its column `key` has trimmed ids.
        table: the same; None is accepted.
        key: "user_id" or "item_id".

    Returns:
        Both tables, with ".0" removed if all ids of both are whole numbers.
    """
    spelling = Spelling.of(events[key])
    if table is not None:
        spelling = spelling | Spelling.of(table[key])
    if not spelling.has_decimals:
        return events, table
    return without_decimals(events, key), None if table is None else without_decimals(table, key)


def without_decimals(table: pa.Table, key: str) -> pa.Table:
    """Returns the table with ".0" removed from the ids of column `key`."""
    ids = pc.replace_substring_regex(table[key], DECIMALS, "")
    return table.set_column(table.column_names.index(key), key, ids)


def warn_if_unrelated(
    events: Iterable[str], table: pa.Table | None, key: str, name: str, source: str
) -> None:
    """Logs a warning if few ids of the events have a row in the table of users or items.

    Args:
        events: the distinct ids of the events.
        table: the table; None is accepted.
        key: name of the id column.
        name: "users" or "items".
        source: the name of the data.
    """
    if table is None:
        return
    of_events = pa.array(np.asarray(list(events), object), pa.string())
    of_table = table[key].combine_chunks()
    smaller = min(len(of_events), len(of_table))
    if not smaller:
        return
    has_row = pc.is_in(of_events, value_set=of_table)
    matched = pc.sum(has_row).as_py() or 0
    if matched >= _HARDLY * smaller:
        return
    has_event = pc.is_in(of_table, value_set=of_events)
    found = f"only {matched:,} of the" if matched else "none of the"
    _log.warning(
        "%s: %s %s distinct ids of the events have a row in `%s`, which has %s rows. Ids of the "
        "events without a row: %s. Ids of `%s` without an event: %s. Check that both write "
        "`%s` in the same way.",
        source,
        found,
        f"{len(of_events):,}",
        name,
        f"{len(of_table):,}",
        _examples(of_events, has_row),
        name,
        _examples(of_table, has_event),
        key,
    )


def _examples(ids: pa.Array, known: pa.Array) -> str:
    shown = ids.filter(pc.invert(known)).slice(0, _EXAMPLES).to_pylist()
    return ", ".join(repr(token[:60]) for token in shown) or "none"


def _whole(column: pa.Array, where: str) -> pa.Array:
    """Returns a floating-point column as integers; pandas has such columns if an id is missing."""
    largest = _EXACT[column.type]
    column = column.cast(pa.float64())
    column = pc.if_else(pc.is_nan(column), None, column)
    if not pc.all(pc.equal(pc.floor(column), column), min_count=0).as_py():
        raise TypeError(f"{where} holds fractions, but an id is text or a whole number.")
    if not pc.all(pc.less_equal(pc.abs(column), largest), min_count=0).as_py():
        raise TypeError(
            f"{where} is a floating-point column with numbers above {largest:.0f}, which it cannot "
            "hold exactly; give the ids as text or integers."
        )
    return column.cast(pa.int64())


def _trimmed(column: pa.Array) -> pa.Array:
    """Removes blanks around each id; costs little if there are none."""
    offsets, data = buffers(column)
    if not len(data):
        return column
    filled = np.flatnonzero(np.diff(offsets))
    for ends in (data[offsets[:-1][filled]], data[offsets[1:][filled] - 1]):
        # Blanks outside of ASCII begin and end with a byte from 128.
        if ((ends <= ord(" ")) | (ends >= 0x80)).any():
            return pc.utf8_trim_whitespace(column)
    return column


def buffers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Returns the offsets [n + 1] into the bytes of a string or binary array, and the bytes."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    if not len(bounds):  # an empty array may have no offsets
        return np.zeros(1, np.int32), content[:0]
    return bounds - bounds[0], content[bounds[0] : bounds[-1]]


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
