"""Sessions in place of users, for some users' events, as `Interactions` makes them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from tfrec_meta.data import Interactions
from tfrec_meta.data.cleaning import CleaningRules, Removal, clean_events
from tfrec_meta.data.tables.sessions import SESSION, is_gap, seconds_of, session_numbers
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.rows.partitions import token_hash
from tfrec_meta.pipeline.rows.surveys import NAME


def sessions_as_users(
    events: pa.Table, sessions: str, rules: CleaningRules, timed: bool
) -> tuple[pa.Table, Removal]:
    """Returns events with the ids of sessions as the ids of users, and what was removed.

    Sessions are those of `Interactions.with_sessions`, but for their ids: a worker that has some of
    the users cannot number the sessions of all. The id of a session is a hash of the user and the
    time of its first event, so that it stays the same as events are added after it.

    Args:
        events: all events of some users, or of some sessions if these are given.
        sessions: an idle gap, or the column of session ids.
        rules: which events are implausible: those that a gap cannot place are removed first.
        timed: whether any event has a time, also one that is not among these.

    Raises:
        ValueError: if the column of session ids is missing, a session has events of several users,
            or a gap is used without times or beside a column of session ids.
    """
    if not is_gap(sessions):
        return Interactions(events, name=NAME).sessions_as_users().events, Removal()
    if SESSION in events.column_names:
        raise ValueError(
            f"{NAME} has a column `{SESSION}` already; set data.sessions to its name in the files, "
            "or rename it."
        )
    if not timed:
        raise ValueError(
            f"{NAME} has no times, and so no idle gaps; read a column `time`, or set data.sessions "
            "to a column of session ids."
        )
    kept, removed = clean_events(events, dataclasses.replace(rules, duplicates="keep"), timed=timed)
    kept = kept.combine_chunks()
    users = kept[names.USER_ID].combine_chunks().dictionary_encode()
    codes = users.indices.to_numpy()
    times = kept[names.TIME].to_numpy()
    number = session_numbers(codes, times, seconds_of(sessions))
    count = int(number.max(initial=-1)) + 1
    begin = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(begin, number, times)
    user = np.empty(count, np.int64)
    user[number] = codes
    tokens = users.dictionary.to_pylist()
    ids = [
        f"{token_hash(f'{tokens[of]} {start}', 'session'):016x}"
        for of, start in zip(user, begin.tolist(), strict=True)
    ]
    place = kept.column_names.index(names.USER_ID)
    column = pa.array(ids, pa.string()).take(pa.array(number))
    return kept.set_column(place, names.USER_ID, column), removed
