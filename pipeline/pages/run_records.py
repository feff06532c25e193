"""What a run has left: its graph, its nodes' records, and the artifacts that people want to see.

No TFX and no TensorFlow: the graph is JSON, statistics and anomalies are small protobufs. What is
missing or damaged is said in words, for a run may have failed anywhere, and old artifacts are
deleted some day.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tfrec_meta.evaluation.objectives import Objective

# With `NodeRecord`'s states (`nodes`, which imports TFX), and one for nodes without a record.
State = Literal["ran", "cached", "skipped", "failed", "not reached"]
STATES: tuple[State, ...] = ("ran", "cached", "skipped", "failed", "not reached")

STATISTICS = "ExampleStatistics"
ANOMALIES = "ExampleAnomalies"
ACCEPTED = "TfrecMetaAcceptedData"
COMPARED = "TfrecMetaComparedSplits"
HYPERPARAMETERS = "HyperParameters"
TUNER_RESULTS = "TunerResults"
VERDICT = "TfrecMetaVerdict"
BLESSING = "ModelBlessing"
INFRA_BLESSING = "InfraBlessing"
PUSHED = "PushedModel"
SCHEMA = "Schema"
OBJECTIVES = tuple(Objective)


class MissingError(Exception):
    """What can't be shown, in words for the page."""


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
        """Where its files are.

        Raises:
            MissingError: if they lie on another machine, or are gone.
        """
        if "://" in self.uri.removeprefix("file://"):
            raise MissingError(f"It lies at {self.uri}, which is not read here.")
        path = Path(self.uri.removeprefix("file://"))
        if not self.uri or not path.exists():
            raise MissingError(f"{self.uri or 'Its folder'} is gone: deleted since, or moved.")
        return path


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of the graph, and what became of it.

    Attributes:
        id: as "Trainer".
        upstream: ids of the nodes that it waits for.
        state: of the last attempt.
        began: of the last attempt, UTC; None if unknown.
        seconds: of the last attempt.
        error: why it failed.
        outputs: of the last attempt.
        attempts: how often it was begun.
        first: when the first attempt began.
    """

    id: str
    upstream: tuple[str, ...] = ()
    state: State = "not reached"
    began: datetime.datetime | None = None
    seconds: float = 0.0
    error: str = ""
    outputs: tuple[Artifact, ...] = ()
    attempts: int = 0
    first: datetime.datetime | None = None

    def of_type(self, kind: str) -> Iterator[Artifact]:
        """Its outputs of one artifact type."""
        return (artifact for artifact in self.outputs if artifact.type == kind)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        folder: `<pipeline's folder>/runs/<run id>`.
        pipeline: the pipeline's name; "" if unknown.
        nodes: in the graph's order.
        config: `PipelineConfig.as_dict()`; empty if it was not kept.
        lacks: what of the folder could not be read, in words.
    """

    folder: Path
    pipeline: str
    nodes: tuple[Node, ...]
    config: Mapping[str, Any]
    lacks: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def failed(self) -> tuple[Node, ...]:
        """The nodes whose last attempt failed."""
        return tuple(node for node in self.nodes if node.state == "failed")

    @property
    def finished(self) -> bool:
        """Whether every node came to its end."""
        return bool(self.nodes) and all(
            node.state in ("ran", "cached", "skipped") for node in self.nodes
        )

    @property
    def began(self) -> datetime.datetime | None:
        return min((node.first for node in self.nodes if node.first), default=None)

    @property
    def ended(self) -> datetime.datetime | None:
        """When the last record was written."""
        ends = [
            node.began + datetime.timedelta(seconds=node.seconds)
            for node in self.nodes
            if node.began
        ]
        return max(ends, default=None)

    @property
    def seconds(self) -> float:
        """Of all nodes' last attempts together."""
        return sum(node.seconds for node in self.nodes)

    def node(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.id == name), None)

    def made(self, kind: str) -> tuple[Node, Artifact] | None:
        """The last artifact of a type that a component made; what resolvers found is not made."""
        found = [
            (node, artifact)
            for node in self.nodes
            if not node.id.startswith("Last")
            for artifact in node.of_type(kind)
        ]
        return found[-1] if found else None


