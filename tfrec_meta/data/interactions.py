"""`Interactions`: an immutable, typed table of events, with tables of users and items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.cleaning import CleaningRules, Duplicates, clean_events
from tfrec_meta.data.column_types import with_types
from tfrec_meta.data.events import (
    MAX_BAD_SHARE,
    SCHEMA,
    BadRows,
    RowCheck,
    typed_events,
)
from tfrec_meta.data.feedback import WEIGHT, Feedback
from tfrec_meta.data.ids import warn_if_unrelated, written_alike
from tfrec_meta.data.profile import profile
from tfrec_meta.data.tables.attributes import attributes_of, refuse_missing_ids
from tfrec_meta.data.tables.raw import table_of_arrays, tables_of_frames
from tfrec_meta.data.tables.sessions import EventsInSessions
from tfrec_meta.data.tables.stored import read_tables, write_tables
from tfrec_meta.data.times import TimeReader, TimeUnit
from tfrec_meta.io.digests import digest_of
from tfrec_meta.io.files import PathLike

if TYPE_CHECKING:
    import pandas as pd


class Origin:
    """Identifies a data set: all parts and copies of it have the same object."""


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(EventsInSessions):
    """Events in the order of the source, one row per event.

    Attributes:
        events: `user_id` and `item_id` string without nulls or "", `time` int64 (Unix seconds,
            UTC; null if unknown), `value` float32 (finite; 1 if the source has no values), and
            any further columns, such as session_id, position, propensity or context.
        users: `user_id` string, unique, and attribute columns; None without attributes.
        items: `item_id` string, unique, and attribute columns; None without attributes.
        name: the name of the data in reports and messages.
        dropped: number of rows removed while reading and cleaning, by reason.
        sampled: whether these events are a random sample of more events, like the train part of
            `split_by_item`. Held-out events then lie between them in time, so the order in time
            is no guide to what comes next.
        feedback: the declared feedback, from `with_feedback`; None if all events count alike.
        origin: the same object for all parts and copies of one data set.

    Raises:
        ValueError: if an id is missing, a value is not finite, or an id of `users` or `items` is
            repeated.
        TypeError: if a column has the wrong type; `from_arrays` casts.

    Example:
        >>> import tfrec_meta as tm
        >>> tm.Interactions.from_arrays(["ann", "bob", "ann"], ["tea", "tea", "milk"])
        Interactions('interactions': 3 events, 2 users, 2 items)
    """

    events: pa.Table
    users: pa.Table | None = None
    items: pa.Table | None = None
    name: str = "interactions"
    dropped: Mapping[str, int] = field(default_factory=dict)
    sampled: bool = False
    feedback: Feedback | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        events = self.events
        if self.origin is None:
            object.__setattr__(self, "origin", Origin())
        if self.feedback is not None and WEIGHT not in events.column_names:
            raise ValueError(
                f"`events` has no column `{WEIGHT}`, only {events.column_names}; use "
                "Interactions.with_feedback, which adds it."
            )
        for column in SCHEMA:
            if column.name not in events.column_names:
                raise ValueError(
                    f"`events` has no column `{column.name}`, only {events.column_names}; "
                    "Interactions.from_arrays adds the missing ones."
                )
            found = events.schema.field(column.name).type
            if found != column.type:
                raise TypeError(
                    f"`events` column `{column.name}` is of type {found}, not {column.type}; "
                    "Interactions.from_arrays casts."
                )
        for name in ("user_id", "item_id"):
            refuse_missing_ids(events, name, "events")
        finite = pc.fill_null(pc.is_finite(events["value"]), False)
        if events.num_rows and not pc.all(finite).as_py():
            row = pc.index(finite, False).as_py()
            raise ValueError(
                f"`events` row {row + 1}, column `value`: {events['value'][row].as_py()} is not a "
                "finite number; Interactions.from_arrays(..., bad_rows='drop') removes such rows."
            )
        object.__setattr__(self, "dropped", MappingProxyType(dict(self.dropped)))
        object.__setattr__(self, "users", attributes_of(self.users, "user_id", "users"))
        object.__setattr__(self, "items", attributes_of(self.items, "item_id", "items"))

    @classmethod
    def assembled(
        cls,
        events: pa.Table,
        users: pa.Table | None,
        items: pa.Table | None,
        name: str,
        dropped: Mapping[str, int],
    ) -> Interactions:
        """Creates interactions from tables whose ids may be written in different ways.

        Ids become the same text in all tables; see `tfrec_meta.data.ids`. Tables of users or items
        that hardly share ids with the events are logged.
        """
        tables = {
            "user_id": attributes_of(users, "user_id", "users"),
            "item_id": attributes_of(items, "item_id", "items"),
        }
        for key, table in tables.items():
            events, tables[key] = written_alike(events, table, key)
        data = cls(events, tables["user_id"], tables["item_id"], name, dropped)
        # The distinct ids of many events take long, and are needed for a table only.
        if data.users is not None:
            warn_if_unrelated(data.user_ids, data.users, "user_id", "users", name)
        if data.items is not None:
            warn_if_unrelated(data.item_ids, data.items, "item_id", "items", name)
        return data

    @classmethod
    def from_arrays(
        cls,
        user_id: Any,
        item_id: Any,
        time: Any = None,
        value: Any = None,
        *,
        further: Mapping[str, Any] | None = None,
        users: pa.Table | None = None,
        items: pa.Table | None = None,
        name: str = "interactions",
        time_unit: TimeUnit | None = None,
        time_format: str | None = None,
        types: Mapping[str, str] | None = None,
        bad_rows: BadRows = "raise",
        max_bad_share: float = MAX_BAD_SHARE,
    ) -> Interactions:
        """Creates interactions from sequences or from NumPy or Arrow arrays of the same length.

        Args:
            user_id: [n] text or whole numbers.
            item_id: [n] text or whole numbers.
            time: [n] numbers in `time_unit` since 1970, datetimes or ISO 8601 text; UTC.
            value: [n] numbers, such as ratings or minutes watched.
            further: further event columns by name, each [n].
            users: user attributes, one row per user, with a column `user_id`.
            items: item attributes, one row per item, with a column `item_id`.
            name: the name of the data in reports and messages.
            time_unit: unit of numeric times: s, ms, us or ns; None recognizes it.
            time_format: format of times in text, as for `datetime.strptime`; None for ISO 8601.
            types: "text", "number" or "time", by further column and by attribute.
            bad_rows: "raise" raises at the first invalid row; "drop" removes and counts such rows.
            max_bad_share: with "drop", the highest share of invalid rows that is accepted.

        Raises:
            ValueError: if the lengths differ, or for an invalid row with `bad_rows="raise"`.
            TypeError: if a column has a type that cannot be converted.
        """
        columns = {"user_id": user_id, "item_id": item_id, "time": time, "value": value}
        return cls._typed(
            (table_of_arrays(columns | dict(further or {})), users, items),
            name,
            TimeReader(time_unit, time_format),
            types or {},
            RowCheck(bad_rows, max_bad_share),
        )

    @classmethod
    def from_pandas(
        cls,
        events: pd.DataFrame,
        *,
        columns: Mapping[str, str] | None = None,
        users: pd.DataFrame | None = None,
        items: pd.DataFrame | None = None,
        name: str = "interactions",
        time_unit: TimeUnit | None = None,
        time_format: str | None = None,
        types: Mapping[str, str] | None = None,
        bad_rows: BadRows = "raise",
        max_bad_share: float = MAX_BAD_SHARE,
    ) -> Interactions:
        """Creates interactions from data frames.

        Args:
            events: one row per event. Columns that are not event columns are kept as further
                columns.
            columns: names in the frames by the names used here, as in `read_interactions`. A name
                such as "users.score" renames a column of that frame only.
            users, items, name, time_unit, time_format, types, bad_rows, max_bad_share: as in
                `from_arrays`.
        """
        return cls._typed(
            tables_of_frames(events, users, items, columns),
            name,
            TimeReader(time_unit, time_format),
            types or {},
            RowCheck(bad_rows, max_bad_share),
        )

    @classmethod
    def _typed(
        cls,
        tables: tuple[pa.Table, pa.Table | None, pa.Table | None],
        name: str,
        times: TimeReader,
        types: Mapping[str, str],
        check: RowCheck,
    ) -> Interactions:
        """Creates interactions from tables of events, users and items with raw columns."""
        events = typed_events(tables[0], check, source=name, times=times)
        check.finish(name, len(events))
        typed = with_types((events, *tables[1:]), types, name, check.bad_rows)
        return cls.assembled(*typed, name, check.dropped)

    def to_pandas(self) -> pd.DataFrame:
        """Returns the events as a data frame, one row per event."""
        return self.events.to_pandas()

    def __len__(self) -> int:
        return self.events.num_rows

    def __repr__(self) -> str:
        return (
            f"Interactions({self.name!r}: {len(self):,} events, {len(self.user_ids):,} users, "
            f"{len(self.item_ids):,} items)"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be pickled
        dropped = dict(self.dropped)
        return Interactions, (
            self.events,
            self.users,
            self.items,
            self.name,
            dropped,
            self.sampled,
            self.feedback,
        )

    def equals(self, other: Interactions) -> bool:
        """Returns whether all tables have the same columns and rows in the same order."""
        return (
            self.events.equals(other.events)
            and _same(self.users, other.users)
            and _same(self.items, other.items)
        )

    def digest(self) -> str:
        """Returns a SHA-256 of the events, in hexadecimal: ids, values and times in their order.

        With declared feedback, weights and targets count, too. Further columns and the tables of
        users and items do not count.
        """
        tokens = "\n".join([*self.user_ids, *self.item_ids]).encode()
        times = () if self.times is None else (self.times,)
        value = self.events["value"].to_numpy()
        declared = [part for part in (self.weights, self.is_target) if part is not None]
        return digest_of(tokens, self.user_codes, self.item_codes, value, *times, *declared)

    def take(self, rows: Any) -> Self:
        """Returns the events at `rows`, in that order, with the same tables of users and items.

        Args:
            rows: int indices, or a bool mask [n].

        Raises:
            IndexError: for an index outside [0, n) or a mask of another length.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if len(rows) != len(self):
                raise IndexError(f"a mask of {len(rows)} for {len(self)} events.")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64, casting="safe" if rows.size else "unsafe")
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(
                f"rows {rows.min()} to {rows.max()} requested, but there are {len(self)} events."
            )
        return replace(self, events=self.events.take(pa.array(rows)), dropped={})

    def parts(self) -> Iterator[Interactions]:
        """Yields these events as one part; `StreamedInteractions` has several parts."""
        yield self

    @cached_property
    def _coded_users(self) -> tuple[np.ndarray, np.ndarray]:
        return _coded(self.events["user_id"])

    @cached_property
    def _coded_items(self) -> tuple[np.ndarray, np.ndarray]:
        return _coded(self.events["item_id"])

    @property
    def user_ids(self) -> np.ndarray:
        """Object [users]: the distinct user ids of `events`, in order of first appearance."""
        return self._coded_users[0]

    @property
    def item_ids(self) -> np.ndarray:
        """Object [items]: the distinct item ids of `events`, in order of first appearance."""
        return self._coded_items[0]

    @property
    def user_codes(self) -> np.ndarray:
        """Int32 [n]: each event's row in `user_ids`."""
        return self._coded_users[1]

    @property
    def item_codes(self) -> np.ndarray:
        """Int32 [n]: each event's row in `item_ids`."""
        return self._coded_items[1]

    @property
    def times(self) -> np.ndarray | None:
        """Int64 [n] Unix seconds, or None if no event has a time.

        Raises:
            ValueError: if some events have a time and others have none.
        """
        column = self.events["time"]
        missing = column.null_count
        if missing == len(self):
            return None
        if missing:
            row = pc.index(column.is_null(), True).as_py()
            raise ValueError(
                f"{self.name}: {missing} of {len(self)} events have no time, the first in row "
                f"{row + 1}; `clean()` drops them."
            )
        return column.to_numpy()

    def _replaced(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def clean(
        self,
        *,
        duplicates: Duplicates = "exact",
        value_range: tuple[float, float] | None = None,
        time_range: tuple[int, int] | None = None,
        min_user_events: int = 1,
        min_item_events: int = 1,
    ) -> Interactions:
        """Returns the plausible events; removed rows are counted in `dropped` and logged.

        Users and items without a remaining event keep their rows in the tables of attributes.

        Args:
            duplicates: "exact" removes later copies of the same user, item, time and value (and
                event type and weight, with declared feedback), and keeps repeated events of a user
                with an item at different times; "last" keeps only the latest event per user and
                item; "keep" keeps all.
            value_range: lowest and highest valid value, both included.
            time_range: earliest and latest valid Unix second, both included; None for 1970 to
                tomorrow.
            min_user_events, min_item_events: minimum number of events of a user and of an item,
                1 or more. Events of users and then of items with fewer are removed, in rounds,
                until all remaining users and items have enough (the k-core). All events that the
                other rules keep count.

        Raises:
            ParameterError: if a range is reversed, `duplicates` is unknown, or a minimum below 1.
            ValueError: if no event would remain.
        """
        rules = CleaningRules(duplicates, value_range, time_range, min_user_events, min_item_events)
        differ_in = () if self.feedback is None else self.feedback.columns_of_duplicates
        events, removed = clean_events(self.events, rules, differ_in=differ_in)
        removed.check(self.name)
        dropped = removed.dropped
        total = {
            reason: self.dropped.get(reason, 0) + dropped.get(reason, 0)
            for reason in (*self.dropped, *(key for key in dropped if key not in self.dropped))
        }
        return replace(self, events=events, dropped=total)

    def profile(self) -> dict[str, Any]:
        """Returns summary statistics as a flat dict of numbers and strings, ready for JSON.

        The catalogue is the items of the `items` table and those with an event; `cold_items` of it
        have no event. `density` is the share of all user-item pairs that occur. `popularity_gini`
        is 0 if all items of the catalogue are equally popular, and near 1 if one item has all
        events. Times are None if the data has none. Each "dropped: <reason>" counts rows.

        Example:
            >>> import tfrec_meta as tm
            >>> data = tm.synthetic(20, 10, 100)
            >>> data.profile()["events"], data.profile()["density"]
            (100, 0.5)
        """
        cold_items = 0
        if self.items is not None:
            cold_items = int((~np.isin(self.items["item_id"].to_numpy(), self.item_ids)).sum())
        facts = profile(self.events, self.user_codes, self.item_codes, cold_items)
        dropped = {f"dropped: {reason}": count for reason, count in self.dropped.items()}
        return {"name": self.name, **facts, **dropped}

    def write(self, folder: PathLike, *, overwrite: bool = False) -> Path:
        """Writes Parquet files and `interactions.json`; `folder` appears only when it is complete.

        Raises:
            FileExistsError: if `folder` exists and `overwrite` is false.
        """
        about = {
            "name": self.name,
            "dropped": dict(self.dropped),
            "sampled": self.sampled,
            "feedback": None if self.feedback is None else self.feedback.as_dict(),
        }
        tables = {"events": self.events, "users": self.users, "items": self.items}
        return write_tables(Path(folder), tables, about, overwrite)

    @classmethod
    def read(cls, folder: PathLike) -> Interactions:
        """Reads a folder that `write` wrote.

        Raises:
            FileNotFoundError: if a required file is missing.
            ValueError: if a file is damaged or has another format.
        """
        tables, about = read_tables(Path(folder))
        return cls(
            name=about["name"],
            dropped=about["dropped"],
            sampled=about.get("sampled", False),
            feedback=None if not about.get("feedback") else Feedback.from_dict(about["feedback"]),
            **tables,
        )


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    encoded = column.dictionary_encode().unify_dictionaries()
    if not len(encoded):
        return np.empty(0, object), np.empty(0, np.int32)
    tokens = encoded.chunk(0).dictionary.to_numpy(zero_copy_only=False)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    for array in (tokens, codes):
        array.flags.writeable = False
    return tokens, codes


def _same(one: pa.Table | None, other: pa.Table | None) -> bool:
    return one is other or (one is not None and other is not None and one.equals(other))
