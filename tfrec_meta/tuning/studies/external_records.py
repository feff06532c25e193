"""Builds records of the store from the files of other tuners; only JSON is read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.studies.migration import OBJECTIVES_OF_0_1
from tfrec_meta.tuning.studies.records import SCHEMA, TrialStatus, record_problem

Record = dict[str, Any]

UNKNOWN_ORACLE = "unknown"  # of a study whose files do not name it
_ORACLE_PREFIX = "tuner/"  # hyperparameters that an oracle adds, such as Hyperband's rounds
_VALUED = (TrialStatus.COMPLETED, TrialStatus.STOPPED)
_log = logger(__name__)


def build_study(
    folder: Path,
    identity: Sequence[Any],
    space: Sequence[Any],
    trials: Sequence[Record],
    facts: Mapping[str, Any],
    *,
    epochs: int | None = None,
    space_version: int | None = None,
) -> tuple[Record, list[Record]]:
    """Returns the header and the valid trials of an imported study.

    Args:
        folder: that was read, for messages.
        identity: what distinguishes the study from others, ready for JSON; its digest is the id.
        space: KerasTuner's list of hyperparameters.
        trials: from `build_trial`.
        facts: the header's fields that the source records.
        epochs: of a full trial; by default the largest budget of the trials.
        space_version: by default guessed from the names in the space.

    Raises:
        ValueError: if there is no space or no valid trial, or if the header is invalid.
    """
    if not space:
        raise ValueError(
            f"{folder} does not contain the search space, so nothing can be learned from it. "
            "Import a folder with the space."
        )
    text = json.dumps(identity, sort_keys=True)
    study_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    valid = []
    for trial in trials:
        trial["study_id"] = study_id
        problem = record_problem(trial)
        if problem is None:
            valid.append(trial)
        else:
            _log.warning("%s: trial %r is left out: %s", folder, trial["trial_id"], problem)
    if not valid:
        raise ValueError(f"{folder} has no valid trial, so there is nothing to import.")
    full = epochs or max(trial["budget"] for trial in valid)
    for trial in valid:
        trial["budget"] = trial["budget"] or 1
    header = {
        "kind": "study",
        "study_id": study_id,
        "schema": SCHEMA,
        "space": list(space),
        "space_version": _likely_version(space) if space_version is None else space_version,
        "protocol": ValidationProtocol.UNKNOWN.value,
        "budget_unit": "epochs" if full else "trial",
        "budget": full or 1,
        "created": min(trial["ended"] for trial in valid),
        "profile": None,
        "text_embedding": None,
        **facts,
    }
    header["objective"] = OBJECTIVES_OF_0_1.get(header["objective"], header["objective"])
    problem = record_problem(header)
    if problem is not None:
        raise ValueError(f"{folder} holds an invalid study: {problem}.")
    return header, valid


def _likely_version(space: Sequence[Any]) -> int:
    """Returns 1, the version before versions were recorded, for a space like StrategySpace's.

    Such a space has a `family`, and otherwise only names below families, such as `ials/l2`. Other
    spaces have version 0.
    """
    configs = {str(object_in(one, "config").get("name")): object_in(one, "config") for one in space}
    family = configs.pop("family", {})
    families = list_in(family, "values") or [family.get("value")]
    return int(bool(family) and all(name.partition("/")[0] in families for name in configs))


def build_trial(
    path: Path, trial_id: Any, values: Any, epochs: int | None, **fields: Any
) -> Record:
    """Returns a trial's record; `build_study` completes and checks it.

    Args:
        path: the file that was read; its time is the default end of the trial.
        trial_id: of the trial.
        values: its hyperparameters by name.
        epochs: its budget, unless an oracle has recorded one.
        **fields: further fields of the record.
    """
    values = values if isinstance(values, dict) else {}
    budget = values.get(f"{_ORACLE_PREFIX}epochs") or epochs or 0
    return {
        "kind": "trial",
        "study_id": "",
        "trial_id": trial_id,
        "values": {
            name: value
            for name, value in values.items()
            if value is not None and not name.startswith(_ORACLE_PREFIX)
        },
        "strategy": None,
        "curve": [],
        "budget": budget,
        "seconds": 0.0,
        "seed": None,
        "ended": datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat(),
        "suggested_by": None,
        "expected": None,
        **fields,
    }


def result_fields(value: Any, error: Any) -> Record:
    """Returns value, status and error of a trial with this score or this error."""
    if error is None and not is_finite(value):
        error = f"its score is {value}"
    if error is not None:
        return {"value": None, "status": TrialStatus.FAILED.value, "error": str(error)}
    return {"value": float(value), "status": TrialStatus.COMPLETED.value, "error": None}


def trial_of_outcome(
    path: Path, outcome: Mapping[str, Any], objective: str, epochs: int | None
) -> Record:
    """Returns the record of an outcome that `StrategyTuner` has saved.

    Args:
        path: the file that was read.
        outcome: see `StrategyTuner.trials`.
        objective: its key in the outcome.
        epochs: the budget, if the outcome has none.
    """
    result = result_fields(outcome.get(objective), outcome.get("error"))
    status = outcome.get("status")
    if status in list(TrialStatus) and (result["value"] is not None or status not in _VALUED):
        result["status"] = status
    saved = {
        name: outcome[name]
        for name in ("strategy", "seconds", "seed", "ended", "suggested_by", "expected")
        if outcome.get(name) is not None
    }
    return build_trial(
        path,
        outcome.get("trial_id"),
        outcome.get("values"),
        outcome.get("epochs") or epochs,
        curve=_curve(list_in(outcome, "curve"), objective),
        **result,
        **saved,
    )


def _curve(lines: Sequence[Any], objective: str) -> list[float]:
    """Returns the objective after each epoch, from numbers or lines of a training curve."""
    names = (objective, OBJECTIVES_OF_0_1.get(objective, objective))
    curve: list[Any] = [
        next((line[name] for name in names if name in line), None)
        if isinstance(line, dict)
        else line
        for line in lines
    ]
    return [float(value) for value in curve] if all(map(is_finite, curve)) else []


# Reading JSON of unknown content.


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file, with NaN and infinities as None.

    Raises:
        ValueError: if the file is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def read_object(path: Path) -> Record:
    """Returns a JSON object.

    Raises:
        ValueError: if the file holds none.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a JSON object.")
    return found


def read_objects(path: Path) -> list[Record]:
    """Returns a JSON list of objects.

    Raises:
        ValueError: if the file holds none.
    """
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"{path} is not a JSON list of objects.")
    return found


def object_in(record: Any, name: str) -> Record:
    """Returns the object in a field; empty if there is none."""
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, dict) else {}


def list_in(record: Any, name: str) -> list[Any]:
    """Returns the list in a field; empty if there is none."""
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, list) else []


def is_finite(value: Any) -> bool:
    """Returns whether a value is a finite number."""
    return type(value) in (float, int) and math.isfinite(value)
