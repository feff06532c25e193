"""Facts of events that guide settings: repeated pairs, and users and items without a past."""

from __future__ import annotations

import dataclasses

import numpy as np

LAST_SHARE = 0.2
"""The last share of the events in time, in which new users and items are counted."""


@dataclasses.dataclass(frozen=True)
class Repeats:
    """User-item pairs, and those that occur more than once.

    Attributes:
        pairs: number of distinct pairs.
        repeated: how many of them have two or more events (of one type, if there are types).
    """

    pairs: int
    repeated: int

    @property
    def share(self) -> float:
        """The share of the pairs that are repeated."""
        return self.repeated / self.pairs if self.pairs else 0.0


@dataclasses.dataclass(frozen=True)
class Newcomers:
    """Users and items of the last events in time, and those without an earlier event.

    Attributes:
        since: Unix second at which these events begin.
        users, items: number of distinct users and items in them.
        new_users, new_items: how many of these have no earlier event.
    """

    since: int
    users: int
    new_users: int
    items: int
    new_items: int

    @property
    def user_share(self) -> float:
        """The share of the users that are new."""
        return self.new_users / self.users if self.users else 0.0

    @property
    def item_share(self) -> float:
        """The share of the items that are new."""
        return self.new_items / self.items if self.items else 0.0


def repeats(users: np.ndarray, items: np.ndarray, types: np.ndarray | None = None) -> Repeats:
    """Counts repeated pairs.

    Args:
        users, items: int [n], the user and the item of each event, numbered from 0.
        types: int [n], its type; a view and a purchase of an item are no repetition.
    """
    pairs = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    _, pairs = np.unique(pairs, return_inverse=True)
    number = int(pairs.max(initial=-1)) + 1
    if types is None:
        return Repeats(number, int((np.bincount(pairs, minlength=number) > 1).sum()))
    kinds = int(types.max(initial=0)) + 1
    of_type, counts = np.unique(pairs.astype(np.int64) * kinds + types, return_counts=True)
    return Repeats(number, len(np.unique(of_type[counts > 1] // kinds)))


def newcomers(
    users: np.ndarray, items: np.ndarray, times: np.ndarray, share: float = LAST_SHARE
) -> Newcomers | None:
    """Counts the users and items of the last events that have no earlier event.

    Events at the time at which the last share begins belong to it.

    Args:
        users, items: int [n], the user and the item of each event, numbered from 0.
        times: int64 [n], Unix seconds.
        share: of the events that are the last ones.

    Returns:
        None if no event is earlier than the last ones.
    """
    if not len(times):
        return None
    since = int(np.sort(times)[min(round((1 - share) * len(times)), len(times) - 1)])
    late = times >= since
    if late.all():
        return None
    old = ~late
    counts = []
    for codes in (users, items):
        seen = np.unique(codes[old])
        recent = np.unique(codes[late])
        counts += [len(recent), int((~np.isin(recent, seen)).sum())]
    return Newcomers(since, *counts)
