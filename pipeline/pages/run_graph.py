"""The nodes of a run on its page: the graph, and the table of nodes with their artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.pipeline.pages import page_text
from tfrec_meta.pipeline.pages.graph_layout import layered
from tfrec_meta.pipeline.pages.run_records import Artifact, MissingError, Node, RemoteError, Run
from tfrec_meta.pipeline.runners.run_folder import NodeState
from tfrec_meta.reports import formats

MARKS: dict[NodeState, str] = {
    NodeState.RAN: "M2,6.5 L5,9.5 L10,2.5",
    NodeState.CACHED: "M2,4 H10 M2,8 H10",
    NodeState.SKIPPED: "M2,6 H10",
    NodeState.FAILED: "M2.5,2.5 L9.5,9.5 M9.5,2.5 L2.5,9.5",
    NodeState.NOT_REACHED: "M6,2 A4,4 0 1 1 5.99,2",
}
_BOX = (192.0, 46.0)


def css_class(state: NodeState) -> str:
    """Returns the CSS class of a state."""
    return state.replace(" ", "-")


def graph(run: Run) -> dict[str, Any] | None:
    """Returns the geometry of the graph; None without nodes."""
    if not run.nodes:
        return None
    names = [node.id for node in run.nodes]
    edges = [(above, node.id) for node in run.nodes for above in node.upstream]
    try:
        layout = layered(names, edges, _BOX)
    except ValueError:  # the file may contain a cycle, though no pipeline of TFX has one
        layout = layered(names, [], _BOX)
    return {
        "width": layout.width + 4,
        "height": layout.height + 4,
        "box": {"width": _BOX[0], "height": _BOX[1]},
        "paths": [_curve(points) for points in layout.arrows.values()],
        "boxes": [
            {
                "x": layout.boxes[node.id][0] + 2,
                "y": layout.boxes[node.id][1] + 2,
                "id": node.id,
                "name": node.id if len(node.id) <= 24 else f"{node.id[:23]}…",
                "kind": css_class(node.state),
                "mark": MARKS[node.state],
                "words": _words(node),
            }
            for node in run.nodes
        ],
    }


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Returns a path that leaves and arrives vertically, and is straight within a layer."""
    moved = [(x + 2, y + 2) for x, y in points]
    parts = [f"M{moved[0][0]:g},{moved[0][1]:g}"]
    for index in range(1, len(moved)):
        (x, y), (u, v) = moved[index - 1], moved[index]
        if index == len(moved) - 1:
            v -= 6  # the arrow's head
        middle = (y + v) / 2
        parts.append(
            f"L{u:g},{v:g}" if x == u else f"C{x:g},{middle:g} {u:g},{middle:g} {u:g},{v:g}"
        )
    return " ".join(parts)


def _words(node: Node) -> str:
    if node.state == NodeState.NOT_REACHED:
        return node.state
    return f"{node.state}, {page_text.duration(node.seconds)}"


def node_rows(run: Run) -> list[dict[str, Any]]:
    """Returns one row per node, with its artifacts."""
    longest = max((node.seconds for node in run.nodes), default=0.0) or 1.0
    total = run.seconds or 1.0
    return [
        {
            "id": node.id,
            "state": node.state,
            "kind": css_class(node.state),
            "mark": MARKS[node.state],
            "seconds": ""
            if node.state == NodeState.NOT_REACHED
            else page_text.duration(node.seconds),
            "share": ""
            if node.state == NodeState.NOT_REACHED
            else page_text.percent(node.seconds / total),
            "bar": round(100 * node.seconds / longest, 2),
            "began": page_text.moment(node.began) if node.began else "",
            "attempts": node.attempts,
            "upstream": node.upstream,
            "error": node.error,
            "artifacts": [_artifact(artifact, run.folder) for artifact in node.outputs],
        }
        for node in run.nodes
    ]


def _artifact(artifact: Artifact, here: Path) -> dict[str, Any]:
    try:
        link, note = page_text.relative_link(artifact.folder, here), ""
    except RemoteError:
        link, note = "", ""
    except MissingError as error:
        link, note = "", str(error)
    return {
        "key": artifact.key,
        "type": artifact.type,
        "id": artifact.id,
        "uri": artifact.uri,
        "link": link,
        "note": note,
        "properties": [
            (name, formats.value(value))
            for name, value in artifact.properties.items()
            if value not in ("", None) and len(str(value)) <= 400
        ],
    }
