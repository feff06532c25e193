"""Writes the HTML page of a trained and evaluated model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfrec_meta.data import Split, user_histories
from tfrec_meta.data.ids import given_ids
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import Evaluation
from tfrec_meta.export.personal_data import used_columns
from tfrec_meta.features.held_out import interaction_matrix
from tfrec_meta.models import Recommender
from tfrec_meta.reports.evaluation_page import write_evaluation_page
from tfrec_meta.workflows.recommend import item_titles, recommend


def report(
    path: Path | str,
    model: Recommender,
    split: Split,
    evaluations: Mapping[str, Evaluation],
    *,
    title: str = "",
    users: Sequence[str] = (),
    k: int = 10,
    recommend_history: bool = False,
) -> Path:
    """Writes a self-contained HTML page about a model: metrics, recommendations, data, settings.

    Args:
        path: the .html file.
        model: the fitted model.
        split: the split on which the model was trained and evaluated.
        evaluations: the result of `evaluate`.
        title: the heading; by default the family and the name of the data.
        users: users whose histories and recommendations are shown. By default the test user with
            the median number of past items, without the user's id.
        k: recommendations per user.
        recommend_history: as in `recommend`.

    Returns:
        The path.

    Raises:
        ValueError: if `users` has users without events.
    """
    named = len(users) > 0
    users = given_ids(users, "users").to_pylist()
    if not named:
        test_users = split.test.user_ids
        counts = np.diff(interaction_matrix(split.past, test_users, model.spec.items).indptr)
        users = [test_users[np.argsort(counts, kind="stable")[len(counts) // 2]]]
    check_users(split, users)
    titles = item_titles(model)
    histories = user_histories(split.past, users, 10)
    answers = recommend(model, users, split.past, k, recommend_history=recommend_history)
    examples = [
        {
            "user": user if named else "",
            "heading": "" if named else "A test user",
            "history": [titles.get(item, item) for item in history[::-1] if item],
            "recommendations": [(each.title or each.item_id, each.score) for each in answer],
        }
        for user, history, answer in zip(users, histories, answers, strict=True)
    ]
    return write_evaluation_page(
        path,
        title=title or f"{model.family} on {split.data.name}",
        profile=split.data.profile(),
        history=list(model.curve),
        evaluations=evaluations,
        examples=examples,
        personal=[(str(used.column), used.use.sentence) for used in used_columns(model)],
        config={
            "family": model.family,
            "split": split.description,
            **dataclasses.asdict(model.config),
        },
    )


def check_users(split: Split, users: Sequence[str]) -> None:
    """Raises a ParameterError if some users have no events in the data."""
    unknown = sorted(set(users) - set(split.data.user_ids))
    if unknown:
        raise ParameterError(f"`users` has {unknown}, who have no events in the data.", "users")
