"""Where the boxes and arrows of a small directed graph go: layers from top to bottom.

Layers by longest path, order by neighbours' centres, positions by least squares; long arrows are
led around boxes through places of their own. Source: Sugiyama, Tagawa and Toda, "Methods for Visual
Understanding of Hierarchical System Structures", 1981.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

Edge = tuple[str, str]
Point = tuple[float, float]

_SWEEPS = 12
# An arrow that passes a layer takes so much of its width.
_LANE = 18.0


@dataclasses.dataclass(frozen=True)
class Layout:
    """A drawn graph, from (0, 0) at the top left.

    Args:
        width: of all, in the unit of the boxes.
        height: of all.
        boxes: node -> its top left corner.
        arrows: edge -> points that it passes, from the bottom of the one box to the top of the
            other.
    """

    width: float
    height: float
    boxes: Mapping[str, Point]
    arrows: Mapping[Edge, Sequence[Point]]


def reduced(nodes: Sequence[str], edges: Iterable[Edge]) -> list[Edge]:
    """The edges that no longer path implies; those of unknown nodes are left out.

    Raises:
        ValueError: if the graph has a cycle.
    """
    known = set(nodes)
    below: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in dict.fromkeys(edges):
        if source in known and target in known:
            below[source].append(target)
    reachable: dict[str, set[str]] = {}
    for node in reversed(_ordered(nodes, below)):
        reachable[node] = set(below[node]).union(*(reachable[n] for n in below[node]))
    return [
        (source, target)
        for source in nodes
        for target in below[source]
        if not any(target in reachable[other] for other in below[source])
    ]


def layered(
    nodes: Sequence[str],
    edges: Iterable[Edge],
    box: tuple[float, float] = (186.0, 46.0),
    gap: tuple[float, float] = (18.0, 38.0),
) -> Layout:
    """Lays out a graph; of edges that others imply nothing is drawn.

    Args:
        nodes: in any order, which decides where nothing else does.
        edges: from the upper to the lower node.
        box: width and height of a node.
        gap: between boxes side by side, and between layers.

    Raises:
        ValueError: if the graph has a cycle.
    """
    kept = reduced(nodes, edges)
    above: dict[str, list[str]] = {node: [] for node in nodes}
    below: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in kept:
        below[source].append(target)
        above[target].append(source)
    layer: dict[str, int] = {}
    ordered = _ordered(nodes, below)
    for node in ordered:
        layer[node] = max((layer[n] + 1 for n in above[node]), default=0)
    for node in reversed(ordered):
        if not above[node] and below[node]:  # not far above what waits for it
            layer[node] = min(layer[n] for n in below[node]) - 1

    # Arrows that pass layers get a place in each; a place is (layer, name).
    places: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in ordered:
        places[layer[node]].append(node)
    neighbours: dict[str, list[str]] = {}
    routes: dict[Edge, list[str]] = {}
    for source, target in kept:
        lanes = [f"{source}\n{target}\n{row}" for row in range(layer[source] + 1, layer[target])]
        for row, lane in enumerate(lanes, layer[source] + 1):
            places[row].append(lane)
        route = [source, *lanes, target]
        routes[source, target] = route
        for upper, lower in itertools.pairwise(route):
            neighbours.setdefault(upper, []).append(lower)
            neighbours.setdefault(lower, []).append(upper)

    def width(place: str) -> float:
        return box[0] if place in layer else _LANE

    centre = _centres(places, neighbours, width, gap[0])
    left = min((centre[p] - width(p) / 2 for row in places for p in row), default=0.0)
    right = max((centre[p] + width(p) / 2 for row in places for p in row), default=0.0)
    pitch = box[1] + gap[1]

    def x(place: str) -> float:
        return round(centre[place] - left, 1)

    arrows = {}
    for (source, target), route in routes.items():
        points = [(x(source), layer[source] * pitch + box[1])]
        for row, lane in enumerate(route[1:-1], layer[source] + 1):
            points += [(x(lane), row * pitch), (x(lane), row * pitch + box[1])]
        arrows[source, target] = [*points, (x(target), layer[target] * pitch)]
    return Layout(
        width=round(right - left, 1),
        height=max(len(places) * pitch - gap[1], 0.0),
        boxes={n: (round(x(n) - box[0] / 2, 1), layer[n] * pitch) for n in nodes},
        arrows=arrows,
    )


def _ordered(nodes: Sequence[str], below: Mapping[str, Sequence[str]]) -> list[str]:
    """Every node after those above it."""
    waits = dict.fromkeys(nodes, 0)
    for lower in below.values():
        for node in lower:
            waits[node] += 1
    ready = [node for node in nodes if not waits[node]]
    found = []
    while ready:
        node = ready.pop(0)
        found.append(node)
        for lower in below[node]:
            waits[lower] -= 1
            if not waits[lower]:
                ready.append(lower)
    if len(found) < len(waits):
        circle = sorted(set(nodes) - set(found))
        raise ValueError(f"There is a cycle among {', '.join(circle)}.")
    return found


def _centres(
    places: Sequence[list[str]],
    neighbours: Mapping[str, Sequence[str]],
    width: Callable[[str], float],
    gap: float,
) -> dict[str, float]:
    """Place -> x of its centre, no two of a layer nearer than `gap`."""
    centre: dict[str, float] = {}
    for row in places:
        centre.update(_spread(row, [0.0] * len(row), width, gap))
    rows = range(len(places))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for index in rows if down else reversed(rows):
            row = places[index]
            beside = set(places[index - 1] if down and index else [])
            if not down and index + 1 < len(places):
                beside = set(places[index + 1])

            def wish(place: str, beside: set[str] = beside) -> float:
                near = [n for n in neighbours.get(place, ()) if n in beside]
                return sum(centre[n] for n in near) / len(near) if near else centre[place]

            # Sorting keeps the order of those that wish for the same.
            row.sort(key=wish)
            centre.update(_spread(row, [wish(place) for place in row], width, gap))
    return centre


def _spread(
    row: Sequence[str], wishes: Sequence[float], width: Callable[[str], float], gap: float
) -> dict[str, float]:
    """Centres in the order of `row`, `gap` apart at least, nearest to the wishes in mean square.

    Without the offset of a place in a packed row, that is a regression that must not fall: pool
    adjacent violators.
    """
    offsets = []
    at = 0.0
    for place in row:
        offsets.append(at + width(place) / 2)
        at += width(place) + gap
    pools: list[list[float]] = []  # sum, count
    for wished, offset in zip(wishes, offsets, strict=True):
        pools.append([wished - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    shifts = [total / count for total, count in pools for _ in range(int(count))]
    return {p: shift + offset for p, shift, offset in zip(row, shifts, offsets, strict=True)}
