"""Compares two trained runs on the same test events, paired by user."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfrec_meta.checks import check, whole_number
from tfrec_meta.data import Interactions, Split
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.comparison import PairedEvaluations, compare_all, compare_predictions
from tfrec_meta.workflows.run_settings import single_settings

if TYPE_CHECKING:
    from tfrec_meta.workflows.runs import Run

# The settings on which the test events, and the past of the test users, depend.
_OF_EVENTS = ("data", "feedback", "split", "seed")


def compare_runs(
    first: Run,
    second: Run,
    *,
    k: int = 10,
    resamples: int = 1000,
    recommend_history: bool = False,
) -> PairedEvaluations:
    """Evaluates the models of two runs as `evaluate` does, and pairs the results by user.

    The runs may differ in everything that leaves the test events and the past of the users the
    same, such as the strategy, the weights of events or the tables of attributes.

    Args:
        first, second: trained runs.
        k: length of the ranked lists.
        resamples: bootstrap draws of users, 1 or more.
        recommend_history: as in `evaluate`; by default as in the runs.

    Returns:
        Two evaluations with their differences, named after the run folders. Of two models of
        ratings or of clicks, the predictions of the test events are compared, too.

    Raises:
        FileNotFoundError: if a run is not trained.
        ValueError: if the runs are the same, or have other test events; the message has the
            settings that differ.
    """
    check("k", k, whole_number(1))
    check("resamples", resamples, whole_number(1, 1_000_000))
    runs = (first, second)
    names = [run.folder.resolve().name for run in runs]
    if first.folder.resolve() == second.folder.resolve():
        raise ParameterError(f"`runs` names {first.folder} twice; compare two runs.", "runs")
    if names[0] == names[1]:
        names = [str(run.folder) for run in runs]
    for run in runs:
        run.check_trained()
    habits = [recommend_history or run.settings["recommend_history"] for run in runs]
    if habits[0] != habits[1]:
        raise ParameterError(
            f"{first.folder} has the setting recommend_history={habits[0]} and {second.folder} "
            f"{habits[1]}, so they rank other items. Use `recommend_history` for both.",
            "recommend_history",
        )
    splits = _same_events(first, second)

    # After all errors that need no TensorFlow.
    from tfrec_meta.workflows.evaluate import evaluate, predict_test_events

    evaluations, predicted = {}, {}
    for name, run, split in zip(names, runs, splits, strict=True):
        model = run.model()
        found = evaluate(
            model, split, k=k, baselines=(), recommend_history=habits[0], resamples=resamples
        )
        (evaluations[name],) = found.values()
        predicted[name] = predict_test_events(model, split) if model.targets else {}
    users = first.split.test.user_codes
    return _with_predictions(compare_all(evaluations, resamples), predicted, users, resamples)


def _with_predictions(
    compared: PairedEvaluations,
    predicted: Mapping[str, Mapping[str, tuple[np.ndarray, ...]]],
    users: np.ndarray,
    resamples: int,
) -> PairedEvaluations:
    """Adds the comparison of the targets that both models predict.

    Args:
        compared: of the rankings.
        predicted: by run, the labels and predictions of the test events for each target.
        users: int [n], the user of each event.
        resamples: bootstrap draws of users.
    """
    one, other = predicted.values()
    predictions, notes = {}, list(compared.notes)
    for target in [each for each in one if each in other]:
        labels = one[target][0]
        if np.array_equal(labels, other[target][0]):
            values = {name: targets[target][1] for name, targets in predicted.items()}
            predictions[target] = compare_predictions(target, labels, values, users, resamples)
        else:
            notes.append(
                f"The runs have other labels of the target {target!r}, so that its predictions are "
                "not compared."
            )
    return dataclasses.replace(compared, predictions=predictions, notes=notes)


def _same_events(first: Run, second: Run) -> tuple[Split, Split]:
    """Returns the splits of two runs, with the same test events and the same past events.

    Raises:
        ValueError: if these events differ.
    """
    settings = [dict(single_settings(_of_events(run))) for run in (first, second)]
    names = list(dict.fromkeys([*settings[0], *settings[1]]))
    differing = [name for name in names if settings[0].get(name) != settings[1].get(name)]
    if not differing:  # the data is read once
        return first.split, first.split
    splits = (first.split, second.split)
    parts = {
        "test": [split.test.positive_events() for split in splits],
        "past": [split.past.seen_events() for split in splits],
    }
    for part, (one, other) in parts.items():
        if not _same_pairs(one, other):
            differences = "; ".join(
                f"{name}={settings[0].get(name)!r} and {settings[1].get(name)!r}"
                for name in differing
            )
            raise ValueError(
                f"{first.folder} and {second.folder} cannot be compared, because their {part} "
                f"events differ ({len(one):,} and {len(other):,}). The settings differ in "
                f"{differences}. Train one of the runs again, in a new folder, with these settings "
                "of the other run."
            )
    return splits


def _of_events(run: Run) -> dict[str, object]:
    return {name: run.settings[name] for name in _OF_EVENTS}


def _same_pairs(one: Interactions, other: Interactions) -> bool:
    """Whether the events have the same users and items in the same order."""
    columns = ["user_id", "item_id"]
    return bool(one.events.select(columns).equals(other.events.select(columns)))
