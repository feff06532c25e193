"""Geometry of the curves over the number of events, for a page's SVG."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_meta.evaluation import Estimate
from tfrec_meta.reports import page

_WIDTH, _HEIGHT = 760.0, 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 610.0, 10.0, 328.0
_APART = 15.0  # lines of text


def chart(
    shots: Sequence[int], curves: Mapping[str, Sequence[float]], ours: Sequence[Estimate]
) -> dict[str, Any]:
    """Where everything stands.

    The horizontal axis goes by the root of the number of events: the first ones matter most.

    Args:
        shots: numbers of events, rising.
        curves: by method, ours first, a value for each number.
        ours: estimates of ours, whose intervals are drawn as a band.

    Returns:
        `width`, `height`, `left`, `right`, `bottom`, `x_ticks` and `y_ticks` (`at`, `label`),
        `band` (a polygon's points, "" without intervals) and `lines` in the order of `curves`:
        `name`, `points` (`x`, `y`, `label`), `label_y`.
    """
    ends = [value for curve in curves.values() for value in curve]
    ends += [end for one in ours for end in (one.low, one.high) if end is not None]
    ticks = page.ticks(min(ends), max(ends), 6)
    first, last = shots[0] ** 0.5, shots[-1] ** 0.5

    def x(count: int) -> float:
        share = (count**0.5 - first) / (last - first) if last > first else 0.5
        return round(_LEFT + (_RIGHT - _LEFT) * share, 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    band = ""
    if all(one.low is not None and one.high is not None for one in ours):
        high = [(x(n), y(one.high or 0.0)) for n, one in zip(shots, ours, strict=True)]
        low = [(x(n), y(one.low or 0.0)) for n, one in zip(shots, ours, strict=True)]
        band = " ".join(f"{left},{top}" for left, top in [*high, *low[::-1]])
    places = apart([y(curve[-1]) for curve in curves.values()], _APART, _BOTTOM)
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _RIGHT,
        "bottom": _BOTTOM,
        "x_ticks": [{"at": x(count), "label": f"{count}"} for count in shots],
        "y_ticks": [{"at": y(tick), "label": f"{tick:.4g}"} for tick in ticks],
        "band": band,
        "lines": [
            {
                "name": name,
                "label_y": place,
                "points": [
                    {"x": x(count), "y": y(value), "label": f"{value:.4f} after {count}"}
                    for count, value in zip(shots, curve, strict=True)
                ],
            }
            for (name, curve), place in zip(curves.items(), places, strict=True)
        ],
    }


def apart(wanted: Sequence[float], gap: float, bottom: float) -> list[float]:
    """Heights for labels, as near to what is wanted as a gap between them allows.

    Args:
        wanted: where each would stand, downwards.
        gap: least distance.
        bottom: below which none may stand.
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    found = list(wanted)
    for before, place in itertools.pairwise(order):
        found[place] = max(found[place], found[before] + gap)
    limit = bottom
    for place in reversed(order):
        found[place] = min(found[place], limit)
        limit = found[place] - gap
    return found
