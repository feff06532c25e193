"""The ranking gate's verdict as a page for people; self-contained, and without any script."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_meta.pipeline.gates.blessing_rules import (
    LAST_BLESSED,
    LEAST,
    POPULARITY,
    WHOLE,
    Check,
    Verdict,
    shown_metric,
)
from tfrec_meta.reports import page

_OUTCOMES = {"passed": "passes", "failed": "blocks", "open": "can't tell"}


def render(
    verdict: Verdict,
    facts: Mapping[str, Any],
    signature: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """The page.

    Args:
        verdict: what was found.
        facts: what was judged, and the settings: shown as they are, nested or not.
        signature: what `evaluator.read_metrics` gave.
    """
    reasons = [_sentence(c.words) for c in verdict.checks if c.outcome == "failed"]
    return page.render(
        "verdict.html",
        blessed=verdict.blessed,
        words=verdict.words,
        reasons=reasons,
        written=f"{datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC",
        notes=verdict.notes,
        groups=_groups(verdict.checks),
        rows=[_row(check) for check in verdict.checks],
        signature=[_signature_row(name, values) for name, values in (signature or {}).items()],
        facts=[(page.words(name), page.plain(value)) for name, value in page.flat(facts)],
    )


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _row(check: Check) -> dict[str, str]:
    interval = confidence = ""
    if check.low is not None and check.high is not None and check.confidence is not None:
        interval = f"{check.low:+.4f} to {check.high:+.4f}"
        confidence = f"{check.confidence * 100:.4g} %"
    return {
        "slice": check.slice,
        "metric": shown_metric(check.metric),
        "against": check.against,
        "users": "-" if check.against == LEAST else f"{check.users:,}",
        "model": _number(check.model),
        "other": _number(check.other),
        "difference": _number(check.difference, "+.4f"),
        "interval": interval,
        "confidence": confidence,
        "outcome": check.outcome,
        "says": _OUTCOMES[check.outcome],
    }


def _signature_row(name: str, values: Mapping[str, float]) -> dict[str, str]:
    return {
        "slice": name or WHOLE,
        "events": _number(values.get("example_count"), ",.0f"),
        "auc": _number(values.get("auc")),
        "auc_precision_recall": _number(values.get("auc_precision_recall")),
        "positives": _number(values.get("mean_label"), ".1%"),
        "calibration": _number(values.get("calibration"), ".3f"),
    }


def _groups(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """A figure a metric, for each of those whom the model is compared with."""
    groups = []
    for against in (POPULARITY, LAST_BLESSED):
        drawn = [c for c in checks if c.against == against and c.difference is not None]
        metrics = dict.fromkeys(check.metric for check in drawn)
        figures = [_figure([c for c in drawn if c.metric == metric]) for metric in metrics]
        if figures:
            groups.append({"against": against, "figures": figures})
    return groups


def _figure(checks: Sequence[Check]) -> dict[str, Any]:
    """Geometry of one figure: a row a slice, and a line at no difference."""
    rows = [(c, c.difference or 0.0, c.low or 0.0, c.high or 0.0) for c in checks]
    ends = [0.0] + [end for _, *values in rows for end in values]
    scale = page.ticks(min(ends), max(ends), 5)
    # About 6.6 units a character of the names at the left, which are not cut.
    left = 30 + 6.6 * max(len(check.slice) for check in checks)
    width = left + 340.0
    right = width - 20.0

    def x(value: float) -> float:
        return round(left + (right - left) * (value - scale[0]) / (scale[-1] - scale[0]), 1)

    return {
        "metric": shown_metric(checks[0].metric),
        "against": checks[0].against,
        "width": round(width, 1),
        "height": 26 * len(rows) + 26,
        "left": round(left, 1),
        "zero": x(0.0),
        "ticks": [{"at": x(tick), "label": f"{tick:.3g}"} for tick in scale],
        "rows": [
            {
                "name": check.slice,
                "y": 17 + 26 * index,
                "x": x(mean),
                "low": x(low),
                "high": x(high),
                "outcome": check.outcome,
                "words": check.words,
            }
            for index, (check, mean, low, high) in enumerate(rows)
        ],
    }
