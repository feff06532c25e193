"""Geometry of the figures on a study's page; the template draws them as SVG.

Each function returns a dict for the template, or None if there is nothing to draw.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfrec_meta.reports import formats
from tfrec_meta.reports.charts import Scale, linear_scale
from tfrec_meta.reports.study_axes import (
    cut,
    frame_of,
    is_range,
    number,
    parameter_axis,
    path_of,
    separate_labels,
    without_outliers,
)
from tfrec_meta.tuning.studies.records import TrialStatus
from tfrec_meta.tuning.studies.trial_records import Parameter, best_trial, objective_value
from tfrec_meta.tuning.surrogates.importance import Dependence

LEVELS = 8  # colour levels, from the worst trials to the best
_ROW = 40.0  # height of a row of the parallel coordinates
_LONGEST_NAME = 26
_MANY = 60  # with more lines, all but the best are faint


def ranks(trials: Sequence[Mapping[str, Any]], direction: str) -> dict[int, int]:
    """Returns the colour level of each trial with a value, by its index in `trials`.

    Levels go by rank, from 0 for the worst to `LEVELS` - 1 for the best, so that one very bad trial
    does not hide the differences between the others. Equal values have the same level.
    """
    values = {row: v for row, t in enumerate(trials) if (v := objective_value(t)) is not None}
    order = sorted(set(values.values()), reverse=direction == "min")
    most = max(len(order) - 1, 1)
    level = {value: round((LEVELS - 1) * rank / most) for rank, value in enumerate(order)}
    if len(order) == 1:
        level = {order[0]: LEVELS - 1}
    return {row: level[value] for row, value in values.items()}


def history(
    trials: Sequence[Mapping[str, Any]],
    direction: str,
    default: float | None,
    cost: Callable[[Mapping[str, Any]], float],
    unit: str,
) -> dict[str, Any] | None:
    """Returns the objectives by the cumulative cost of the trials, and the best so far.

    Args:
        trials: in the order in which they ended.
        direction: "max" or "min".
        default: the objective of the default, or None.
        cost: returns the cost of one trial, 0 or more.
        unit: of the cost.
    """
    values = [value for trial in trials if (value := objective_value(trial)) is not None]
    if not values:
        return None
    frame = frame_of(440, 270, 56, 428, 12, 232)
    low, high = without_outliers(values, direction)
    if default is not None:
        low, high = min(low, default), max(high, default)
    y = linear_scale((low, high), frame["bottom"], frame["top"], 5)
    spent, spent_by_trial = 0.0, []
    for trial in trials:
        spent += cost(trial)
        spent_by_trial.append(spent)
    x = linear_scale((0.0, spent), frame["left"], frame["right"], 6)
    points, best, steps = [], None, []
    better = min if direction == "min" else max
    for trial, so_far in zip(trials, spent_by_trial, strict=True):
        value = objective_value(trial)
        if value is not None:
            best = value if best is None else better(best, value)
            steps.append((x(so_far), y(best)))
        points.append(
            {
                "x": x(so_far),
                "y": frame["bottom"] if value is None else y(value),
                "status": _marker(trial),
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
        "best": path_of(line),
        "default": None if default is None else y(default),
        "beyond": sum(point["beyond"] for point in points),
    }


def parallel_coordinates(
    trials: Sequence[Mapping[str, Any]],
    values: Sequence[Mapping[str, Any]],
    shown: Sequence[Parameter],
    objective: str,
    direction: str,
) -> dict[str, Any] | None:
    """Returns parallel coordinates: one row per hyperparameter, and one line per trial.

    The axes are rows, not columns, so that names are readable and thirty of them fit on a page. The
    first row is the objective.

    Args:
        trials: records.
        values: the active values of the trials.
        shown: the hyperparameters to show.
        objective: the objective's name.
        direction: "max" or "min".
    """
    levels = ranks(trials, direction)
    if not shown or len(levels) < 2:
        return None
    # The names at the left need about 6.6 units per character.
    names = [cut(parameter.short, _LONGEST_NAME) for parameter in shown]
    left = 36 + 6.6 * max(len(name) for name in [*names, cut(objective, _LONGEST_NAME)])
    width = left + 780.0
    right, away = width - 84.0, width - 28.0
    scored = [objective_value(trials[row]) or 0.0 for row in levels]
    goal = linear_scale(without_outliers(scored, direction), left, right, 6)
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
        [goal(value) if (value := objective_value(trial)) is not None else away for trial in trials]
    ]
    for index, (parameter, name) in enumerate(zip(shown, names, strict=True), start=1):
        settings = [value.get(parameter.name) for value in values]
        at, ticks = parameter_axis(parameter, settings, left, right)
        rows.append(
            {
                "name": name,
                "full": parameter.name,
                "y": 22.0 + _ROW * index,
                "ticks": ticks,
                "goal": False,
            }
        )
        positions.append([away if here is None else here for here in at])
    best = best_trial(trials, direction)
    lines = []
    for index, trial in enumerate(trials):
        points = [(positions[row][index], rows[row]["y"]) for row in range(len(rows))]
        lines.append(
            {
                "points": path_of(points),
                "level": levels.get(index),
                "best": trial is best,
                "label": f"trial {trial['trial_id']}: {number(objective_value(trial))}",
            }
        )
    # The best lines are drawn last, above the others.
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
    """Returns a bar for each share; the longest has the full width."""
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
    """Returns a small figure for each hyperparameter; all have the same scale of the objective.

    Args:
        found: the partial dependence on each hyperparameter.
        known: all hyperparameters.
        best: the best trial's values, to be marked.
    """
    points = [point for curve in found.values() for point in curve]
    if not points:
        return []
    frame = frame_of(340, 200, 56, 330, 8, 164)
    low, high = min(p.mean - p.std for p in points), max(p.mean + p.std for p in points)
    y = linear_scale((low, high), frame["bottom"], frame["top"], 4)
    figures = []
    for name, curve in found.items():
        if not curve:
            continue
        parameter = known[name]
        values = [point.value for point in curve]
        # Without spread, because there is one point per value.
        at, ticks = parameter_axis(
            parameter, values, frame["left"] + 12, frame["right"] - 8, spread=0.0
        )
        positions = [position if position is not None else 0.0 for position in at]
        chosen: float | None = None
        if name in best:
            chosen = parameter_axis(
                parameter, [*values, best[name]], frame["left"] + 12, frame["right"] - 8, spread=0.0
            )[0][-1]
        band = [(x, y(p.mean + p.std)) for x, p in zip(positions, curve, strict=True)]
        band += [(x, y(p.mean - p.std)) for x, p in zip(positions, curve, strict=True)][::-1]
        figures.append(
            {
                **frame,
                "name": parameter.short,
                "full": name,
                "choices": not is_range(parameter),
                "x_ticks": separate_labels(ticks),
                "y_ticks": y.marks(),
                "line": path_of(list(zip(positions, (y(p.mean) for p in curve), strict=True))),
                "band": path_of(band),
                "best": chosen,
                "points": [
                    {
                        "x": x,
                        "y": y(p.mean),
                        "low": y(p.mean - p.std),
                        "high": y(p.mean + p.std),
                        "label": f"{formats.value(p.value)}: {number(p.mean)} ± {number(p.std)}",
                    }
                    for x, p in zip(positions, curve, strict=True)
                ],
            }
        )
    return figures


def curves(trials: Sequence[Mapping[str, Any]], direction: str, unit: str) -> dict[str, Any] | None:
    """Returns the objective of each trial after each unit of budget."""
    levels, best = ranks(trials, direction), best_trial(trials, direction)
    drawn = []
    for index, trial in enumerate(trials):
        curve = [
            (step + 1, float(value))
            for step, value in enumerate(trial.get("curve") or ())
            if isinstance(value, (int, float)) and math.isfinite(value)
        ]
        if curve:
            drawn.append((index, trial, curve))
    if not drawn:
        return None
    frame = frame_of(960, 350, 56, 946, 10, 312)
    # The scale covers whole curves, except those of trials that ended as outliers.
    worst, most = without_outliers([curve[-1][1] for _, _, curve in drawn], direction)
    inliers = [curve for _, _, curve in drawn if worst <= curve[-1][1] <= most]
    values = [value for curve in inliers for _, value in curve]
    y = linear_scale(values, frame["bottom"], frame["top"], 5)
    last = max(curve[-1][0] for _, _, curve in drawn)
    ticks = tuple((float(step), str(step)) for step in range(1, last + 1, math.ceil(last / 10)))
    x = Scale(1.0, float(last), frame["left"] + 6, frame["right"], ticks)
    lines = [
        {
            "points": path_of([(x(step), y(value)) for step, value in curve]),
            "level": levels.get(index),
            "best": trial is best,
            "stopped": trial.get("status") == TrialStatus.STOPPED,
            "end": (x(curve[-1][0]), y(curve[-1][1])),
            "single": len(curve) == 1,
            "label": f"trial {trial['trial_id']}, {trial.get('status')}: "
            f"{number(objective_value(trial))}",
        }
        for index, trial, curve in drawn
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


def predicted_and_observed(
    trials: Sequence[Mapping[str, Any]], direction: str
) -> dict[str, Any] | None:
    """Returns the surrogate's predictions before the trials ran, and the observed objectives."""
    pairs = []
    for trial in trials:
        expected, value = trial.get("expected") or {}, objective_value(trial)
        mean, std = expected.get("mean"), expected.get("std") or 0.0
        if value is not None and mean is not None and math.isfinite(mean) and math.isfinite(std):
            pairs.append((trial, float(mean), float(std), value))
    if not pairs:
        return None
    frame = frame_of(440, 320, 56, 428, 10, 278)
    means, observed = [p[1] for p in pairs], [p[3] for p in pairs]
    low, high = without_outliers([*means, *observed], direction)
    x = linear_scale((low, high), frame["left"], frame["right"], 5)
    y = linear_scale((low, high), frame["bottom"], frame["top"], 5)
    inside = sum(abs(value - mean) <= 2 * std for _, mean, std, value in pairs)
    error = statistics.fmean(abs(value - mean) for _, mean, _, value in pairs)
    return {
        **frame,
        "x_ticks": x.marks(),
        "y_ticks": y.marks(),
        "x_name": "predicted",
        "diagonal": path_of([(x(x.low), y(x.low)), (x(x.high), y(x.high))]),
        "points": [
            {
                "x": x(mean),
                "y": y(value),
                "low": x(mean - std),
                "high": x(mean + std),
                "label": f"trial {trial['trial_id']}: predicted {number(mean)} ± {number(std)}, "
                f"observed {number(value)}",
            }
            for trial, mean, std, value in pairs
        ],
        "count": len(pairs),
        "inside": inside,
        "error": number(error),
        "above": "worse" if direction == "min" else "better",
    }


def _marker(trial: Mapping[str, Any]) -> str:
    status = trial.get("status")
    if objective_value(trial) is None:
        return TrialStatus.TIMED_OUT if status == TrialStatus.TIMED_OUT else TrialStatus.FAILED
    return TrialStatus.STOPPED if status == TrialStatus.STOPPED else TrialStatus.COMPLETED
