"""Writes the HTML page of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfrec_meta.data import Split, user_histories
from tfrec_meta.evaluation import Evaluation
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
) -> Path:
    """Writes a self-contained HTML page of a run.

    Args:
        path: the .html file.
        model: the fitted model.
        split: what it was trained and evaluated on.
        evaluations: what `evaluate` gave.
        title: a heading.
        users: whose histories and recommendations to show; by default the test user with the
            middle-most number of past events.
        k: recommendations a user.

    Returns:
        The path.
    """
    if not len(users):
        asked = split.test.user_ids
        counts = np.diff(interaction_matrix(split.past, asked, model.spec.items).indptr)
        users = [asked[np.argsort(counts, kind="stable")[len(counts) // 2]]]
    strangers = sorted(set(users) - set(split.data.user_ids))
    if strangers:
        raise ValueError(f"`users` names {strangers}, of whom the data has no events.")
    titles = item_titles(model)
    latest = user_histories(split.past, users, 10)
    answers = recommend(model, users, split.past, k)
    examples = [
        {
            "user": user,
            "history": [titles.get(item, item) for item in history[::-1] if item],
            "recommendations": [(each.title or each.item_id, each.score) for each in answer],
        }
        for user, history, answer in zip(users, latest, answers, strict=True)
    ]
    return write_evaluation_page(
        path,
        title=title or f"{model.family} on {split.data.name}",
        profile=split.data.profile(),
        history=list(model.curve),
        evaluations=dict(evaluations),
        examples=examples,
        config={
            "family": model.family,
            "split": split.description,
            **dataclasses.asdict(model.config),
        },
    )
