"""Geometry of the charts that several pages use.

Charts are SVG elements in the templates, so that they follow the light or dark colours of the page.
Each function returns a dict for `templates/macros.html`. Coordinates are SVG units.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_meta.evaluation.intervals import Estimate

_CHARACTER = 6.6  # width of a character of a row's name
_ROW = 26  # height of a row
_LABEL_GAP = 15.0  # height of a line of text


@dataclasses.dataclass(frozen=True)
class Scale:
    """Maps numbers to positions on an axis. Numbers beyond the ends are drawn at the ends.

    Attributes:
        low: number at `start`.
        high: number at `end`.
        start: position of the first end.
        end: position of the other end.
        ticks: numbers that are marked, with their labels.
        log: whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...] = ()
    log: bool = False

    def __call__(self, value: float) -> float:
        """Returns the position of a number, rounded to 0.1."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + (self.end - self.start) * share, 1)

    def marks(self) -> list[dict[str, Any]]:
        """Returns the ticks as dicts with their position (`at`) and `label`."""
        return [{"at": self(value), "label": label} for value, label in self.ticks]


def linear_scale(
    values: Sequence[float], start: float, end: float, most_ticks: int, digits: int = 4
) -> Scale:
    """Returns a linear scale that covers all values and has round numbers at both ends.

    Args:
        values: numbers to be drawn.
        start: position of the lowest number.
        end: position of the highest number.
        most_ticks: about how many ticks to draw.
        digits: significant digits of the labels.
    """
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # equal apart from rounding
        low = high = (low + high) / 2
    found = round_ticks(low, high, most_ticks)
    labels = tuple((tick, f"{tick:.{digits}g}") for tick in found)
    return Scale(found[0], found[-1], start, end, labels)


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Returns evenly spaced round numbers from `low` or below to `high` or above."""
    if high <= low:
        low, high = low - max(abs(low) * 0.1, 1e-3), high + max(abs(high) * 0.1, 1e-3)
    rough = (high - low) / (most - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * nice for nice in (1, 2, 2.5, 5, 10) if unit * nice >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * index for index in range(first, last + 1)]


@dataclasses.dataclass(frozen=True)
class ForestRow:
    """One row of a forest plot.

    Attributes:
        name: text at the left of the row.
        value: the estimate.
        low: lower end of the interval, or None.
        high: upper end of the interval, or None.
        title: text shown when the pointer is over the point.
        style: CSS class of the row.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    title: str
    style: str = ""


def forest(
    rows: Sequence[ForestRow],
    *,
    width: float | None = None,
    most_ticks: int = 6,
    digits: int = 4,
    reference: float | None = None,
) -> dict[str, Any]:
    """Lays out a forest plot: one row per estimate, with its interval as a horizontal line.

    Args:
        rows: at least one row; values are finite.
        width: of the chart; by default the names and 340 units.
        most_ticks: about how many ticks to draw.
        digits: significant digits of the tick labels.
        reference: number at which a vertical line is drawn; the axis covers it.

    Returns:
        `width`, `height`, `left` (where the axis begins), `ticks` (`at`, `label`), `reference`
        (position or None) and `rows` (`name`, `title`, `style`, `x`, `y`, `low`, `high`).
    """
    left = 30 + _CHARACTER * max(len(row.name) for row in rows)
    width = left + 340.0 if width is None else width
    ends = [end for row in rows for end in (row.value, row.low, row.high)]
    drawn = [end for end in (reference, *ends) if end is not None and math.isfinite(end)]
    scale = linear_scale(drawn, left, width - 20.0, most_ticks, digits)

    def x(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else scale(value)

    return {
        "width": round(width, 1),
        "height": _ROW * len(rows) + _ROW,
        "left": round(left, 1),
        "ticks": scale.marks(),
        "reference": x(reference),
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "style": row.style,
                "x": x(row.value),
                "y": 17 + _ROW * index,
                "low": x(row.low),
                "high": x(row.high),
            }
            for index, row in enumerate(rows)
        ],
    }


def epoch_chart(name: str, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Lays out a small line chart of one number by epoch.

    Args:
        name: caption of the chart.
        points: (epoch, value) pairs by rising epoch, at least one.

    Returns:
        `name`, `last` (the last value as text), `width`, `height`, `left`, `right`, `bottom`,
        `x_ticks` and `y_ticks` (`at`, `label`), and `points` (`x`, `y`, `epoch`, `label`).
    """
    width, height, left, right, top, bottom = 340.0, 170.0, 52.0, 330.0, 8.0, 150.0
    epochs, values = [point[0] for point in points], [point[1] for point in points]
    first, last = epochs[0], epochs[-1]
    parts = min(max(round(last - first), 1), 5)
    marked = sorted({round(first + (last - first) * part / parts) for part in range(parts + 1)})
    x = Scale(first, last, left, right, tuple((epoch, f"{epoch:g}") for epoch in marked))
    y = linear_scale(values, bottom, top, most_ticks=4)
    return {
        "name": name,
        "last": f"{values[-1]:.4g}",
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "bottom": bottom,
        "x_ticks": x.marks(),
        "y_ticks": y.marks(),
        "points": [
            {"x": x(epoch), "y": y(value), "epoch": f"{epoch:g}", "label": f"{value:.5g}"}
            for epoch, value in points
        ],
    }


