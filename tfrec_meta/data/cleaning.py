"""Removes implausible events: duplicates, impossible times and values out of range."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_log = logging.getLogger(__name__)
_DAY = 86_400
_MILLISECONDS_FROM = 10**11  # the year 5138 in seconds, 1973 in milliseconds


def clean_events(
    events: pa.Table,
    *,
    name: str = "events",
    duplicates: str = "exact",
    value_range: tuple[float, float] | None = None,
    time_range: tuple[int, int] | None = None,
    differ_in: Sequence[str] = (),
) -> tuple[pa.Table, dict[str, int]]:
    """Returns the plausible rows, in their order, and the number of removed rows by reason.

    A removed row counts once, under the first of these reasons that applies: "missing time" (only
    if other rows have one), "impossible time", "value out of range", "duplicate". The arguments are
    those of `Interactions.clean`; with "exact", events that differ in one of the columns
    `differ_in` are no duplicates.

    Raises:
        ValueError: if a range is reversed, `duplicates` is unknown, or no row remains.
    """
    if duplicates not in ("exact", "last", "keep"):
        raise ValueError(f"`duplicates`={duplicates!r}; use 'exact', 'last' or 'keep'.")
    for argument, bounds in (("value_range", value_range), ("time_range", time_range)):
        if bounds is not None and not bounds[0] <= bounds[1]:
            raise ValueError(f"`{argument}`={bounds}, but the lower bound comes first.")
    dropped: dict[str, int] = {}
    good = np.ones(events.num_rows, bool)

    def drop(bad: np.ndarray, reason: str) -> None:
        count = int((bad & good).sum())
        if count:
            dropped[reason] = count
            good[bad] = False

    times = events["time"].fill_null(0).to_numpy()
    hint = ""
    if events["time"].null_count < events.num_rows:
        missing = events["time"].is_null().to_numpy()
        drop(missing, "missing time")
        first, last = time_range if time_range is not None else (0, int(time.time()) + _DAY)
        impossible = ~missing & ((times < first) | (times > last))
        drop(impossible, "impossible time")
        if np.median(times[impossible] if impossible.any() else [0]) > _MILLISECONDS_FROM:
            hint = " The times look like milliseconds: read them with time_unit='ms'."
    if value_range is not None:
        values = events["value"].to_numpy()
        drop((values < value_range[0]) | (values > value_range[1]), "value out of range")
    if duplicates != "keep":
        rows = np.flatnonzero(good)
        later = np.zeros(events.num_rows, bool)
        later[rows[_repeats(events, rows, times, duplicates, differ_in)]] = True
        drop(later, "duplicate")

    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
    if not good.any():
        why = (
            f"all of its {events.num_rows:,} rows were removed: {reasons}"
            if reasons
            else "it is empty"
        )
        raise ValueError(
            f"{name}: no event is left, {why}.{hint} Widen the ranges or fix the data."
        )
    if dropped:
        _log.warning("%s: dropped %s of %s rows.%s", name, reasons, f"{len(good):,}", hint)
    return (events if good.all() else events.filter(pa.array(good))), dropped


def _repeats(
    events: pa.Table, rows: np.ndarray, times: np.ndarray, which: str, differ_in: Sequence[str]
) -> np.ndarray:
    """Returns the positions in `rows` of the events that repeat another one."""
    columns = [_codes(events[key])[rows] for key in ("user_id", "item_id")]
    times = times[rows]
    if which == "exact":
        columns += [times, events["value"].to_numpy()[rows]]
        columns += [_codes(events[name])[rows] for name in differ_in]
        order = np.lexsort(columns[::-1])  # stable: the first of equals comes first
        same = np.ones(max(len(rows) - 1, 0), bool)
        for column in columns:
            ordered = column[order]
            same &= ordered[1:] == ordered[:-1]
        return order[1:][same]
    order = np.lexsort([times, *columns[::-1]])  # among equals the latest comes last
    same = np.ones(max(len(rows) - 1, 0), bool)
    for column in columns:
        ordered = column[order]
        same &= ordered[1:] == ordered[:-1]
    return order[:-1][same]


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    encoded = column.dictionary_encode().unify_dictionaries()
    chunks = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    return np.concatenate(chunks) if chunks else np.empty(0, np.int32)
