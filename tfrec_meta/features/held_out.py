"""Held-out events as questions: who is asked about what, given what is known of the past."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import scipy.sparse

from tfrec_meta.data import Interactions, user_histories
from tfrec_meta.features.spec import Encoded, FeatureSpec
from tfrec_meta.features.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """One row a user with held-out events.

    Attributes:
        users: string [u], distinct.
        queries: what the users' past and features are to a model, u rows.
        seen: float32 [u, catalogue], 1 for the items of the past.
        relevant: float32 [u, catalogue], 1 for the held-out items.
        outside: int64 [u], held-out items that the catalogue lacks; they count as misses.
    """

    users: np.ndarray
    queries: Encoded
    seen: scipy.sparse.csr_matrix
    relevant: scipy.sparse.csr_matrix
    outside: np.ndarray


def held_out(
    spec: FeatureSpec, past: Interactions, events: Interactions, users: np.ndarray | None = None
) -> HeldOut:
    """Asks about `events`, knowing `past`; one protocol for validation and test.

    Args:
        spec: a fitted spec; its items are the catalogue.
        past: what may be known; its users table gives the users' features.
        events: what is to be found.
        users: string [u], whom to ask; by default everyone of `events`.

    Raises:
        ValueError: if nobody is left to ask.
    """
    users = events.user_ids if users is None else np.asarray(users, object)
    if not len(users):
        raise ValueError("There are no held-out events to ask about. Check the split.")
    outside = np.flatnonzero(spec.items.encode(events.events["item_id"]) == 0)
    pairs = events.take(outside).events.group_by(["user_id", "item_id"]).aggregate([])
    row = Vocabulary(pa.array(users, pa.string())).encode(pairs["user_id"])
    return HeldOut(
        users,
        user_queries(spec, past, users),
        interaction_matrix(past, users, spec.items),
        interaction_matrix(events, users, spec.items),
        np.bincount(row, minlength=len(users) + 1)[1:],
    )


def user_queries(spec: FeatureSpec, past: Interactions, users: np.ndarray) -> Encoded:
    """Encoded queries of users: their id, the history that is all of `past`, their features."""
    columns = {}
    if past.users is not None and spec.user:
        row = Vocabulary(past.users["user_id"].combine_chunks()).encode(users) - 1
        found = pa.array(row, mask=row < 0)
        columns = {f.name: past.users[f.name].take(found) for f in spec.user}
    return spec.encode_queries(users, user_histories(past, users, spec.history_length), columns)


def event_queries(
    spec: FeatureSpec, past: Interactions, events: Interactions
) -> tuple[Encoded, np.ndarray]:
    """Asks about each of `events` by itself, knowing `past`; for models that predict its value.

    Args:
        spec: a fitted spec.
        past: what may be known of the users; no other event is.
        events: what is asked about; their context features are part of the query.

    Returns:
        The encoded queries and the item rows int32 [n], 0 for items that the catalogue lacks.
    """
    of_users = user_queries(spec, past, events.user_ids)
    queries = {name: value[events.user_codes] for name, value in of_users.items()}
    return queries | spec.encode_context(events.events), spec.items.encode(events.events["item_id"])


def interaction_matrix(
    data: Interactions, users: np.ndarray, items: Vocabulary
) -> scipy.sparse.csr_matrix:
    """Who touched what.

    Args:
        data: events; those of other users or items are left out.
        users: string [u], distinct; the rows.
        items: the columns, in vocabulary order.

    Returns:
        float32 [u, items], 1 where the user touched the item.
    """
    row = Vocabulary(pa.array(users, pa.string())).encode(data.events["user_id"])
    column = items.encode(data.events["item_id"])
    known = (row > 0) & (column > 0)
    ones = np.ones(known.sum(), np.float32)
    matrix = scipy.sparse.csr_matrix(
        (ones, (row[known] - 1, column[known] - 1)), shape=(len(users), len(items) - 1)
    )
    matrix.data[:] = 1.0  # repeats were added up
    return matrix
