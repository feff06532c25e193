"""Replaces the ids of users by keyed pseudonyms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from tfrec_meta.data.interactions import Interactions
from tfrec_meta.io.pseudonyms import key_of, pseudonym


def pseudonymise(data: Interactions, key_env: str = "TFREC_META_KEY") -> Interactions:
    """Replaces each user id, in the events and the table of users, by its pseudonym.

    The same id and key always give the same pseudonym, so a service with the key can request
    recommendations for its users. Only ids are replaced; `personal_columns` finds other columns
    that identify a person.

    Args:
        data: the interactions.
        key_env: name of the environment variable with the key, which has 16 bytes or more.

    Raises:
        ValueError: if the variable is not set or the key is too short.
    """
    key = key_of(key_env)
    names = np.array([pseudonym(user, key) for user in data.user_ids], object)
    events = _with_ids(data.events, pa.array(names, pa.string()).take(pa.array(data.user_codes)))
    users = data.users
    if users is not None:
        tokens = users["user_id"].to_pylist()
        users = _with_ids(users, pa.array([pseudonym(user, key) for user in tokens], pa.string()))
    return replace(data, events=events, users=users)


def _with_ids(table: pa.Table, ids: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index("user_id"), "user_id", ids)
