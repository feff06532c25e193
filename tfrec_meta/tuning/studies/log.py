"""A search in the records of docs/studies.md: its header, its trials, and the store they go to.

Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.tuning.studies.store import SCHEMA, StudyStore

HEADER = "header.json"  # in a study's folder: what its header was when it last began
NO_DATA = {"name": "", "fingerprint": "", "description": ""}
_log = logging.getLogger(__name__)


def now() -> str:
    """ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def kept_header(folder: Path | str) -> dict[str, Any] | None:
    """The header that the study in a folder has; None where none has begun."""
    path = Path(folder) / HEADER
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def study_header(
    folder: Path | str,
    space: Sequence[Mapping[str, Any]],
    *,
    space_version: int,
    objective: str,
    direction: str,
    oracle: str,
    epochs: int,
    seed: int | None,
    protocol: ValidationProtocol | str = ValidationProtocol.GIVEN,
    data: Mapping[str, str] = NO_DATA,
    profile: Mapping[str, float] | None = None,
    text_embedding: Sequence[float] | None = None,
) -> dict[str, Any]:
    """What a search says of itself; one that goes on has the id and the date that it began with.

    Args:
        folder: of the study; only read here.
        space: KerasTuner's list of hyperparameters.
        space_version: what its names mean.
        objective: what is searched by.
        direction: "max" or "min".
        oracle: by name.
        epochs: of a full trial.
        seed: of the search.
        protocol: how the validation events were held out; a value of `ValidationProtocol`.
        data: `name`, `fingerprint` and `description`.
        profile: see `data_profile`.
        text_embedding: of the data's texts.
    """
    kept = kept_header(folder) or {"study_id": uuid.uuid4().hex, "created": now()}
    header = {
        "kind": "study",
        "study_id": kept["study_id"],
        "schema": SCHEMA,
        "space": space,
        "space_version": space_version,
        "objective": objective,
        "direction": direction,
        "protocol": protocol,
        "budget_unit": "epochs",
        "budget": epochs,
        "oracle": oracle,
        "seed": seed,
        "created": kept["created"],
        "source": "tfrec-meta",
        "data": dict(data),
        "profile": None if profile is None else dict(profile),
        "text_embedding": None if text_embedding is None else list(text_embedding),
    }
    return json.loads(json.dumps(header))  # as it is read: no tuples


def trial_record(
    header: Mapping[str, Any],
    trial: Mapping[str, Any],
    whole: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """A trial of `StrategyTuner.trials` as the store takes it.

    Args:
        header: of its study.
        trial: what it came to.
        whole: what its strategy is with all that was not searched.
    """
    valued = trial["status"] in ("completed", "stopped")
    # Models that are solved at once report no epochs; their trials count as full ones.
    used = len(trial["reports"]) or (trial["epochs"] if valued else 0)
    return {
        "kind": "trial",
        "study_id": header["study_id"],
        "trial_id": trial["trial_id"],
        # Without an oracle's own notes.
        "values": {n: v for n, v in trial["values"].items() if not n.startswith("tuner/")},
        "strategy": dict(whole(trial["strategy"])),
        "value": trial[header["objective"]] if valued else None,
        "status": trial["status"],
        "error": trial["error"],
        "curve": trial["reports"],
        "budget": used,
        "seconds": trial["seconds"],
        "seed": trial["seed"],
        "ended": trial["ended"],
        "suggested_by": trial["suggested_by"],
        "expected": _finite(trial["expected"]),
    }


def _finite(expected: Mapping[str, float] | None) -> dict[str, float] | None:
    """None for a surrogate that lost its way: a record has finite numbers alone."""
    if expected is None or not all(map(math.isfinite, expected.values())):
        return None
    return dict(expected)


class StudyLog:
    """Writes a study into a store as it goes, each trial once.

    Whatever ails the store ends the writing with a warning, and never the search; the same search
    begun again adds what is missing.

    Args:
        store: of all studies; None writes nothing.
        header: of this one.
    """

    def __init__(self, store: StudyStore | None, header: Mapping[str, Any]):
        self._store = store
        self._header = header
        self._known: set[str] = set()

    def begin(self, trials: Sequence[Mapping[str, Any]]) -> None:
        """Writes the header and the trials that ended before, as far as the store lacks them."""
        with self._whatever_happens() as store:
            if store is None:
                return
            study_id = self._header["study_id"]
            there = [study for study in store.studies() if study.study_id == study_id]
            self._known = {trial["trial_id"] for study in there for trial in study.trials}
            missing = [trial for trial in trials if trial["trial_id"] not in self._known]
            if missing or not there or there[0].header() != self._header:
                store.append_study(self._header, missing)
                self._known |= {trial["trial_id"] for trial in missing}

    def add(self, trial: Mapping[str, Any]) -> None:
        """Writes a trial that has ended, unless it is there."""
        with self._whatever_happens() as store:
            if store is not None and trial["trial_id"] not in self._known:
                store.append_trial(trial)
                self._known.add(trial["trial_id"])

    @contextlib.contextmanager
    def _whatever_happens(self) -> Iterator[StudyStore | None]:
        store = self._store
        try:
            yield store
        except Exception as error:  # a disk that is full or gone, a lock, a file of somebody else
            self._store = None  # each try could wait for a lock
            _log.warning(
                "%s can't be written (%s: %s); the search goes on, and is not remembered from here "
                "on. Mend that and make the same call again to add what is missing.",
                *(None if store is None else store.path, type(error).__name__, error),
            )
