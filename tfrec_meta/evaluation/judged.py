"""On which events a model was trained and judged: numbers and times, and no ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from tfrec_meta.io.records import create


@dataclasses.dataclass(frozen=True)
class EventSummary:
    """The size of some events.

    Attributes:
        events, users, items: their numbers.
        first_time, last_time: as "2026-01-31 12:00:00", in UTC; None without times.
    """

    events: int
    users: int
    items: int
    first_time: str | None = None
    last_time: str | None = None

    def __str__(self) -> str:
        times = f", {self.first_time} to {self.last_time} UTC" if self.first_time else ""
        return f"{self.events:,} events of {self.users:,} users with {self.items:,} items{times}"


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """The parts of a split.

    Attributes:
        description: the protocol and its shares, in words.
        data: all events.
        train, validation, test: the parts.
        new_users: users of test events without an event that is known at test time.
        new_items: items of test events without such an event.
    """

    description: str
    data: EventSummary
    train: EventSummary
    validation: EventSummary
    test: EventSummary
    new_users: int = 0
    new_items: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Reads what `as_dict` returned."""
        parts = ("data", "train", "validation", "test")
        return create(
            cls, {**record, **{name: create(EventSummary, record[name]) for name in parts}}
        )
