"""Numbers, frames and axes of the figures on a study's page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from tfrec_meta.reports import formats
from tfrec_meta.reports.charts import Scale, round_ticks
from tfrec_meta.tuning.studies.trial_records import Parameter


def number(value: float | None) -> str:
    """Formats an objective."""
    if value is None:
        return "–"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def cut(text: str, length: int) -> str:
    """Truncates a text to a length, with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def frame_of(
    width: float, height: float, left: float, right: float, top: float, bottom: float
) -> dict[str, float]:
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "top": top,
        "bottom": bottom,
    }


def path_of(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def without_outliers(values: Sequence[float], direction: str) -> tuple[float, float]:
    """Returns the range of the values without much worse ones, which would compress the others."""
    low, high = min(values), max(values)
    middle = statistics.median(values)
    if direction == "min":
        return low, (min(high, low + 4 * (middle - low)) if middle > low else high)
    return (max(low, high - 4 * (high - middle)) if middle < high else low), high


def is_range(parameter: Parameter) -> bool:
    return parameter.low is not None and parameter.high is not None


def parameter_axis(
    parameter: Parameter, values: Sequence[Any], start: float, end: float, spread: float = 0.3
) -> tuple[list[float | None], list[dict[str, Any]]]:
    """Returns positions of values on a hyperparameter's axis (None for None), and its ticks.

    Args:
        parameter: of the axis; values outside its range extend the axis.
        values: of the trials.
        start: position of the axis' start.
        end: position of the axis' end.
        spread: the share of a choice's width over which its trials are spread, so that lines do not
            hide one another.
    """
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    present = [value for value in values if value is not None]
    if is_range(parameter) and len(numbers) == len(present):
        assert parameter.low is not None
        assert parameter.high is not None
        low, high = min([parameter.low, *numbers]), max([parameter.high, *numbers])
        if parameter.log and low > 0:
            scale = Scale(low, high, start, end, _log_ticks(low, high), log=True)
        else:
            scale = Scale(low, high, start, end, _linear_ticks(low, high))
        return [None if value is None else scale(value) for value in values], scale.marks()
    choices = list(parameter.choices)
    choices += [value for value in dict.fromkeys(present) if value not in choices]
    width = (end - start) / len(choices)
    count: dict[int, int] = {}
    total = [present.count(choice) for choice in choices]
    positions: list[float | None] = []
    for value in values:
        if value is None:
            positions.append(None)
            continue
        index = choices.index(value)
        count[index] = count.get(index, 0) + 1
        offset = (count[index] - 0.5) / total[index] - 0.5  # -0.5 to 0.5
        positions.append(round(start + width * (index + 0.5 + spread * offset), 1))
    longest = max(3, int(width / 6.2))
    every = math.ceil(len(choices) * 24 / (end - start))
    ticks = [
        {
            "at": round(start + width * (index + 0.5), 1),
            "label": cut(formats.value(choice), longest),
        }
        for index, choice in enumerate(choices)
        if index % every == 0
    ]
    return positions, ticks


def _linear_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    if high <= low:
        return ((low, f"{low:.4g}"),)
    inner = [tick for tick in round_ticks(low, high, 5) if low <= tick <= high * (1 + 1e-12)]
    return tuple((tick, f"{tick:.4g}") for tick in inner)


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    leads = (1.0,) if last - first > 4 else (1.0, 2.0, 5.0) if last - first < 2 else (1.0, 3.0)
    inner = [lead * 10.0**power for power in range(first, last + 1) for lead in leads]
    slack = 1 + 1e-9
    found = [value for value in inner if low / slack <= value <= high * slack]
    return tuple((value, f"{value:.3g}") for value in found or [low])


def separate_labels(ticks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drops ticks whose labels would overlap the label before."""
    kept: list[dict[str, Any]] = []
    for tick in ticks:
        half = 3.1 * len(tick["label"])
        if not kept or tick["at"] - half > kept[-1]["at"] + 3.1 * len(kept[-1]["label"]) + 2:
            kept.append(tick)
    return kept
