"""Reads the artifacts that the page of a run shows: data, searches and verdicts.

This module imports neither TFX nor TensorFlow: statistics and anomalies are small protocol buffers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.pipeline.gates.verdict import VERDICT_FILE, VERDICT_PAGE, Verdict
from tfrec_meta.pipeline.pages.run_records import Artifact, MissingError, Node, number, read_json

# Type names of artifacts; those of this package are in `pipeline.artifacts`, which imports TFX.
EXAMPLES = "Examples"
STATISTICS = "ExampleStatistics"
ANOMALIES = "ExampleAnomalies"
SCHEMA = "Schema"
ACCEPTED = "TfrecMetaAcceptedData"
COMPARED = "TfrecMetaSplitComparison"
HYPERPARAMETERS = "HyperParameters"
TUNER_RESULTS = "TunerResults"
VERDICT = "TfrecMetaBlessingReport"
BLESSING = "ModelBlessing"
INFRA_BLESSING = "InfraBlessing"
PUSHED = "PushedModel"
DROPPED = "dropped"  # property of the examples of ExampleGen and Histories: rows by reason, JSON
PERSONAL = "personal"  # property of the examples of Histories: tables and their columns, JSON
_OBJECTIVES = tuple(Objective)


def read_statistics(artifact: Artifact) -> dict[str, Any]:
    """Returns split -> `DatasetFeatureStatistics` of a StatisticsGen.

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
    """Returns split -> `Anomalies` of an ExampleValidator.

    Raises:
        MissingError: if they can't be read.
    """
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    return dict(_of_splits(artifact, "SchemaDiff.pb", anomalies_pb2.Anomalies))


def _of_splits(artifact: Artifact, name: str, kind: Any) -> Iterator[tuple[str, Any]]:
    from google.protobuf.message import DecodeError

    paths = sorted(artifact.folder.glob(f"Split-*/{name}"))
    if not paths:
        raise MissingError(f"{artifact.uri} has no {name}.")
    for path in paths:
        message = kind()
        try:
            message.ParseFromString(path.read_bytes())
        except (DecodeError, OSError):
            raise MissingError(f"{path} is damaged.") from None
        yield path.parent.name.removeprefix("Split-"), message


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of the tuner; `score` is None if it failed."""

    id: str
    score: float | None
    values: Mapping[str, Any]
    error: str = ""
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Search:
    """The result of the tuner.

    Attributes:
        best: hyperparameters, by name.
        trials: in the order in which they began.
        best_trial: id of the best trial; "" if unknown.
        objective: the optimised metric; "" if unknown.
        page: `report.html` of the study; None if there is none.
    """

    best: Mapping[str, Any]
    trials: tuple[Trial, ...]
    best_trial: str = ""
    objective: str = ""
    page: Path | None = None


def read_search(node: Node) -> Search:
    """Returns the tuner's result, from TFX's files and the `trials.json` next to them.

    The latter has the records of `StrategyTuner.trials`, including failed trials.

    Raises:
        MissingError: if nothing can be read.
    """
    best: Mapping[str, Any] = {}
    records: list[Any] = []
    all_trials: list[Any] = []  # with failed ones
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
                all_trials = [entry for entry in found if isinstance(entry, Mapping)]
                objective = next(
                    (key for entry in all_trials for key in entry if key in _OBJECTIVES), ""
                )
        except MissingError as error:
            reasons.append(str(error))
    trials = tuple(
        _trial(record) for record in all_trials or records if isinstance(record, Mapping)
    )
    if not best and not trials:
        raise MissingError(" ".join(reasons) or "It wrote no result.")
    # The best trial is in both lists; TFX's list has it first.
    same = [trial.id for trial in trials if best and _agrees(trial.values, best)]
    ordered = sorted(trials, key=_order)
    return Search(best, tuple(ordered), same[0] if same else "", objective, page)


def _trial(record: Mapping[str, Any]) -> Trial:
    """Returns a trial of TFX's flat records, or of `StrategyTuner.trials`."""
    values = record.get("values")
    if not isinstance(values, Mapping):
        values = {k: v for k, v in record.items() if k not in ("trial_id", "score")}
    score = next((record[key] for key in ("score", *_OBJECTIVES) if key in record), None)
    error = str(record.get("error") or "")
    return Trial(
        id=str(record.get("trial_id", "")),
        # A failed trial has the worst score in the file, for the oracle.
        score=None if error else number(score),
        values=values,
        error=error,
        seconds=number(record.get("seconds")),
    )


def _agrees(values: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    shared = set(values) & set(best)
    return bool(shared) and all(values[name] == best[name] for name in shared)


def _order(trial: Trial) -> tuple[float, str]:
    return (float(trial.id) if trial.id.isdecimal() else math.inf, trial.id)


def read_verdict(artifact: Artifact) -> Verdict:
    """Returns the verdict of the ranking gate.

    Raises:
        MissingError: if it can't be read.
    """
    record = read_json(artifact.folder / VERDICT_FILE)
    try:
        return Verdict.from_dict(record)
    except ValueError as error:
        raise MissingError(f"{VERDICT_FILE}: {error}") from None


def read_signature(artifact: Artifact) -> dict[str, Mapping[str, Any]]:
    """Returns TFMA's metrics of the ranking signature, such as "auc", by slice.

    Raises:
        MissingError: if the file of the verdict can't be read.
    """
    record = read_json(artifact.folder / VERDICT_FILE)
    found = record.get("signature") if isinstance(record, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {name: values for name, values in found.items() if isinstance(values, Mapping)}


def page_of_verdict(artifact: Artifact) -> Path | None:
    """Returns the page of the verdict, if there is one.

    Raises:
        MissingError: if the artifact was deleted.
    """
    path = artifact.folder / VERDICT_PAGE
    return path if path.exists() else None
