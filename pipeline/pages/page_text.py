"""Numbers, times, links and node states as text for the pages of runs."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tfrec_meta.pipeline.pages.run_records import Node
from tfrec_meta.pipeline.runners.run_folder import NodeState
from tfrec_meta.reports import formats


def moment(time: datetime.datetime | None) -> str:
    """Returns a time with seconds, in UTC."""
    return f"{time.astimezone(datetime.UTC):%d %B %Y, %H:%M:%S} UTC" if time else "unknown"


def date_of(seconds: float) -> str:
    """Returns Unix seconds as a date and time, in UTC."""
    try:
        time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):  # milliseconds that were read as seconds
        return formats.value(seconds)
    return f"{time:%d %B %Y, %H:%M} UTC"


def duration(seconds: float) -> str:
    """Returns seconds, minutes or hours.

    Example:
        >>> duration(150.4)
        '2 min 30 s'
    """
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def quoted(name: str) -> str:
    """Returns a name as a part of a URL."""
    return quote(name)


def shortened(text: str, most: int = 32) -> str:
    """Returns the text, cut after `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def percent(share: float) -> str:
    """Returns a share in percent."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def figure(values: Mapping[str, Any], name: str, form: str = ".4f") -> str:
    """Returns a number of a record, formatted; a dash if it is not a finite number."""
    value = values.get(name)
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return format(value, form) if is_number else "–"


def relative_link(path: Path, here: Path) -> str:
    """Returns a relative link, so that a pipeline's folder can be moved."""
    return quoted(os.path.relpath(path, here))


def why_no_output(node: Node | None) -> str:
    """Returns the reason why a node has no output, as the rest of a sentence about it."""
    if node is None:
        return "is not part of this pipeline"
    return {
        NodeState.NOT_REACHED: "was not reached",
        NodeState.FAILED: "failed",
        NodeState.SKIPPED: "was skipped",
    }.get(node.state, "wrote no output")
