"""Turns a search into records and writes them to a store.

docs/studies.md describes the records. This module does not import TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfrec_meta.io.damage import read_json
from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.studies.description import StudyDescription
from tfrec_meta.tuning.studies.records import SCHEMA, TrialStatus
from tfrec_meta.tuning.studies.store import StudyStore

HEADER = "header.json"  # in a study's folder: its header when the search last started
_log = logger(__name__)


def utc_now() -> str:
    """Returns the current time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def saved_header(folder: Path | str) -> dict[str, Any] | None:
    """Returns the header of the study in a folder; None if the folder holds no study."""
    path = Path(folder) / HEADER
    if not path.exists():
        return None
    way_out = f"Remove the file; {folder} then goes on as a new study of the store"
    return read_json(path, way_out, ("study_id", "created"))


def study_header(
    folder: Path | str,
    space: Sequence[Mapping[str, Any]],
    study: StudyDescription = StudyDescription(),
    *,
    space_version: int,
    oracle: str,
    epochs: int,
    seed: int | None,
) -> dict[str, Any]:
    """Returns the header of a search; a continued search keeps its id and its creation date.

    Args:
        folder: of the study; it is only read here.
        space: KerasTuner's list of hyperparameters.
        study: the objective and the data.
        space_version: the version of the meaning of the hyperparameters' names.
        oracle: by name.
        epochs: of a full trial.
        seed: of the search.
    """
    saved = saved_header(folder) or {"study_id": uuid.uuid4().hex, "created": utc_now()}
    profile, embedding = study.profile, study.text_embedding
    header = {
        "kind": "study",
        "study_id": saved["study_id"],
        "schema": SCHEMA,
        "space": space,
        "space_version": space_version,
        "objective": study.objective.value,
        "direction": study.objective.direction,
        "protocol": study.protocol.value,
        "budget_unit": "epochs",
        "budget": epochs,
        "oracle": oracle,
        "seed": seed,
        "created": saved["created"],
        "source": "tfrec-meta",
        "data": dict(study.data),
        "profile": None if profile is None else dict(profile),
        "text_embedding": None if embedding is None else list(embedding),
    }
    return json.loads(json.dumps(header))  # lists, not tuples, as a reader gets them


def trial_record(
    header: Mapping[str, Any],
    trial: Mapping[str, Any],
    complete_strategy: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Converts an outcome of `StrategyTuner.trials` into a record of the store.

    Args:
        header: of the trial's study.
        trial: its outcome.
        complete_strategy: returns the trial's strategy with its fixed parts added.
    """
    has_value = trial["status"] in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
    # Closed-form models report no epochs; their trials count as full ones.
    used = len(trial["reports"]) or (trial["epochs"] if has_value else 0)
    return {
        "kind": "trial",
        "study_id": header["study_id"],
        "trial_id": trial["trial_id"],
        # Without an oracle's own entries.
        "values": {n: v for n, v in trial["values"].items() if not n.startswith("tuner/")},
        "strategy": dict(complete_strategy(trial["strategy"])),
        "value": trial[header["objective"]] if has_value else None,
        "status": trial["status"],
        "error": trial["error"],
        "curve": trial["reports"],
        "budget": used,
        "seconds": trial["seconds"],
        "seed": trial["seed"],
        "ended": trial["ended"],
        "suggested_by": trial["suggested_by"],
        "expected": _finite_or_none(trial["expected"]),
    }


def _finite_or_none(expected: Mapping[str, float] | None) -> dict[str, float] | None:
    """Returns None for a prediction that is not finite; records hold finite numbers only."""
    if expected is None or not all(map(math.isfinite, expected.values())):
        return None
    return dict(expected)


class StudyLog:
    """Writes a study into a store during the search, each trial once.

    If the store fails, a warning is logged and the writing ends, but the search goes on. When the
    same search is started again, it adds what is missing.

    Args:
        store: of all studies; None writes nothing.
        header: of this study.
    """

    def __init__(self, store: StudyStore | None, header: Mapping[str, Any]):
        self._store = store
        self._header = header
        self._written: set[str] = set()

    def begin(self, trials: Sequence[Mapping[str, Any]]) -> None:
        """Writes the header and the finished trials that the store lacks."""
        with self._store_or_warning() as store:
            if store is None:
                return
            study_id = self._header["study_id"]
            stored = [study for study in store.studies() if study.study_id == study_id]
            self._written = {trial["trial_id"] for study in stored for trial in study.trials}
            missing = [trial for trial in trials if trial["trial_id"] not in self._written]
            if missing or not stored or stored[0].header() != self._header:
                store.append_study(self._header, missing)
                self._written |= {trial["trial_id"] for trial in missing}

    def add(self, trial: Mapping[str, Any]) -> None:
        """Writes a finished trial, unless the store has it."""
        with self._store_or_warning() as store:
            if store is not None and trial["trial_id"] not in self._written:
                store.append_trial(trial)
                self._written.add(trial["trial_id"])

    @contextlib.contextmanager
    def _store_or_warning(self) -> Iterator[StudyStore | None]:
        store = self._store
        try:
            yield store
        except Exception as error:  # such as a full disk, a lock, or another user's file
            self._store = None  # do not wait for a lock at every trial
            _log.warning(
                "%s cannot be written (%s: %s); the search goes on without recording further "
                "trials. Fix the cause and make the same call again to add what is missing.",
                *(None if store is None else store.path, type(error).__name__, error),
            )
