"""Reads KerasTuner projects, including those of `StrategyTuner`, as records of the store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.errors import ParameterError
from tfrec_meta.io.files import PathLike
from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.studies.external_records import (
    UNKNOWN_ORACLE,
    Record,
    build_study,
    build_trial,
    is_finite,
    list_in,
    object_in,
    read_object,
    result_fields,
    trial_of_outcome,
)

_ENDED = ("COMPLETED", "FAILED", "INVALID")
_log = logger(__name__)


def read_keras_tuner(
    folder: PathLike, *, objective: str | None = None, epochs: int | None = None
) -> tuple[Record, list[Record]]:
    """Reads a KerasTuner project, for `StudyStore.append_study`.

    Trials that failed or have no finite score are "failed". Trials that have not ended are left
    out, and so are truncated files, with a warning. A project always gets the same `study_id`. The
    caller may set what the files do not record: `protocol` is "unknown", the data is named after
    the folder, and `space_version` is 1 for a space of `StrategySpace` and 0 for any other.

    Args:
        folder: of the project, with `oracle.json` and `trial_*/trial.json`.
        objective: the metric that was searched by, if several are possible.
        epochs: of a full trial, if the files do not record them; otherwise the budget is 1 "trial".

    Returns:
        Header and trials, in the order in which they started.

    Raises:
        ValueError: if the folder is no such project, has no ended trial or no space, or if the
            objective is ambiguous.
    """
    folder = Path(folder)
    if not (folder / "oracle.json").is_file():
        raise ValueError(
            f"{folder} holds no oracle.json, so it is not a KerasTuner project. Use its folder."
        )
    oracle = read_object(folder / "oracle.json")
    # StrategyTuner adds study.json to a project, and outcome.json to each trial.
    ours = read_object(folder / "study.json") if (folder / "study.json").is_file() else {}
    states = _ended_trials(folder, list_in(oracle, "start_order"))
    if not states:
        raise ValueError(f"{folder} has no trial that ended, so there is nothing to import.")
    objective = objective or ours.get("objective") or _objective(folder, states)
    trials = []
    for path, state in states:
        outcome_path = path.with_name("outcome.json")
        outcome = read_object(outcome_path) if outcome_path.is_file() else {}
        trials.append(_trial(path, state, outcome, objective, epochs))
    first = next(iter(list_in(oracle, "end_order")), None)
    state = next((s for _, s in states if s.get("trial_id") == first), states[0][1])
    values = object_in(state, "hyperparameters").get("values")
    facts = {
        "objective": objective,
        "direction": _direction(folder, states, objective),
        "oracle": ours.get("oracle", UNKNOWN_ORACLE),
        "seed": oracle.get("seed"),
        "source": "keras_tuner",
        "data": {
            "name": folder.resolve().name,
            "fingerprint": str(ours.get("data", "")),
            "description": "",
        },
    }
    return build_study(
        folder,
        [objective, oracle.get("seed"), first, values, state.get("score"), ours],
        list_in(object_in(oracle, "hyperparameters"), "space"),
        trials,
        facts,
        epochs=epochs or ours.get("epochs"),
        space_version=ours.get("space_version"),
    )


def _ended_trials(folder: Path, order: Sequence[Any]) -> list[tuple[Path, Record]]:
    """Returns path and state of each ended trial, in the order in which they started."""
    found: list[tuple[Path, Record]] = []
    broken = []
    for path in sorted(folder.glob("trial_*/trial.json")):
        try:
            state = read_object(path)
        except ValueError as error:
            broken.append(str(error))
            continue
        if state.get("status") in _ENDED:
            found.append((path, state))
    if broken:
        _log.warning("%d trial file(s) are left out; the first: %s", len(broken), broken[0])
    started = {trial_id: n for n, trial_id in enumerate(order) if isinstance(trial_id, str)}
    return sorted(found, key=lambda one: started.get(str(one[1].get("trial_id")), len(started)))


def _trial(
    path: Path, state: Record, outcome: Record, objective: str, epochs: int | None
) -> Record:
    if outcome:
        outcome = {**outcome, "trial_id": state.get("trial_id")}
        return trial_of_outcome(path, outcome, objective, epochs)
    message = state.get("message")
    if message is None and state.get("status") != "COMPLETED":
        message = f"its status is {state.get('status')}"
    curve = _curve(state, objective)
    return build_trial(
        path,
        state.get("trial_id"),
        object_in(state, "hyperparameters").get("values"),
        len(curve) or epochs,
        curve=curve,
        **result_fields(state.get("score"), message),
    )


def _metrics(state: Record) -> dict[str, Any]:
    return object_in(object_in(state, "metrics"), "metrics")


def _curve(state: Record, metric: str) -> list[float]:
    """Returns the metric after each epoch, if the trial reported every epoch.

    KerasTuner's own tuners report only the best epoch, which is no curve.
    """
    observed = _observations(state, metric)
    steps = [step for step, _ in observed]
    count = len(observed)
    is_complete = count > 1 and steps in (list(range(count)), list(range(1, count + 1)))
    return [value for _, value in observed] if is_complete else []


def _observations(state: Record, metric: str) -> list[tuple[int, float]]:
    """Returns steps and the mean of the executions; steps without a number are left out."""
    observed = []
    for one in list_in(object_in(_metrics(state), metric), "observations"):
        values = list_in(one, "value")
        if values and all(map(is_finite, values)) and isinstance(one.get("step"), int):
            observed.append((one["step"], sum(values) / len(values)))
    return observed


def _objective(folder: Path, states: Sequence[tuple[Path, Record]]) -> str:
    """Returns the one metric whose best value is the score of each trial."""
    scored = [state for _, state in states if is_finite(state.get("score"))]
    names = {name: None for state in scored for name in _metrics(state)}
    fitting = [name for name in names if all(_has_score(state, name) for state in scored)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(fitting or names) or "none"
    raise ParameterError(
        f"{folder} does not record the metric that was searched by; set `objective` to one of: "
        f"{listed}.",
        "objective",
    )


def _has_score(state: Record, metric: str) -> bool:
    values = [value for _, value in _observations(state, metric)]
    if not values:
        return False
    is_minimised = object_in(_metrics(state), metric).get("direction") == "min"
    return math.isclose(min(values) if is_minimised else max(values), state["score"], rel_tol=1e-6)


def _direction(folder: Path, states: Sequence[tuple[Path, Record]], objective: str) -> str:
    directions = {object_in(_metrics(state), objective).get("direction") for _, state in states}
    found = directions & {"max", "min"}
    if len(found) != 1:
        known = ", ".join({name: None for _, state in states for name in _metrics(state)})
        raise ParameterError(
            f"{folder} does not record the direction of `objective`={objective!r}; use one of its "
            f"metrics: {known or 'none'}.",
            "objective",
        )
    return str(found.pop())
