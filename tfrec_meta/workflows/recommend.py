"""Recommends items for users by their past, and for newcomers by a few items each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec_meta.data import Interactions
from tfrec_meta.evaluation import top_k
from tfrec_meta.features.held_out import interaction_matrix, user_queries
from tfrec_meta.models import Recommender


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """An item, how well it fits (comparable within one answer), and its title, "" without one."""

    item_id: str
    score: float
    title: str = ""


def recommend(
    model: Recommender, users: Sequence[str], past: Interactions, k: int = 10
) -> list[list[Recommendation]]:
    """The best items for users, without those of their past; as a served model would answer.

    Args:
        model: a fitted model.
        users: ids; one of whom `past` knows nothing gets the model's prior.
        past: the events that are known, such as `split.train`; their users' histories.
        k: how many; an answer is shorter where the catalogue is.

    Returns:
        A list a user, best first.
    """
    tokens = np.asarray(users, object)
    if tokens.ndim != 1:
        raise ValueError(f"`users`={users!r}; give a list of ids, as ['42'].")
    queries = user_queries(model.spec, past, tokens)
    seen = interaction_matrix(past, tokens, model.spec.items)
    length = min(k, model.spec.catalogue_size)

    def scores(rows: np.ndarray) -> np.ndarray:
        return model.score({name: value[rows] for name, value in queries.items()})

    best, values = top_k(scores, np.arange(len(tokens)), length, seen)
    titles, answers = item_titles(model), []
    for columns, row in zip(best, values, strict=True):
        left = columns >= 0  # someone may have seen nearly all of a small catalogue
        ids = model.spec.items.decode(columns[left] + 1)
        pairs = zip(ids, row[left], strict=True)
        answers.append([Recommendation(i, float(v), titles.get(i, "")) for i, v in pairs])
    return answers


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What a newcomer is recommended, best first, and how many support items the model knows."""

    items: list[Recommendation]
    support_used: int


def adapt(
    model: Recommender,
    support: Sequence[Sequence[str] | Mapping[str, float]],
    k: int = 10,
    exclude: Sequence[Sequence[str]] | None = None,
    features: Mapping[str, Any] | None = None,
) -> list[Adapted]:
    """Recommendations for newcomers by a few items each, as the signature `adapt` answers.

    Args:
        model: a fitted model of a family that adapts: "meta_learned" or "meta_ranker".
        support: of each newcomer, the ids of chosen items, or labels by id, from 0 (not for me) to
            1 (chosen), or ratings where the model predicts these. Unknown items are left out; with
            none at all the answer is zero-shot.
        k: how many; an answer is shorter where the catalogue is.
        exclude: of each newcomer, what is left out of the answer beside the support set.
        features: of "meta_ranker", raw columns of user features by name, a value each newcomer;
            those left out are unknown.

    Raises:
        ValueError: if the family doesn't adapt, or not by features; if `k` is below 1, `exclude` or
            a feature has other rows, or a support set is a single text.
    """
    function = model.serving_functions().get("adapt")
    if function is None:
        raise ValueError(f"Family {model.family!r} doesn't adapt. Train 'meta_learned'.")
    if features and not model.adapts_by_features:
        raise ValueError(
            f"Family {model.family!r} adapts by support sets alone. Leave out `features`."
        )
    if k < 1:
        raise ValueError(f"`k`={k}; use 1 or more.")
    if isinstance(support, str) or any(isinstance(given, str) for given in support):
        raise ValueError(f"`support`={support!r}; give a list of ids for each newcomer: [['i3']].")
    exclude = [()] * len(support) if exclude is None else exclude
    if len(exclude) != len(support):
        raise ValueError(f"`exclude` has {len(exclude)} rows for {len(support)} support sets.")
    if not len(support):
        return []
    rows = [model.spec.items.encode(np.array([*given], object)) for given in support]
    items = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    labels = np.full(items.shape, model.default_label, np.float32)
    for place, (row, given) in enumerate(zip(rows, support, strict=True)):
        items[place, : len(row)] = row
        if isinstance(given, Mapping):
            labels[place, : len(row)] = [*given.values()]
    further = []
    if features:
        further = [model.spec.encode_queries([""] * len(rows), features=features)]
    found, used = function(items, labels, *further)
    scores = found.numpy()
    for place, (row, left_out) in enumerate(zip(rows, exclude, strict=True)):
        hidden = np.append(row, model.spec.items.encode(np.array([*left_out], object)))
        scores[place, hidden[hidden > 0] - 1] = -np.inf
    titles, answers = item_titles(model), []
    for row, count in zip(scores, used.numpy(), strict=True):
        best = np.argsort(-row, kind="stable")[:k]
        best = best[np.isfinite(row[best])]
        pairs = zip(model.spec.items.decode(best + 1), row[best], strict=True)
        listed = [Recommendation(i, float(v), titles.get(i, "")) for i, v in pairs]
        answers.append(Adapted(listed, int(count)))
    return answers


def item_titles(model: Recommender) -> dict[str, str]:
    if model.items is None or "title" not in model.items.column_names:
        return {}
    ids, titles = model.items["item_id"].to_pylist(), model.items["title"].to_pylist()
    return {item: title for item, title in zip(ids, titles, strict=True) if title}
