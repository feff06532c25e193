"""Metrics per test user, and the slices of users and items for the ranking gate.

The complete catalogue is ranked for every test user, without the items of the user's past. An item
that a model does not know can't be in its list: it counts as a miss.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.evaluation import full_catalogue
from tfrec_meta.features.held_out import held_out, user_queries
from tfrec_meta.models import Recommender
from tfrec_meta.models.base.contract import event_counts
from tfrec_meta.pipeline.config import EvaluatorConfig
from tfrec_meta.pipeline.gates.verdict import SliceName

METRICS = ("ndcg", "recall")

UserMetrics = Mapping[tuple[str, bool], np.ndarray]
"""(metric, whether only long-tail items are relevant) -> float64 [users]; NaN without events."""
_Scores = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Slice:
    """A set of test users, or of items, on which models are compared.

    Attributes:
        name: for reports: a `SliceName`, or "<column>=<value>".
        users: bool [users], the users in the slice.
        confidence: confidence level of the comparison.
        only_tail: whether only long-tail items count as relevant.
    """

    name: str
    users: np.ndarray
    confidence: float
    only_tail: bool = False


def fewest_users(confidence: float) -> int:
    """Returns the smallest n for which a sign test can be significant: 2 / 2^n <= 1 - c."""
    return math.ceil(math.log2(2 / (1 - confidence)) - 1e-9)


def slices_of(
    past: Interactions, test: Interactions, users: np.ndarray, config: EvaluatorConfig
) -> tuple[list[Slice], list[str]]:
    """Returns the slices and notes: all users first, then new users, long tail, and column values.

    Values of one column share the error: each of m values has a confidence level of
    1 - (1 - confidence) / m. Values with too few users for a significant result are left out.

    Raises:
        ValueError: if `config.slices` has a column that neither users nor events have.
    """
    everyone = np.ones(len(users), bool)
    counted = pc.value_counts(past.events["user_id"])
    events = dict(zip(*(counted.field(i).to_pylist() for i in (0, 1)), strict=True))
    is_new = np.array([events.get(user, 0) <= config.new_user_events for user in users])
    slices = [
        Slice(SliceName.ALL_USERS, everyone, config.confidence),
        Slice(SliceName.NEW_USERS, is_new, config.confidence),
        Slice(SliceName.LONG_TAIL_ITEMS, everyone, config.confidence, only_tail=True),
    ]
    notes: list[str] = []
    for column in config.slices:
        if past.users is None or column not in past.users.column_names:
            if column in test.events.column_names:
                continue  # TFMA slices by it; a column of events does not divide the users
            raise ValueError(
                f"`slices`={column!r} is not a column of users or events; "
                f"use one of {_columns_of(past, test)}."
            )
        values = _values_of(past.users, column, users)
        distinct = sorted({value for value in values if value is not None}, key=str)
        fewest = fewest_users(config.confidence)
        masks = {value: np.array([v == value for v in values]) for value in distinct}
        large = {value: mask for value, mask in masks.items() if mask.sum() >= fewest}
        shared = 1 - (1 - config.confidence) / max(len(large), 1)
        slices += [Slice(f"{column}={value}", mask, shared) for value, mask in large.items()]
        if len(large) < len(masks):
            notes.append(
                f"{len(masks) - len(large):,} values of {column} have fewer than {fewest} test "
                "users, too few for a comparison."
            )
    return slices, notes


def _columns_of(past: Interactions, test: Interactions) -> str:
    users = [] if past.users is None else past.users.column_names
    return ", ".join(dict.fromkeys([*users, *test.events.column_names]))


def _values_of(table: pa.Table, column: str, users: np.ndarray) -> list[Any]:
    rows = pc.index_in(pa.array(users, pa.string()), table["user_id"].combine_chunks())
    values = table[column].take(rows).to_pylist()
    return [str(value) if isinstance(value, list) else value for value in values]


def long_tail_events(past: Interactions, test: Interactions, share: float) -> Interactions:
    """Returns the test events of the rarest items that together have `share` of the past events.

    With declared feedback, positive events count. Items without past events are the rarest. Items
    with equal counts are included or excluded together.
    """
    counted = pc.value_counts(past.positive_events().events["item_id"])
    count = counted.field("counts").to_numpy(zero_copy_only=False)
    order = np.argsort(count, kind="stable")
    cumulative = np.cumsum(count[order])
    above = np.flatnonzero(cumulative > share * count.sum())
    limit = count[order[above[0]]] if len(above) else 1
    head = counted.field("values").filter(pa.array(count >= limit))
    is_tail = pc.invert(pc.is_in(test.events["item_id"], value_set=head))
    return test.take(np.flatnonzero(is_tail.to_numpy(zero_copy_only=False)))


@dataclasses.dataclass(frozen=True)
class Queries:
    """The test users and what is known of them.

    Attributes:
        past: the events that are known at test time.
        test: the held-out events.
        tail: those with long-tail items.
        users: string [users], the test users.
        k: length of the list.
        recommend_history: whether items of the past are ranked like all others.
    """

    past: Interactions
    test: Interactions
    tail: Interactions
    users: np.ndarray
    k: int
    recommend_history: bool = False


def metrics_of(model: Recommender, queries: Queries) -> UserMetrics:
    """Returns the metrics of a model, per user."""
    encoded = user_queries(model.spec, queries.past, queries.users)

    def scores(rows: np.ndarray) -> np.ndarray:
        return model.score({name: value[rows] for name, value in encoded.items()})

    return _measured(model, scores, queries)


def metrics_of_popularity(model: Recommender, queries: Queries) -> UserMetrics:
    """Returns the metrics of ranking the model's catalogue by the number of past events.

    With declared feedback, it is the sum of their weights, as in the family "popularity".
    """
    past = queries.past
    counts = event_counts(past, "item_id", model.spec.items, "weights")[1:].astype(np.float32)

    def scores(rows: np.ndarray) -> np.ndarray:
        return np.tile(counts, (len(rows), 1))

    return _measured(model, scores, queries)


def _measured(model: Recommender, scores: _Scores, queries: Queries) -> UserMetrics:
    width, k = model.spec.catalogue_size, queries.k
    found: dict[tuple[str, bool], np.ndarray] = {}
    for only_tail, events in ((False, queries.test), (True, queries.tail)):
        for metric in METRICS:
            found[metric, only_tail] = np.full(len(queries.users), np.nan)
        if not len(events):
            continue
        asked = held_out(model.spec, queries.past, events, queries.users)
        relevant, seen, missing = asked.relevant, asked.seen, max(k - width, 0)
        if missing:  # the catalogue is shorter than the list: pads it with irrelevant columns
            relevant, seen = (_widened(matrix, missing) for matrix in (relevant, seen))
        result = full_catalogue(
            _padded(scores, missing) if missing else scores,
            relevant,
            seen,
            k=k,
            metrics=METRICS,
            extra_relevant=asked.outside,
            recommend_history=queries.recommend_history,
            resamples=0,
        )
        for metric in METRICS:
            found[metric, only_tail][result.queries] = result.per_query[f"{metric}@{k}"]
    return found


def _widened(matrix: Any, columns: int) -> Any:
    wide = matrix.copy()
    wide.resize(matrix.shape[0], matrix.shape[1] + columns)
    return wide


def _padded(scores: _Scores, columns: int) -> _Scores:
    def wide(rows: np.ndarray) -> np.ndarray:
        block = np.asarray(scores(rows), np.float32)
        return np.pad(block, ((0, 0), (0, columns)), constant_values=block.min() - 1)

    return wide


def has_evidence(model: Recommender, past: Interactions, users: np.ndarray) -> np.ndarray:
    """Returns bool [users]: whether the model has more information on a user than popularity."""
    queries = user_queries(model.spec, past, users)
    return model.has_evidence({name: tf.constant(v) for name, v in queries.items()}).numpy()
