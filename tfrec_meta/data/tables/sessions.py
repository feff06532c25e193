"""Sessions: parts of a user's events between idle gaps, and sessions in place of users."""

from __future__ import annotations

import math
import numbers
import re
from abc import abstractmethod
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.declared import DeclaredEvents
from tfrec_meta.data.events import flat
from tfrec_meta.data.ids import has_line_breaks, tokens_of
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import logger

SESSION = "session_id"

_log = logger(__name__)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_GAP = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def is_gap(text: str) -> bool:
    """Returns whether a text is an idle gap, such as "30m", and not the name of a column."""
    return _GAP.fullmatch(text) is not None


def seconds_of(gap: str | float, name: str = "gap") -> float:
    """Returns an idle gap in seconds; errors call it `name`.

    Raises:
        ParameterError: if it is neither a number above 0 nor a text such as "30m".
    """
    found = _GAP.fullmatch(gap) if isinstance(gap, str) else None
    seconds = float(found[1]) * _SECONDS[found[2]] if found else gap
    is_number = isinstance(seconds, numbers.Real) and not isinstance(seconds, bool)
    if not is_number or not 0 < float(seconds) < math.inf:
        raise ParameterError(
            f"`{name}`={gap!r}; use seconds above 0, or a text such as '90s', '30m', '2h' or '1d'.",
            name,
        )
    return float(seconds)


def session_numbers(users: np.ndarray, times: np.ndarray, gap: float) -> np.ndarray:
    """Numbers the sessions from 0 in the order in which they begin.

    Args:
        users: int [n], the user of each event.
        times: int64 [n], Unix seconds.
        gap: a user's event more than this number of seconds after the one before begins a session.

    Returns:
        int64 [n], the session of each event. Sessions that begin in the same second are in the
        order of their first rows.
    """
    order = np.lexsort((times, users))  # stable: rows of the same second stay in order
    user, time = users[order], times[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (user[1:] != user[:-1]) | (time[1:] - time[:-1] > gap)
    first = order[begins]
    number = np.empty(len(first), np.int64)
    number[np.lexsort((first, times[first]))] = np.arange(len(first))
    result = np.empty(len(order), np.int64)
    result[order] = number[np.cumsum(begins) - 1]
    return result


def session_ids(events: pa.Table, name: str) -> pa.Array:
    """Returns the column `session_id` as trimmed text.

    Args:
        events: a table with that column.
        name: names the table in errors.

    Raises:
        ValueError: if an id is missing or has a line break, which no id can have.
    """
    ids, unreadable = tokens_of(flat(events[SESSION]), f"{name}, column `{SESSION}`")
    bad = pc.fill_null(pc.equal(ids, ""), True).to_numpy(zero_copy_only=False)
    bad = bad | unreadable | has_line_breaks(ids)
    if bad.any():
        raise ValueError(
            f"{name} row {bad.argmax() + 1}, column `{SESSION}`: the id is missing or has a line "
            f"break, as in {bad.sum():,} rows in all; leave these rows out (`take`), or do not "
            "read the column and use `with_sessions`."
        )
    return ids


class EventsInSessions(DeclaredEvents):
    """The part of `Interactions` that deals with sessions."""

    @property
    @abstractmethod
    def user_codes(self) -> np.ndarray:
        """Int32 [n]: each event's user."""

    @property
    @abstractmethod
    def times(self) -> np.ndarray | None:
        """Int64 [n] Unix seconds, or None if no event has a time."""

    def with_sessions(self, gap: str | float = "30m") -> Self:
        """Adds the column `session_id`: a user's session ends before an idle gap.

        An event begins a new session if it is more than `gap` after the event of the same user
        before it. The order of the rows does not matter, so sessions go on across midnight and
        across files. The ids are "1", "2", ... in the order in which the sessions begin. They hold
        no id of a user, and are not stable: earlier events that are added later change them.

        Args:
            gap: seconds, or a text such as "90s", "30m", "2h" or "1d".

        Raises:
            ParameterError: if `gap` is not valid.
            ValueError: if an event has no time, or there is a column `session_id` already.

        Example:
            >>> import tfrec_meta as tm
            >>> data = tm.Interactions.from_arrays(
            ...     ["ann", "bob", "ann", "ann"], ["tea", "tea", "jam", "tea"], [0, 60, 600, 9000]
            ... )
            >>> data.with_sessions("30m").events["session_id"].to_pylist()
            ['1', '2', '1', '3']
        """
        seconds = seconds_of(gap)
        if SESSION in self.events.column_names:
            raise ValueError(
                f"{self.name} has a column `{SESSION}` already; use it as it is, or do not read it."
            )
        times = self.times
        if times is None and self.events.num_rows:
            raise ValueError(
                f"{self.name} has no times, and so no idle gaps; read a column `time`, or a column "
                f"of session ids as `{SESSION}`."
            )
        known = np.empty(0, np.int64) if times is None else times
        ids = pa.array(session_numbers(self.user_codes, known, seconds) + 1).cast(pa.string())
        return self._replaced(events=self.events.append_column(SESSION, ids))

    def sessions_as_users(self) -> Self:
        """Makes each session a user, for visitors who are anonymous or models of single visits.

        The ids of the column `session_id`, read from the data or made by `with_sessions`, become
        the ids of users, and the column is removed. The table of users is left out, since its rows
        describe people. The numbers of sessions and users are logged.

        Raises:
            ValueError: if there is no column `session_id`, a session id is missing, or a session
                has events of several users: its id may be a number within each user's sessions.

        Example:
            >>> import tfrec_meta as tm
            >>> data = tm.Interactions.from_arrays(
            ...     ["ann", "ann"], ["tea", "jam"], further={"session_id": ["s1", "s2"]}
            ... )
            >>> data.sessions_as_users().user_ids.tolist()
            ['s1', 's2']
        """
        if SESSION not in self.events.column_names:
            raise ValueError(
                f"{self.name} has no column `{SESSION}`, only {self.events.column_names}; read it, "
                "or make one with `with_sessions`."
            )
        ids = session_ids(self.events, self.name)
        sessions = ids.dictionary_encode()
        codes = sessions.indices.to_numpy(zero_copy_only=False)
        self._check_one_user(codes, sessions.dictionary)
        sizes = np.bincount(codes)
        _log.info(
            "%s: %s sessions of %s users, %s of them with one event.",
            self.name,
            f"{len(sizes):,}",
            f"{len(np.unique(self.user_codes)):,}",
            f"{int((sizes == 1).sum()):,}",
        )
        events = self.events.drop_columns([SESSION])
        place = events.column_names.index("user_id")
        return self._replaced(events=events.set_column(place, "user_id", ids), users=None)

    def _check_one_user(self, codes: np.ndarray, ids: pa.Array) -> None:
        """Raises ValueError if a session, a row of `ids`, has events of several users."""
        owner = np.empty(len(ids), np.int64)
        owner[codes[::-1]] = self.user_codes[::-1]  # the user of the first event stays
        other = self.user_codes != owner[codes]
        if other.any():
            row = int(other.argmax())
            shared = len(np.unique(codes[other]))
            raise ValueError(
                f"{self.name} row {row + 1}, column `{SESSION}`: the session "
                f"{ids[int(codes[row])].as_py()!r} has events of several users, as {shared:,} of "
                f"{len(ids):,} sessions have. If the ids are numbers within each user, join both "
                "columns into one id. If a visit can have several user ids, read the sessions as "
                "`user_id`."
            )
