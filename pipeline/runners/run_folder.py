"""The folder of one run: its file names, the states of its nodes, and their records.

Imports neither TFX nor TensorFlow, so that pages and tests read a run quickly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.pipeline.runners.worker_client import check_run_id

RECORDS = "nodes.jsonl"  # one line per finished or failed attempt to run a node
LOG = "log.txt"  # the log of TFX, Beam and TensorFlow; written by the local runner
PAGE = "index.html"


class NodeState(enum.StrEnum):
    """The outcome of a node in a run. Records store the value."""

    RAN = "ran"
    CACHED = "cached"  # the outputs are those of an earlier run
    SKIPPED = "skipped"  # there was nothing to do
    FAILED = "failed"
    NOT_REACHED = "not reached"  # for pages: the node has no record


@dataclasses.dataclass(frozen=True)
class NodeRecord:
    """The outcome of one attempt to run a node.

    Args:
        node: the node's id, such as "Trainer".
        state: the outcome.
        began: start time in ISO 8601, UTC.
        seconds: duration.
        error: why the node failed; None otherwise.
        outputs: output key -> artifacts, each with `type`, `uri`, `id` and `properties`.

    Raises:
        ValueError: for an unknown state.
    """

    node: str
    state: NodeState
    began: str
    seconds: float
    error: str | None = None
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", NodeState(self.state))

    def __str__(self) -> str:
        """Returns one line for a log."""
        uris = [artifact["uri"] for artifacts in self.outputs.values() for artifact in artifacts]
        location = f": {', '.join(uris)}" if uris else ""
        return f"{self.node} {self.state}, {self.seconds:.1f} s{location}"


def run_folder(pipeline_folder: Path | str, run_id: str) -> Path:
    """Returns the folder of a run: `<pipeline's folder>/runs/<run id>`.

    The run's pipeline, its records, the socket of its worker and its page are stored there.

    Raises:
        ValueError: if the run id is not a valid folder name.
    """
    check_run_id(run_id)
    return Path(pipeline_folder) / "runs" / run_id


def append_record(run: Path, record: NodeRecord) -> None:
    """Appends a record to the run's records.

    The line is written completely, also while other processes write and after a kill left an
    incomplete line.
    """
    run.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dataclasses.asdict(record), sort_keys=True) + "\n"
    with open(run / RECORDS, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())


def read_records(run: Path | str) -> list[NodeRecord]:
    """Returns the records of a run, oldest first; a node that was retried has several."""
    records = []
    with contextlib.suppress(FileNotFoundError):
        for line in (Path(run) / RECORDS).read_text(encoding="utf-8").splitlines():
            # A kill may leave an incomplete last line.
            with contextlib.suppress(TypeError, ValueError):
                records.append(NodeRecord(**json.loads(line)))
    return records
