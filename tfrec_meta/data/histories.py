"""Histories: the events of a user strictly before each event, the input of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.ids import given_ids
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.errors import ParameterError


@dataclass(frozen=True, eq=False)
class Histories:
    """The history of each event row e: the event rows `order[start[e]:stop[e]]`, oldest first.

    Attributes:
        order: int64 [n], event rows sorted by user, then time, then row.
        start: int64 [n], the position in `order` where the history of each event begins.
        stop: int64 [n], the position where it ends, exclusive; equal to `start` if it is empty.
    """

    order: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def lengths(self) -> np.ndarray:
        """Returns the number of earlier events of the user, int64 [n]."""
        return self.stop - self.start

    def window(self, rows: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
        """Returns the latest `length` events before each of `rows`.

        Args:
            rows: int [b], event rows.
            length: width of the result, at least 1.

        Returns:
            int64 [b, length] of event rows, oldest first, padded with -1 on the right.
        """
        if length < 1:
            raise ParameterError(f"`length`={length}; use 1 or more.", "length")
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
    """Returns the history of each event: the events of the same user with an earlier time.

    Events in the same second are not part of each other's history, since their order is unknown.
    In data without times, earlier rows are earlier events. With declared feedback, ignored events
    and known negatives are in the histories of `order` as well; training rows hide them.

    Raises:
        ValueError: if some events have a time and others have none.
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
    """Returns the latest items of each user over all of `data`, each item once, by its last event.

    Args:
        data: the known events, such as a training split.
        user_ids: [b] user ids; a user without events gets an empty row.
        length: width of the result, at least 1.

    Returns:
        Object [b, length] of item ids, oldest first, padded with "" on the right. With declared
        feedback, only positive events count.
    """
    data = data.positive_events()
    if length < 1:
        raise ParameterError(f"`length`={length}; use 1 or more.", "length")
    requested = given_ids(user_ids, "user_ids")
    known = pc.index_in(requested, value_set=pa.array(data.user_ids, pa.string()))
    known = known.fill_null(-1).to_numpy()
    result = np.full((len(requested), length), "", object)
    if not len(data):
        return result

    wanted = np.zeros(len(data.user_ids), bool)
    wanted[known[known >= 0]] = True
    rows = np.flatnonzero(wanted[data.user_codes])
    times = data.times
    order, _ = _by_user_and_time(data.user_codes[rows], None if times is None else times[rows])
    rows = rows[order]
    # In reverse order, the first event of a user with an item is the latest one.
    pair = data.user_codes[rows].astype(np.int64) * len(data.item_ids) + data.item_codes[rows]
    _, latest = np.unique(pair[::-1], return_index=True)
    rows = rows[np.sort(len(rows) - 1 - latest)]

    count = np.bincount(data.user_codes[rows], minlength=len(wanted))
    stop = np.cumsum(count)
    shown = np.where(known >= 0, np.minimum(count[known], length), 0)
    step = np.arange(length)
    position = (stop[known] - shown)[:, None] + step
    inside = step < shown[:, None]
    result[inside] = data.item_ids[data.item_codes[rows[position[inside]]]]
    return result


def _by_user_and_time(users: np.ndarray, times: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows sorted by user, time and row, and a mask of each user's first position."""
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    ordered = users[order]
    firsts = np.ones(len(order), bool)
    firsts[1:] = ordered[1:] != ordered[:-1]
    return order, firsts
