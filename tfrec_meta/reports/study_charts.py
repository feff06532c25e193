"""Geometry of the figures of a study's page: hand-made SVG, which follows the page's colours.

Each function gives a dict for the template, or None where there is nothing to draw.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfrec_meta.reports import formats
from tfrec_meta.reports.charts import Scale, linear_scale, round_ticks
from tfrec_meta.tuning.studies.trial_records import Parameter, best_trial, objective_of
from tfrec_meta.tuning.surrogates.importance import Dependence

LEVELS = 8  # of colour, from the worst trials to the best
_ROW = 40.0  # height of an axis of the parallel coordinates
_LONGEST_NAME = 26
_MANY = 60  # lines, from which on all but the best fade


def number(value: float | None) -> str:
    """An objective as the page writes it."""
    if value is None:
        return "–"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def cut(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def ranks(trials: Sequence[Mapping[str, Any]], direction: str) -> dict[int, int]:
    """The level of colour of each trial that has a value, by its place in `trials`.

    From 0 for the worst to `LEVELS` - 1 for the best, by rank, so that one trial that went wrong
    doesn't wash out the others; equal values share a level.
    """
    values = {place: v for place, t in enumerate(trials) if (v := objective_of(t)) is not None}
    order = sorted(set(values.values()), reverse=direction == "min")
    most = max(len(order) - 1, 1)
    level = {value: round((LEVELS - 1) * place / most) for place, value in enumerate(order)}
    if len(order) == 1:
        level = {order[0]: LEVELS - 1}
    return {place: level[value] for place, value in values.items()}


def history(
    trials: Sequence[Mapping[str, Any]],
    direction: str,
    default: float | None,
    cost: Callable[[Mapping[str, Any]], float],
    unit: str,
) -> dict[str, Any] | None:
    """Trials by what they had cost together when they ended, and the best so far.

    Args:
        trials: in the order in which they ended.
        direction: "max" or "min".
        default: the objective of the default, if it was tried.
        cost: of one trial, not negative.
        unit: of the cost.
    """
    values = [value for trial in trials if (value := objective_of(trial)) is not None]
    if not values:
        return None
    frame = _frame(440, 270, 56, 428, 12, 232)
    low, high = _without_outliers(values, direction)
    if default is not None:
        low, high = min(low, default), max(high, default)
    y = linear_scale((low, high), frame["bottom"], frame["top"], 5)
    spent, at = 0.0, []
    for trial in trials:
        spent += cost(trial)
        at.append(spent)
    x = linear_scale((0.0, spent), frame["left"], frame["right"], 6)
    points, best, steps = [], None, []
    better = min if direction == "min" else max
    for trial, place in zip(trials, at, strict=True):
        value = objective_of(trial)
        if value is not None:
            best = value if best is None else better(best, value)
            steps.append((x(place), y(best)))
        points.append(
            {
                "x": x(place),
                "y": frame["bottom"] if value is None else y(value),
                "status": _drawn_as(trial),
                "beyond": value is not None and not y.low <= value <= y.high,
                "label": f"trial {trial['trial_id']}, {trial.get('status')}: {number(value)}",
            }
        )
    line = [steps[0]]
    for (_, before), (here, now) in itertools.pairwise(steps):
        line += [(here, before), (here, now)]
    line.append((x(spent), line[-1][1]))
    return {
        **frame,
        "x_ticks": x.marks(),
        "y_ticks": y.marks(),
        "x_name": unit,
        "points": points,
        "best": _path(line),
        "default": None if default is None else y(default),
        "beyond": sum(point["beyond"] for point in points),
    }


def parallel(
    trials: Sequence[Mapping[str, Any]],
    values: Sequence[Mapping[str, Any]],
    shown: Sequence[Parameter],
    objective: str,
    direction: str,
) -> dict[str, Any] | None:
    """A row for each hyperparameter and one for the objective; a line down the rows for each trial.

    Rows and not columns, so that names can be read and thirty of them still fit a page.

    Args:
        trials: records.
        values: their active values.
        shown: the hyperparameters to show.
        objective: its name.
        direction: "max" or "min".
    """
    levels = ranks(trials, direction)
    if not shown or len(levels) < 2:
        return None
    # About 6.6 units a character of the names at the left.
    names = [cut(parameter.short, _LONGEST_NAME) for parameter in shown]
    left = 36 + 6.6 * max(len(name) for name in [*names, cut(objective, _LONGEST_NAME)])
    width = left + 780.0
    right, away = width - 84.0, width - 28.0
    scored = [objective_of(trials[place]) or 0.0 for place in levels]
    goal = linear_scale(_without_outliers(scored, direction), left, right, 6)
    rows: list[dict[str, Any]] = [
        {
            "name": cut(objective, _LONGEST_NAME),
            "full": objective,
            "y": 22.0,
            "ticks": goal.marks(),
            "goal": True,
        }
    ]
    positions: list[list[float]] = [
        [goal(value) if (value := objective_of(trial)) is not None else away for trial in trials]
    ]
    for place, (parameter, name) in enumerate(zip(shown, names, strict=True)):
        taken = [value.get(parameter.name) for value in values]
        at, ticks = _axis(parameter, taken, left, right)
        rows.append(
            {
                "name": name,
                "full": parameter.name,
                "y": 22.0 + _ROW * (place + 1),
                "ticks": ticks,
                "goal": False,
            }
        )
        positions.append([away if here is None else here for here in at])
    best = best_trial(trials, direction)
    lines = []
    for place, trial in enumerate(trials):
        points = [(positions[row][place], rows[row]["y"]) for row in range(len(rows))]
        lines.append(
            {
                "points": _path(points),
                "level": levels.get(place),
                "best": trial is best,
                "label": f"trial {trial['trial_id']}: {number(objective_of(trial))}",
            }
        )
    # The best are drawn last, over the others.
    lines.sort(key=lambda line: (line["best"], -1 if line["level"] is None else line["level"]))
    return {
        "width": round(width, 1),
        "height": 22 + _ROW * len(shown) + 24,
        "left": round(left, 1),
        "right": round(right, 1),
        "away": round(away, 1),
        "rows": rows,
        "lines": lines,
        "has_gaps": any(away in row for row in positions),
        "many": len(trials) > _MANY,
    }


def bars(shares: Mapping[str, float], known: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    """A bar for each share, with the longest as the whole width."""
    longest = max(shares.values(), default=0.0) or 1.0
    return [
        {
            "name": known[name].short,
            "full": name,
            "share": f"{share:.1%}".replace("%", " %"),
            "width": f"{100 * share / longest:.1f}",
        }
        for name, share in shares.items()
    ]


def dependences(
    found: Mapping[str, Sequence[Dependence]],
    known: Mapping[str, Parameter],
    best: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """A small figure for each hyperparameter, all with the same scale of the objective.

    Args:
        found: the partial dependence of each.
        known: all hyperparameters.
        best: the best trial's values, which are marked.
    """
    points = [point for curve in found.values() for point in curve]
    if not points:
        return []
    frame = _frame(340, 200, 56, 330, 8, 164)
    low, high = min(p.mean - p.std for p in points), max(p.mean + p.std for p in points)
    y = linear_scale((low, high), frame["bottom"], frame["top"], 4)
    figures = []
    for name, curve in found.items():
        if not curve:
            continue
        parameter = known[name]
        values = [point.value for point in curve]
        # Their own places and no spread: one point a value.
        at, ticks = _axis(parameter, values, frame["left"] + 12, frame["right"] - 8, spread=0.0)
        places = [place if place is not None else 0.0 for place in at]
        chosen: float | None = None
        if name in best:
            chosen = _axis(
                parameter, [*values, best[name]], frame["left"] + 12, frame["right"] - 8, spread=0.0
            )[0][-1]
        band = [(x, y(p.mean + p.std)) for x, p in zip(places, curve, strict=True)]
        band += [(x, y(p.mean - p.std)) for x, p in zip(places, curve, strict=True)][::-1]
        figures.append(
            {
                **frame,
                "name": parameter.short,
                "full": name,
                "choices": not _is_range(parameter),
                "x_ticks": _apart(ticks),
                "y_ticks": y.marks(),
                "line": _path(list(zip(places, (y(p.mean) for p in curve), strict=True))),
                "band": _path(band),
                "best": chosen,
                "points": [
                    {
                        "x": x,
                        "y": y(p.mean),
                        "low": y(p.mean - p.std),
                        "high": y(p.mean + p.std),
                        "label": f"{formats.value(p.value)}: {number(p.mean)} ± {number(p.std)}",
                    }
                    for x, p in zip(places, curve, strict=True)
                ],
            }
        )
    return figures


def curves(trials: Sequence[Mapping[str, Any]], direction: str, unit: str) -> dict[str, Any] | None:
    """The objective of each trial after each unit of budget."""
    levels, best = ranks(trials, direction), best_trial(trials, direction)
    drawn = []
    for place, trial in enumerate(trials):
        curve = [
            (step + 1, float(value))
            for step, value in enumerate(trial.get("curve") or ())
            if isinstance(value, (int, float)) and math.isfinite(value)
        ]
        if curve:
            drawn.append((place, trial, curve))
    if not drawn:
        return None
    frame = _frame(960, 350, 56, 946, 10, 312)
    # Whole curves, but of trials that went wrong: the first epochs are worse than the last anyhow.
    worst, most = _without_outliers([curve[-1][1] for _, _, curve in drawn], direction)
    sound = [curve for _, _, curve in drawn if worst <= curve[-1][1] <= most]
    values = [value for curve in sound for _, value in curve]
    y = linear_scale(values, frame["bottom"], frame["top"], 5)
    last = max(curve[-1][0] for _, _, curve in drawn)
    ticks = tuple((float(step), str(step)) for step in range(1, last + 1, math.ceil(last / 10)))
    x = Scale(1.0, float(last), frame["left"] + 6, frame["right"], ticks)
    lines = [
        {
            "points": _path([(x(step), y(value)) for step, value in curve]),
            "level": levels.get(place),
            "best": trial is best,
            "stopped": trial.get("status") == "stopped",
            "end": (x(curve[-1][0]), y(curve[-1][1])),
            "single": len(curve) == 1,
            "label": f"trial {trial['trial_id']}, {trial.get('status')}: "
            f"{number(objective_of(trial))}",
        }
        for place, trial, curve in drawn
    ]
    lines.sort(key=lambda line: (line["best"], -1 if line["level"] is None else line["level"]))
    return {
        **frame,
        "x_ticks": x.marks(),
        "y_ticks": y.marks(),
        "x_name": unit,
        "lines": lines,
        "stopped": any(line["stopped"] for line in lines),
        "many": len(lines) > _MANY,
    }


def predicted_and_found(
    trials: Sequence[Mapping[str, Any]], direction: str
) -> dict[str, Any] | None:
    """What the surrogate expected of trials before they ran, against what they came to."""
    pairs = []
    for trial in trials:
        expected, value = trial.get("expected") or {}, objective_of(trial)
        mean, std = expected.get("mean"), expected.get("std") or 0.0
        if value is not None and mean is not None and math.isfinite(mean) and math.isfinite(std):
            pairs.append((trial, float(mean), float(std), value))
    if not pairs:
        return None
    frame = _frame(440, 320, 56, 428, 10, 278)
    means, found = [p[1] for p in pairs], [p[3] for p in pairs]
    low, high = _without_outliers([*means, *found], direction)
    x = linear_scale((low, high), frame["left"], frame["right"], 5)
    y = linear_scale((low, high), frame["bottom"], frame["top"], 5)
    inside = sum(abs(value - mean) <= 2 * std for _, mean, std, value in pairs)
    off = statistics.fmean(abs(value - mean) for _, mean, _, value in pairs)
    return {
        **frame,
        "x_ticks": x.marks(),
        "y_ticks": y.marks(),
        "x_name": "predicted",
        "diagonal": _path([(x(x.low), y(x.low)), (x(x.high), y(x.high))]),
        "points": [
            {
                "x": x(mean),
                "y": y(value),
                "low": x(mean - std),
                "high": x(mean + std),
                "label": f"trial {trial['trial_id']}: predicted {number(mean)} ± {number(std)}, "
                f"found {number(value)}",
            }
            for trial, mean, std, value in pairs
        ],
        "count": len(pairs),
        "inside": inside,
        "off": number(off),
        "above": "worse" if direction == "min" else "better",
    }


def _drawn_as(trial: Mapping[str, Any]) -> str:
    status = trial.get("status")
    if objective_of(trial) is None:
        return "timed_out" if status == "timed_out" else "failed"
    return "stopped" if status == "stopped" else "completed"


def _frame(
    width: float, height: float, left: float, right: float, top: float, bottom: float
) -> dict[str, float]:
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "top": top,
        "bottom": bottom,
    }


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _without_outliers(values: Sequence[float], direction: str) -> tuple[float, float]:
    """The ends of the values, without those much worse than most, which would flatten the rest."""
    low, high = min(values), max(values)
    middle = statistics.median(values)
    if direction == "min":
        return low, (min(high, low + 4 * (middle - low)) if middle > low else high)
    return (max(low, high - 4 * (high - middle)) if middle < high else low), high


def _is_range(parameter: Parameter) -> bool:
    return parameter.low is not None and parameter.high is not None


def _axis(
    parameter: Parameter, values: Sequence[Any], start: float, end: float, spread: float = 0.3
) -> tuple[list[float | None], list[dict[str, Any]]]:
    """Places of values on a hyperparameter's axis (None for None), and its ticks.

    Args:
        parameter: whose axis it is; what of `values` lies outside of it lengthens it.
        values: of the trials.
        start: of the axis.
        end: of the axis.
        spread: how much of the room of a choice the trials that chose it take up, so that lines
            don't hide one another.
    """
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    there = [value for value in values if value is not None]
    if _is_range(parameter) and len(numbers) == len(there):
        assert parameter.low is not None
        assert parameter.high is not None
        low, high = min([parameter.low, *numbers]), max([parameter.high, *numbers])
        if parameter.log and low > 0:
            scale = Scale(low, high, start, end, _log_ticks(low, high), log=True)
        else:
            scale = Scale(low, high, start, end, _linear_ticks(low, high))
        return [None if value is None else scale(value) for value in values], scale.marks()
    choices = list(parameter.choices)
    choices += [value for value in dict.fromkeys(there) if value not in choices]
    room = (end - start) / len(choices)
    count: dict[int, int] = {}
    total = [there.count(choice) for choice in choices]
    places: list[float | None] = []
    for value in values:
        if value is None:
            places.append(None)
            continue
        index = choices.index(value)
        count[index] = count.get(index, 0) + 1
        apart = (count[index] - 0.5) / total[index] - 0.5  # -0.5 to 0.5
        places.append(round(start + room * (index + 0.5 + spread * apart), 1))
    longest = max(3, int(room / 6.2))
    every = math.ceil(len(choices) * 24 / (end - start))
    ticks = [
        {
            "at": round(start + room * (index + 0.5), 1),
            "label": cut(formats.value(choice), longest),
        }
        for index, choice in enumerate(choices)
        if index % every == 0
    ]
    return places, ticks


def _linear_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    if high <= low:
        return ((low, f"{low:.4g}"),)
    inner = [tick for tick in round_ticks(low, high, 5) if low <= tick <= high * (1 + 1e-12)]
    return tuple((tick, f"{tick:.4g}") for tick in inner)


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    leads = (1.0,) if last - first > 4 else (1.0, 2.0, 5.0) if last - first < 2 else (1.0, 3.0)
    inner = [lead * 10.0**power for power in range(first, last + 1) for lead in leads]
    slack = 1 + 1e-9
    found = [value for value in inner if low / slack <= value <= high * slack]
    return tuple((value, f"{value:.3g}") for value in found or [low])


def _apart(ticks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ticks without those whose labels would run into the one before."""
    kept: list[dict[str, Any]] = []
    for tick in ticks:
        half = 3.1 * len(tick["label"])
        if not kept or tick["at"] - half > kept[-1]["at"] + 3.1 * len(kept[-1]["label"]) + 2:
            kept.append(tick)
    return kept
