"""The search for a strategy on the page of a run: its trials, and the best hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tfrec_meta.pipeline.node_ids import NodeId
from tfrec_meta.pipeline.pages import artifact_files, page_text
from tfrec_meta.pipeline.pages.run_records import MissingError, Run
from tfrec_meta.pipeline.runners.run_folder import NodeState
from tfrec_meta.reports import charts, formats

_MAX_TRIALS = 200


def search(run: Run) -> dict[str, Any]:
    """Returns the trials, the best hyperparameters, and a plot."""
    nothing: dict[str, Any] = {"link": "", "trials": [], "best": []}
    node = run.node(NodeId.TUNER)
    if node is None:
        node = run.node(NodeId.LAST_STRATEGY)
        if node is None or not node.outputs:
            return {**nothing, "words": "No search: this pipeline has no Tuner."}
    try:
        found = artifact_files.read_search(node)
    except MissingError as error:
        why = str(error) if node.outputs else f"The {node.id} {page_text.why_no_output(node)}."
        return {**nothing, "words": f"No result of a search: {why}"}
    trials = found.trials[:_MAX_TRIALS]
    columns = list(dict.fromkeys(name for trial in trials for name in trial.values))
    varied = [
        name
        for name in columns
        if len({formats.value(trial.values.get(name)) for trial in trials}) > 1
    ]
    if len(trials) == 1:
        varied = columns
    shown = varied[:10]
    words = f"{len(found.trials)} trials" if len(found.trials) != 1 else "1 trial"
    words += " in this run." if node.state == NodeState.RAN else ", taken from an earlier run."
    if node.id == NodeId.LAST_STRATEGY:
        words = "No search in this run: it used the best strategy of the last search."
    return {
        "words": words,
        "link": page_text.relative_link(found.page, run.folder) if found.page else "",
        "objective": found.objective or "score",
        "columns": shown,
        "trials": [
            {
                "id": trial.id,
                "best": bool(found.best_trial) and trial.id == found.best_trial,
                "score": "–" if trial.score is None else f"{trial.score:.4f}",
                "error": page_text.shortened(trial.error.partition("\n")[0], 120),
                "seconds": "" if trial.seconds is None else page_text.duration(trial.seconds),
                "cells": [
                    formats.value(trial.values[n]) if n in trial.values else "–" for n in shown
                ],
            }
            for trial in trials
        ],
        "timed": any(trial.seconds is not None for trial in trials),
        "best": [(name, formats.value(value)) for name, value in found.best.items()],
        "plot": _plot(trials, found.best_trial, found.objective or "score"),
    }


def _plot(
    trials: Sequence[artifact_files.Trial], best: str, objective: str
) -> dict[str, Any] | None:
    """Returns the geometry of the objective by trial; None with fewer than two scores."""
    scored = [(index, trial) for index, trial in enumerate(trials) if trial.score is not None]
    if len(scored) < 2:
        return None
    width, height, left, right, top, bottom = 720.0, 190.0, 56.0, 708.0, 10.0, 160.0
    scores = [trial.score for _, trial in scored if trial.score is not None]
    ticks = charts.round_ticks(min(scores), max(scores), 4)
    step = (right - left) / max(len(trials) - 1, 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    every = math.ceil(len(trials) / 20)
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "ticks": [{"at": y(tick), "label": f"{tick:.4g}"} for tick in ticks],
        "labels": [
            {"at": round(left + index * step, 1), "label": trial.id}
            for index, trial in enumerate(trials)
            if index % every == 0
        ],
        "points": [
            {
                "x": round(left + index * step, 1),
                "y": y(trial.score or 0.0),
                "best": trial.id == best,
                "label": f"trial {trial.id}: {objective} {trial.score:.4f}",
            }
            for index, trial in scored
        ],
    }
