"""A user's events strictly before each event: what a model may know when it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.interactions import Interactions


@dataclass(frozen=True, eq=False)
class Histories:
    """For every event row e, its history: event rows `order[start[e]:stop[e]]`, oldest first.

    Attributes:
        order: int64 [n], event rows by user, then time, then row.
        start: int64 [n], where the history of event row e begins in `order`.
        stop: int64 [n], where it ends (exclusive); `start == stop` when it is empty.
    """

    order: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def lengths(self) -> np.ndarray:
        """Int64 [n]: how many events came before each event."""
        return self.stop - self.start

    def window(self, rows: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """The latest `length` events before each of `rows`.

        Args:
            rows: int [b], event rows.
            length: width of the answer, at least 1.

        Returns:
            Int64 [b, length] of event rows, oldest first, padded with -1 on the right.
        """
        if length < 1:
            raise ValueError(f"`length`={length}; use 1 or more.")
        rows = np.asarray(rows, np.int64)
        stop = self.stop[rows]
        count = np.minimum(stop - self.start[rows], length)
        step = np.arange(length)
        position = (stop - count)[:, None] + step
        inside = step < count[:, None]
        window = np.full((len(rows), length), -1, np.int64)
        window[inside] = self.order[position[inside]]
        return window


def histories(data: Interactions) -> Histories:
    """Finds each event's history: the events of the same user with an earlier time.

    Events of the same second are not each other's history, since neither is known to come first.
    Data without any time is taken to be in order: earlier rows come earlier.

    Raises:
        ValueError: some events have a time and some have none.
    """
    users, times = data.user_codes, data.times
    size = len(data)
    order, firsts = _by_user_and_time(users, times)
    position = np.arange(size)
    if times is None:
        earlier = position
    else:
        new_moment = firsts.copy()
        ordered = times[order]
        new_moment[1:] |= ordered[1:] != ordered[:-1]
        earlier = np.maximum.accumulate(np.where(new_moment, position, 0))
    start = np.empty(size, np.int64)
    stop = np.empty(size, np.int64)
    start[order] = np.maximum.accumulate(np.where(firsts, position, 0))
    stop[order] = earlier
    return Histories(order, start, stop)


def user_histories(
    data: Interactions, user_ids: Sequence[str] | np.ndarray, length: int
) -> np.ndarray:
    """The latest items of each user over all of `data`, each item once, at its latest place.

    Args:
        data: the events that are known, such as a training split.
        user_ids: [b] tokens; one that has no event gets a blank row.
        length: width of the answer, at least 1.

    Returns:
        Object [b, length] of item tokens, oldest first, padded with "" on the right.
    """
    if length < 1:
        raise ValueError(f"`length`={length}; use 1 or more.")
    asked = pa.array(np.asarray(user_ids, object), pa.string())
    known = pc.index_in(asked, value_set=pa.array(data.user_ids, pa.string()))
    known = known.fill_null(-1).to_numpy()
    answer = np.full((len(asked), length), "", object)
    if not len(data):
        return answer

    wanted = np.zeros(len(data.user_ids), bool)
    wanted[known[known >= 0]] = True
    rows = np.flatnonzero(wanted[data.user_codes])
    times = data.times
    order, _ = _by_user_and_time(data.user_codes[rows], None if times is None else times[rows])
    rows = rows[order]
    # Backwards, the first event of a user with an item is the latest one.
    pair = data.user_codes[rows].astype(np.int64) * len(data.item_ids) + data.item_codes[rows]
    _, latest = np.unique(pair[::-1], return_index=True)
    rows = rows[np.sort(len(rows) - 1 - latest)]

    count = np.bincount(data.user_codes[rows], minlength=len(wanted))
    stop = np.cumsum(count)
    shown = np.where(known >= 0, np.minimum(count[known], length), 0)
    step = np.arange(length)
    position = (stop[known] - shown)[:, None] + step
    inside = step < shown[:, None]
    answer[inside] = data.item_ids[data.item_codes[rows[position[inside]]]]
    return answer


def _by_user_and_time(users: np.ndarray, times: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows by user, then time, then row; and a mask of each user's first place in that order."""
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    ordered = users[order]
    firsts = np.ones(len(order), bool)
    firsts[1:] = ordered[1:] != ordered[:-1]
    return order, firsts
