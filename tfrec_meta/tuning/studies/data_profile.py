"""Profiles of data sets: a few numbers by which similar data sets are found."""

from __future__ import annotations

import math
import re

import numpy as np
import pyarrow as pa

from tfrec_meta.data import Interactions

PROFILE_FIELDS = (
    "log_users",
    "log_items",
    "log_interactions",
    "log_density",
    "repeated_share",
    "popularity_gini",
    "cold_item_share",
    "short_history_share",
    "log_history_p10",
    "log_history_p50",
    "log_history_p90",
    "drift",
    "has_values",
    "value_mean",
    "value_spread",
    "title_share",
    "log_title_words",
    "distinct_words_per_item",
)
_SHORT = 5  # events; users with fewer have a short history
_LEAST_DENSITY = 1e-9  # so that the logarithm exists for data without events
_WORD = re.compile(r"\w+")


def data_profile(data: Interactions) -> dict[str, float]:
    """Returns the profile of a data set.

    All data sets have the same fields, all finite; a field is 0 if the data lacks what it measures.

    - Logarithms are natural; logarithms of counts are log(1 + n).
    - `log_density`: of the share of user-item pairs that occur.
    - `repeated_share`: the share of events whose pair has occurred before.
    - `short_history_share`: the share of users with fewer than 5 events.
    - `drift`: the Jensen-Shannon distance, in [0, 1], between the items of the first and the last
      third of the events by time. Sparse data has some drift by chance.
    - `value_mean`, `value_spread`: mean and standard deviation of the values scaled to [0, 1].
      `has_values` is 0 if all values are equal.
    - `title_share`: the share of the catalogue with a title. The word counts are of titles.

    Args:
        data: training events, without the validation events.

    Returns:
        Values by the names of `PROFILE_FIELDS`, in their order.

    Example:
        >>> import tfrec_meta as tm
        >>> from tfrec_meta.tuning.studies.data_profile import data_profile
        >>> data = tm.synthetic(users=40, items=30, interactions=500, seed=1)
        >>> round(data_profile(data)["log_users"], 2)
        3.71
    """
    facts = data.profile()
    events = facts["events"]
    by_user = np.bincount(data.user_codes, minlength=1)
    found = {
        "log_users": math.log1p(facts["users"]),
        "log_items": math.log1p(facts["catalogue"]),
        "log_interactions": math.log1p(events),
        "log_density": math.log(max(facts["density"], _LEAST_DENSITY)),
        "repeated_share": facts["repeated_pairs"] / events if events else 0.0,
        "popularity_gini": facts["popularity_gini"],
        "cold_item_share": facts["cold_item_share"],
        "short_history_share": float((by_user < _SHORT).mean()) if events else 0.0,
        **{f"log_history_p{p}": math.log1p(facts[f"events_a_user_p{p}"]) for p in (10, 50, 90)},
        "drift": _drift(data),
        **_value_fields(data.events["value"].to_numpy()),
        **_title_fields(data.items, facts["catalogue"]),
    }
    return {name: float(found[name]) for name in PROFILE_FIELDS}


def _drift(data: Interactions) -> float:
    column = data.events["time"].combine_chunks()
    timed = column.is_valid().to_numpy(zero_copy_only=False)
    times, items = column.drop_null().to_numpy(), data.item_codes[timed]
    if not len(times):
        return 0.0
    first = np.quantile(times, 1 / 3, method="lower")
    last = np.quantile(times, 2 / 3, method="higher")
    size = len(data.item_ids)
    early, late = (
        np.bincount(items[part], minlength=size) / part.sum()
        for part in (times <= first, times >= last)
    )
    return jensen_shannon_distance(early, late)


def jensen_shannon_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the Jensen-Shannon distance of two distributions over the same categories.

    Args:
        one: float [N], with sum 1.
        other: float [N], with sum 1.

    Returns:
        A value in [0, 1]; 1 if no category occurs in both.

    References:
        The square root of the divergence of Lin, "Divergence Measures Based on the Shannon
        Entropy" (1991), which is a metric.
    """
    mean = (one + other) / 2
    divergence = _entropy(mean) - (_entropy(one) + _entropy(other)) / 2
    return math.sqrt(min(max(divergence, 0.0), 1.0))


def _entropy(shares: np.ndarray) -> float:
    """Returns the entropy in bits."""
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _value_fields(values: np.ndarray) -> dict[str, float]:
    values = values.astype(np.float64)
    width = np.ptp(values) if len(values) else 0.0
    if not width:
        return {"has_values": 0.0, "value_mean": 0.0, "value_spread": 0.0}
    scaled = (values - values.min()) / width
    return {"has_values": 1.0, "value_mean": scaled.mean(), "value_spread": scaled.std()}


def _title_fields(items: pa.Table | None, catalogue: int) -> dict[str, float]:
    titles: list[list[str]] = []
    if items is not None and "title" in items.column_names:
        texts = (str(title).lower() for title in items["title"].to_pylist() if title is not None)
        titles = [words for words in map(_WORD.findall, texts) if words]
    if not titles:
        return {"title_share": 0.0, "log_title_words": 0.0, "distinct_words_per_item": 0.0}
    return {
        "title_share": len(titles) / catalogue,
        "log_title_words": math.log1p(sum(map(len, titles)) / len(titles)),
        "distinct_words_per_item": len(set().union(*titles)) / len(titles),
    }
