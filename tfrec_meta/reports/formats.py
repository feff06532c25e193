"""Values, names and estimates as the HTML pages show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tfrec_meta.evaluation.intervals import Estimate


def value(content: Any) -> str:
    """Formats a value of any type.

    Numbers get thousands separators and about four significant digits; the elements of lists are
    joined by commas; other values are converted to text.

    Example:
        >>> value(12345.678)
        '12,345.7'
    """
    if content is None:
        return "none"
    if isinstance(content, (list, tuple, set, frozenset)):
        return ", ".join(value(part) for part in content) or "none"
    if isinstance(content, bool):
        return "yes" if content else "no"
    if not isinstance(content, (int, float)) or not math.isfinite(content):
        return str(content)
    if isinstance(content, int) or (content.is_integer() and abs(content) < 1e15):
        return f"{int(content):,}"
    return f"{content:,.1f}" if abs(content) >= 1000 else f"{content:.4g}"


def label(key: str) -> str:
    """Replaces the underscores of a field name by spaces."""
    return key.replace("_", " ")


def sentence(text: str) -> str:
    """Returns the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def thousands(number: int) -> str:
    """Formats an integer with thousands separators."""
    return f"{number:,}"


def flatten(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flattens a nested mapping into (path, value) pairs.

    Example:
        >>> flatten({"training": {"epochs": 20}})
        [('training.epochs', 20)]
    """
    rows: list[tuple[str, Any]] = []
    for key, inner in record.items():
        name = f"{prefix}{key}"
        rows += flatten(inner, f"{name}.") if isinstance(inner, Mapping) else [(name, inner)]
    return rows


def estimate(found: Estimate | None) -> dict[str, str]:
    """Formats an estimate as a table cell: `value` and `interval`, "" without an interval."""
    if found is None or not math.isfinite(found.value):
        return {"value": "-", "interval": ""}
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f"{found.low:.4f} to {found.high:.4f}"
    return {"value": f"{found.value:.4f}", "interval": interval}
