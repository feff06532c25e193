"""Studies of KerasTuner projects and of TFX's Tuner as records of the store; JSON alone is read."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.io.files import PathLike
from tfrec_meta.tuning.studies.store import SCHEMA, STATUSES, fault_of

Record = dict[str, Any]

UNKNOWN = "unknown"  # the oracle of a study whose files do not name it
_ORACLES_OWN = "tuner/"  # hyperparameters that are an oracle's notes, such as a hyperband's rounds
_ENDED = ("COMPLETED", "FAILED", "INVALID")
_log = logging.getLogger(__name__)


def read_keras_tuner(
    folder: PathLike, *, objective: str | None = None, epochs: int | None = None
) -> tuple[Record, list[Record]]:
    """The study of a KerasTuner project, as `StudyStore.append_study` takes it.

    Trials that failed, or whose score is no number, are "failed"; those that have not ended are
    left out, and so are files that were cut off, with a warning. Read again, a project has the same
    `study_id`. What the files don't tell is for the caller to change: `protocol` is "unknown", the
    data is named after the folder, and `space_version` is 1 for a space of `StrategySpace`, 0 for
    any other.

    Args:
        folder: of the project, with `oracle.json` and `trial_*/trial.json`.
        objective: the metric that was searched for, if more than one could be it.
        epochs: of a full trial, if the files don't tell; without either, the budget is 1 "trial".

    Returns:
        Header and trials, in the order in which they began.

    Raises:
        ValueError: if it is no such project, has no trial that ended or no space, or if it can't be
            told what was searched for.
    """
    folder = Path(folder)
    if not (folder / "oracle.json").is_file():
        raise ValueError(f"{folder} holds no oracle.json: it is no KerasTuner project.")
    oracle = _read_object(folder / "oracle.json")
    # What StrategyTuner adds to a project: study.json, and an outcome.json for each trial.
    ours = _read_object(folder / "study.json") if (folder / "study.json").is_file() else {}
    states = _ended_trials(folder, _list(oracle, "start_order"))
    if not states:
        raise ValueError(f"{folder} has no trial that ended; there is nothing to import.")
    objective = objective or ours.get("objective") or _objective(folder, states)
    trials = []
    for path, state in states:
        outcome_path = path.with_name("outcome.json")
        outcome = _read_object(outcome_path) if outcome_path.is_file() else {}
        trials.append(_keras_trial(path, state, outcome, objective, epochs))
    first = next(iter(_list(oracle, "end_order")), None)
    state = next((s for _, s in states if s.get("trial_id") == first), states[0][1])
    values = _object(state, "hyperparameters").get("values")
    told = [objective, oracle.get("seed"), first, values, state.get("score"), ours]
    header = {
        "objective": objective,
        "direction": _direction(folder, states, objective),
        "oracle": ours.get("oracle", UNKNOWN),
        "seed": oracle.get("seed"),
        "source": "keras_tuner",
        "data": {
            "name": folder.resolve().name,
            "fingerprint": str(ours.get("data", "")),
            "description": "",
        },
    }
    space = _list(_object(oracle, "hyperparameters"), "space")
    full = epochs or ours.get("epochs")
    return _study(folder, told, space, trials, header, full, ours.get("space_version"))


def read_tfx(
    folder: PathLike,
    *,
    objective: str | None = None,
    direction: str | None = None,
    epochs: int | None = None,
) -> tuple[Record, list[Record]]:
    """The study of one execution of TFX's Tuner, as `StudyStore.append_study` takes it.

    Our own Tuner leaves `trials.json` beside TFX's files; without it, `tuner_results.json` gives
    the trials that had a score, and nothing of how they came to it. See `read_keras_tuner` for what
    the caller may have to change.

    Args:
        folder: a `tuner_results` artifact, or the node's folder if it has only one of them. The
            space is read from `best_hyperparameters.txt` of the same execution.
        objective: what was searched for; `trials.json` tells.
        direction: "max" or "min"; the order of `tuner_results.json` tells.
        epochs: of a full trial; `trials.json` tells.

    Raises:
        ValueError: if the space, the objective or the direction can't be known, or if there are no
            trials, or those of several executions.
    """
    folder = Path(folder)
    results = _only(folder, ("trials.json", "tuner_results.json"), "trials of a TFX Tuner")
    ranked = results / "tuner_results.json"
    rows = _read_rows(ranked) if ranked.is_file() else []
    best = _space_file(folder, results)
    space = _list(_read_object(best), "space")
    if (results / "trials.json").is_file():
        path = results / "trials.json"
        outcomes = _read_rows(path)
        objective = objective or _objective_of_outcomes(path, outcomes)
        trials = [_trial_of_outcome(path, outcome, objective, epochs) for outcome in outcomes]
    else:
        path = ranked
        if objective is None:
            raise ValueError(f"{path} does not tell what was searched for; say `objective`.")
        trials = [_trial_of_row(path, row, epochs) for row in rows]
    told = [objective, path.read_text(encoding="utf-8"), best.read_text(encoding="utf-8")]
    header = {
        "objective": objective,
        "direction": direction or _direction_of_order(results, rows),
        "oracle": UNKNOWN,
        "seed": None,
        "source": "tfx",
        "data": {"name": folder.resolve().name, "fingerprint": "", "description": ""},
    }
    return _study(results, told, space, trials, header, epochs, None)


# --- What both share -------------------------------------------------------------------------


def _study(
    folder: Path,
    told: Sequence[Any],
    space: Sequence[Any],
    trials: Sequence[Record],
    about: Mapping[str, Any],
    epochs: int | None,
    space_version: int | None,
) -> tuple[Record, list[Record]]:
    """Header and those trials that make sense; what is wrong with a header is raised.

    Args:
        told: what tells this study from others, ready for JSON.
        about: the fields of the header that the source tells.
        epochs: of a full trial; else the most of any trial.
        space_version: else by the look of the space.
    """
    if not space:
        raise ValueError(f"{folder} does not tell the space that was searched; nothing is known.")
    text = json.dumps(told, sort_keys=True)
    study_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    sound = []
    for trial in trials:
        trial["study_id"] = study_id
        fault = fault_of(trial)
        if fault is None:
            sound.append(trial)
        else:
            _log.warning("%s: trial %r is left out: %s", folder, trial["trial_id"], fault)
    if not sound:
        raise ValueError(f"{folder} has no trial that makes sense; there is nothing to import.")
    full = epochs or max(trial["budget"] for trial in sound)
    for trial in sound:
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
        "created": min(trial["ended"] for trial in sound),
        "profile": None,
        "text_embedding": None,
        **about,
    }
    fault = fault_of(header)
    if fault is not None:
        raise ValueError(f"{folder} holds a study that makes no sense: {fault}.")
    return header, sound


def _likely_version(space: Sequence[Any]) -> int:
    """1, the version before versions were written down, if a space looks like StrategySpace's.

    That is a `family`, and else only names below families, as `ials/l2`. 0 for any other.
    """
    configs = {str(_object(one, "config").get("name")): _object(one, "config") for one in space}
    family = configs.pop("family", {})
    families = _list(family, "values") or [family.get("value")]
    return int(bool(family) and all(name.partition("/")[0] in families for name in configs))


def _trial(path: Path, trial_id: Any, values: Any, epochs: int | None, **fields: Any) -> Record:
    """A trial of which nothing but its values is known, and what else is known of it."""
    values = values if isinstance(values, dict) else {}
    budget = values.get(f"{_ORACLES_OWN}epochs") or epochs or 0
    return {
        "kind": "trial",
        "study_id": "",
        "trial_id": trial_id,
        "values": {
            name: value
            for name, value in values.items()
            if value is not None and not name.startswith(_ORACLES_OWN)
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


def _result(value: Any, error: Any) -> Record:
    """Value, status and error of a trial with this score, or with what broke it."""
    if error is None and not _is_finite(value):
        error = f"its score is {value}"
    if error is not None:
        return {"value": None, "status": "failed", "error": str(error)}
    return {"value": float(value), "status": "completed", "error": None}


def _trial_of_outcome(
    path: Path, outcome: Mapping[str, Any], objective: str, epochs: int | None
) -> Record:
    """From what StrategyTuner keeps of a trial."""
    told = _result(outcome.get(objective), outcome.get("error"))
    status = outcome.get("status")
    if status in STATUSES and (told["value"] is not None or status not in ("completed", "stopped")):
        told["status"] = status
    kept = {
        name: outcome[name]
        for name in ("strategy", "seconds", "seed", "ended", "suggested_by", "expected")
        if outcome.get(name) is not None
    }
    return _trial(
        path,
        outcome.get("trial_id"),
        outcome.get("values"),
        outcome.get("epochs") or epochs,
        curve=_curve(_list(outcome, "curve"), objective),
        **told,
        **kept,
    )


def _curve(lines: Sequence[Any], objective: str) -> list[float]:
    """The objective of each epoch: as it is, or of the lines that training writes."""
    curve: list[Any] = [line.get(objective) if isinstance(line, dict) else line for line in lines]
    return [float(value) for value in curve] if all(map(_is_finite, curve)) else []


# --- KerasTuner ------------------------------------------------------------------------------


def _ended_trials(folder: Path, order: Sequence[Any]) -> list[tuple[Path, Record]]:
    """Path and state of each, in the order in which they began."""
    found: list[tuple[Path, Record]] = []
    broken = []
    for path in sorted(folder.glob("trial_*/trial.json")):
        try:
            state = _read_object(path)
        except ValueError as error:
            broken.append(str(error))
            continue
        if state.get("status") in _ENDED:
            found.append((path, state))
    if broken:
        _log.warning("%d trial file(s) are left out; the first: %s", len(broken), broken[0])
    began = {trial_id: place for place, trial_id in enumerate(order) if isinstance(trial_id, str)}
    return sorted(found, key=lambda one: began.get(str(one[1].get("trial_id")), len(began)))


def _keras_trial(
    path: Path, state: Record, outcome: Record, objective: str, epochs: int | None
) -> Record:
    if outcome:
        outcome = {**outcome, "trial_id": state.get("trial_id")}
        return _trial_of_outcome(path, outcome, objective, epochs)
    message = state.get("message")
    if message is None and state.get("status") != "COMPLETED":
        message = f"its status is {state.get('status')}"
    curve = _observed(state, objective)
    return _trial(
        path,
        state.get("trial_id"),
        _object(state, "hyperparameters").get("values"),
        len(curve) or epochs,
        curve=curve,
        **_result(state.get("score"), message),
    )


def _metrics(state: Record) -> dict[str, Any]:
    return _object(_object(state, "metrics"), "metrics")


def _observed(state: Record, metric: str) -> list[float]:
    """The metric after each epoch, if a trial reported every one of them.

    KerasTuner's own tuners report the best epoch alone; that is no curve.
    """
    seen = _observations(state, metric)
    steps = [step for step, _ in seen]
    whole = len(seen) > 1 and steps in (list(range(len(seen))), list(range(1, len(seen) + 1)))
    return [value for _, value in seen] if whole else []


def _observations(state: Record, metric: str) -> list[tuple[int, float]]:
    """Steps, and the mean of the executions at each; steps without a number are left out."""
    seen = []
    for one in _list(_object(_metrics(state), metric), "observations"):
        values = _list(one, "value")
        if values and all(map(_is_finite, values)) and isinstance(one.get("step"), int):
            seen.append((one["step"], sum(values) / len(values)))
    return seen


def _objective(folder: Path, states: Sequence[tuple[Path, Record]]) -> str:
    """The one metric whose best value is each trial's score."""
    scored = [state for _, state in states if _is_finite(state.get("score"))]
    names = {name: None for state in scored for name in _metrics(state)}
    fitting = [name for name in names if all(_has_score(state, name) for state in scored)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(fitting or names) or "none"
    raise ValueError(
        f"{folder} does not tell which metric was searched for; say `objective`, one of: {listed}."
    )


def _has_score(state: Record, metric: str) -> bool:
    values = [value for _, value in _observations(state, metric)]
    if not values:
        return False
    minimised = _object(_metrics(state), metric).get("direction") == "min"
    return math.isclose(min(values) if minimised else max(values), state["score"], rel_tol=1e-6)


def _direction(folder: Path, states: Sequence[tuple[Path, Record]], objective: str) -> str:
    directions = {_object(_metrics(state), objective).get("direction") for _, state in states}
    found = directions & {"max", "min"}
    if len(found) != 1:
        known = ", ".join({name: None for _, state in states for name in _metrics(state)})
        raise ValueError(
            f"{folder} does not tell whether `objective`={objective!r} is to be max or min; its "
            f"metrics are {known or 'none'}."
        )
    return str(found.pop())


# --- TFX -------------------------------------------------------------------------------------


def _only(folder: Path, names: Sequence[str], what: str) -> Path:
    """The one folder, at most two below, that holds a file of one of these names."""
    patterns = [f"{below}{name}" for name in names for below in ("", "*/", "*/*/")]
    found = sorted({path.parent for pattern in patterns for path in folder.glob(pattern)})
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"{folder} holds no {what}: no {' or '.join(names)}.")
    listed = ", ".join(map(str, found[:4]))
    raise ValueError(f"{folder} holds the {what} of {len(found)} executions; say which: {listed}.")


