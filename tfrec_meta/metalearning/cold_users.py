"""Evaluates methods on cold users, of whom only the first few events are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import Evaluation, full_catalogue
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models import MetaLearned, Recommender

SupportScores = Callable[[np.ndarray], np.ndarray]
"""A method: support sets, item rows int32 [b, S] padded with 0 on the right -> scores float32
[b, catalogue]."""
_USERS_PER_BLOCK = 256


class ColdUsers:
    """Users whose first few items are the support set, and whose later items are relevant.

    Whatever the size of the support set, all items after a user's first `first` items are relevant,
    and those first items are removed from the ranking. So the curve of a method over the number of
    events shows the effect of the events alone.

    Args:
        data: all events of users on whom no model was fitted. Each item of a user counts once, at
            its earliest event; without times, events are in the order of their rows.
        spec: a fitted spec, whose items are the catalogue.
        first: how many items support sets are taken from; the largest support set.
        later: how many more items a user needs to be evaluated.

    Attributes:
        users: object [u], ids of the evaluated users.
        left_out: how many users have too few items.
        rows: int32 [u, first], item rows of each user's first items, the earliest first; 0 for
            items outside the catalogue.
        seen: float32 [u, catalogue], 1 for the first items.
        relevant: float32 [u, catalogue], 1 for the later items.
        outside: int64 [u], how many later items are outside the catalogue; they count as misses.

    Raises:
        ValueError: if `first` or `later` is below 1, or no user has enough items.
    """

    def __init__(self, data: Interactions, spec: FeatureSpec, first: int = 20, later: int = 10):
        for name, value in (("first", first), ("later", later)):
            if value < 1:
                raise ParameterError(f"`{name}`={value}; use 1 or more.", name)
        data = data.positive_events()
        users, items = _distinct_pairs(data)
        counts = np.bincount(users, minlength=len(data.user_ids))
        evaluated = np.flatnonzero(counts >= first + later)
        if not len(evaluated):
            raise ParameterError(
                f"No user has {first + later} items: {first} for support sets and `later`={later}. "
                f"The largest number of items is {counts.max(initial=0)}. Use fewer events or a "
                "smaller `later`.",
                "later",
            )
        self.users = data.user_ids[evaluated]
        self.left_out = len(counts) - len(evaluated)
        position = np.arange(len(users)) - np.searchsorted(users, users)
        query_of_user = np.full(len(counts), -1)
        query_of_user[evaluated] = np.arange(len(evaluated))
        used = query_of_user[users] >= 0
        query, position = query_of_user[users[used]], position[used]
        row = spec.items.encode(data.item_ids)[items[used]]
        early = position < first
        self.rows = np.zeros((len(evaluated), first), np.int32)
        self.rows[query[early], position[early]] = row[early]
        shape = (len(evaluated), spec.catalogue_size)
        self.seen = _indicators(query[early], row[early], shape)
        self.relevant = _indicators(query[~early], row[~early], shape)
        self.outside = np.bincount(query[~early & (row == 0)], minlength=len(evaluated))

    def __len__(self) -> int:
        return len(self.users)

    def evaluate(
        self,
        score: SupportScores,
        shots: int,
        k: int = 10,
        metric: str = "ndcg",
        resamples: int = 0,
    ) -> Evaluation:
        """Evaluates a method that is given each user's first `shots` items.

        Args:
            score: the method.
            shots: from 0 to `first`.
            k: length of the lists.
            metric: a metric of `tfrec_meta.evaluation.METRICS`.
            resamples: bootstrap draws of users for the interval.
        """
        support = self.rows * (np.arange(self.rows.shape[1]) < shots)
        return full_catalogue(
            lambda rows: score(support[rows]),
            self.relevant,
            self.seen,
            k=k,
            metrics=(metric,),
            extra_relevant=self.outside,
            chunk=_USERS_PER_BLOCK,
            resamples=resamples,
        )


def adapted_scores(model: Recommender) -> SupportScores:
    """Returns the scores of a model that adapts to support sets.

    A model without `adapt` gets the support set as the user's history.
    """
    if not model.adapts:
        return history_scores(model)
    graph = tf.function(lambda items: model.adapt(items, tf.ones(tf.shape(items)))[0])
    concrete = graph.get_concrete_function(tf.TensorSpec([None, None], tf.int32))
    return lambda rows: np.asarray(concrete(tf.constant(rows, tf.int32)))


def history_scores(model: Recommender) -> SupportScores:
    """Returns the scores of any model, with support sets as histories of otherwise unknown users.

    Of a support set longer than the spec's `history_length`, the latest items are used, as in
    training and serving.
    """
    length = model.spec.history_length

    def score(rows: np.ndarray) -> np.ndarray:
        queries = model.spec.encode_queries([""] * len(rows))
        history = np.zeros((len(rows), max(length, rows.shape[1])), np.int32)
        for row, support in zip(history, rows, strict=True):
            known = support[support > 0][-length:]
            row[: len(known)] = known
        return model.score({**queries, "history": history[:, :length]})

    return score


def without_support(score: SupportScores) -> SupportScores:
    """Returns the scores of a method that is given empty support sets."""
    return lambda rows: score(np.zeros_like(rows))


def fine_tuned_scores(model: MetaLearned, steps: int, rate: float) -> SupportScores:
    """Returns the scores after plain gradient steps on a user vector.

    The vector starts at zero, where the scores equal the model's scores without support. Each step
    follows the gradient of the cross-entropy of the support set over the catalogue. The item
    vectors do not change.

    Args:
        model: provides the scores without support and the item vectors.
        steps: number of gradient steps.
        rate: learning rate.
    """
    later, factors = model.tables.later.numpy()[1:], model.tables.factors.numpy()

    def score(rows: np.ndarray) -> np.ndarray:
        count = np.maximum((rows > 0).sum(axis=1, keepdims=True), 1)
        target = factors[rows].sum(axis=1) / count  # row 0, of unknown items, is 0
        has_support = (rows > 0).any(axis=1, keepdims=True)
        vectors = np.zeros_like(target)
        for _ in range(steps):
            probability = tf.nn.softmax(later + vectors @ factors[1:].T).numpy()
            vectors += rate * has_support * (target - probability @ factors[1:])
        return np.asarray(later + vectors @ factors[1:].T, np.float32)

    return score


def _distinct_pairs(data: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Returns user and item codes of each pair's first event, by user, then time, then row."""
    times = data.times
    keys = (data.user_codes,) if times is None else (times, data.user_codes)
    order = np.lexsort(keys)
    pair = data.user_codes[order].astype(np.int64) * len(data.item_ids) + data.item_codes[order]
    _, first = np.unique(pair, return_index=True)
    order = order[np.sort(first)]
    return data.user_codes[order], data.item_codes[order]


def _indicators(
    query: np.ndarray, row: np.ndarray, shape: tuple[int, int]
) -> scipy.sparse.csr_matrix:
    """Returns a matrix with 1 at each (query, item row - 1); unknown items (row 0) are left out."""
    known = row > 0
    ones = np.ones(int(known.sum()), np.float32)
    return scipy.sparse.csr_matrix((ones, (query[known], row[known] - 1)), shape=shape)
