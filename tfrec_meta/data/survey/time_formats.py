"""Formats in which logs write times, and which of them reads given cells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

_DATES: tuple[str, ...] = (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y.%m.%d",
    "%Y%m%d",
)
_DATES += ("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y")
_CLOCKS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p")
FORMATS = tuple(date + clock for date in _DATES for clock in _CLOCKS)
"""Usual formats, as for `datetime.strptime`, besides ISO 8601."""

_TRIED = 2_000  # cells that a format has to read
_LONGEST = 40  # characters of a time


def formats_of(
    cells: Sequence[str], tried: Sequence[str] = FORMATS, *, shortest: int = 6, share: float = 1.0
) -> tuple[str, ...]:
    """Returns the formats that read enough of the first cells, and none reads more of them.

    Args:
        cells: distinct texts.
        tried: the formats.
        shortest: least number of characters of a time.
        share: the share of the cells that a format has to read.

    Example:
        >>> from tfrec_meta.data.survey.time_formats import formats_of
        >>> formats_of(["01/02/2026", "13/02/2026"])
        ('%d/%m/%Y',)
    """
    cells = [cell.strip() for cell in cells[:_TRIED]]
    likely = [cell for cell in cells if shortest <= len(cell) <= _LONGEST]
    if not likely or len(likely) < share * len(cells):
        return ()
    counts = {format: sum(_reads(format, cell) for cell in likely) for format in tried}
    most = max(counts.values())
    if not most or most < share * len(cells):
        return ()
    return tuple(format for format, count in counts.items() if count == most)


def _reads(format: str, cell: str) -> bool:
    try:
        return 1980 <= datetime.strptime(cell, format).year <= 2100
    except ValueError:
        return False
