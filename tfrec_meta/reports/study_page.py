"""The HTML page of one study: what was tried, what it came to, and what made the difference."""

from __future__ import annotations

import datetime
import math
import pprint
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.reports import formats, page
from tfrec_meta.reports import study_charts as charts
from tfrec_meta.reports.study_charts import cut, number
from tfrec_meta.tuning.studies.trial_records import (
    Parameter,
    active_values,
    best_trial,
    default_values,
    differing,
    objective_of,
    parameters,
    same,
)
from tfrec_meta.tuning.surrogates.importance import Surrogate, importance, partial_dependence

_STATUSES = {
    "completed": "completed",
    "stopped": "stopped early",
    "failed": "failed",
    "timed_out": "timed out",
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
    """Writes the page of a study: one file, without scripts, and nothing from the network.

    Args:
        path: the .html file; its folder is made if need be, and the file appears whole or not
            at all.
        header: the study's record.
        trials: records of its trials, in the order in which they ended.
        surrogate: of the objective, for the importance of hyperparameters; see `Surrogate`.
        prior: what earlier studies suggested, the most promising first: dicts with "values" and
            "expected", the objective that was expected of them, or None.

    Returns:
        The path.

    Raises:
        ValueError: if the surrogate doesn't give two finite numbers a point.
    """
    return page.write(path, render(header, trials, surrogate, prior))


def render(
    header: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    surrogate: Surrogate | None = None,
    prior: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page that `write_study_report` writes, as a string."""
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
        written=f"Written {datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC",
        objective=header["objective"],
        words=_summary(header, trials, best, default),
        tiles=_tiles(header, trials, best, default),
        facts=_facts(header),
        levels=charts.LEVELS,
        histories=_histories(trials, direction, default, unit),
        parallel=charts.parallel(trials, values, shown, header["objective"], direction),
        constant=[
            (known[name].short, name, formats.value(value)) for name, value in constant.items()
        ],
        surrogate=surrogate is not None,
        **_surrogate_part(surrogate, space, known, best_values),
        curves=charts.curves(trials, direction, unit),
        prior=_prior_rows(header, known, trials, best, prior),
        prior_words=_prior_words(space, trials, best, prior),
        predicted=charts.predicted_and_found(trials, direction),
        unit=unit,
        rows=_rows(header, known, trials, best),
        best=None if best is None else _best(header, known, best, best_values),
    )
    # A lone surrogate, which JSON can hold, would not be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def _data_name(header: Mapping[str, Any]) -> str:
    return str((header.get("data") or {}).get("name") or "unnamed data")


def _cost(trials: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(sum(trial.get(key) or 0 for trial in trials))


def _duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Strings, finite numbers and booleans as they are; whatever else a record holds as text."""
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
    alike = [trial for trial in trials if _alike(space, trial["values"], default_values(space))]
    return next(iter(named + alike), None)


def _alike(
    space: Sequence[Mapping[str, Any]], one: Mapping[str, Any], other: Mapping[str, Any]
) -> bool:
    """Whether two sets of values mean the same."""
    one, other = active_values(space, one), active_values(space, other)
    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


def _varied(
    known: Mapping[str, Parameter], values: Sequence[Mapping[str, Any]]
) -> tuple[list[Parameter], dict[str, Any]]:
    """The hyperparameters of which trials had several values, and those that all had alike."""
    shown, constant = [], {}
    for name, parameter in known.items():
        taken = [value[name] for value in values if name in value]
        if any(not same(value, taken[0]) for value in taken):
            shown.append(parameter)
        elif taken:
            constant[name] = taken[0]
    return shown, constant


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
        return f"No trial came to a value of {objective}."
    least = "lowest" if header["direction"] == "min" else "highest"
    value = objective_of(best)
    assert value is not None
    words = f"The {least} {objective} is {number(value)}, of trial {best['trial_id']}"
    base = objective_of(default) if default is not None else None
    if default is best:
        words += ", which is the default"
    elif base is not None:
        words += f"; the default came to {number(base)}"
        if base:
            words += f" ({(value - base) / abs(base):+.1%})".replace("%", " %")
    return words + "."


def _tiles(
    header: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    default: Mapping[str, Any] | None,
) -> list[tuple[str, str]]:
    """(value, name) of the facts at the top."""
    count = dict.fromkeys(_STATUSES, 0)
    for trial in trials:
        count[trial.get("status", "failed")] = count.get(trial.get("status", "failed"), 0) + 1
    tiles = [(number(objective_of(best) if best else None), f"best {header['objective']}")]
    tiles += [
        (f"{number_of:,}", _STATUSES.get(status, status)) for status, number_of in count.items()
    ]
    tiles.append((f"{_cost(trials, 'budget'):,.0f}", str(header.get("budget_unit") or "budget")))
    tiles.append((_duration(_cost(trials, "seconds")), "in trials"))
    return tiles


def _facts(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    data = header.get("data") or {}
    facts = {
        "data": ", ".join(str(p) for p in (data.get("name"), data.get("description")) if p),
        "oracle": header.get("oracle"),
        "validation": header.get("protocol"),
        "a full trial": f"{header.get('budget')} {header.get('budget_unit') or ''}",
        "seed": header.get("seed"),
        "begun": header.get("created"),
        "made by": header.get("source"),
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
    """The history by budget, and by time, as far as they are known."""
    base = objective_of(default) if default is not None else None
    found = []
    if _cost(trials, "budget"):
        found.append(
            charts.history(trials, direction, base, lambda t: float(t.get("budget") or 0), unit)
        )
    seconds = _cost(trials, "seconds")
    if seconds or not found:
        part, name = next(
            (part, name)
            for part, name, least in (
                (3600, "hours", 7200),
                (60, "minutes", 180),
                (1, "seconds", 0),
            )
            if seconds >= least
        )
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
        return {"bars": [], "together": "", "dependences": []}
    shares = importance(surrogate, space)
    told = {name: share for name, share in list(shares.items())[:_MOST_BARS] if share >= 5e-4}
    found = {
        name: partial_dependence(surrogate, space, name) for name in list(told)[:_MOST_DEPENDENCES]
    }
    alone = min(sum(shares.values()), 1.0)
    return {
        "bars": charts.bars(told, known),
        "together": f"{1 - alone:.0%}".replace("%", " %"),
        "dependences": charts.dependences(found, known, best),
    }


def _told(known: Mapping[str, Parameter], values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(short name, name, value) of hyperparameters."""
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
    for place, suggestion in enumerate(prior[:_MOST_PRIOR]):
        tried = _trial_with(space, trials, suggestion["values"])
        rows.append(
            {
                "rank": str(place + 1),
                "expected": number(suggestion.get("expected")),
                "trial": "not tried" if tried is None else str(tried["trial_id"]),
                "value": "" if tried is None else number(objective_of(tried)),
                "won": tried is not None and tried is best,
                "differs": _told(known, differing(space, suggestion["values"])),
            }
        )
    if prior and best is not None and not any(row["won"] for row in rows):
        expected = (best.get("expected") or {}).get("mean")
        rows.append(
            {
                "rank": "–",
                "expected": number(expected),
                "trial": str(best["trial_id"]),
                "value": number(objective_of(best)),
                "won": True,
                "differs": _told(known, differing(space, best["values"])),
            }
        )
    return rows


def _prior_words(
    space: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    prior: Sequence[Mapping[str, Any]],
) -> str:
    if not prior:
        return "No earlier study suggested anything to this one."
    tried = [_trial_with(space, trials, suggestion["values"]) for suggestion in prior]
    count = sum(trial is not None for trial in tried)
    words = f"Earlier studies suggested {len(prior)}, of which {count} were tried. "
    if best is None:
        return words + "No trial came to a value."
    won = next((place for place, trial in enumerate(tried) if trial is best), None)
    if won is None:
        return words + f"The best trial, {best['trial_id']}, was none of them."
    return words + f"The best trial, {best['trial_id']}, was number {won + 1} of them."


def _trial_with(
    space: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
) -> Mapping[str, Any] | None:
    return next((trial for trial in trials if _alike(space, trial["values"], values)), None)


def _rows(
    header: Mapping[str, Any],
    known: Mapping[str, Parameter],
    trials: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    space = header["space"]
    sign = 1 if header["direction"] == "min" else -1
    scored = sorted(
        (sign * value, place)
        for place, trial in enumerate(trials)
        if (value := objective_of(trial)) is not None
    )
    rank = {place: str(index + 1) for index, (_, place) in enumerate(scored)}
    return [
        {
            "id": str(trial["trial_id"]),
            "best": trial is best,
            "value": number(objective_of(trial)),
            "rank": rank.get(place, "–"),
            "status": trial.get("status") or "failed",
            "says": _STATUSES.get(trial.get("status", ""), str(trial.get("status"))),
            "budget": formats.value(trial.get("budget") or 0),
            "seconds": f"{trial.get('seconds') or 0:.1f}",
            "by": trial.get("suggested_by") or "",
            "error": cut(str(trial.get("error") or ""), _LONGEST_ERROR),
            "differs": _told(known, differing(space, trial["values"])),
            "all": _told(known, active_values(space, trial["values"])),
        }
        for place, trial in enumerate(trials)
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
        "value": number(objective_of(best)),
        "values": [
            {
                "name": name,
                "value": formats.value(value),
                "changed": not same(value, default.get(name, known[name].default)),
                "default": formats.value(default.get(name, known[name].default)),
            }
            for name, value in values.items()
        ],
        "snippet": _snippet(best.get("strategy")),
    }


def _snippet(strategy: Mapping[str, Any] | None) -> str:
    """Python that trains the strategy; empty where the record has none, as of imported studies."""
    if not strategy:
        return ""
    record = pprint.pformat(dict(strategy), width=88, sort_dicts=False)
    inner = record.replace("\n", "\n    ")
    return (
        "import tfrec_meta as tm\n\n"
        f"strategy = tm.Strategy.from_dict(\n    {inner}\n)\n"
        "model = tm.train(split.train, strategy)  # `split` as the study's: tm.split_by_user(...)\n"
    )
