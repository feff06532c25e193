"""The HTML page of a run: metrics, example recommendations, learning curves, data and settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.evaluation import Comparison, Evaluation, Evaluations
from tfrec_meta.evaluation.judged import SplitSummary
from tfrec_meta.reports import charts, formats, page

_TILES = ("events", "users", "items", "catalogue", "density", "span_days")
_PREDICTED = ("rmse", "mae", "log_loss", "accuracy")  # metrics of ratings and clicks
_DROPPED = "dropped: "  # before the reason, in a profile
_MANY = 0.01  # share of dropped rows from which the page begins with them
_MEANINGS = {
    "ndcg": "discounted gain of the relevant items among the first k, divided by that of the best "
    "possible list",
    "recall": "share of a user's relevant items that are among the first k",
    "hr": "hit rate: share of users with at least one relevant item among the first k",
    "precision": "share of the first k items that are relevant",
    "map": "mean over users of the sum of the precision at each hit, divided by min(relevant, k)",
    "mrr": "mean of 1/rank of the best relevant item, 0 if it is not among the first k",
    "auc": "probability that a relevant item is ranked above an irrelevant one",
    "coverage": "share of the catalogue that is recommended to at least one user",
    "popularity_lift": "how much more popular the recommended items are than the users' own items; "
    "0 means as popular, 1 means twice as popular",
}


def write_evaluation_page(path: Path | str, title: str, **parts: Any) -> Path:
    """Writes the page of a run; sections without data are left out.

    Args:
        path: the .html file. Its folder is created if necessary, and the file is written whole or
            not at all.
        title: the heading.
        **parts: see `render`.

    Returns:
        The path.
    """
    return page.write(path, render(title, **parts))


def render(
    title: str,
    profile: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    evaluations: Mapping[str, Evaluation] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
    personal: Sequence[tuple[str, str]] = (),
    notes: str | Sequence[str] = (),
    costs: Sequence[tuple[str, str]] = (),
) -> str:
    """Renders the page of a run.

    Args:
        title: the heading.
        profile: facts about the data, from `Interactions.profile()`.
        history: the learning curve, one dict per epoch: "epoch" and any numbers. Each loss and each
            metric gets a chart.
        evaluations: by model. The first is highlighted; the others are baselines. `Evaluations`
            have also the differences to the baselines, their settings, and the parts of the split.
        examples: dicts with "user", or a "heading" in its place, "history" (titles, latest first)
            and "recommendations" (titles, or (title, score) pairs, best first).
        config: the settings; nested mappings are flattened.
        personal: the columns that look personal, each with what happens to it.
        notes: paragraphs at the top of the page.
        costs: figures of memory and latency with their names.

    Returns:
        The HTML.
    """
    profile, evaluations = profile or {}, Evaluations.of(evaluations or {})
    dropped = {
        key.removeprefix(_DROPPED): int(count)
        for key, count in profile.items()
        if key.startswith(_DROPPED) and count
    }
    rows = sum(dropped.values()) + int(profile.get("events", 0))
    first = next(iter(evaluations.values()), None)
    names = list(dict.fromkeys(name for e in evaluations.values() for name in e.metrics))
    return page.render(
        "evaluation.html",
        title=title,
        notes=[notes] if isinstance(notes, str) else list(notes),
        model_names=list(evaluations),
        metrics=[
            {
                "name": name,
                "cells": [formats.estimate(e.metrics.get(name)) for e in evaluations.values()],
            }
            for name in names
        ],
        metric=names[0] if names else "",
        forests=[
            ("on-wide", _forest(evaluations, 760.0, 6)),
            ("on-phone", _forest(evaluations, 340.0, 4)),
        ],
        counts=first.counts if first else {},
        recommend_history=first.recommend_history if first else False,
        difference=_difference(evaluations),
        differences=_differences(evaluations),
        groups=_groups(evaluations),
        predictions=_predictions(evaluations),
        baselines=[
            (name, str(chosen)) for name, chosen in evaluations.settings.items() if chosen.config
        ],
        meanings=[
            (name, _MEANINGS[base])
            for name in names
            if (base := name.partition("@")[0]) in _MEANINGS
        ],
        examples=[_example(example) for example in examples],
        charts=_charts(history),
        tiles=[
            (formats.label(key), formats.value(profile[key])) for key in _TILES if key in profile
        ],
        profile=[
            (formats.label(key), formats.value(value))
            for key, value in profile.items()
            if not key.startswith(_DROPPED)
        ],
        parts=_parts(evaluations.judged_on),
        cold=_cold(evaluations.judged_on),
        dropped=[(formats.label(reason), f"{count:,}") for reason, count in dropped.items()],
        dropped_share=f"{sum(dropped.values()) / rows:.1%}" if dropped else "",
        many_dropped=bool(dropped) and sum(dropped.values()) >= _MANY * rows,
        rows=rows,
        costs=costs,
        personal=personal,
        config=[(key, formats.value(value)) for key, value in formats.flatten(config or {})],
    )


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    named = f"User {example['user']}" if example.get("user") else "Unknown user"
    recommendations = []
    for entry in example.get("recommendations", ()):
        name, score = (entry, None) if isinstance(entry, str) else entry
        recommendations.append((name, "" if score is None else f"{float(score):.3f}"))
    return {
        "user": example.get("heading") or named,
        "history": list(example.get("history", ())),
        "recommendations": recommendations,
    }


def _difference(evaluations: Evaluations) -> dict[str, str] | None:
    """Formats the paired difference to the best baseline; None if it is not known."""
    found: Comparison | None = evaluations.difference_to_best
    if found is None:
        return None
    if found.low > 0:
        verdict = "better than"
    elif found.high < 0:
        verdict = "worse than"
    else:
        verdict = "not distinguishable from"
    model, best = next(iter(evaluations)), evaluations.best_baseline or ""
    return {
        "model": model,
        "best": f"{model} with other settings" if best == f"{model} (baseline)" else best,
        "metric": found.metric,
        "verdict": verdict,
        "value": f"{found.difference:+.4f}",
        "interval": f"{found.low:+.4f} to {found.high:+.4f}",
        "p": f"{found.p:.3g}",
    }


def _differences(evaluations: Evaluations) -> list[dict[str, str]]:
    """Formats the paired difference to each baseline, one row per baseline."""
    return [
        {
            "name": name,
            "value": f"{one.difference:+.4f}",
            "interval": f"{one.low:+.4f} to {one.high:+.4f}",
            "p": f"{one.p:.3g}",
        }
        for name, one in evaluations.differences.items()
    ]


def _parts(split: SplitSummary | None) -> list[dict[str, Any]]:
    """The parts of the split that have events, one row per part."""
    if split is None:
        return []
    named = (("train", split.train), ("validation", split.validation), ("test", split.test))
    return [{"name": name, "size": part} for name, part in named if part.events]


def _cold(split: SplitSummary | None) -> list[tuple[str, str]]:
    """The shares of the test users and test items that are new."""
    if split is None or not split.test.events:
        return []
    shares = (
        ("new users", split.new_users, split.test.users),
        ("new items", split.new_items, split.test.items),
    )
    return [
        (f"{name} in the test", f"{count / total:.1%} ({count:,} of {total:,})")
        for name, count, total in shares
    ]


def _groups(evaluations: Evaluations) -> list[dict[str, Any]]:
    """Formats the main metric of each group of users and items, one row per group."""
    every = [one for one in evaluations.values() if one.groups]
    if len(every) < len(evaluations) or not every:
        return []
    return [
        {
            "name": group.label,
            "users": part.counts["queries"],
            "pairs": part.counts["relevant"],
            "cells": [
                formats.estimate(one.groups[group].metrics.get(evaluations.metric)) for one in every
            ],
        }
        for group, part in every[0].groups.items()
    ]


def _predictions(evaluations: Evaluations) -> dict[str, Any] | None:
    """Formats the metrics of predicted ratings and clicks; None without them."""
    columns = evaluations.predictions.columns()
    names = dict.fromkeys(name for found in columns.values() for name in found)
    if not names:
        return None
    return {
        "targets": list(evaluations.predictions),
        "columns": list(columns),
        "rows": [
            {"name": name, "cells": [formats.estimate(one.get(name)) for one in columns.values()]}
            for name in names
        ],
    }


def _forest(
    evaluations: Mapping[str, Evaluation], width: float, most_ticks: int
) -> dict[str, Any] | None:
    """Lays out the first metric, one row per model; None without a finite estimate."""
    metrics = [name for e in evaluations.values() for name in e.metrics]
    rows = [
        charts.ForestRow(
            name, found.value, found.low, found.high, f"{name}: {found}", "mine" * (place == 0)
        )
        for place, (name, evaluation) in enumerate(evaluations.items())
        if (found := evaluation.metrics.get(metrics[0])) is not None and math.isfinite(found.value)
    ]
    return charts.forest(rows, width=width, most_ticks=most_ticks) if rows else None


def _is_curve(name: str) -> bool:
    """Whether a number of the learning curve is a loss or a metric, and no time or rate."""
    metric = name.removeprefix("val_").partition("@")[0]
    return "loss" in name or metric in _MEANINGS or metric in _PREDICTED


def _charts(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lays out one line chart for each loss and each metric in the learning curve."""
    names = dict.fromkeys(key for record in history for key in record if _is_curve(key))
    drawn = []
    for name in names:
        points = [
            (float(record.get("epoch", place + 1)), float(value))
            for place, record in enumerate(history)
            if isinstance(value := record.get(name), (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
        ]
        if points:
            drawn.append(charts.epoch_chart(formats.label(name), points))
    return drawn
