"""Recommends items to users by their history, and to new users by a few items each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from tfrec_meta.checks import check, whole_number
from tfrec_meta.data import Interactions
from tfrec_meta.data.ids import given_ids
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import top_k
from tfrec_meta.evaluation.ranking import Scores
from tfrec_meta.features.held_out import interaction_matrix, user_queries
from tfrec_meta.models import Recommender


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """A recommended item.

    Attributes:
        item_id: id of the item.
        score: the higher, the better; comparable within one answer.
        title: title of the item, "" if it has none.
    """

    item_id: str
    score: float
    title: str = ""


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Recommendations to a new user.

    Attributes:
        items: recommended items, best first.
        support_used: how many items of the support set are in the model's catalogue.
    """

    items: list[Recommendation]
    support_used: int


def recommend(
    model: Recommender,
    users: Sequence[str],
    past: Interactions,
    k: int = 10,
    *,
    recommend_history: bool = False,
) -> list[list[Recommendation]]:
    """Returns the best items for users, as in serving.

    Args:
        model: a fitted model.
        users: [n] user ids, text or whole numbers. A user without events in `past` gets the model's
            prior.
        past: known events, such as `split.train`; they are the users' histories.
        k: number of items; lists are shorter if the catalogue has fewer items left.
        recommend_history: whether items of the users' histories are recommended again. By default
            they are left out, as in an export without this option of `ExportConfig`.

    Returns:
        One list per user, best first.

    Raises:
        ValueError: if `users` is not a list, or `k` is below 1.
        TypeError: if an id is neither text nor a whole number.

    Example:
        >>> import tfrec_meta as tm
        >>> data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
        >>> model = tm.train(data, "ease", progress=False)
        >>> [len(items) for items in tm.recommend(model, data.user_ids[:2], data, k=3)]
        [3, 3]
    """
    check("k", k, whole_number(1))
    tokens = given_ids(users, "users").to_numpy(zero_copy_only=False)
    queries = user_queries(model.spec, past, tokens)

    def score(rows: np.ndarray) -> np.ndarray:
        return model.score({name: value[rows] for name, value in queries.items()})

    distinct, row = np.unique(tokens.astype(str), return_inverse=True)
    hidden = interaction_matrix(past.seen_events(), distinct, model.spec.items)[row]
    if recommend_history:
        hidden = scipy.sparse.csr_matrix(hidden.shape, dtype=np.float32)
    return _best_items(model, score, hidden, k)


def adapt(
    model: Recommender,
    support: Sequence[Sequence[str] | Mapping[str, float]],
    k: int = 10,
    exclude: Sequence[Sequence[str]] | None = None,
    features: Mapping[str, Any] | None = None,
) -> list[Adapted]:
    """Recommends to new users by a few items each, like the signature `adapt`.

    Args:
        model: a fitted model of a family that adapts: "meta_learned" or "meta_ranker".
        support: for each user, the ids of chosen items, or a label by id: from 0 (disliked) to 1
            (chosen), or a rating if the model predicts ratings. Unknown items are ignored. An
            empty support set gives zero-shot recommendations.
        k: number of items; lists are shorter if the catalogue has fewer items left.
        exclude: for each user, further ids to leave out. Items of the support set are always left
            out.
        features: for "meta_ranker", raw user features by name, one value per user. Missing features
            are treated as unknown.

    Returns:
        One answer per user.

    Raises:
        ValueError: if the family does not adapt, or not by features; if `k` is below 1; if
            `exclude` or a feature has another number of rows; or if a support set is a single
            string.
    """
    if not model.adapts:
        raise ParameterError(
            f"`model` is of family {model.family!r}, which does not adapt. Train 'meta_learned'.",
            "model",
        )
    if features and not model.adapts_by_features:
        raise ParameterError(
            f"`features` is given, but family {model.family!r} adapts by support sets alone. Leave "
            "out `features`.",
            "features",
        )
    check("k", k, whole_number(1))
    if isinstance(support, str | bytes) or any(isinstance(one, str | bytes) for one in support):
        raise ParameterError(
            f"`support`={support!r}; use a list of ids for each user, such as [['i3']].", "support"
        )
    exclude = [()] * len(support) if exclude is None else exclude
    if len(exclude) != len(support):
        raise ParameterError(
            f"`exclude` has {len(exclude)} rows, but `support` has {len(support)}; use one row per "
            "user.",
            "exclude",
            "support",
        )
    if not len(support):
        return []
    rows = [_item_rows(model, one, "support") for one in support]
    items = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    labels = np.full(items.shape, model.default_label, np.float32)
    for index, (row, one) in enumerate(zip(rows, support, strict=True)):
        items[index, : len(row)] = row
        if isinstance(one, Mapping):
            labels[index, : len(row)] = [*one.values()]
    encoded = model.spec.encode_queries([""] * len(rows), features=features) if features else None
    scores, used = model.adapt(items, labels, encoded)
    hidden = [
        np.append(row, _item_rows(model, ids, "exclude"))
        for row, ids in zip(rows, exclude, strict=True)
    ]
    matrix = scores.numpy()
    lists = _best_items(model, lambda rows: matrix[rows], _indicators(model, hidden), k)
    return [Adapted(*pair) for pair in zip(lists, map(int, used.numpy()), strict=True)]


def item_titles(model: Recommender) -> dict[str, str]:
    """Returns titles by item id, for items that have one."""
    if model.items is None or "title" not in model.items.column_names:
        return {}
    ids, titles = model.items["item_id"].to_pylist(), model.items["title"].to_pylist()
    return {item: title for item, title in zip(ids, titles, strict=True) if title}


def _item_rows(model: Recommender, ids: Any, name: str) -> np.ndarray:
    """Returns the catalogue rows of an argument's item ids, 0 for unknown ones."""
    return model.spec.items.encode(given_ids([*ids] if isinstance(ids, Mapping) else ids, name))


def _best_items(
    model: Recommender, scores: Scores, hidden: scipy.sparse.csr_matrix, k: int
) -> list[list[Recommendation]]:
    """Returns the best items of each row of scores, without the hidden ones."""
    length = min(k, model.spec.catalogue_size)
    best, values = top_k(scores, np.arange(hidden.shape[0]), length, hidden)
    titles, answers = item_titles(model), []
    for columns, row in zip(best, values, strict=True):
        present = columns >= 0  # fewer than k where nearly all items are hidden
        ids = model.spec.items.decode(columns[present] + 1)
        pairs = zip(ids, row[present], strict=True)
        answers.append([Recommendation(i, float(v), titles.get(i, "")) for i, v in pairs])
    return answers


def _indicators(model: Recommender, rows: Sequence[np.ndarray]) -> scipy.sparse.csr_matrix:
    """Returns a matrix [users, catalogue] with 1 at each user's known item rows."""
    known = [row[row > 0] - 1 for row in rows]
    counts = [len(row) for row in known]
    columns = np.concatenate(known)
    return scipy.sparse.csr_matrix(
        (np.ones(len(columns), np.float32), columns, np.concatenate([[0], np.cumsum(counts)])),
        shape=(len(rows), model.spec.catalogue_size),
    )