def read_run(folder: Path | str) -> Run:
    """Reads a run's folder, whatever there is of it.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no run's folder {folder}.")
    lacks = []
    graph: dict[str, tuple[str, ...]] = {}
    name = folder.parents[1].name if folder.parent.name == "runs" else ""
    try:
        ir = read_json(folder / "pipeline.json")
        graph, name = dict(_graph(ir)), str(ir.get("pipeline_info", {}).get("id") or name)
    except MissingError as error:
        lacks.append(f"{error} The graph shows what ran, without arrows.")
    except (AttributeError, KeyError, TypeError):
        lacks.append("pipeline.json is no compiled pipeline; the graph shows what ran.")
    records = _records(folder / "nodes.jsonl")
    nodes = [
        _node(node, graph.get(node, ()), records.get(node, ()))
        for node in dict.fromkeys([*graph, *records])
    ]
    try:
        config = read_json(folder / "config.json")
    except MissingError as error:
        config = {}
        lacks.append(f"{error} The run's settings are not shown.")
    return Run(folder, name, tuple(nodes), config if isinstance(config, dict) else {}, tuple(lacks))


def _graph(ir: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(id, upstream ids) of the nodes of TFX's intermediate representation as JSON."""
    for entry in ir["nodes"]:
        node = entry.get("pipeline_node") or entry["pipelineNode"]
        info = node.get("node_info") or node["nodeInfo"]
        yield info["id"], tuple(node.get("upstream_nodes") or node.get("upstreamNodes") or ())


