"""Cold users as questions: their first few events are given, what follows is to be found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.evaluation import Evaluation, full_catalogue
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models import MetaLearned, Recommender

Score = Callable[[np.ndarray], np.ndarray]
"""Support sets, item rows int32 [b, S] that 0 pads on the right -> float32 [b, catalogue]."""
_USERS_AT_ONCE = 256


class ColdUsers:
    """Users of whom a model knows only their first few items.

    Whatever the size of the support set, the question is the same: all that follows a user's first
    `first` items is relevant, and these are taken out of everyone's ranking. So the curve of a
    method over the number of events shows what the events are worth, and nothing else.

    Args:
        data: all events of users whom no model was fitted on. An item counts once, where the user
            first touched it; without times, events are taken in the order of their rows.
        spec: a fitted spec, whose items are the catalogue.
        first: items that support sets are taken from, the most that one can have.
        later: items that a user needs beyond these to be asked about.

    Attributes:
        users: object [u], who is asked about.
        left_out: how many are not, for want of items.
        rows: int32 [u, first], their first items, the earliest first; 0 is one that the catalogue
            lacks.
        seen: float32 [u, catalogue], 1 for these.
        relevant: float32 [u, catalogue], 1 for what follows.
        outside: int64 [u], how much follows that the catalogue lacks; it counts as missed.

    Raises:
        ValueError: if `first` or `later` is below 1, or no user has as many items.
    """

    def __init__(self, data: Interactions, spec: FeatureSpec, first: int = 20, later: int = 10):
        for name, value in (("first", first), ("later", later)):
            if value < 1:
                raise ValueError(f"`{name}`={value}; use 1 or more.")
        users, items = _distinct(data)
        counts = np.bincount(users, minlength=len(data.user_ids))
        asked = np.flatnonzero(counts >= first + later)
        if not len(asked):
            raise ValueError(
                f"No user has {first + later} items, {first} to be given and `later`={later} to be "
                f"found; the most that one has is {counts.max(initial=0)}. Give fewer events, or "
                "lower `later`."
            )
        self.users = data.user_ids[asked]
        self.left_out = len(counts) - len(asked)
        place = np.arange(len(users)) - np.searchsorted(users, users)
        query = np.full(len(counts), -1)
        query[asked] = np.arange(len(asked))
        kept = query[users] >= 0
        query, place = query[users[kept]], place[kept]
        row = spec.items.encode(data.item_ids)[items[kept]]
        early = place < first
        self.rows = np.zeros((len(asked), first), np.int32)
        self.rows[query[early], place[early]] = row[early]
        shape = (len(asked), spec.catalogue_size)
        self.seen = _ones(query[early], row[early], shape)
        self.relevant = _ones(query[~early], row[~early], shape)
        self.outside = np.bincount(query[~early & (row == 0)], minlength=len(asked))

    def __len__(self) -> int:
        return len(self.users)

    def evaluate(
        self, score: Score, shots: int, k: int = 10, metric: str = "ndcg", resamples: int = 0
    ) -> Evaluation:
        """What a method makes of each user's first `shots` items.

        Args:
            score: the method.
            shots: from 0 to `first`.
            k: length of the lists.
            metric: one of `tfrec_meta.evaluation.METRICS`.
            resamples: bootstrap draws of users for the interval.
        """
        given = self.rows * (np.arange(self.rows.shape[1]) < shots)
        return full_catalogue(
            lambda rows: score(given[rows]),
            self.relevant,
            self.seen,
            k=k,
            metrics=(metric,),
            extra_relevant=self.outside,
            chunk=_USERS_AT_ONCE,
            resamples=resamples,
        )


def adapted(model: Recommender) -> Score:
    """What a model makes of support sets: by its `adapt`, or of one that has none, of histories."""
    adapt = model.serving_functions().get("adapt")
    if adapt is None:
        return by_history(model)
    graph = tf.function(lambda items: adapt(items, tf.ones(tf.shape(items)))[0])
    wanted = tf.TensorSpec([None, None], tf.int32)
    concrete = graph.get_concrete_function(wanted)
    return lambda rows: np.asarray(concrete(tf.constant(rows, tf.int32)))


def by_history(model: Recommender) -> Score:
    """What any model makes of them as the histories of people of whom nothing else is known."""
    length = model.spec.history_length

    def score(rows: np.ndarray) -> np.ndarray:
        queries = model.spec.encode_queries([""] * len(rows))
        history = np.zeros((len(rows), max(length, rows.shape[1])), np.int32)
        for row, given in zip(history, rows, strict=True):
            known = given[given > 0][-length:]  # the latest, as it is trained and served
            row[: len(known)] = known
        return model.score({**queries, "history": history[:, :length]})

    return score


def without_support(score: Score) -> Score:
    """The same without any item."""
    return lambda rows: score(np.zeros_like(rows))


def fine_tuned(model: MetaLearned, steps: int, rate: float) -> Score:
    """Plain gradient steps on the vector of a user, from where `model` is without support.

    Of the support set's cross-entropy over the catalogue; the item vectors stay.

    Args:
        model: whose later chances and item vectors are taken.
        steps: how many.
        rate: their size.
    """
    later, factors = model.tables.later.numpy()[1:], model.tables.factors.numpy()

    def score(rows: np.ndarray) -> np.ndarray:
        count = np.maximum((rows > 0).sum(axis=1, keepdims=True), 1)
        wanted = factors[rows].sum(axis=1) / count  # row 0, of what is unknown, is 0
        some = (rows > 0).any(axis=1, keepdims=True)
        vectors = np.zeros_like(wanted)
        for _ in range(steps):
            chance = tf.nn.softmax(later + vectors @ factors[1:].T).numpy()
            vectors += rate * some * (wanted - chance @ factors[1:])
        return np.asarray(later + vectors @ factors[1:].T, np.float32)

    return score


def _distinct(data: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """User and item codes of each pair's first event, by user, then time, then row."""
    times = data.times
    keys = (data.user_codes,) if times is None else (times, data.user_codes)
    order = np.lexsort(keys)
    pair = data.user_codes[order].astype(np.int64) * len(data.item_ids) + data.item_codes[order]
    _, first = np.unique(pair, return_index=True)
    order = order[np.sort(first)]
    return data.user_codes[order], data.item_codes[order]


def _ones(query: np.ndarray, row: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_matrix:
    known = row > 0
    ones = np.ones(int(known.sum()), np.float32)
    return scipy.sparse.csr_matrix((ones, (query[known], row[known] - 1)), shape=shape)
