"""The HTML page of k-shot curves: how well methods recommend to new users, by number of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfrec_meta.evaluation import Evaluation
from tfrec_meta.reports import charts, formats, page


def write_cold_start_page(
    path: Path | str,
    title: str,
    evaluations: Mapping[str, Mapping[int, Evaluation]],
    metric: str,
    conclusions: Sequence[str],
    *,
    protocol: str,
    left_out: int = 0,
    settings: Mapping[str, Mapping[int, str]] | None = None,
    tuned: bool = False,
) -> Path:
    """Writes the page, whole or not at all.

    Args:
        path: the .html file; its folder is created if necessary.
        title: the heading.
        evaluations: by method, the evaluated model first, then by number of events.
        metric: name of the metric that is shown, such as "ndcg@10".
        conclusions: one sentence per number of events.
        protocol: how the users were held out, in words.
        left_out: held-out users with too few events to be evaluated.
        settings: of the other methods, by method and number of events.
        tuned: whether these settings were chosen on validation users.

    Returns:
        The path.
    """
    model, first = next(iter(evaluations.items()))
    shots = list(first)
    text = page.render(
        "cold_start.html",
        title=title,
        metric=metric,
        shots=shots,
        model=model,
        rows=[
            {"name": name, "cells": [formats.estimate(one[metric]) for one in by_shots.values()]}
            for name, by_shots in evaluations.items()
        ],
        chart=charts.shot_curves(
            shots,
            {
                name: [one[metric].value for one in by_shots.values()]
                for name, by_shots in evaluations.items()
            },
            [one[metric] for one in first.values()],
        ),
        conclusions=conclusions,
        counts=first[shots[0]].counts,
        settings=[
            (name, [by_shots.get(count, "") for count in shots])
            for name, by_shots in (settings or {}).items()
        ],
        tuned=tuned,
        protocol=protocol,
        left_out=left_out,
    )
    return page.write(path, text)
