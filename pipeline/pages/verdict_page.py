"""The page of the ranking gate's verdict; self-contained, and without any script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_meta.pipeline.gates.verdict import (
    Check,
    Outcome,
    Reference,
    SliceName,
    Verdict,
    shown_metric,
    shown_slice,
)
from tfrec_meta.reports import charts, formats, page


def render(
    verdict: Verdict,
    facts: Mapping[str, Any],
    signature: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Returns the page.

    Args:
        verdict: the verdict.
        facts: the compared models and the settings, shown as they are, nested or not.
        signature: the metrics of `evaluator.read_metrics`.
    """
    reasons = [
        formats.sentence(c.words) + "." for c in verdict.checks if c.outcome == Outcome.FAILED
    ]
    return page.render(
        "verdict.html",
        blessed=verdict.blessed,
        words=verdict.words,
        reasons=reasons,
        notes=verdict.notes,
        groups=_groups(verdict.checks),
        rows=[_row(check) for check in verdict.checks],
        signature=[_signature_row(name, values) for name, values in (signature or {}).items()],
        facts=[
            (formats.label(name), formats.value(value)) for name, value in formats.flatten(facts)
        ],
    )


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _row(check: Check) -> dict[str, str]:
    interval = confidence = ""
    if check.low is not None and check.high is not None and check.confidence is not None:
        interval = f"{check.low:+.4f} to {check.high:+.4f}"
        confidence = f"{check.confidence * 100:.4g} %"
    return {
        "slice": shown_slice(check.slice),
        "metric": shown_metric(check.metric),
        "against": check.against.words,
        "users": "-" if check.against == Reference.THRESHOLD else f"{check.users:,}",
        "model": _number(check.model),
        "other": _number(check.other),
        "difference": _number(check.difference, "+.4f"),
        "interval": interval,
        "confidence": confidence,
        "outcome": check.outcome,
    }


def _signature_row(name: str, values: Mapping[str, float]) -> dict[str, str]:
    return {
        "slice": name or SliceName.ALL_USERS.label,
        "events": _number(values.get("example_count"), ",.0f"),
        "auc": _number(values.get("auc")),
        "auc_precision_recall": _number(values.get("auc_precision_recall")),
        "positives": _number(values.get("mean_label"), ".1%"),
        "calibration": _number(values.get("calibration"), ".3f"),
    }


def _groups(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Returns one figure per metric, for each reference model."""
    groups = []
    for against in (Reference.POPULARITY, Reference.LAST_BLESSED):
        drawn = [c for c in checks if c.against == against and c.difference is not None]
        metrics = dict.fromkeys(check.metric for check in drawn)
        figures = [_figure([c for c in drawn if c.metric == metric]) for metric in metrics]
        if figures:
            groups.append({"against": against.words, "figures": figures})
    return groups


def _figure(checks: Sequence[Check]) -> dict[str, Any]:
    """Returns the geometry of one forest plot: one row per slice, and a line at difference 0."""
    rows = [
        charts.ForestRow(
            shown_slice(check.slice),
            check.difference or 0.0,
            check.low or 0.0,
            check.high or 0.0,
            check.words,
            check.outcome,
        )
        for check in checks
    ]
    return {
        **charts.forest(rows, most_ticks=5, digits=3, reference=0.0),
        "metric": shown_metric(checks[0].metric),
        "against": checks[0].against.words,
    }
