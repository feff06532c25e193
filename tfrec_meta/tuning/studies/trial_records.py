"""What the records of a study say: its hyperparameters, the values that count, the best trial.

Records are plain dicts, as they stand in a study's file; the space is KerasTuner's
`HyperParameters.get_config()["space"]`. Nothing here needs KerasTuner.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One hyperparameter; of several with the same name and other conditions, all of them.

    Attributes:
        name: in the space.
        short: the end of the name that no other one has.
        default: of the first with this name.
        choices: all values of a choice, a boolean or something fixed; none of a range.
        low, high: of a range, inclusive; None of choices.
        step: of a range, added, or multiplied if `log`; None for any value.
        whole: whether a range has whole numbers only.
        log: whether a range is sampled by its logarithm.
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
    """The hyperparameters of a space by name, in their order."""
    found: dict[str, Parameter] = {}
    short = short_names([entry["config"]["name"] for entry in space])
    for entry in space:
        name = entry["config"]["name"]
        new = _parameter(entry, short[name])
        old = found.get(name)
        found[name] = new if old is None else _joined(old, new)
    return found


def short_names(names: Sequence[str]) -> dict[str, str]:
    """For each name its shortest end, of whole parts between slashes, that no other one has."""
    names = list(dict.fromkeys(names))
    count: dict[str, int] = {}
    for name in names:
        for end in _ends(name):
            count[end] = count.get(end, 0) + 1
    return {name: next((e for e in _ends(name) if count[e] == 1), name) for name in names}


def active_values(space: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a trial's values that the space knows and whose conditions hold.

    A parent that is not among the values counts with its default.
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
    """The defaults, without those whose conditions don't hold."""
    found: dict[str, Any] = {}
    for entry in space:
        conditions = entry["config"].get("conditions") or ()
        if all(_holds(condition, found) for condition in conditions):
            found[entry["config"]["name"]] = _default(entry)
    return found


def differing(
    space: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
    other: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Those of a trial's active values that are not as in `other`, by default the defaults.

    What is active here and not there differs too, unless it has its default.
    """
    known = parameters(space)
    there = default_values(space) if other is None else active_values(space, other)
    return {
        name: value
        for name, value in active_values(space, values).items()
        if not same(value, there.get(name, known[name].default))
    }


def same(one: Any, other: Any) -> bool:
    """Whether two values of a hyperparameter are equal, floats up to rounding."""
    if _is_number(one) and _is_number(other):
        return math.isclose(one, other, rel_tol=1e-9)
    return type(one) is type(other) and one == other


def objective_of(trial: Mapping[str, Any]) -> float | None:
    """The trial's objective, or None if it failed or came to no number."""
    value = trial.get("value")
    if not _is_number(value) or not math.isfinite(value):
        return None
    return float(value)


def best_trial(trials: Sequence[Mapping[str, Any]], direction: str) -> Mapping[str, Any] | None:
    """The trial with the best objective, the first of equals; None if none came to one.

    Args:
        trials: records.
        direction: "max" or "min".
    """
    scored = [trial for trial in trials if objective_of(trial) is not None]
    if not scored:
        return None
    choose = min if direction == "min" else max
    return choose(scored, key=lambda trial: objective_of(trial) or 0.0)


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


def _joined(old: Parameter, new: Parameter) -> Parameter:
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
