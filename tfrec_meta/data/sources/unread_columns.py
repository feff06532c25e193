"""Names the columns of a file that are not read, if some look like times or values of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfrec_meta.data.sources.usual_names import USUAL, compact
from tfrec_meta.io.logs import logger

_SHOWN = 20
_log = logger(__name__)


def warn_of_unread(path: object, header: Sequence[str], present: Mapping[str, str]) -> None:
    """Logs a warning if `time` or `value` is not read, and a column has a usual name for it.

    Args:
        path: the file.
        header: the columns of the file.
        present: the columns that are read, by their names here.
    """
    used = set(present.values())
    unread = [name for name in header if name not in used]
    likely = {}
    for key in ("time", "value"):
        if key not in present:
            found = [name for name in unread if compact(name) in USUAL[key]]
            if found:
                likely[key] = found[0]
    if not likely:
        return
    listed = ", ".join(unread[:_SHOWN]) + (", ..." if len(unread) > _SHOWN else "")
    mapped = ", ".join(f"'{key}': '{source}'" for key, source in likely.items())
    flag = ",".join(f"{key}={source}" for key, source in likely.items())
    _log.warning(
        "%s: no column is read as %s. Columns that are not read: %s. To read them, add {%s} to "
        "`columns` (--columns %s).",
        path,
        " or as ".join(f"`{key}`" for key in likely),
        listed,
        mapped,
        flag,
    )