def _records(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Node -> its records, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # the end of a record that a kill cut off
            continue
        if isinstance(record, dict) and record.get("state") in STATES and record.get("node"):
            found.setdefault(str(record["node"]), []).append(record)
    return found


def _node(name: str, upstream: tuple[str, ...], records: Sequence[Mapping[str, Any]]) -> Node:
    if not records:
        return Node(name, upstream)
    last = records[-1]
    return Node(
        id=name,
        upstream=upstream,
        state=last["state"],
        began=_time(last.get("began")),
        seconds=_number(last.get("seconds")) or 0.0,
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


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def read_json(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        MissingError: if it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise MissingError(f"{path.name} is not there.") from None
    except ValueError:
        raise MissingError(f"{path.name} is damaged.") from None


def read_statistics(artifact: Artifact) -> dict[str, Any]:
    """Split -> `DatasetFeatureStatistics` of a StatisticsGen.

    Raises:
        MissingError: if they can't be read.
    """
    from tensorflow_metadata.proto.v0 import statistics_pb2

    found = {}
    for split, message in _of_splits(
        artifact, "FeatureStats.pb", statistics_pb2.DatasetFeatureStatisticsList
    ):
        if message.datasets:
            found[split] = message.datasets[0]
    return found


def read_anomalies(artifact: Artifact) -> dict[str, Any]:
    """Split -> `Anomalies` of an ExampleValidator.

    Raises:
        MissingError: if they can't be read.
    """
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    return dict(_of_splits(artifact, "SchemaDiff.pb", anomalies_pb2.Anomalies))


def _of_splits(artifact: Artifact, name: str, kind: Any) -> Iterator[tuple[str, Any]]:
    from google.protobuf.message import DecodeError

    paths = sorted(artifact.folder.glob(f"Split-*/{name}"))
    if not paths:
        raise MissingError(f"There is no {name} in {artifact.uri}.")
    for path in paths:
        message = kind()
        try:
            message.ParseFromString(path.read_bytes())
        except (DecodeError, OSError):
            raise MissingError(f"{path} is damaged.") from None
        yield path.parent.name.removeprefix("Split-"), message


@dataclasses.dataclass(frozen=True)
class Trial:
    """One try of the tuner; `score` is None where it came to none."""

    id: str
    score: float | None
    values: Mapping[str, Any]
    error: str = ""
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Search:
    """What the tuner found.

    Attributes:
        best: hyperparameters, by name.
        trials: in the order in which they were begun.
        best_trial: id of the best; "" if it is not known.
        objective: what was optimised; "" if it is not known.
        page: `report.html` of the study; None if there is none.
    """

    best: Mapping[str, Any]
    trials: tuple[Trial, ...]
    best_trial: str = ""
    objective: str = ""
    page: Path | None = None


def read_search(node: Node) -> Search:
    """The tuner's result, from TFX's files and the `trials.json` that may lie beside them.

    The latter is what `StrategyTuner.trials` gives, and holds the trials that failed, too.

    Raises:
        MissingError: if there is nothing to be read.
    """
    best: Mapping[str, Any] = {}
    records: list[Any] = []
    told: list[Any] = []  # of trials that came to nothing, too
    objective, page = "", None
    reasons = []
    for artifact in node.outputs:
        try:
            if artifact.type == HYPERPARAMETERS:
                found = read_json(artifact.folder / "best_hyperparameters.txt")
                best = found.get("values") or {}
            elif artifact.type == TUNER_RESULTS:
                records = list(read_json(artifact.folder / "tuner_results.json"))
            if (path := artifact.folder / "report.html").exists():
                page = path
            if (path := artifact.folder / "trials.json").exists():
                found = read_json(path)
                told = [entry for entry in found if isinstance(entry, Mapping)]
                objective = next((key for entry in told for key in entry if key in OBJECTIVES), "")
        except MissingError as error:
            reasons.append(str(error))
    trials = tuple(_trial(record) for record in told or records if isinstance(record, Mapping))
    if not best and not trials:
        raise MissingError(" ".join(reasons) or "It left no result.")
    # Both lists hold the best trial; TFX's own has it first.
    same = [trial.id for trial in trials if best and _agrees(trial.values, best)]
    ordered = sorted(trials, key=_order)
    return Search(best, tuple(ordered), same[0] if same else "", objective, page)


def _trial(record: Mapping[str, Any]) -> Trial:
    """Of TFX's flat records, or of `StrategyTuner.trials`."""
    values = record.get("values")
    if not isinstance(values, Mapping):
        values = {k: v for k, v in record.items() if k not in ("trial_id", "score")}
    score = next((record[key] for key in ("score", *OBJECTIVES) if key in record), None)
    error = str(record.get("error") or "")
    return Trial(
        id=str(record.get("trial_id", "")),
        # A trial that failed has the worst score, for the oracle's sake.
        score=None if error else _number(score),
        values=values,
        error=error,
        seconds=_number(record.get("seconds")),
    )


def _agrees(values: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    shared = set(values) & set(best)
    return bool(shared) and all(values[name] == best[name] for name in shared)


def _order(trial: Trial) -> tuple[float, str]:
    return (float(trial.id) if trial.id.isdecimal() else math.inf, trial.id)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the ranking gate said.

    Attributes:
        blessed: whether the model may be pushed.
        words: why, sentence by sentence.
        checks: what was asked of the model, as `judgement.Check`.
        notes: what else is to be known.
        signature: slice -> what TFMA found of the ranking signature there, as "auc".
        page: `verdict.html`; None if there is none.
    """

    blessed: bool
    words: tuple[str, ...]
    checks: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    signature: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    page: Path | None = None


def read_verdict(artifact: Artifact) -> Verdict:
    """The ranking gate's verdict.

    Raises:
        MissingError: if it can't be read.
    """
    folder = artifact.folder
    record = read_json(folder / "verdict.json")
    if not isinstance(record, dict) or "blessed" not in record:
        raise MissingError("verdict.json is damaged.")
    page = folder / "verdict.html"
    return Verdict(
        blessed=bool(record["blessed"]),
        words=_texts(record.get("words")),
        checks=tuple(check for check in record.get("checks") or () if isinstance(check, dict)),
        notes=_texts(record.get("notes")),
        signature={
            str(name): values
            for name, values in (record.get("signature") or {}).items()
            if isinstance(values, dict)
        },
        page=page if page.exists() else None,
    )


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(map(str, value or ()))
