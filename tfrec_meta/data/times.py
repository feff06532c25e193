"""Times as Unix seconds: from numbers, timestamps, ISO 8601 text and text in a given format."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.ids import buffers, text_of
from tfrec_meta.data.numbers import NUMBER
from tfrec_meta.data.survey.time_formats import formats_of
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import logger

TimeUnit = Literal["s", "ms", "us", "ns"]
TICKS_PER_SECOND: Mapping[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

_WORDS = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "s": "seconds"}
# The year 5138 in each unit; the same number means a time before 1973 in the next unit.
_FROM = {"s": 0.0, "ms": 1e11, "us": 1e14, "ns": 1e17}
_AMBIGUOUS = r"^[0-9]{1,2}[./-][0-9]{1,2}[./-]([0-9]{4}|[0-9]{2})([^0-9].*)?$"
_SUCH_AS = ", such as '%d/%m/%Y' or '%m/%d/%Y'"
_ZONE = re.compile(r"([+-])(\d\d)(?::?(\d\d))?")
_UTC = ("", "z", "utc", "gmt")
# Directives that Arrow reads as Python does.
_FAST = re.compile(r"(?:[^%]|%[YmdHMSbBpIyj])*")
_KINDS = (pa.int64(), pa.timestamp("us"), pa.timestamp("us", "UTC"))
_LESS_THAN_SIX = (14, 17)  # the tens of minutes and seconds in YYYY-MM-DDThh:mm:ss
_HEAD = 20  # cells by which the usual type of a column is determined
_SAMPLE = 1_000  # cells that are cast before all are
_CELL = 19  # characters of YYYY-MM-DDThh:mm:ss
_log = logger(__name__)


class TimeReader:
    """Reads the columns of times of one source, whose tables come one after the other.

    Args:
        unit: unit of numeric times. None recognizes it by the size of the first numbers, for all
            tables, and logs it unless it is seconds.
        format: format of times in text, as for `datetime.strptime`, UTC without a time zone. None
            for numbers and ISO 8601 (a date, or a date and a time with T or a blank between,
            optionally with fractions and a time zone), which may be mixed.
        decimal: the character before the decimals of numbers in text.
        recognized: the unit that another reader recognized in earlier tables of the source; read
            only if `unit` is None.

    Raises:
        ParameterError: for an unknown unit.
    """

    def __init__(
        self,
        unit: TimeUnit | None = None,
        format: str | None = None,
        decimal: str = ".",
        *,
        recognized: TimeUnit | None = None,
    ) -> None:
        if unit is not None and unit not in TICKS_PER_SECOND:
            raise ParameterError(
                f"`time_unit`={unit!r}; use one of {', '.join(TICKS_PER_SECOND)}.", "time_unit"
            )
        self._recognizes = unit is None
        self._unit: TimeUnit | None = unit or recognized
        self._format, self._decimal = format, decimal

    @property
    def unit(self) -> TimeUnit | None:
        """The unit of numeric times; None while it is not recognized."""
        return self._unit

    def read(
        self,
        column: pa.Array,
        where: str = "`time`",
        row_name: Callable[[int], str] = lambda row: f"row {row + 1}",
    ) -> tuple[pa.Array, np.ndarray]:
        """Returns Unix seconds, int64 [n], null where the time is missing, and a mask of bad rows.

        Args:
            column: numbers, timestamps, dates, text or bytes.
            where: names the column in errors.
            row_name: names a row in errors.

        Raises:
            ParameterError: for a time such as 01/02/2025, which has two meanings.
            TypeError: for a column of another type.
        """
        kind = column.type
        if pa.types.is_null(kind):
            return pa.nulls(len(column), pa.int64()), np.zeros(len(column), bool)
        if pa.types.is_timestamp(kind):
            return self._seconds(column.cast(pa.int64()), TICKS_PER_SECOND[kind.unit])
        if pa.types.is_date(kind):
            return self._seconds(column.cast(pa.timestamp("ms")).cast(pa.int64()), 1000)
        if self._format is not None and pa.types.is_integer(kind):
            column = column.cast(pa.string())
            kind = column.type
        if pa.types.is_binary(kind) or pa.types.is_string(kind):
            return self._from_text(column, where, row_name)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return self._from_numbers(column, where)
        if pa.types.is_decimal(kind):
            return self._from_numbers(column.cast(pa.float64()), where)
        raise TypeError(f"{where} is of type {kind}, but a time is a number, a timestamp or text.")

    def _from_numbers(self, column: pa.Array, where: str) -> tuple[pa.Array, np.ndarray]:
        unit = self._unit or self._recognize(column, where)
        seconds, bad = self._seconds(column, TICKS_PER_SECOND[unit])
        if self._recognizes:
            # Numbers in another unit would be times of 1970, or of the far future.
            later = [limit for limit in _FROM.values() if limit > _FROM[unit]]
            numbers = np.abs(column.fill_null(0).to_numpy(zero_copy_only=False))
            bad = bad | (numbers >= (later[0] if later else np.inf))
            bad |= (numbers < _FROM[unit]) & (numbers > 0)
        return seconds, bad

    def _recognize(self, column: pa.Array, where: str) -> TimeUnit:
        """Determines the unit by the median of the numbers."""
        numbers = column.drop_null().to_numpy(zero_copy_only=False)
        numbers = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
        if not len(numbers):
            return "s"
        if numbers.min() > 1e7 and numbers.max() < 1e8 and _are_dates(numbers):
            raise ParameterError(
                f"{where}: numbers such as {int(numbers[0])} look like dates without separators; "
                "set `time_format` to '%Y%m%d', or `time_unit` to 's' if they are seconds.",
                "time_format",
                "time_unit",
            )
        middle = np.median(numbers)
        unit: TimeUnit = "s"
        for name, limit in _FROM.items():
            if middle >= limit:
                unit = name  # type: ignore[assignment]
        self._unit = unit
        if unit != "s":
            _log.warning(
                "%s: numbers such as %d are read as %s since 1970. Set `time_unit` to '%s' to say "
                "so, or to another unit.",
                where,
                numbers[0],
                _WORDS[unit],
                unit,
            )
        return unit

    def _seconds(self, column: pa.Array, ticks: int) -> tuple[pa.Array, np.ndarray]:
        present = _mask(column.is_valid())
        numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
        bad = np.zeros(len(numbers), bool)
        if numbers.dtype.kind == "f":
            present = present & ~np.isnan(numbers)
            bad = present & ~(np.abs(numbers) < 2.0**62)
            numbers = np.where(present & ~bad, numbers, 0)
        elif numbers.dtype == np.uint64:
            bad = numbers >= 2**62
        if ticks == 1 and numbers.dtype == np.int64:
            return (column if column.null_count else pa.array(numbers)), bad
        # Floor, not truncation: -0.5 s is in the second before 1970.
        seconds = np.floor_divide(numbers, ticks).astype(np.int64)
        return pa.array(seconds, mask=~present), bad

    def _from_text(
        self, column: pa.Array, where: str, row_name: Callable[[int], str]
    ) -> tuple[pa.Array, np.ndarray]:
        text, broken = text_of(column)
        text = pc.utf8_trim_whitespace(text)
        text = pc.if_else(pc.equal(text, ""), None, text)
        if self._format is not None:
            times, bad = _by_format(text, self._format)
            return times, bad | broken
        kind, example = _usual_kind(text)
        step = len(text) // _SAMPLE | 1
        try:
            # First a sample: a cast that fails takes long, since Arrow writes a message per cell.
            text.take(pa.array(np.arange(0, len(text), step))).cast(kind)
            times, bad = self._cast(text, kind, where)
        except pa.ArrowInvalid:
            times, bad = self._mixed(text, kind, example, where, row_name)
        return times, bad | broken

    def _cast(self, text: pa.Array, kind: pa.DataType, where: str) -> tuple[pa.Array, np.ndarray]:
        values = text.cast(kind)
        if pa.types.is_timestamp(kind):
            return self._seconds(values.cast(pa.int64()), TICKS_PER_SECOND[kind.unit])
        return self._from_numbers(values, where)

    def _mixed(
        self,
        text: pa.Array,
        kind: pa.DataType,
        example: bytes,
        where: str,
        row_name: Callable[[int], str],
    ) -> tuple[pa.Array, np.ndarray]:
        """Reads numbers, ISO 8601 text and bad cells of one column.

        Cells that are written like the usual ones are cast together. Of the others, each distinct
        text is read once.
        """
        present = _mask(text.is_valid())
        usual = _are_like(text, kind, example)
        seconds = np.zeros(len(text), np.int64)
        bad = np.zeros(len(text), bool)
        if usual.any():
            try:
                times, bad[usual] = self._cast(text.filter(pa.array(usual)), kind, where)
                seconds[usual] = times.to_numpy()
            except pa.ArrowInvalid:  # such as a time zone of 99 minutes
                usual[:] = False
        others = np.flatnonzero(present & ~usual)
        if len(others):
            coded = text.take(pa.array(others)).dictionary_encode()
            codes = coded.indices.to_numpy()

            def name(cell: int) -> str:
                return row_name(int(others[np.argmax(codes == cell)]))

            found, wrong = self._distinct(coded.dictionary, where, name)
            seconds[others], bad[others] = found[codes], wrong[codes]
        return pa.array(seconds, mask=~present), bad

    def _distinct(
        self, cells: pa.Array, where: str, cell_name: Callable[[int], str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns Unix seconds, int64 [n], and a mask of bad cells."""
        offsets, data = buffers(cells)
        begins = np.isin(data[offsets[:-1]], np.frombuffer(b"0123456789+-.,", np.uint8))
        seconds, bad = np.zeros(len(cells), np.int64), np.ones(len(cells), bool)
        likely = np.flatnonzero(begins)
        if len(likely):
            seconds[likely], bad[likely] = _iso_seconds(cells.take(pa.array(likely)))
        numbers = pc.replace_substring(cells, self._decimal, ".") if self._decimal != "." else cells
        rest = np.flatnonzero(bad & begins)
        rest = rest[_mask(pc.match_substring_regex(numbers.take(pa.array(rest)), f"^{NUMBER}$"))]
        if len(rest):
            plain = pc.utf8_ltrim(numbers.take(pa.array(rest)), "+")
            times, bad[rest] = self._from_numbers(plain.cast(pa.float64()), where)
            seconds[rest] = times.fill_null(0).to_numpy()
        wrong = np.flatnonzero(bad & begins)
        _refuse_ambiguous(cells.take(pa.array(wrong)), wrong, where, cell_name)
        return seconds, bad


