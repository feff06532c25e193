"""What a data set looks like, in numbers that fit one page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tfrec_meta.data.interactions import Interactions

_SECONDS_A_DAY = 86_400


def profile(data: Interactions) -> dict[str, Any]:
    """A flat dict of numbers and strings that `json.dumps` takes.

    `density` is the share of distinct user-item pairs that occur; `popularity_gini` is 0 when all
    items of the catalogue are equally popular and nears 1 when one has all events; the catalogue
    is the items of `data.items` and those with an event; `cold_items` of it have no event. Times
    are null when the data has none. Each `dropped: <reason>` counts rows.
    """
    events, users, items = len(data), len(data.user_ids), len(data.item_ids)
    by_user = np.bincount(data.user_codes, minlength=users)
    catalogue = items
    if data.items is not None:
        catalogue += int((~np.isin(data.items["item_id"].to_numpy(), data.item_ids)).sum())
    by_item = np.zeros(catalogue, np.int64)
    by_item[:items] = np.bincount(data.item_codes, minlength=items)
    pair = np.sort(data.user_codes.astype(np.int64) * max(items, 1) + data.item_codes)
    pairs = int((pair[1:] != pair[:-1]).sum()) + (events > 0)  # np.unique is slow on many numbers
    facts: dict[str, Any] = {
        "name": data.name,
        "events": events,
        "users": users,
        "items": items,
        "catalogue": catalogue,
        "cold_items": catalogue - items,
        "cold_item_share": (catalogue - items) / catalogue if catalogue else 0.0,
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
    values = data.events["value"].to_numpy()
    facts["value_mean"] = float(values.mean(dtype=np.float64)) if events else None
    facts["value_min"] = float(values.min()) if events else None
    facts["value_max"] = float(values.max()) if events else None
    times = data.events["time"].drop_null().to_numpy()
    facts["events_without_time"] = events - len(times)
    facts["first_time"] = _date(times.min()) if len(times) else None
    facts["last_time"] = _date(times.max()) if len(times) else None
    facts["span_days"] = float(np.ptp(times) / _SECONDS_A_DAY) if len(times) else None
    for reason, count in data.dropped.items():
        facts[f"dropped: {reason}"] = count
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


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")
