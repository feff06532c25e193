"""The HTML page of a distillation: teacher and students side by side, by slice of the catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.evaluation import Evaluation
from tfrec_meta.reports import formats, page


@dataclasses.dataclass(frozen=True)
class ModelResult:
    """One model on the page.

    Attributes:
        name: such as "student".
        evaluations: by slice of the catalogue.
        parameters: how many numbers the model stores.
        milliseconds: time per query.
        highlighted: whether the model stands out.
    """

    name: str
    evaluations: Mapping[str, Evaluation]
    parameters: int
    milliseconds: float
    highlighted: bool = False


def write_distillation_page(
    path: Path | str,
    title: str,
    models: Sequence[ModelResult],
    *,
    metrics: Sequence[str],
    conclusions: Mapping[str, str],
    tiles: Sequence[tuple[str, str]],
) -> Path:
    """Writes the page, whole or not at all.

    Args:
        path: the .html file; its folder is created if necessary.
        title: the heading.
        models: at least one, all evaluated on the same slices.
        metrics: names of the metrics in the tables; bars show the first.
        conclusions: one sentence per slice.
        tiles: (name, value) pairs at the top of the page.

    Returns:
        The path.
    """
    slices = models[0].evaluations
    text = page.render(
        "distillation.html",
        title=title,
        models=models,
        tiles=tiles,
        slices=[
            {
                "name": name,
                "counts": evaluation.counts,
                "metrics": [
                    {
                        "name": metric,
                        "cells": [
                            formats.estimate(model.evaluations[name][metric]) for model in models
                        ],
                    }
                    for metric in metrics
                ],
                "bars": _bars(models, name, metrics[0]),
                "conclusion": conclusions[name],
            }
            for name, evaluation in slices.items()
        ],
    )
    return page.write(path, text)


def _bars(models: Sequence[ModelResult], items: str, metric: str) -> list[dict[str, Any]]:
    values = [model.evaluations[items][metric].value for model in models]
    best = max(values)
    return [
        {
            "name": model.name,
            "highlighted": model.highlighted,
            "value": f"{value:.4f}",
            "percent": f"{100 * value / best if best else 0:.1f}",
        }
        for model, value in zip(models, values, strict=True)
    ]