def shot_curves(
    shots: Sequence[int], curves: Mapping[str, Sequence[float]], band: Sequence[Estimate]
) -> dict[str, Any]:
    """Lays out k-shot curves: a metric by the number of support events, one line per method.

    The horizontal axis is the square root of the number of events, which gives the first events
    more room.

    Args:
        shots: numbers of events, rising.
        curves: by method, one value per number of events; the first method has the band.
        band: estimates of the first method, whose intervals are drawn as a band.

    Returns:
        `width`, `height`, `left`, `right`, `bottom`, `x_ticks` and `y_ticks` (`at`, `label`),
        `band` (points of a polygon, "" without intervals) and `lines` in the order of `curves`:
        `name`, `points` (`x`, `y`, `label`), `label_y`.
    """
    width, height, left, right, top, bottom = 760.0, 360.0, 52.0, 610.0, 10.0, 328.0
    ends = [value for curve in curves.values() for value in curve]
    ends += [end for one in band for end in (one.low, one.high) if end is not None]
    marked = tuple((count**0.5, f"{count}") for count in shots)
    roots = Scale(shots[0] ** 0.5, shots[-1] ** 0.5, left, right, marked)
    y = linear_scale(ends, bottom, top, most_ticks=6)

    def x(count: int) -> float:
        return roots(count**0.5)

    polygon = ""
    if all(one.low is not None and one.high is not None for one in band):
        upper = [(x(n), y(one.high or 0.0)) for n, one in zip(shots, band, strict=True)]
        lower = [(x(n), y(one.low or 0.0)) for n, one in zip(shots, band, strict=True)]
        polygon = " ".join(f"{at},{level}" for at, level in [*upper, *lower[::-1]])
    label_heights = spread_labels([y(curve[-1]) for curve in curves.values()], _LABEL_GAP, bottom)
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "bottom": bottom,
        "x_ticks": roots.marks(),
        "y_ticks": y.marks(),
        "band": polygon,
        "lines": [
            {
                "name": name,
                "label_y": label_y,
                "points": [
                    {"x": x(count), "y": y(value), "label": f"{value:.4f} after {count}"}
                    for count, value in zip(shots, curve, strict=True)
                ],
            }
            for (name, curve), label_y in zip(curves.items(), label_heights, strict=True)
        ],
    }


def spread_labels(wanted: Sequence[float], gap: float, bottom: float) -> list[float]:
    """Moves labels apart so that they do not overlap.

    Args:
        wanted: preferred vertical position of each label, downwards.
        gap: smallest distance between two labels.
        bottom: lowest position.

    Returns:
        Positions in the order of `wanted`.

    Example:
        >>> spread_labels([10.0, 12.0, 50.0], gap=5.0, bottom=100.0)
        [10.0, 15.0, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    found = list(wanted)
    for before, index in itertools.pairwise(order):
        found[index] = max(found[index], found[before] + gap)
    limit = bottom
    for index in reversed(order):
        found[index] = min(found[index], limit)
        limit = found[index] - gap
    return found
