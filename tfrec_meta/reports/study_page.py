"""The HTML page of one study: its trials, their results, and what made the difference."""

from __future__ import annotations

import math
import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.reports import formats, page
from tfrec_meta.reports import study_charts as charts
from tfrec_meta.reports.study_axes import cut, number
from tfrec_meta.tuning.studies.records import TrialStatus
from tfrec_meta.tuning.studies.trial_records import (
    Parameter,
    active_values,
    best_trial,
    changed_values,
    default_values,
    objective_value,
    parameters,
    same_value,
)
from tfrec_meta.tuning.surrogates.importance import Surrogate, importance, partial_dependence

_STATUS_LABELS = {
    TrialStatus.COMPLETED: "completed",
    TrialStatus.STOPPED: "stopped early",
    TrialStatus.FAILED: "failed",
    TrialStatus.TIMED_OUT: "timed out",
}
_MOST_BARS = 15
_MOST_DEPENDENCES = 9
_MOST_PRIOR = 20
_LONGEST_ERROR = 2000


def write_study_report(
    path: Path | str,
    header: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    surrogate: Surrogate | None = None,
    prior: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Writes the page of a study: one file without scripts and without external resources.

    Args:
        path: the .html file, written atomically; its folder is created if it does not exist.
        header: the study's record.
        trials: records of its trials, in the order in which they ended.
        surrogate: of the objective, for the importance of hyperparameters; see `Surrogate`.
        prior: suggestions of prior studies, best first: dicts with "values" and "expected", the
            predicted objective, or None.

    Returns:
        The path.

    Raises:
        ValueError: if the surrogate does not return two finite numbers for each point.
    """
    return page.write(path, render(header, trials, surrogate, prior))


def render(
    header: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    surrogate: Surrogate | None = None,
    prior: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Returns the page that `write_study_report` writes, as a string."""
    space, direction = header["space"], header["direction"]
    known = parameters(space)
    values = [_plain_values(active_values(space, trial["values"])) for trial in trials]
    best = best_trial(trials, direction)
    best_values = {} if best is None else _plain_values(active_values(space, best["values"]))
    default = _default_trial(space, trials)
    shown, constant = _varied(known, values)
    unit = header.get("budget_unit") or "units of budget"
    text = page.render(
        "study.html",
        title=f"Study of {_data_name(header)}",
        objective=header["objective"],
        summary=_summary(header, trials, best, default),
        tiles=_tiles(header, trials, best),
        facts=_facts(header),
        levels=charts.LEVELS,
        histories=_histories(trials, direction, default, unit),
        parallel=charts.parallel_coordinates(trials, values, shown, header["objective"], direction),
        constant=[
            (known[name].short, name, formats.value(value)) for name, value in constant.items()
        ],
        surrogate=surrogate is not None,
        **_surrogate_part(surrogate, space, known, best_values),
        curves=charts.curves(trials, direction, unit),
        prior=_prior_rows(header, known, trials, best, prior),
        prior_summary=_prior_summary(space, trials, best, prior),
        predicted=charts.predicted_and_observed(trials, direction),
        unit=unit,
        rows=_rows(header, known, trials, best),
        best=None if best is None else _best(header, known, best, best_values),
    )
    # Lone surrogates, which JSON can hold, cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def _data_name(header: Mapping[str, Any]) -> str:
    return str((header.get("data") or {}).get("name") or "unnamed data")


def _cost(trials: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(sum(trial.get(key) or 0 for trial in trials))


def _duration(seconds: float) -> str:
    """Formats seconds with a fitting unit."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keeps strings, finite numbers and booleans, and converts all other values to text."""
    return {
        name: value
        if isinstance(value, (str, bool))
        or (isinstance(value, (int, float)) and math.isfinite(value))
        else str(value)
        for name, value in values.items()
    }


def _default_trial(
    space: Sequence[Mapping[str, Any]], trials: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    named = [trial for trial in trials if trial.get("suggested_by") == "default"]
    equal = [
        trial for trial in trials if _same_point(space, trial["values"], default_values(space))
    ]
    return next(iter(named + equal), None)


def _same_point(
    space: Sequence[Mapping[str, Any]], one: Mapping[str, Any], other: Mapping[str, Any]
) -> bool:
    """Returns whether two sets of values are the same point of the space."""
    one, other = active_values(space, one), active_values(space, other)
    return one.keys() == other.keys() and all(same_value(one[name], other[name]) for name in one)


def _varied(
    known: Mapping[str, Parameter], values: Sequence[Mapping[str, Any]]
) -> tuple[list[Parameter], dict[str, Any]]:
    """Returns the hyperparameters with several values, and the constant ones with their value."""
    varied, constant = [], {}
    for name, parameter in known.items():
        found = [value[name] for value in values if name in value]
        if any(not same_value(value, found[0]) for value in found):
            varied.append(parameter)
        elif found:
            constant[name] = found[0]
    return varied, constant


def _summary(
    header: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    default: Mapping[str, Any] | None,
) -> str:
    objective = header["objective"]
    if not trials:
        return "No trial has ended."
    if best is None:
        return f"No trial has a value of {objective}."
    extreme = "lowest" if header["direction"] == "min" else "highest"
    value = objective_value(best)
    assert value is not None
    text = f"The {extreme} {objective} is {number(value)}, of trial {best['trial_id']}"
    base = objective_value(default) if default is not None else None
    if default is best:
        text += ", which is the default"
    elif base is not None:
        text += f"; the default has {number(base)}"
        if base:
            text += f" ({(value - base) / abs(base):+.1%})".replace("%", " %")
    return text + "."


def _tiles(
    header: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
) -> list[tuple[str, str]]:
    """Returns (name, value) of the figures at the top."""
    count = dict.fromkeys(_STATUS_LABELS, 0)
    for trial in trials:
        status = trial.get("status", TrialStatus.FAILED)
        count[status] = count.get(status, 0) + 1
    tiles = [(f"best {header['objective']}", number(objective_value(best) if best else None))]
    tiles += [(_STATUS_LABELS.get(status, status), f"{total:,}") for status, total in count.items()]
    tiles.append((str(header.get("budget_unit") or "budget"), f"{_cost(trials, 'budget'):,.0f}"))
    tiles.append(("in trials", _duration(_cost(trials, "seconds"))))
    return tiles


def _facts(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = header.get("data") or {}
    facts = {
        "data": ", ".join(str(p) for p in (data.get("name"), data.get("description")) if p),
        "oracle": header.get("oracle"),
        "validation": header.get("protocol"),
        "full trial": f"{header.get('budget')} {header.get('budget_unit') or ''}",
        "seed": header.get("seed"),
        "created": header.get("created"),
        "source": header.get("source"),
        "study": header.get("study_id"),
        "data fingerprint": data.get("fingerprint"),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _histories(
    trials: Sequence[Mapping[str, Any]],
    direction: str,
    default: Mapping[str, Any] | None,
    unit: str,
) -> list[dict[str, Any]]:
    """Returns the charts of the history, by budget and by time, if these are recorded."""
    base = objective_value(default) if default is not None else None
    found = []
    if _cost(trials, "budget"):
        found.append(
            charts.history(trials, direction, base, lambda t: float(t.get("budget") or 0), unit)
        )
    seconds = _cost(trials, "seconds")
    if seconds or not found:
        units = ((3600, "hours", 7200), (60, "minutes", 180), (1, "seconds", 0))
        part, name = next((part, name) for part, name, least in units if seconds >= least)
        found.append(
            charts.history(
                trials, direction, base, lambda t: float(t.get("seconds") or 0) / part, name
            )
        )
    return [figure for figure in found if figure is not None]


def _surrogate_part(
    surrogate: Surrogate | None,
    space: Sequence[Mapping[str, Any]],
    known: Mapping[str, Parameter],
    best: Mapping[str, Any],
) -> dict[str, Any]:
    if surrogate is None:
        return {"bars": [], "interactions": "", "dependences": []}
    shares = importance(surrogate, space)
    shown = {name: share for name, share in list(shares.items())[:_MOST_BARS] if share >= 5e-4}
    found = {
        name: partial_dependence(surrogate, space, name) for name in list(shown)[:_MOST_DEPENDENCES]
    }
    alone = min(sum(shares.values()), 1.0)
    return {
        "bars": charts.bars(shown, known),
        "interactions": f"{1 - alone:.0%}".replace("%", " %"),
        "dependences": charts.dependences(found, known, best),
    }


def _labelled(
    known: Mapping[str, Parameter], values: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Returns (short name, name, value) of hyperparameters."""
    return [
        (known[name].short, name, formats.value(value))
        for name, value in _plain_values(values).items()
    ]


def _prior_rows(
    header: Mapping[str, Any],
    known: Mapping[str, Parameter],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    prior: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    space = header["space"]
    rows = []
    for rank, suggestion in enumerate(prior[:_MOST_PRIOR], start=1):
        tried = _trial_with(space, trials, suggestion["values"])
        rows.append(
            {
                "rank": str(rank),
                "expected": number(suggestion.get("expected")),
                "trial": "not tried" if tried is None else str(tried["trial_id"]),
                "value": "" if tried is None else number(objective_value(tried)),
                "won": tried is not None and tried is best,
                "differs": _labelled(known, changed_values(space, suggestion["values"])),
            }
        )
    if prior and best is not None and not any(row["won"] for row in rows):
        expected = (best.get("expected") or {}).get("mean")
        rows.append(
            {
                "rank": "–",
                "expected": number(expected),
                "trial": str(best["trial_id"]),
                "value": number(objective_value(best)),
                "won": True,
                "differs": _labelled(known, changed_values(space, best["values"])),
            }
        )
    return rows


def _prior_summary(
    space: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    prior: Sequence[Mapping[str, Any]],
) -> str:
    if not prior:
        return "There are no suggestions of prior studies."
    tried = [_trial_with(space, trials, suggestion["values"]) for suggestion in prior]
    count = sum(trial is not None for trial in tried)
    text = f"Prior studies suggested {len(prior)} points; {count} of them were tried. "
    if best is None:
        return text + "No trial has a value."
    rank = next((rank for rank, trial in enumerate(tried, start=1) if trial is best), None)
    if rank is None:
        return text + f"The best trial, {best['trial_id']}, is not among them."
    return text + f"The best trial, {best['trial_id']}, is number {rank} of them."


def _trial_with(
    space: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    return next((trial for trial in trials if _same_point(space, trial["values"], values)), None)


def _rows(
    header: Mapping[str, Any],
    known: Mapping[str, Parameter],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    space = header["space"]
    sign = 1 if header["direction"] == "min" else -1
    scored = sorted(
        (sign * value, row)
        for row, trial in enumerate(trials)
        if (value := objective_value(trial)) is not None
    )
    ranks = {row: str(rank) for rank, (_, row) in enumerate(scored, start=1)}
    return [
        {
            "id": str(trial["trial_id"]),
            "best": trial is best,
            "value": number(objective_value(trial)),
            "rank": ranks.get(row, "–"),
            "status": trial.get("status") or TrialStatus.FAILED,
            "label": _STATUS_LABELS.get(trial.get("status", ""), str(trial.get("status"))),
            "budget": formats.value(trial.get("budget") or 0),
            "seconds": f"{trial.get('seconds') or 0:.1f}",
            "by": trial.get("suggested_by") or "",
            "error": cut(str(trial.get("error") or ""), _LONGEST_ERROR),
            "differs": _labelled(known, changed_values(space, trial["values"])),
            "all": _labelled(known, active_values(space, trial["values"])),
        }
        for row, trial in enumerate(trials)
    ]


def _best(
    header: Mapping[str, Any],
    known: Mapping[str, Parameter],
    best: Mapping[str, Any],
    values: Mapping[str, Any],
) -> dict[str, Any]:
    default = default_values(header["space"])
    return {
        "id": best["trial_id"],
        "value": number(objective_value(best)),
        "values": [
            {
                "name": name,
                "value": formats.value(value),
                "changed": not same_value(value, default.get(name, known[name].default)),
                "default": formats.value(default.get(name, known[name].default)),
            }
            for name, value in values.items()
        ],
        "snippet": _snippet(best.get("strategy")),
    }


def _snippet(strategy: Mapping[str, Any] | None) -> str:
    """Returns Python code that trains the strategy; empty if the record has none."""
    if not strategy:
        return ""
    record = pprint.pformat(dict(strategy), width=88, sort_dicts=False)
    inner = record.replace("\n", "\n    ")
    return (
        "import tfrec_meta as tm\n\n"
        f"strategy = tm.Strategy.from_dict(\n    {inner}\n)\n"
        "model = tm.train(split.train, strategy)  # `split`: the split of the study\n"
    )
