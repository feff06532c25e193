"""Summary statistics of a data set, as a flat dict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

_SECONDS_PER_DAY = 86_400


def profile(
    table: pa.Table, user_codes: np.ndarray, item_codes: np.ndarray, cold_items: int
) -> dict[str, Any]:
    """Returns the statistics that `Interactions.profile` documents, except name and dropped rows.

    Args:
        table: the events, n rows.
        user_codes: int [n], each event's user, numbered from 0 without gaps.
        item_codes: int [n], each event's item.
        cold_items: number of items in the catalogue without any event.
    """
    events = table.num_rows
    users, items = (int(codes.max()) + 1 if events else 0 for codes in (user_codes, item_codes))
    by_user = np.bincount(user_codes, minlength=users)
    catalogue = items + cold_items
    by_item = np.zeros(catalogue, np.int64)
    by_item[:items] = np.bincount(item_codes, minlength=items)
    pair = np.sort(user_codes.astype(np.int64) * max(items, 1) + item_codes)
    pairs = int((pair[1:] != pair[:-1]).sum()) + (events > 0)  # np.unique is slow on many numbers
    facts: dict[str, Any] = {
        "events": events,
        "users": users,
        "items": items,
        "catalogue": catalogue,
        "cold_items": cold_items,
        "cold_item_share": cold_items / catalogue if catalogue else 0.0,
        "items_below_5_events": int((by_item < 5).sum()),
        "density": pairs / (users * items) if pairs else 0.0,
        "repeated_pairs": events - pairs,
        "popularity_gini": _gini(by_item),
        "top_1_percent_share": _top_share(by_item, 0.01),
    }
    for what, counts in (("events_a_user", by_user), ("events_an_item", by_item)):
        facts[f"{what}_mean"] = float(counts.mean()) if len(counts) else 0.0
        for percent in (0, 10, 50, 90, 100):
            value = float(np.percentile(counts, percent)) if len(counts) else 0.0
            facts[f"{what}_p{percent}"] = value
    values = table["value"].to_numpy()
    facts["value_mean"] = float(values.mean(dtype=np.float64)) if events else None
    facts["value_min"] = float(values.min()) if events else None
    facts["value_max"] = float(values.max()) if events else None
    times = table["time"].drop_null().to_numpy()
    facts["events_without_time"] = events - len(times)
    facts["first_time"] = date_of(int(times.min())) if len(times) else None
    facts["last_time"] = date_of(int(times.max())) if len(times) else None
    facts["span_days"] = float(np.ptp(times) / _SECONDS_PER_DAY) if len(times) else None
    return facts


def _gini(counts: np.ndarray) -> float:
    """Gini coefficient of non-negative counts, in [0, 1)."""
    total = counts.sum()
    if not total:
        return 0.0
    size = len(counts)
    ranked = (np.arange(1, size + 1) * np.sort(counts)).sum(dtype=np.float64)
    return float(2 * ranked / (size * total) - (size + 1) / size)


def _top_share(counts: np.ndarray, share: float) -> float:
    if not counts.sum():
        return 0.0
    top = max(1, round(share * len(counts)))
    return float(np.sort(counts)[::-1][:top].sum() / counts.sum())


def date_of(seconds: int | None) -> str | None:
    """Returns Unix seconds as a date and a time of the day, in UTC; None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(" ")[:19]