def _space_file(folder: Path, results: Path) -> Path:
    """`best_hyperparameters.txt` of the execution whose results these are."""
    name = "best_hyperparameters.txt"
    # <node>/tuner_results/<execution> has it in <node>/best_hyperparameters/<execution>.
    beside = results.parent.parent / "best_hyperparameters" / results.name / name
    places = [results / name, beside, *sorted(folder.glob(f"*/{name}"))]
    for place in places:
        if place.is_file():
            return place
    raise ValueError(
        f"{results} does not tell the space that was searched, and there is no {beside}. Without "
        "the space nothing can be learned from the trials."
    )


def _objective_of_outcomes(path: Path, outcomes: Sequence[Mapping[str, Any]]) -> str:
    names = {name: None for outcome in outcomes for name in outcome if name.startswith("val_")}
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise ValueError(f"{path} does not tell the `objective`; it has {listed}. Say which.")
    return next(iter(names))


def _direction_of_order(results: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """TFX lists the best trials first."""
    scores = [row["score"] for row in rows if _is_finite(row.get("score"))]
    if not scores or scores[0] == scores[-1]:
        raise ValueError(
            f"{results} does not tell whether more is better or less; say `direction`, max or min."
        )
    return "max" if scores[0] > scores[-1] else "min"


def _trial_of_row(path: Path, row: Mapping[str, Any], epochs: int | None) -> Record:
    values = {name: value for name, value in row.items() if name not in ("trial_id", "score")}
    return _trial(path, row.get("trial_id"), values, epochs, **_result(row.get("score"), None))


# --- JSON of others --------------------------------------------------------------------------


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=lambda name: None)  # NaN is no number
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def _read_object(path: Path) -> Record:
    found = _read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a JSON object.")
    return found


def _read_rows(path: Path) -> list[Record]:
    found = _read_json(path)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"{path} is not a JSON list of objects.")
    return found


def _object(record: Any, name: str) -> Record:
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, dict) else {}


def _list(record: Any, name: str) -> list[Any]:
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, list) else []


def _is_finite(value: Any) -> bool:
    return type(value) in (float, int) and math.isfinite(value)
