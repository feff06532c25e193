"""Held-out events as evaluation queries, given the known past of the users."""

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
    """Evaluation queries, one row per user with held-out events.

    Attributes:
        users: string [u], distinct.
        queries: the encoded past and features of the users, u rows.
        seen: float32 [u, catalogue], 1 for items of the past; with a target of the feedback, only
            for items of past target events.
        relevant: float32 [u, catalogue], 1 for held-out items of positive events.
        outside: int64 [u], number of held-out items outside of the catalogue; they count as misses.
        known: bool [u], whether the user has events in the past.
        outside_repeat: int64 [u], how many of `outside` are in the user's past, for example in the
            validation part.
        history: float32 [u, catalogue], 1 for items of positive events of the past; `seen` without
            declared feedback.
    """

    users: np.ndarray
    queries: Encoded
    seen: scipy.sparse.csr_matrix
    relevant: scipy.sparse.csr_matrix
    outside: np.ndarray
    known: np.ndarray
    outside_repeat: np.ndarray
    history: scipy.sparse.csr_matrix


def held_out(
    spec: FeatureSpec, past: Interactions, events: Interactions, users: np.ndarray | None = None
) -> HeldOut:
    """Builds evaluation queries; validation and test use the same protocol.

    Args:
        spec: a fitted spec; its items are the catalogue.
        past: the known events, with the table of users for their features.
        events: the held-out events.
        users: string [u], the users to evaluate; by default all users of `events`.

    Raises:
        ValueError: if there are no users.
    """
    events = events.positive_events()
    users = events.user_ids if users is None else np.asarray(users, object)
    if not len(users):
        raise ValueError("There are no held-out events to evaluate. Check the split.")
    outside, outside_past = (
        _pairs(_outside(spec, part), users, events.item_ids)
        for part in (events, past.seen_events())
    )
    repeat = np.isin(outside, outside_past)
    row = outside // (len(events.item_ids) + 1)
    rows_of_past = Vocabulary(pa.array(users, pa.string())).encode(past.events["user_id"])
    history = seen = interaction_matrix(past.seen_events(), users, spec.items)
    if past.feedback is not None:
        history = interaction_matrix(past.positive_events(), users, spec.items)
    return HeldOut(
        users,
        user_queries(spec, past, users),
        seen,
        interaction_matrix(events, users, spec.items),
        np.bincount(row, minlength=len(users)),
        np.bincount(rows_of_past, minlength=len(users) + 1)[1:] > 0,
        np.bincount(row[repeat], minlength=len(users)),
        history,
    )


def _outside(spec: FeatureSpec, data: Interactions) -> Interactions:
    """Returns the events with items outside of the catalogue."""
    return data.take(np.flatnonzero(spec.items.encode(data.events["item_id"]) == 0))


def _pairs(data: Interactions, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns the distinct pairs of users and items of events, as int64 numbers.

    A number is (position of the user) * (items + 1) + 1 + (position of the item); pairs of other
    users and items are left out.
    """
    row = Vocabulary(pa.array(users, pa.string())).encode(data.events["user_id"]).astype(np.int64)
    column = Vocabulary(pa.array(items, pa.string())).encode(data.events["item_id"])
    known = (row > 0) & (column > 0)
    return np.unique((row[known] - 1) * (len(items) + 1) + column[known])


def user_queries(spec: FeatureSpec, past: Interactions, users: np.ndarray) -> Encoded:
    """Returns encoded queries of users: their ids, their histories in `past`, their features."""
    columns = {}
    if past.users is not None and spec.user:
        row = Vocabulary(past.users["user_id"].combine_chunks()).encode(users) - 1
        found = pa.array(row, mask=row < 0)
        columns = {f.name: past.users[f.name].take(found) for f in spec.user}
    return spec.encode_queries(users, user_histories(past, users, spec.history_length), columns)


def event_queries(
    spec: FeatureSpec, past: Interactions, events: Interactions
) -> tuple[Encoded, np.ndarray]:
    """Builds one query per event, for models that predict ratings or clicks.

    Args:
        spec: a fitted spec.
        past: the known events of the users.
        events: the events to predict, n; their context features are part of the queries.

    Returns:
        The encoded queries and the item rows int32 [n], 0 for items outside of the catalogue.
    """
    of_users = user_queries(spec, past, events.user_ids)
    queries = {name: value[events.user_codes] for name, value in of_users.items()}
    return queries | spec.encode_context(events.events), spec.items.encode(events.events["item_id"])


def interaction_matrix(
    data: Interactions, users: np.ndarray, items: Vocabulary
) -> scipy.sparse.csr_matrix:
    """Returns the user-item matrix of events.

    Args:
        data: events; those of other users or items are ignored.
        users: string [u], distinct; the rows.
        items: the columns, in vocabulary order.

    Returns:
        float32 [u, items], 1 for each pair with an event.
    """
    row = Vocabulary(pa.array(users, pa.string())).encode(data.events["user_id"])
    column = items.encode(data.events["item_id"])
    known = (row > 0) & (column > 0)
    ones = np.ones(known.sum(), np.float32)
    matrix = scipy.sparse.csr_matrix(
        (ones, (row[known] - 1, column[known] - 1)), shape=(len(users), len(items) - 1)
    )
    matrix.data[:] = 1.0  # repeated events were added up
    return matrix


def weighted_matrix(
    data: Interactions, users: np.ndarray, items: Vocabulary
) -> scipy.sparse.csr_matrix:
    """Returns the user-item matrix of weighted events, for training.

    Of several events of a user with an item, the one with the largest weight counts; if none is
    positive, the known negative with the largest confidence. Weights are divided by the mean weight
    of the positive pairs, so that equal weights give the same matrix as no weights.

    Args:
        data: events; those of other users or items are ignored.
        users: string [u], distinct; the rows.
        items: the columns, in vocabulary order.

    Returns:
        float32 [u, items]: above 0 for each pair with a positive event, with mean 1; below 0 for
        known negatives; without feedback, 1 for each pair with an event.
    """
    data = data.counted_events()
    weights = data.weights
    if weights is None:
        return interaction_matrix(data, users, items)
    row = Vocabulary(pa.array(users, pa.string())).encode(data.events["user_id"])
    column = items.encode(data.events["item_id"])
    known = np.flatnonzero((row > 0) & (column > 0))
    row, column, weight = row[known] - 1, column[known] - 1, weights[known]
    # Positive events after negative ones, and then by confidence: the last of a pair counts.
    order = np.lexsort((np.abs(weight), weight > 0, column, row))
    row, column, weight = row[order], column[order], weight[order]
    last = np.ones(len(order), bool)
    last[:-1] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
    weight = weight[last].astype(np.float64)
    if (weight > 0).any():
        weight = weight / weight[weight > 0].mean()
    return scipy.sparse.csr_matrix(
        (weight.astype(np.float32), (row[last], column[last])), shape=(len(users), len(items) - 1)
    )


def positive_matrix(
    data: Interactions, users: np.ndarray, items: Vocabulary
) -> scipy.sparse.csr_matrix:
    """Returns `weighted_matrix` without the known negatives."""
    matrix = weighted_matrix(data, users, items)
    if data.weights is not None:
        matrix.data = np.maximum(matrix.data, 0.0)
        matrix.eliminate_zeros()
    return matrix
