"""Calendar features: which month, day, weekday and hour a time is in, in UTC.

`place` is one calculation for NumPy arrays and for tensors, so that training and serving agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tfrec_meta.errors import ParameterError
from tfrec_meta.features.columns import as_arrow, seconds

Part = Literal["month", "day", "weekday", "hour"]
SIZES: Mapping[str, int] = {"month": 12, "day": 31, "weekday": 7, "hour": 24}
"""The number of values of each part of a time; weekdays begin with Monday."""
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 to 9999
MISSING = -(2**63)
"""The Unix second of a missing time, the default in requests. Times outside of the years 1 to 9999
count as missing, too."""

_DAY = 86_400
# Days from 0000-03-01 to 1970-01-01. Years that begin in March have their leap day at the end.
_EPOCH = 719_468
_YEARS_400, _YEARS_100, _YEARS_4 = 146_097, 36_524, 1_461  # days of so many years


def place(unix_seconds: Any, part: str) -> Any:
    """Returns the position of each time among the values of a part, from 0.

    Args:
        unix_seconds: int64 [n], an array or a tensor.
        part: a key of `SIZES`.

    Returns:
        int64 [n], of the same kind: month and day minus 1, weekday from Monday, hour.

    Source: the calendar of 400-year cycles in Hinnant, "chrono-Compatible Low-Level Date
    Algorithms", 2013.
    """
    days = unix_seconds // _DAY
    if part == "hour":
        return (unix_seconds - days * _DAY) // 3_600
    if part == "weekday":  # 1970-01-01 was a Thursday
        return days + 3 - (days + 3) // 7 * 7
    since = days + _EPOCH
    of_cycle = since - since // _YEARS_400 * _YEARS_400
    leap_days = of_cycle // (_YEARS_4 - 1) - of_cycle // _YEARS_100 + of_cycle // (_YEARS_400 - 1)
    year = (of_cycle - leap_days) // 365
    of_year = of_cycle - (365 * year + year // 4 - year // 100)
    from_march = (5 * of_year + 2) // 153
    if part == "day":
        return of_year - (153 * from_march + 2) // 5
    return from_march + 2 - from_march // 10 * 12


def indicators(values: Any, parts: Sequence[str], name: str) -> np.ndarray:
    """Returns the encoding of a `Calendar`, float32 [n, sum of the parts' sizes].

    Args:
        values: a column, as `unix_seconds` takes it.
        parts: keys of `SIZES`.
        name: names the column in errors.
    """
    times = unix_seconds(values, name)
    present = (times >= FIRST_SECOND) & (times <= LAST_SECOND)
    times = np.where(present, times, 0)
    blocks = [
        (place(times, part)[:, None] == np.arange(SIZES[part])) & present[:, None] for part in parts
    ]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def unix_seconds(values: Any, name: str) -> np.ndarray:
    """Returns a column of times as int64 [n], with MISSING for null.

    Args:
        values: dates, timestamps or whole Unix seconds; a column, an array or a sequence.
        name: names the column in errors.

    Raises:
        ParameterError: for values of another type.
    """
    column = as_arrow(values)
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = seconds(column)
    elif not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise ParameterError(
            f"The column `{name}` is of type {kind}, but a Calendar reads dates, timestamps and "
            f"whole Unix seconds. Declare its type: `types`={{{name!r}: 'time'}}.",
            "types",
        )
    return column.cast(pa.int64(), safe=False).fill_null(MISSING).to_numpy(zero_copy_only=False)


def check_times(values: Any, name: str) -> None:
    """Raises a ParameterError for a column that is no column of times, or in another unit."""
    times = unix_seconds(values, name)
    far = (times != MISSING) & ((times < FIRST_SECOND) | (times > LAST_SECOND))
    if far.any():
        row = int(far.argmax())
        raise ParameterError(
            f"The column `{name}` has {times[row]} in row {row + 1}, which is not a Unix second of "
            f"the years 1 to 9999. If it counts milliseconds, declare its type: "
            f"`types`={{{name!r}: 'time'}}.",
            "types",
        )
