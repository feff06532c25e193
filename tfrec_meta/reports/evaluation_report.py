"""The HTML report of a run.

The charts are small hand-made SVG, so that they follow the page's light or dark colours.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.evaluation.intervals import Estimate
from tfrec_meta.evaluation.protocol import Evaluation
from tfrec_meta.reports import page

_TILES = ("events", "users", "items", "catalogue", "density", "span_days")
_NOT_A_CURVE = ("epoch", "step", "steps")
_MEANINGS = {
    "ndcg": "gain of the relevant items in the first k, discounted by rank, over that of the best "
    "possible list",
    "recall": "share of a user's relevant items that is among the first k",
    "hr": "hit rate: share of users with at least one relevant item among the first k",
    "precision": "share of the first k that is relevant",
    "map": "mean over users of the precision at each hit, over min(relevant, k)",
    "mrr": "mean of 1/rank of the best relevant item, where it is among the first k",
    "auc": "chance that a relevant item is ranked above an irrelevant one",
    "coverage": "share of the catalogue that is recommended to anyone",
    "popularity_lift": "how much more popular the recommendations are than the users' own items; "
    "0 is as popular, 1 twice as popular",
}


def write_report(
    path: Path | str,
    title: str,
    profile: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    evaluations: Mapping[str, Evaluation] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
    notes: str | Sequence[str] = (),
) -> Path:
    """Writes the report; what is empty is left out of the page.

    Args:
        path: the .html file; its folder is made if need be, and the file appears whole or not
            at all.
        title: the heading.
        profile: facts about the data, as `Interactions.profile()` gives them.
        history: the learning curve, one dict an epoch: "epoch" and any numbers, each of which
            gets a chart.
        evaluations: by model; the first is ours and stands out, the others are baselines.
        examples: dicts with "user", "history" (titles, latest first) and "recommendations"
            (titles, or (title, score) pairs, best first).
        config: how the model was made; nested mappings are flattened.
        notes: paragraphs for the top of the page.

    Returns:
        The path.
    """
    text = render(title, profile, history, evaluations, examples, config, notes)
    return page.write(path, text)


def render(
    title: str,
    profile: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    evaluations: Mapping[str, Evaluation] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
    notes: str | Sequence[str] = (),
) -> str:
    """The page that `write_report` writes, as a string."""
    profile, evaluations = profile or {}, evaluations or {}
    names = list(dict.fromkeys(name for e in evaluations.values() for name in e.metrics))
    return page.render(
        "report.html",
        title=title,
        written=f"Written {datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC",
        notes=[notes] if isinstance(notes, str) else list(notes),
        model_names=list(evaluations),
        metrics=[_metric_row(name, evaluations) for name in names],
        forest=_forest(evaluations),
        protocol=_protocol(evaluations),
        meanings=[
            (name, _MEANINGS[base])
            for name in names
            if (base := name.partition("@")[0]) in _MEANINGS
        ],
        examples=[_example(example) for example in examples],
        charts=_charts(history),
        tiles=[(page.words(key), page.plain(profile[key])) for key in _TILES if key in profile],
        profile=[(page.words(key), page.plain(value)) for key, value in profile.items()],
        config=[(key, page.plain(value)) for key, value in page.flat(config or {})],
    )


def _metric_row(metric: str, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    cells = []
    for evaluation in evaluations.values():
        estimate = evaluation.metrics.get(metric, Estimate(math.nan))
        interval = ""
        if estimate.low is not None and estimate.high is not None:
            interval = f"{estimate.low:.4f} to {estimate.high:.4f}"
        value = f"{estimate.value:.4f}" if math.isfinite(estimate.value) else "-"
        cells.append({"value": value, "interval": interval})
    return {"name": metric, "cells": cells}


def _protocol(evaluations: Mapping[str, Evaluation]) -> str:
    if not evaluations:
        return ""
    counts = next(iter(evaluations.values())).counts
    text = (
        f"Every one of {counts['candidates']:,} items is ranked for each of {counts['queries']:,} "
        f"users, without the items they have seen; {counts['relevant']:,} test pairs are relevant; "
        "ties share the mean of their ranks. Intervals are 95 % bootstrap intervals over users."
    )
    for key, why in (("outside", "outside of the catalogue"), ("seen", "among the seen items")):
        if counts[key]:
            text += f" {counts[key]:,} of the relevant pairs are {why} and count as misses."
    return text


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    recommendations = []
    for entry in example.get("recommendations", ()):
        name, score = (entry, None) if isinstance(entry, str) else entry
        recommendations.append((name, "" if score is None else f"{float(score):.3f}"))
    return {
        "user": f"User {example['user']}" if example.get("user") else "Unknown user",
        "history": list(example.get("history", ())),
        "recommendations": recommendations,
    }


def _forest(evaluations: Mapping[str, Evaluation]) -> dict[str, Any] | None:
    """Geometry of the figure with one row a model: the first model's first metric."""
    metrics = [name for e in evaluations.values() for name in e.metrics]
    if not metrics:
        return None
    metric = metrics[0]
    rows = [
        (name, e.metrics[metric])
        for name, e in evaluations.items()
        if metric in e.metrics and math.isfinite(e.metrics[metric].value)
    ]
    if not rows:
        return None
    ends = [
        end
        for _, e in rows
        for end in (e.value, e.low, e.high)
        if end is not None and math.isfinite(end)
    ]
    ticks = page.ticks(min(ends), max(ends), 6)
    # About 6.6 units a character of the names at the left, which are not cut.
    left = 30 + 6.6 * max(len(name) for name, _ in rows)
    width, right = 760.0, 740.0

    def x(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return round(left + (right - left) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    return {
        "metric": metric,
        "width": width,
        "height": 26 * len(rows) + 26,
        "left": left,
        "ticks": [{"at": x(tick), "label": f"{tick:.4g}"} for tick in ticks],
        "rows": [
            {
                "name": name,
                "y": 17 + 26 * index,
                "x": x(e.value),
                "low": x(e.low),
                "high": x(e.high),
                "label": str(e),
            }
            for index, (name, e) in enumerate(rows)
        ],
    }


def _charts(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Geometry of one line chart for each number in the learning curve."""
    names = dict.fromkeys(key for record in history for key in record if key not in _NOT_A_CURVE)
    charts = []
    for name in names:
        points = [
            (float(record.get("epoch", place + 1)), float(value))
            for place, record in enumerate(history)
            if isinstance(value := record.get(name), (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
        ]
        if points:
            charts.append(_line_chart(page.words(name), points))
    return charts


def _line_chart(name: str, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    width, height, left, right, top, bottom = 340.0, 170.0, 52.0, 330.0, 8.0, 150.0
    epochs, values = [p[0] for p in points], [p[1] for p in points]
    ticks = page.ticks(min(values), max(values), 4)
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        middle = (left + right) / 2
        return (
            round(left + (right - left) * (epoch - first) / (last - first), 1)
            if (last > first)
            else middle
        )

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    whole = sorted({round(first + (last - first) * part / 4) for part in range(5)})
    return {
        "name": name,
        "last": f"{values[-1]:.4g}",
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "y_ticks": [{"at": y(tick), "label": f"{tick:.4g}"} for tick in ticks],
        "x_ticks": [{"at": x(epoch), "label": f"{epoch:g}"} for epoch in whole],
        "points": [
            {"x": x(epoch), "y": y(value), "epoch": f"{epoch:g}", "label": f"{value:.5g}"}
            for epoch, value in points
        ],
    }
