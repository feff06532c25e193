"""Reads the results of TFX's Tuner as records of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.errors import ParameterError
from tfrec_meta.io.files import PathLike
from tfrec_meta.tuning.studies.external_records import (
    UNKNOWN_ORACLE,
    Record,
    build_study,
    build_trial,
    is_finite,
    list_in,
    read_object,
    read_objects,
    result_fields,
    trial_of_outcome,
)

_SPACE_FILE = "best_hyperparameters.txt"


def read_tfx(
    folder: PathLike,
    *,
    objective: str | None = None,
    direction: str | None = None,
    epochs: int | None = None,
) -> tuple[Record, list[Record]]:
    """Reads one execution of TFX's Tuner, for `StudyStore.append_study`.

    The Tuner of this package writes `trials.json` next to TFX's files. Without it, only
    `tuner_results.json` is read, which has the scores of trials but not their curves or errors. See
    `read_keras_tuner` for what the caller may have to set.

    Args:
        folder: a `tuner_results` artifact, or the node's folder if it has only one. The space is
            read from `best_hyperparameters.txt` of the same execution.
        objective: the metric that was searched by; by default from `trials.json`.
        direction: "max" or "min"; by default from the order of `tuner_results.json`.
        epochs: of a full trial; by default from `trials.json`.

    Returns:
        Header and trials.

    Raises:
        ValueError: if the space, the objective or the direction is not recorded, or if there are no
            trials, or trials of several executions.
    """
    folder = Path(folder)
    results = _only_folder(folder, ("trials.json", "tuner_results.json"), "trials of a TFX Tuner")
    ranked = results / "tuner_results.json"
    rows = read_objects(ranked) if ranked.is_file() else []
    best = _space_path(folder, results)
    space = list_in(read_object(best), "space")
    if (results / "trials.json").is_file():
        path = results / "trials.json"
        outcomes = read_objects(path)
        objective = objective or _objective(path, outcomes)
        trials = [trial_of_outcome(path, outcome, objective, epochs) for outcome in outcomes]
    else:
        path = ranked
        if objective is None:
            raise ParameterError(
                f"{path} does not record the metric that was searched by; set `objective`.",
                "objective",
            )
        trials = [_trial_of_row(path, row, epochs) for row in rows]
    facts = {
        "objective": objective,
        "direction": direction or _direction(results, rows),
        "oracle": UNKNOWN_ORACLE,
        "seed": None,
        "source": "tfx",
        "data": {"name": folder.resolve().name, "fingerprint": "", "description": ""},
    }
    identity = [objective, path.read_text(encoding="utf-8"), best.read_text(encoding="utf-8")]
    return build_study(results, identity, space, trials, facts, epochs=epochs)


def _only_folder(folder: Path, names: Sequence[str], content: str) -> Path:
    """Returns the one folder, at most two levels below, that holds a file of one of these names."""
    patterns = [f"{below}{name}" for name in names for below in ("", "*/", "*/*/")]
    found = sorted({path.parent for pattern in patterns for path in folder.glob(pattern)})
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"{folder} holds no {content}: it has no {' or '.join(names)}.")
    listed = ", ".join(map(str, found[:4]))
    raise ValueError(
        f"{folder} holds the {content} of {len(found)} executions; use the folder of one: {listed}."
    )


def _space_path(folder: Path, results: Path) -> Path:
    """Returns the `best_hyperparameters.txt` of the execution with these results."""
    # <node>/tuner_results/<execution> has it in <node>/best_hyperparameters/<execution>.
    sibling = results.parent.parent / "best_hyperparameters" / results.name / _SPACE_FILE
    for path in [results / _SPACE_FILE, sibling, *sorted(folder.glob(f"*/{_SPACE_FILE}"))]:
        if path.is_file():
            return path
    raise ValueError(
        f"{results} does not contain the search space, and there is no {sibling}. Import a folder "
        "with the space; without it, nothing can be learned from the trials."
    )


def _objective(path: Path, outcomes: Sequence[Mapping[str, Any]]) -> str:
    names = {name: None for outcome in outcomes for name in outcome if name.startswith("val_")}
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise ParameterError(
            f"{path} does not record the `objective`; set it to one of: {listed}.", "objective"
        )
    return next(iter(names))


def _direction(results: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the direction by the order of the rows: TFX lists the best trials first."""
    scores = [row["score"] for row in rows if is_finite(row.get("score"))]
    if not scores or scores[0] == scores[-1]:
        raise ParameterError(
            f"{results} does not record whether higher values are better; set `direction` to max "
            "or min.",
            "direction",
        )
    return "max" if scores[0] > scores[-1] else "min"


def _trial_of_row(path: Path, row: Mapping[str, Any], epochs: int | None) -> Record:
    values = {name: value for name, value in row.items() if name not in ("trial_id", "score")}
    return build_trial(
        path, row.get("trial_id"), values, epochs, **result_fields(row.get("score"), None)
    )