def _are_like(text: pa.Array, kind: pa.DataType, example: bytes) -> np.ndarray:
    """Returns a mask of the cells that can be cast to a type since they are like another cell.

    They have digits where the example has digits, and are equal to it otherwise.

    Args:
        text: string [n], null for missing cells.
        kind: int64 or a timestamp.
        example: a cell that can be cast; b"" if there is none.
    """
    if not example:
        return np.zeros(len(text), bool)
    offsets, data = buffers(text)
    if pa.types.is_integer(kind):
        digits = _mask(pc.fill_null(pc.ascii_is_decimal(text), False))
        return digits & (np.diff(offsets) <= 18)  # all of which int64 has
    likely = np.flatnonzero(np.diff(offsets) == len(example))
    size = -(-len(example) // 8) * 8
    cells = _first_bytes(offsets[likely], data, size)
    low, high = np.zeros(size, np.uint8), np.full(size, 255, np.uint8)
    low[: len(example)] = high[: len(example)] = np.frombuffer(example, np.uint8)
    of_digits = np.flatnonzero((low >= ord("0")) & (low <= ord("9")))
    low[of_digits], high[of_digits] = ord("0"), ord("9")
    high[[place for place in _LESS_THAN_SIX if place < len(example)]] = ord("5")
    # Eight bytes at a time: each is 1 if it is in its range.
    words = (cells - low <= high - low).view(np.uint64)
    good = reduce(np.bitwise_and, words.T) == np.uint64(0x0101_0101_0101_0101)
    digits = cells - np.uint8(ord("0"))
    month, day = (10 * digits[:, place] + digits[:, place + 1] for place in (5, 8))
    good &= (month - np.uint8(1) < 12) & (day - np.uint8(1) < 28)  # each month has so many
    if len(example) > 10:
        good &= 10 * digits[:, 11] + digits[:, 12] < 24
    result = np.zeros(len(text), bool)
    result[likely[good]] = True
    return result


def _usual_kind(text: pa.Array) -> tuple[pa.DataType, bytes]:
    """Returns the type that most of the first cells have, and a cell of it, or b""."""
    head = text.slice(0, _HEAD).drop_null()

    def good(kind: pa.DataType) -> list[bytes]:
        cells = []
        for cell in head:
            try:
                cell.cast(kind)
                cells.append(cell.as_py().encode())
            except pa.ArrowInvalid:
                pass
        return cells

    cells = {kind: good(kind) for kind in _KINDS}
    kind = max(cells, key=lambda kind: len(cells[kind]))
    lengths = Counter(map(len, cells[kind]))
    usual = lengths.most_common(1)[0][0] if lengths else 0
    return kind, next((cell for cell in cells[kind] if len(cell) == usual), b"")


def _are_dates(numbers: np.ndarray) -> bool:
    """Returns whether all numbers are dates of 1900 to 2100, written as 20240501."""
    whole = numbers.astype(np.int64)
    year, month, day = whole // 10_000, whole // 100 % 100, whole % 100
    plausible = (year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12)
    return bool((plausible & (day >= 1) & (day <= 31) & (whole == numbers)).all())


def _refuse_ambiguous(
    cells: pa.Array, rows: np.ndarray, where: str, row_name: Callable[[int], str]
) -> None:
    found = _mask(pc.match_substring_regex(cells, _AMBIGUOUS))
    if found.any():
        first = int(np.argmax(found))
        formats = formats_of(cells.filter(pa.array(found)).to_pylist())
        fitting = " or ".join(map(repr, formats))
        to = f" to {fitting}, which reads such times here" if formats else _SUCH_AS
        raise ParameterError(
            f"{where}, {row_name(int(rows[first]))}: {cells[first].as_py()!r} may have the day or "
            f"the month first; set `time_format`{to}.",
            "time_format",
        )


def _iso_seconds(cells: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Reads ISO 8601 text.

    Args:
        cells: string [n] without nulls or blanks around.

    Returns:
        Unix seconds, int64 [n], and a mask [n] of the cells that are no valid time. Fractions of
        seconds are cut off.
    """
    offsets, data = buffers(cells)
    lengths = np.diff(offsets)
    text = _first_bytes(offsets[:-1], data, _CELL)
    if (lengths < _CELL).any():
        text = np.where(np.arange(_CELL) < lengths[:, None], text, np.uint8(0))
    digits = text - np.uint8(ord("0"))  # others wrap around to 10 and more
    is_digit = digits < 10

    def number(first: int, last: int) -> np.ndarray:
        result = digits[:, first].astype(np.int64)
        for position in range(first + 1, last):
            result = 10 * result + digits[:, position]
        return result

    def has(positions: list[int]) -> np.ndarray:
        return np.asarray(is_digit[:, positions].all(axis=1))

    separator = text[:, 4]
    date = has([0, 1, 2, 3, 5, 6, 8, 9]) & (separator == text[:, 7])
    date &= np.isin(separator, np.frombuffer(b"-/", np.uint8))
    hours = has([11, 12]) & np.isin(text[:, 10], np.frombuffer(b"Tt ", np.uint8))
    minutes = hours & has([14, 15]) & (text[:, 13] == ord(":"))
    seconds = minutes & has([17, 18]) & (text[:, 16] == ord(":"))

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour = np.where(hours, number(11, 13), 0)
    minute = np.where(minutes, number(14, 16), 0)
    second = np.where(seconds, number(17, 19), 0)
    good = date & (month >= 1) & (month <= 12) & (day >= 1)
    month_index = np.where(good, (year - 1970) * 12 + month - 1, 0)
    first = month_index.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    following = (month_index + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    good &= (day <= following - first) & (hour < 24) & (minute < 60) & (second <= 60)
    total = (first + day - 1) * 86_400 + hour * 3_600 + minute * 60 + second

    used = np.where(seconds, 19, np.where(minutes, 16, np.where(hours, 13, 10)))
    for end in (10, 13, 16, 19):
        rows = np.flatnonzero(good & (used == end) & (lengths > end))
        if len(rows):
            shift, known = _zones(cells.take(pa.array(rows)), end)
            good[rows] &= known & (end != 10)
            total[rows] -= shift
    wrong: np.ndarray = ~good
    return np.where(good, total, 0), wrong


def _first_bytes(offsets: np.ndarray, data: np.ndarray, size: int) -> np.ndarray:
    """Returns uint8 [n, size], the bytes from each offset on; other bytes follow a shorter cell."""
    padded = np.concatenate([data, np.zeros(size, np.uint8)])
    return np.lib.stride_tricks.sliding_window_view(padded, size)[offsets]


def _zones(cells: pa.Array, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far the time zones after `start` are ahead of UTC, and which are valid."""
    rest = pc.utf8_slice_codeunits(cells, start)
    if start == _CELL:
        rest = pc.replace_substring_regex(rest, r"^[.,][0-9]+", "")
    coded = rest.dictionary_encode()
    zones = [_zone(word) for word in coded.dictionary.to_pylist()]
    shift = np.array([zone or 0 for zone in zones], np.int64)
    known = np.array([zone is not None for zone in zones], bool)
    codes = coded.indices.to_numpy()
    return shift[codes], known[codes]


def _zone(word: str) -> int | None:
    word = word.strip()
    if word.lower() in _UTC:
        return 0
    found = _ZONE.fullmatch(word)
    if not found or int(found[2]) > 18 or int(found[3] or 0) > 59:
        return None
    shift = int(found[2]) * 3_600 + int(found[3] or 0) * 60
    return -shift if found[1] == "-" else shift


def _by_format(text: pa.Array, format: str) -> tuple[pa.Array, np.ndarray]:
    present = _mask(text.is_valid())
    if _FAST.fullmatch(format):
        read = pc.strptime(text, format=format, unit="s", error_is_null=True)
        # Arrow reads the 30th of February as a day of March.
        sure = _mask(pc.fill_null(pc.greater(pc.day(read), 3), False))
        seconds = read.cast(pa.int64()).fill_null(0).to_numpy().copy()
    else:
        sure = np.zeros(len(text), bool)
        seconds = np.zeros(len(text), np.int64)
    bad = np.zeros(len(text), bool)
    rest = np.flatnonzero(present & ~sure)
    if len(rest):
        coded = text.take(pa.array(rest)).dictionary_encode()
        found = [_by_python(word, format) for word in coded.dictionary.to_pylist()]
        codes = coded.indices.to_numpy()
        seconds[rest] = np.array([second or 0 for second in found], np.int64)[codes]
        bad[rest] = np.array([second is None for second in found], bool)[codes]
    return pa.array(seconds, mask=~present), bad


def _by_python(word: str, format: str) -> int | None:
    try:
        time = datetime.datetime.strptime(word, format)
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (time - epoch) // datetime.timedelta(seconds=1)


def _mask(condition: pa.Array) -> np.ndarray:
    return condition.to_numpy(zero_copy_only=False).astype(bool)
