"""Writes the HTML page of a trained and evaluated model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrec_meta.data import Split, user_histories
from tfrec_meta.data.ids import given_ids
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import Evaluation
from tfrec_meta.export.personal_data import used_columns
from tfrec_meta.features.held_out import held_out, interaction_matrix
from tfrec_meta.models import Recommender
from tfrec_meta.models.base.configs import read_config
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.reports.evaluation_page import write_evaluation_page
from tfrec_meta.training import TrainingConfig
from tfrec_meta.training.loop import history_kind
from tfrec_meta.training.optimizer_choice import optimizer_name
from tfrec_meta.workflows.recommend import item_titles, recommend
from tfrec_meta.workflows.run_settings import DEFAULTS

_TIMED_USERS = 20


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
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a self-contained HTML page about a model: metrics, recommendations, data, settings.

    Memory and latency are measured while the page is written.

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
        settings: of a run, in the form of its `run.json`; the page lists those that are in effect.
            By default it lists the split and the config of the model.

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
        config=_in_effect(settings, model, split)
        if settings
        else {
            "family": model.family,
            "split": split.description,
            **dataclasses.asdict(model.config),
        },
        costs=_costs(model, split),
    )


def _in_effect(settings: Mapping[str, Any], model: Recommender, split: Split) -> dict[str, Any]:
    """The settings of a run without those that have no effect or leave the data as it is."""
    strategy, usual = settings["strategy"], DEFAULTS["data"]
    data = {name: value for name, value in settings["data"].items() if value != usual[name]}
    if "clean" in data:
        data["clean"] = {
            rule: value for rule, value in data["clean"].items() if value != usual["clean"][rule]
        }
    found = {
        "data": {"source": settings["data"]["source"], **data},
        "feedback": {name: value for name, value in settings["feedback"].items() if value},
        "split": {name: one for name, one in settings["split"].items() if one is not None},
        "recommend_history": settings["recommend_history"],
        "seed": settings["seed"],
        "family": model.family,
        "model": _config(model, taught="teacher" in strategy),
    }
    if any(one.trains_by_steps for one in _with_members(model)):
        found["training"] = _recipe(read_config(TrainingConfig, strategy["training"]), model, split)
    found |= {name: strategy[name] for name in ("teacher", "use_weights") if name in strategy}
    return found


def _config(model: Recommender, taught: bool = False) -> dict[str, Any]:
    """The fields of the config of a model that are in effect, and those of its members."""
    without = {*model.idle_settings(taught), "members"}
    fields = {
        name: value
        for name, value in dataclasses.asdict(model.config).items()
        if name not in without
    }
    members = {
        f"member {number}": {"family": member.family, **_config(member)}
        for number, member in enumerate(model.members, 1)
    }
    return {**fields, **members}


def _recipe(config: TrainingConfig, model: Recommender, split: Split) -> dict[str, Any]:
    """The fields of a recipe that are in effect, with what "auto" has become."""
    found = dataclasses.asdict(config)
    found["history"] = history_kind(config, split.train)
    found["history_length"] = min(config.history_length, model.spec.history_length)
    if isinstance(model, TrainableRecommender):
        found["optimizer"] = optimizer_name(config, model)
    without = {"seed"}  # that of the run
    if found["optimizer"] not in ("auto", "adamw", "lazy_adamw"):
        without.add("weight_decay")
    if not config.adversarial_weight:
        without.add("adversarial_size")
    if not len(split.validation_index):
        without.add("patience")
    if config.accumulation == 1:
        without.add("accumulation")
    is_off = (0, False, "none")
    return {
        name: value for name, value in found.items() if name not in without and value not in is_off
    }


def _costs(model: Recommender, split: Split) -> list[tuple[str, str]]:
    """The size of a model, its training time, and the time to score the catalogue for a user."""
    arrays = [array for one in _with_members(model) for array in one.state().values()]
    found = [
        ("numbers in the model", f"{sum(array.size for array in arrays):,}"),
        ("memory of the model", f"{sum(array.nbytes for array in arrays) / 1e6:,.2f} MB"),
    ]
    seconds = sum(line.get("seconds", 0.0) for line in model.curve)
    if seconds:
        found.append((f"training, {len(model.curve)} epochs", f"{seconds:,.1f} s"))
    users = split.test.user_ids[:_TIMED_USERS]
    queries = held_out(model.spec, split.past, split.test, np.asarray(users, object)).queries
    milliseconds = []
    for row in range(-1, len(users)):  # the first call traces the graph
        one = {name: value[max(row, 0)][None] for name, value in queries.items()}
        began = time.perf_counter()
        model.score(one)
        milliseconds.append(1000 * (time.perf_counter() - began))
    median = float(np.median(milliseconds[1:]))
    return [*found, ("to score all items for a user", f"{median:.3g} ms")]


def _with_members(model: Recommender) -> Iterator[Recommender]:
    yield model
    for member in model.members:
        yield from _with_members(member)


def check_users(split: Split, users: Sequence[str]) -> None:
    """Raises a ParameterError if some users have no events in the data."""
    unknown = sorted(set(users) - set(split.data.user_ids))
    if unknown:
        raise ParameterError(f"`users` has {unknown}, who have no events in the data.", "users")
