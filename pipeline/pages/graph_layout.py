"""The layout of a small directed graph in layers from top to bottom.

Layers follow the longest path, the order within a layer follows the neighbours' centres, and
positions follow least squares. Long arrows pass around boxes in lanes of their own.

References:
    Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System Structures",
    1981.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

Edge = tuple[str, str]
Point = tuple[float, float]

_SWEEPS = 12
# Width that an arrow needs where it passes a layer.
_LANE = 18.0


@dataclasses.dataclass(frozen=True)
class Layout:
    """A drawn graph, from (0, 0) at the top left.

    Args:
        width: total width, in the unit of the boxes.
        height: total height.
        boxes: node -> its top left corner.
        arrows: edge -> the points of its arrow, from the bottom of the upper box to the top of the
            lower box.
    """

    width: float
    height: float
    boxes: Mapping[str, Point]
    arrows: Mapping[Edge, Sequence[Point]]


def reduced(nodes: Sequence[str], edges: Iterable[Edge]) -> list[Edge]:
    """Returns the edges that no longer path implies, without those of unknown nodes.

    Raises:
        ValueError: if the graph has a cycle.

    Example:
        >>> reduced(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
        [('a', 'b'), ('b', 'c')]
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
    """Returns the layout of a graph; edges that others imply are not drawn.

    Args:
        nodes: in any order, which decides ties.
        edges: from the upper to the lower node.
        box: width and height of a node.
        gap: between boxes of a layer, and between layers.

    Raises:
        ValueError: if the graph has a cycle.
    """
    drawn = reduced(nodes, edges)
    above: dict[str, list[str]] = {node: [] for node in nodes}
    below: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in drawn:
        below[source].append(target)
        above[target].append(source)
    layer: dict[str, int] = {}
    ordered = _ordered(nodes, below)
    for node in ordered:
        layer[node] = max((layer[n] + 1 for n in above[node]), default=0)
    for node in reversed(ordered):
        if not above[node] and below[node]:  # directly above the nodes that wait for it
            layer[node] = min(layer[n] for n in below[node]) - 1

    # An arrow that passes layers gets a slot in each of them. A slot is a node or a lane.
    slots: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in ordered:
        slots[layer[node]].append(node)
    neighbours: dict[str, list[str]] = {}
    routes: dict[Edge, list[str]] = {}
    for source, target in drawn:
        lanes = [f"{source}\n{target}\n{row}" for row in range(layer[source] + 1, layer[target])]
        for row, lane in enumerate(lanes, layer[source] + 1):
            slots[row].append(lane)
        route = [source, *lanes, target]
        routes[source, target] = route
        for upper, lower in itertools.pairwise(route):
            neighbours.setdefault(upper, []).append(lower)
            neighbours.setdefault(lower, []).append(upper)

    def width(slot: str) -> float:
        return box[0] if slot in layer else _LANE

    centre = _centres(slots, neighbours, width, gap[0])
    left = min((centre[p] - width(p) / 2 for row in slots for p in row), default=0.0)
    right = max((centre[p] + width(p) / 2 for row in slots for p in row), default=0.0)
    pitch = box[1] + gap[1]

    def x(slot: str) -> float:
        return round(centre[slot] - left, 1)

    arrows = {}
    for (source, target), route in routes.items():
        points = [(x(source), layer[source] * pitch + box[1])]
        for row, lane in enumerate(route[1:-1], layer[source] + 1):
            points += [(x(lane), row * pitch), (x(lane), row * pitch + box[1])]
        arrows[source, target] = [*points, (x(target), layer[target] * pitch)]
    return Layout(
        width=round(right - left, 1),
        height=max(len(slots) * pitch - gap[1], 0.0),
        boxes={n: (round(x(n) - box[0] / 2, 1), layer[n] * pitch) for n in nodes},
        arrows=arrows,
    )


def _ordered(nodes: Sequence[str], below: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns every node after those above it."""
    open_inputs = dict.fromkeys(nodes, 0)
    for lower in below.values():
        for node in lower:
            open_inputs[node] += 1
    ready = [node for node in nodes if not open_inputs[node]]
    found = []
    while ready:
        node = ready.pop(0)
        found.append(node)
        for lower in below[node]:
            open_inputs[lower] -= 1
            if not open_inputs[lower]:
                ready.append(lower)
    if len(found) < len(open_inputs):
        cycle = sorted(set(nodes) - set(found))
        raise ValueError(f"There is a cycle among {', '.join(cycle)}.")
    return found


def _centres(
    slots: Sequence[list[str]],
    neighbours: Mapping[str, Sequence[str]],
    width: Callable[[str], float],
    gap: float,
) -> dict[str, float]:
    """Returns the x of the centre of each slot, with at least `gap` between slots of a layer."""
    centre: dict[str, float] = {}
    for row in slots:
        centre.update(_spread(row, [0.0] * len(row), width, gap))
    rows = range(len(slots))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for index in rows if down else reversed(rows):
            row = slots[index]
            adjacent = set(slots[index - 1] if down and index else [])
            if not down and index + 1 < len(slots):
                adjacent = set(slots[index + 1])

            def target(slot: str, adjacent: set[str] = adjacent) -> float:
                near = [n for n in neighbours.get(slot, ()) if n in adjacent]
                return sum(centre[n] for n in near) / len(near) if near else centre[slot]

            # The sort is stable: equal positions keep their order.
            row.sort(key=target)
            centre.update(_spread(row, [target(slot) for slot in row], width, gap))
    return centre


def _spread(
    row: Sequence[str], targets: Sequence[float], width: Callable[[str], float], gap: float
) -> dict[str, float]:
    """Returns centres in the order of `row`, at least `gap` apart, nearest to the targets.

    Nearest means in mean square. After subtracting each slot's offset in a packed row, this is an
    isotonic regression: pool adjacent violators.
    """
    offsets = []
    at = 0.0
    for slot in row:
        offsets.append(at + width(slot) / 2)
        at += width(slot) + gap
    pools: list[list[float]] = []  # sum, count
    for target, offset in zip(targets, offsets, strict=True):
        pools.append([target - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    shifts = [total / count for total, count in pools for _ in range(int(count))]
    return {p: shift + offset for p, shift, offset in zip(row, shifts, offsets, strict=True)}
