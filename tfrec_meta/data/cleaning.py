"""Removes implausible events, and events of users and items with too few of them."""

from __future__ import annotations

import dataclasses
import numbers
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.checks import PositiveInt, check, whole_number
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import logger

Duplicates = Literal["exact", "last", "keep"]

FEW_OF_USER, FEW_OF_ITEM = "user with too few events", "item with too few events"
REASONS = (
    "missing value",
    "missing time",
    "impossible time",
    "value out of range",
    "duplicate",
    FEW_OF_USER,
    FEW_OF_ITEM,
)

_log = logger(__name__)
_DAY = 86_400
_MILLISECONDS_FROM = 10**11  # the year 5138 in seconds, 1973 in milliseconds


@dataclasses.dataclass(frozen=True)
class CleaningRules:
    """Which events are removed: the rules of `Interactions.clean`, runs and the pipeline.

    Args:
        duplicates: "exact" removes later copies of the same user, item, time and value (and event
            type and weight, with declared feedback), and keeps repeated events of a user with an
            item at different times; "last" keeps only the latest event per user and item; "keep"
            keeps all.
        value_range: lowest and highest valid value, both included; None for all finite values.
        time_range: earliest and latest valid Unix second, both included; None for 1970 to tomorrow.
        min_user_events, min_item_events: minimum number of events of a user and of an item. Events
            of others are removed until all remaining users and items have enough (the k-core). 1
            keeps all.

    Raises:
        ParameterError: if a range is reversed or has no two bounds, `duplicates` is unknown, or a
            minimum is below 1.
    """

    duplicates: Duplicates = "exact"
    value_range: tuple[float, float] | None = None
    time_range: tuple[int, int] | None = None
    min_user_events: PositiveInt = 1
    min_item_events: PositiveInt = 1

    def __post_init__(self) -> None:
        if self.duplicates not in get_args(Duplicates):
            raise ParameterError(
                f"`duplicates`={self.duplicates!r}; use 'exact', 'last' or 'keep'.", "duplicates"
            )
        for name in ("value_range", "time_range"):
            bounds = getattr(self, name)
            if bounds is None:
                continue
            if not _are_bounds(bounds):
                raise ParameterError(
                    f"`{name}`={bounds!r}; use a lowest and a highest value.", name
                )
            if not bounds[0] <= bounds[1]:
                raise ParameterError(f"`{name}`={bounds}; put the lower bound first.", name)
            object.__setattr__(self, name, tuple(bounds))
        for name in ("min_user_events", "min_item_events"):
            check(name, getattr(self, name), whole_number(1))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CleaningRules:
        """Reads fields by name; missing ones have their defaults.

        Raises:
            ParameterError: for an unknown field, or a value that is not valid.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(record) - set(known))
        if unknown:
            raise ParameterError(
                f"`clean` has {', '.join(map(repr, unknown))}; use any of {', '.join(known)}.",
                "clean",
            )
        return cls(**record)

    @property
    def has_minimums(self) -> bool:
        """Whether users or items need more than one event."""
        return max(self.min_user_events, self.min_item_events) > 1

    def without_minimums(self) -> CleaningRules:
        """Returns the rules for some of the users; `too_few` applies the minimums to all."""
        return dataclasses.replace(self, min_user_events=1, min_item_events=1)

    def with_latest_time(self) -> CleaningRules:
        """Returns the rules with a fixed `time_range`, so that all workers use the same."""
        if self.time_range is not None:
            return self
        return dataclasses.replace(self, time_range=(0, int(time.time()) + _DAY))


@dataclasses.dataclass(frozen=True)
class Removal:
    """How many rows were cleaned and removed; the sum of two covers the rows of both.

    Attributes:
        rows: number of rows before cleaning.
        dropped: number of removed rows by reason, in the order of `REASONS`.
        far_times: how many of the impossible times are so late that they may be milliseconds.
    """

    rows: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    far_times: int = 0

    def __add__(self, other: Removal) -> Removal:
        counts = {
            reason: self.dropped.get(reason, 0) + other.dropped.get(reason, 0)
            for reason in REASONS
            if reason in self.dropped or reason in other.dropped
        }
        return Removal(self.rows + other.rows, counts, self.far_times + other.far_times)

    @property
    def left(self) -> int:
        """Number of rows that remain."""
        return self.rows - sum(self.dropped.values())

    def check(self, name: str) -> None:
        """Checks that an event is left, and logs what was removed.

        Args:
            name: the name of the data in messages.

        Raises:
            ValueError: if no row is left.
        """
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
        hint = ""
        if 2 * self.far_times > self.dropped.get("impossible time", 0):
            hint = " The times look like milliseconds: read them with time_unit='ms'."
        if not self.left:
            why = (
                f"all of its {self.rows:,} rows were removed: {reasons}"
                if reasons
                else "it is empty"
            )
            raise ValueError(
                f"{name}: no event is left, {why}.{hint} Widen the ranges, lower the minimum "
                "numbers of events, or fix the data."
            )
        if self.dropped:
            _log.warning("%s: dropped %s of %s rows.%s", name, reasons, f"{self.rows:,}", hint)


def clean_events(
    events: pa.Table,
    rules: CleaningRules,
    *,
    timed: bool | None = None,
    differ_in: Sequence[str] = (),
) -> tuple[pa.Table, Removal]:
    """Returns the rows that the rules keep, in their order, and what was removed.

    A removed row counts once, under the first of these reasons that applies: "missing time" (only
    if other rows have one), "impossible time", "value out of range", "duplicate". Minimum numbers
    of events come last: users and then items with too few of the remaining events are removed, in
    rounds, until nothing changes.

    Args:
        events: all events, or all events of some users: duplicates are of one user. Minimum
            numbers of events need all events.
        rules: which events are removed.
        timed: whether any event has a time, also one that is not among these; None if these are
            all events.
        differ_in: columns; with "exact", events that differ in one of them are no duplicates.
    """
    rules = rules.with_latest_time()
    assert rules.time_range is not None
    dropped: dict[str, int] = {}
    good = np.ones(events.num_rows, bool)

    def drop(bad: np.ndarray, reason: str) -> None:
        count = int((bad & good).sum())
        if count:
            dropped[reason] = count
            good[bad] = False

    missing = _mask(events["time"].is_null())
    times = events["time"].fill_null(0).to_numpy()
    far_times = 0
    if (not missing.all()) if timed is None else timed:
        drop(missing, "missing time")
        first, last = rules.time_range
        impossible = ~missing & ((times < first) | (times > last))
        far_times = int((times[impossible] > _MILLISECONDS_FROM).sum())
        drop(impossible, "impossible time")
    values = events["value"].to_numpy()
    if rules.value_range is not None:
        lowest, highest = rules.value_range
        drop((values < lowest) | (values > highest), "value out of range")
    if rules.duplicates != "keep":
        rows = np.flatnonzero(good)
        later = np.zeros(events.num_rows, bool)
        later[rows[_repeats(events, rows, times, rules.duplicates, differ_in)]] = True
        drop(later, "duplicate")
    if rules.has_minimums:
        rows = np.flatnonzero(good)
        users, items = (_codes(events[key])[rows] for key in ("user_id", "item_id"))
        for reason, few in too_few(users, items, rules).items():
            removed = np.zeros(events.num_rows, bool)
            removed[rows[few]] = True
            drop(removed, reason)
    left = events if good.all() else events.filter(pa.array(good))
    return left, Removal(events.num_rows, dropped, far_times)


def _are_bounds(bounds: Any) -> bool:
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        return False
    return all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in bounds)


def too_few(users: np.ndarray, items: np.ndarray, rules: CleaningRules) -> dict[str, np.ndarray]:
    """Returns which events the minimum numbers of events remove, bool [n] by reason.

    Args:
        users, items: int [n], the user and the item of each event that the other rules keep.
        rules: the minimums.
    """
    limits = (
        (FEW_OF_USER, users, rules.min_user_events),
        (FEW_OF_ITEM, items, rules.min_item_events),
    )
    removed = {reason: np.zeros(len(users), bool) for reason, _, _ in limits}
    rows, before = np.arange(len(users)), -1
    while before != len(rows):
        before = len(rows)
        for reason, codes, least in limits:
            found = codes[rows]
            few = np.bincount(found)[found] < least
            removed[reason][rows[few]] = True
            rows = rows[~few]
    return removed


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
        return order[1:][_same_as_next(columns, order)]
    order = np.lexsort([times, *columns[::-1]])  # among equals the latest comes last
    return order[:-1][_same_as_next(columns, order)]


def _same_as_next(columns: list[np.ndarray], order: np.ndarray) -> np.ndarray:
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        ordered = column[order]
        same &= ordered[1:] == ordered[:-1]
    return same


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    encoded = column.dictionary_encode().unify_dictionaries()
    chunks = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    return np.concatenate(chunks) if chunks else np.empty(0, np.int32)


def _mask(condition: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(condition, False).to_numpy().astype(bool)
