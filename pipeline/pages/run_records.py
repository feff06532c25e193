"""Reads the folder of a run: its graph, the records of its nodes, and its config.

This module imports neither TFX nor TensorFlow. Missing and damaged files are described in words,
since a run may have failed anywhere, and old artifacts may have been deleted.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.pipeline.node_ids import NodeId
from tfrec_meta.pipeline.runners.run_folder import RECORDS, NodeState
from tfrec_meta.pipeline.runners.worker_client import CONFIG, PIPELINE

_FINISHED = (NodeState.RAN, NodeState.CACHED, NodeState.SKIPPED)
_STORED = (*_FINISHED, NodeState.FAILED)


class MissingError(Exception):
    """Something can't be shown. The message describes it for the page."""


class RemoteError(MissingError):
    """An artifact that is on another file system. The message names it."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One output of a node."""

    key: str
    type: str
    uri: str
    id: int | None
    properties: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of its files.

        Raises:
            RemoteError: if it is on another file system.
            MissingError: if it does not exist.
        """
        if "://" in self.uri.removeprefix("file://"):
            raise RemoteError(f"{self.uri} is on another file system.")
        path = Path(self.uri.removeprefix("file://"))
        if not self.uri or not path.exists():
            raise MissingError(f"{self.uri or 'Its folder'} was deleted or moved.")
        return path


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of the graph, and its outcome.

    Attributes:
        id: such as "Trainer".
        upstream: ids of the nodes that it waits for.
        state: outcome of the last attempt.
        began: start of the last attempt, UTC; None if unknown.
        seconds: duration of the last attempt.
        error: why it failed.
        outputs: outputs of the last attempt.
        attempts: number of attempts.
        first: start of the first attempt.
    """

    id: str
    upstream: tuple[str, ...] = ()
    state: NodeState = NodeState.NOT_REACHED
    began: datetime.datetime | None = None
    seconds: float = 0.0
    error: str = ""
    outputs: tuple[Artifact, ...] = ()
    attempts: int = 0
    first: datetime.datetime | None = None

    @property
    def is_resolver(self) -> bool:
        """Whether it is a resolver of this pipeline."""
        return any(self.id == known and known.is_resolver for known in NodeId)

    def of_type(self, kind: str) -> Iterator[Artifact]:
        """Yields its outputs of one artifact type."""
        return (artifact for artifact in self.outputs if artifact.type == kind)


@dataclasses.dataclass(frozen=True)
class Run:
    """The content of a run's folder.

    Attributes:
        folder: `<pipeline's folder>/runs/<run id>`.
        pipeline: name of the pipeline; "" if unknown.
        nodes: in the order of the graph.
        config: `PipelineConfig.as_dict()`; empty if the folder has none.
        problems: descriptions of the files that could not be read.
    """

    folder: Path
    pipeline: str
    nodes: tuple[Node, ...]
    config: Mapping[str, Any]
    problems: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.name

    @property
    def failed(self) -> tuple[Node, ...]:
        """The nodes whose last attempt failed."""
        return tuple(node for node in self.nodes if node.state == NodeState.FAILED)

    @property
    def finished(self) -> bool:
        """Whether every node finished."""
        return bool(self.nodes) and all(node.state in _FINISHED for node in self.nodes)

    @property
    def began(self) -> datetime.datetime | None:
        """When the first attempt began."""
        return min((node.first for node in self.nodes if node.first), default=None)

    @property
    def ended(self) -> datetime.datetime | None:
        """When the last attempt ended."""
        ends = [
            node.began + datetime.timedelta(seconds=node.seconds)
            for node in self.nodes
            if node.began
        ]
        return max(ends, default=None)

    @property
    def seconds(self) -> float:
        """Duration of the last attempts of all nodes together."""
        return sum(node.seconds for node in self.nodes)

    def node(self, name: str) -> Node | None:
        """Returns a node by its id."""
        return next((node for node in self.nodes if node.id == name), None)

    def made(self, kind: str) -> tuple[Node, Artifact] | None:
        """Returns the last artifact of a type that a component, not a resolver, wrote."""
        found = [
            (node, artifact)
            for node in self.nodes
            if not node.is_resolver
            for artifact in node.of_type(kind)
        ]
        return found[-1] if found else None


def read_run(folder: Path | str) -> Run:
    """Reads a run's folder, as far as its files exist.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder of a run.")
    problems = []
    graph: dict[str, tuple[str, ...]] = {}
    name = folder.parents[1].name if folder.parent.name == "runs" else ""
    try:
        ir = read_json(folder / PIPELINE)
        graph, name = dict(_graph(ir)), str(ir.get("pipeline_info", {}).get("id") or name)
    except MissingError as error:
        problems.append(f"{error} The graph shows the nodes that ran, without arrows.")
    except (AttributeError, KeyError, TypeError):
        problems.append(
            "pipeline.json is not a compiled pipeline. The graph shows the nodes that ran."
        )
    records = _records(folder / RECORDS)
    nodes = [
        _node(node, graph.get(node, ()), records.get(node, ()))
        for node in dict.fromkeys([*graph, *records])
    ]
    try:
        config = read_json(folder / CONFIG)
    except MissingError as error:
        config = {}
        problems.append(f"{error} The run's settings are not shown.")
    return Run(
        folder, name, tuple(nodes), config if isinstance(config, dict) else {}, tuple(problems)
    )


def _graph(ir: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields (id, upstream ids) of the nodes of TFX's intermediate representation as JSON."""
    for entry in ir["nodes"]:
        node = entry.get("pipeline_node") or entry["pipelineNode"]
        info = node.get("node_info") or node["nodeInfo"]
        yield info["id"], tuple(node.get("upstream_nodes") or node.get("upstreamNodes") or ())


def _records(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the records of each node, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # a kill may leave an incomplete last line
            continue
        if isinstance(record, dict) and record.get("state") in _STORED and record.get("node"):
            found.setdefault(str(record["node"]), []).append(record)
    return found


def _node(name: str, upstream: tuple[str, ...], records: Sequence[Mapping[str, Any]]) -> Node:
    if not records:
        return Node(name, upstream)
    last = records[-1]
    return Node(
        id=name,
        upstream=upstream,
        state=NodeState(last["state"]),
        began=_time(last.get("began")),
        seconds=number(last.get("seconds")) or 0.0,
        error=str(last.get("error") or ""),
        outputs=tuple(
            Artifact(
                key=str(key),
                type=str(made.get("type") or ""),
                uri=str(made.get("uri") or ""),
                id=made.get("id"),
                properties=made.get("properties") or {},
            )
            for key, artifacts in (last.get("outputs") or {}).items()
            for made in artifacts
        ),
        attempts=len(records),
        first=_time(records[0].get("began")),
    )


def _time(text: Any) -> datetime.datetime | None:
    try:
        time = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def number(value: Any) -> float | None:
    """Returns a finite number as a float; None for any other value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def read_json(path: Path) -> Any:
    """Returns the value of a JSON file.

    Raises:
        MissingError: if it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise MissingError(f"{path.name} does not exist.") from None
    except ValueError:
        raise MissingError(f"{path.name} is damaged.") from None
