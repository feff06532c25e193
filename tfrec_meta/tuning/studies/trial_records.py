"""Reads the records of a study: its hyperparameters, active values and best trial.

Records are plain dicts, as in a store; a space is KerasTuner's
`HyperParameters.get_config()["space"]`. This module does not import KerasTuner.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One hyperparameter; entries with the same name and other conditions are merged.

    Attributes:
        name: in the space.
        short: the shortest end of the name that is unique in the space.
        default: of the first entry with this name.
        choices: all values of a choice, a boolean or a fixed value; empty for a range.
        low: the lower end of a range; None for choices.
        high: the upper end of a range, inclusive; None for choices.
        step: of a range, a difference, or a factor if `log`; None for a continuous range.
        whole: whether a range has only integers.
        log: whether a range is sampled on a logarithmic scale.
    """

    name: str
    short: str
    default: Any
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    step: float | None = None
    whole: bool = False
    log: bool = False


def parameters(space: Sequence[Mapping[str, Any]]) -> dict[str, Parameter]:
    """Returns the hyperparameters of a space by name, in their order."""
    found: dict[str, Parameter] = {}
    short = short_names([entry["config"]["name"] for entry in space])
    for entry in space:
        name = entry["config"]["name"]
        new = _parameter(entry, short[name])
        old = found.get(name)
        found[name] = new if old is None else _merged(old, new)
    return found


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Returns the shortest unique end of each name; ends consist of parts between slashes."""
    names = list(dict.fromkeys(names))
    count: dict[str, int] = {}
    for name in names:
        for end in _ends(name):
            count[end] = count.get(end, 0) + 1
    return {name: next((e for e in _ends(name) if count[e] == 1), name) for name in names}


def active_values(space: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a trial that the space has and whose conditions hold.

    Args:
        space: of the study.
        values: by hyperparameter; a missing parent has its default.
    """
    parents: dict[str, Any] = {}
    found = {}
    for entry in space:
        config = entry["config"]
        if all(_holds(condition, parents) for condition in config.get("conditions") or ()):
            name = config["name"]
            parents[name] = values.get(name, _default(entry))
            if name in values:
                found[name] = values[name]
    return found


def default_values(space: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the default values whose conditions hold."""
    found: dict[str, Any] = {}
    for entry in space:
        conditions = entry["config"].get("conditions") or ()
        if all(_holds(condition, found) for condition in conditions):
            found[entry["config"]["name"]] = _default(entry)
    return found


def changed_values(
    space: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
    other: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the active values of a trial that differ from other values.

    A value that is active only in the trial differs unless it is the default.

    Args:
        space: of the study.
        values: of the trial.
        other: to compare with; the default values by default.
    """
    known = parameters(space)
    reference = default_values(space) if other is None else active_values(space, other)
    return {
        name: value
        for name, value in active_values(space, values).items()
        if not same_value(value, reference.get(name, known[name].default))
    }


def same_value(one: Any, other: Any) -> bool:
    """Returns whether two values of a hyperparameter are equal; floats up to rounding."""
    if _is_number(one) and _is_number(other):
        return math.isclose(one, other, rel_tol=1e-9)
    return type(one) is type(other) and one == other


def objective_value(trial: Mapping[str, Any]) -> float | None:
    """Returns the trial's objective; None if it has no finite one."""
    value = trial.get("value")
    if not _is_number(value) or not math.isfinite(value):
        return None
    return float(value)


def best_trial(trials: Sequence[Mapping[str, Any]], direction: str) -> Mapping[str, Any] | None:
    """Returns the trial with the best objective; of equal trials, the first.

    Args:
        trials: records.
        direction: "max" or "min".

    Returns:
        None if no trial has a value.
    """
    scored = [trial for trial in trials if objective_value(trial) is not None]
    if not scored:
        return None
    choose = min if direction == "min" else max
    return choose(scored, key=lambda trial: objective_value(trial) or 0.0)


def _ends(name: str) -> Iterator[str]:
    parts = name.split("/")
    for length in range(1, len(parts) + 1):
        yield "/".join(parts[-length:])


def _default(entry: Mapping[str, Any]) -> Any:
    config = entry["config"]
    if entry["class_name"] == "Fixed":
        return config["value"]
    if config.get("default") is not None:
        return config["default"]
    if entry["class_name"] == "Boolean":
        return False
    return config["values"][0] if "values" in config else config["min_value"]


def _holds(condition: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    config = condition["config"]
    return config["name"] in values and values[config["name"]] in config["values"]


def _parameter(entry: Mapping[str, Any], short: str) -> Parameter:
    config, kind = entry["config"], entry["class_name"]
    common = {"name": config["name"], "short": short, "default": _default(entry)}
    if kind in ("Int", "Float"):
        return Parameter(
            **common,
            low=config["min_value"],
            high=config["max_value"],
            step=config.get("step"),
            whole=kind == "Int",
            log=config.get("sampling") == "log",
        )
    if kind == "Boolean":
        return Parameter(**common, choices=(False, True))
    return Parameter(**common, choices=tuple(config.get("values") or (_default(entry),)))


def _merged(old: Parameter, new: Parameter) -> Parameter:
    if old.low is None or old.high is None or new.low is None or new.high is None:
        choices = old.choices + tuple(value for value in new.choices if value not in old.choices)
        return dataclasses.replace(old, choices=choices) if old.low is None else old
    return dataclasses.replace(
        old,
        low=min(old.low, new.low),
        high=max(old.high, new.high),
        step=old.step if (old.step, old.low) == (new.step, new.low) else None,
        whole=old.whole and new.whole,
        log=old.log and new.log,
    )


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
