"""Converts source columns to the typed event table; each invalid row is reported or counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.checks import between, check
from tfrec_meta.data.ids import has_line_breaks, tokens_of
from tfrec_meta.data.numbers import numbers_of
from tfrec_meta.data.times import TimeReader
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import logger

BadRows = Literal["raise", "drop"]

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("time", pa.int64()),
        ("value", pa.float32()),
    ]
)
# The types that text files are read with where all cells of a column are numbers.
NUMBERS: Mapping[str, pa.DataType] = {"time": pa.int64(), "value": pa.float32()}

MAX_BAD_SHARE = 0.01  # of the rows that `bad_rows="drop"` accepts by default
_DECIMAL_COMMA = re.compile(r"'\s*[+-]?[0-9]*,[0-9]+\s*'$")  # a shown cell
_EXAMPLES = 3  # rows named for each reason when bad rows are dropped
_log = logger(__name__)

RowName = Callable[[int], str]


def numbered_row(row: int) -> str:
    """Returns the name of a row, numbered from 0, in messages."""
    return f"row {row + 1}"


class RowCheck:
    """Handles invalid rows: raises at the first one, or counts and logs all of them.

    Args:
        bad_rows: "raise" or "drop".
        max_bad_share: the highest share of invalid rows that `finish` accepts.
        advice: how to fix the problem; the last sentence of the error message.

    Attributes:
        dropped: number of dropped rows by reason.
        examples: a sentence about each of the first dropped rows, by reason.
    """

    def __init__(
        self,
        bad_rows: BadRows = "raise",
        max_bad_share: float = 1.0,
        advice: str = "Fix the source, or set `bad_rows` to 'drop'.",
    ) -> None:
        if bad_rows not in ("raise", "drop"):
            raise ParameterError(f"`bad_rows`={bad_rows!r}; use 'raise' or 'drop'.", "bad_rows")
        check("max_bad_share", max_bad_share, between(0, 1))
        self.bad_rows = bad_rows
        self._max_bad_share = max_bad_share
        self._advice = advice
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def bad(self, reason: str, count: int, message: Callable[[], str]) -> None:
        """Reports invalid rows.

        Args:
            reason: why they are invalid, as it is counted.
            count: their number.
            message: returns a sentence about the first of them; called only if it is shown.

        Raises:
            ParameterError: with the message, unless `bad_rows` is "drop".
        """
        if self.bad_rows == "raise":
            text = f"{message()} {self._advice}"
            advised = (name for name in ("encoding", "decimal") if f"set `{name}`" in text)
            raise ParameterError(text, "bad_rows", *advised)
        self.dropped[reason] += count
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(message())

    def finish(self, name: str, kept: int) -> None:
        """Logs the number of dropped rows by reason, with the first examples of each reason.

        Args:
            name: the name of the data.
            kept: number of rows that are left.

        Raises:
            ParameterError: if more than `max_bad_share` of the rows were dropped.
        """
        if not self.dropped:
            return
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        examples = " ".join(text for texts in self.examples.values() for text in texts)
        bad = self.dropped.total()
        if bad > self._max_bad_share * (kept + bad):
            raise ParameterError(
                f"{name}: {bad:,} of {kept + bad:,} rows are invalid ({reasons}), more than "
                f"`max_bad_share`={self._max_bad_share:g} allows. Examples: {examples} Fix the "
                "source, correct how it is read, or set `max_bad_share` to a higher share.",
                "max_bad_share",
            )
        _log.warning("%s: dropped %s. Examples: %s", name, reasons, examples)


def typed_events(
    table: pa.Table | pa.RecordBatch,
    check: RowCheck,
    *,
    source: str = "events",
    row_name: RowName = numbered_row,
    times: TimeReader | None = None,
    decimal: str = ".",
) -> pa.Table:
    """Casts the four event columns, and removes or refuses rows that cannot be converted.

    Args:
        table: `user_id` and `item_id` (see `ids.tokens_of`), optionally `time` (see `TimeReader`)
            and `value` (numbers or text). Further columns are kept as they are.
        check: handles invalid rows.
        source: name of the file or object in messages.
        row_name: returns the name of a row of `table`, numbered from 0, in messages.
        times: reads the times; by default, their unit is recognized.
        decimal: the character before the decimals of numbers in text.

    Returns:
        Table of `SCHEMA` and the further columns. A missing `value` column is filled with 1, a
        missing `time` column with null. Single missing times stay null; `clean` counts them.

    Raises:
        ValueError: if a required column is missing, or for an invalid row if `check` raises.
        TypeError: if a column has a type that cannot be converted.
    """
    for name in ("user_id", "item_id"):
        if name not in table.column_names:
            raise ParameterError(
                f"{source} has no column `{name}`, but it has {', '.join(table.column_names)}; "
                f"give the name of the `{name}` column in `columns`.",
                "columns",
            )
    rows = table.num_rows
    good = np.ones(rows, bool)

    def refuse(bad: np.ndarray, reason: str, column: str, what: str) -> None:
        fresh = bad & good
        if fresh.any():
            first = int(np.argmax(fresh))

            def message() -> str:
                shown = _shown(table.column(column)[first].as_py())
                is_decimal = column == "value" and decimal == "." and _DECIMAL_COMMA.match(shown)
                hint = "; set `decimal` to ',' if it has a decimal comma" if is_decimal else ""
                return f"{source}, {row_name(first)}, column `{column}`: {shown} {what}{hint}."

            check.bad(reason, int(fresh.sum()), message)
            good[fresh] = False

    typed = {}
    for name in ("user_id", "item_id"):
        typed[name], bad = tokens_of(flat(table.column(name)), f"{source}, column `{name}`")
        refuse(bad, f"unreadable {name}", name, "is not UTF-8 text")
        missing = pc.fill_null(pc.equal(typed[name], ""), True)
        refuse(_mask(missing), f"missing {name}", name, "is not an id")
        refuse(
            has_line_breaks(typed[name]),
            f"line break in {name}",
            name,
            "holds a line break, which ids cannot contain",
        )
    where = f"{source}, column `time`"
    typed["time"], bad = _times(table, times or TimeReader(), where, row_name)
    refuse(bad, "unreadable time", "time", "is not a time, or not in the unit of the others")
    typed["value"], bad = _values(table, f"{source}, column `value`", decimal)
    refuse(bad, "unreadable value", "value", "is not a number")
    finite = pc.fill_null(pc.is_finite(typed["value"]), False)
    refuse(~_mask(finite), "missing value", "value", "is not a finite number")

    for name in table.column_names:
        if name not in typed:
            typed[name] = table.column(name)
    result = pa.table(typed)
    return result if good.all() else result.filter(pa.array(good))


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns a column as one plain array: chunks are joined, dictionaries decoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):  # more text than fits into one array
        raise ValueError("a column of more than 2 GB of text; pass the rows in several tables.")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    return column


def _times(
    table: pa.Table | pa.RecordBatch, times: TimeReader, where: str, row_name: RowName
) -> tuple[pa.Array, np.ndarray]:
    if "time" not in table.column_names:
        return pa.nulls(table.num_rows, pa.int64()), np.zeros(table.num_rows, bool)
    return times.read(flat(table.column("time")), where, row_name)


def _values(
    table: pa.Table | pa.RecordBatch, where: str, decimal: str
) -> tuple[pa.Array, np.ndarray]:
    rows = table.num_rows
    if "value" not in table.column_names:
        return pa.array(np.ones(rows, np.float32)), np.zeros(rows, bool)
    column = flat(table.column("value"))
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return numbers_of(column, decimal)
    if pa.types.is_boolean(kind):
        return column.cast(pa.uint8()).cast(pa.float32()), np.zeros(rows, bool)
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise TypeError(f"{where} is of type {kind}, but a value is a number.")
    return pc.cast(column, pa.float32(), safe=False), np.zeros(rows, bool)


def _mask(condition: pa.Array) -> np.ndarray:
    return condition.to_numpy(zero_copy_only=False).astype(bool)


def _shown(value: object) -> str:
    if value is None:
        return "an empty cell"
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    words = repr(text)
    return words if len(words) <= 60 else words[:57] + "..."
