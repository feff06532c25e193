"""The records of a store: what they contain, when they are valid, and which are comparable.

docs/studies.md describes each field. This module does not import TensorFlow.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tfrec_meta.data.protocols import ValidationProtocol

SCHEMA = 2
"""The version of the records. Version 0.1 wrote schema 1, which `migration` converts; readers leave
out records of newer schemas."""


class TrialStatus(enum.StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"  # early, by its learning curve; it has a value


@dataclasses.dataclass(frozen=True)
class StudyRecord:
    """A study as a store holds it.

    Attributes:
        trials: in the order in which they were last written; each is a dict, ready for JSON.
    """

    study_id: str
    schema: int
    space: Sequence[Mapping[str, Any]]
    space_version: int
    objective: str
    direction: str
    protocol: str
    budget_unit: str
    budget: int
    oracle: str
    seed: int | None
    created: str
    source: str
    data: Mapping[str, str]
    profile: Mapping[str, float] | None
    text_embedding: Sequence[float] | None
    trials: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_records(
        cls, header: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]
    ) -> StudyRecord:
        """Builds a study from a valid header and valid trials."""
        return cls(**{name: header[name] for name in _HEADER}, trials=tuple(trials))

    def header(self) -> dict[str, Any]:
        """Returns the header, as `StudyStore.append_study` takes it."""
        return {"kind": "study", **{name: getattr(self, name) for name in _HEADER}}

    def ranked(self) -> list[Mapping[str, Any]]:
        """Returns the trials with a value, best first; of equal trials, the earlier one first."""
        sign = -1 if self.direction == "max" else 1
        valued = [trial for trial in self.trials if trial["value"] is not None]
        return sorted(valued, key=lambda trial: sign * trial["value"])

    def last_updated(self) -> datetime:
        """Returns when the last trial ended; for a study without trials, when it was created."""
        times = [self.created, *(trial["ended"] for trial in self.trials)]
        return max(map(datetime.fromisoformat, times))


COMPARED = ("schema", "space_version", "objective", "direction", "protocol", "budget_unit")
"""The fields in which studies must agree for their values to be comparable."""


def comparable(studies: Iterable[StudyRecord], header: Mapping[str, Any]) -> list[StudyRecord]:
    """Returns the studies whose values are comparable with this study's, without the study itself.

    Args:
        studies: any studies.
        header: of the study to compare with.
    """
    return [
        study
        for study in studies
        if study.study_id != header["study_id"]
        and all(getattr(study, name) == header[name] for name in COMPARED)
    ]


def record_problem(record: Mapping[str, Any]) -> str | None:
    """Returns why a record is invalid, with the name of the field; None for a valid record."""
    kind = record.get("kind")
    checks = _KINDS.get(kind) if isinstance(kind, str) else None
    if checks is None:
        return f"`kind`={_shortened(kind)}; use {', '.join(_KINDS)}"
    for name, (is_valid, expected) in checks.items():
        if name not in record:
            return f"a {kind} without `{name}`"
        if not is_valid(record[name]):
            return f"`{name}`={_shortened(record[name])} of a {kind}; use {expected}"
    if kind == "trial":
        status, value = record["status"], record["value"]
        needs_value = status in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
        if (needs_value and value is None) or (status == TrialStatus.FAILED and value is not None):
            return f"`value`={value} of a trial whose `status` is {status}"
    return None


def checked(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns a copy of a valid record.

    Args:
        record: a header, a trial or a removal.
        kind: the expected kind: "study", "trial" or "removed".

    Raises:
        ValueError: naming the invalid field.
    """
    record = dict(record)
    problem = record_problem(record)
    if problem is None and record["kind"] != kind:
        problem = f"`kind`={record['kind']!r}; use {kind!r}"
    if problem is None:
        for name, value in record.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                problem = f"`{name}`={_shortened(value)} is not JSON: {error}"
                break
    if problem is not None:
        raise ValueError(f"{problem}.")
    return record


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# The checks of single fields.

_Check = tuple[Callable[[Any], bool], str]  # whether a value is valid, and what is
_UTC = timedelta(0)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value).utcoffset() == _UTC
    except ValueError:
        return False


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_space(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, dict)
        and isinstance(one.get("class_name"), str)
        and isinstance(one.get("config"), dict)
        and _is_name(one["config"].get("name"))
        for one in value
    )


def _is_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_number, value))


def _is_data(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), str) for name in ("name", "fingerprint", "description")
    )


def _is_profile(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_values(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, (str, bool)) or _is_number(one) for one in value.values()
    )


def _is_expected(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_number(value.get("mean"))
        and _is_number(value.get("std"))
        and value["std"] >= 0
    )


def _or_null(check: _Check) -> _Check:
    is_valid, expected = check
    return (lambda value: value is None or is_valid(value)), f"{expected}, or null"


def _one_of(values: Iterable[str]) -> _Check:
    values = tuple(values)
    return (lambda value: isinstance(value, str) and value in values), f"one of {', '.join(values)}"


_NAME: _Check = (_is_name, "a non-empty text")
_NUMBER: _Check = (_is_number, "a finite number")
_INTEGER: _Check = (lambda value: type(value) is int, "an integer")
_COUNT: _Check = (_is_count, "an integer, 0 or more")
_TIME: _Check = (_is_time, "an ISO 8601 time in UTC, such as 2026-01-31T12:00:00+00:00")
_NUMBERS: _Check = (_is_numbers, "a list of finite numbers")

_HEADER: dict[str, _Check] = {
    "study_id": _NAME,
    "schema": (lambda value: type(value) is int and value == SCHEMA, str(SCHEMA)),
    "space": (_is_space, "KerasTuner's list of {class_name, config: {name, ...}}"),
    "space_version": _COUNT,
    "objective": _NAME,
    "direction": _one_of(("max", "min")),
    "protocol": _one_of(protocol.value for protocol in ValidationProtocol),
    "budget_unit": _NAME,
    "budget": _COUNT,
    "oracle": _NAME,
    "seed": _or_null(_INTEGER),
    "created": _TIME,
    "source": _NAME,
    "data": (_is_data, "texts by name, fingerprint and description"),
    "profile": _or_null((_is_profile, "finite numbers by name")),
    "text_embedding": _or_null(_NUMBERS),
}
_TRIAL: dict[str, _Check] = {
    "study_id": _NAME,
    "trial_id": _NAME,
    "values": (_is_values, "texts, booleans and finite numbers by name"),
    "strategy": _or_null((lambda value: isinstance(value, dict), "an object")),
    "value": _or_null(_NUMBER),
    "status": _one_of(status.value for status in TrialStatus),
    "error": _or_null((lambda value: isinstance(value, str), "a text")),
    "curve": _NUMBERS,
    "budget": _COUNT,
    "seconds": (lambda value: _is_number(value) and value >= 0, "a finite number, 0 or more"),
    "seed": _or_null(_INTEGER),
    "ended": _TIME,
    "suggested_by": _or_null(_NAME),
    "expected": _or_null((_is_expected, "finite numbers mean and std; std is 0 or more")),
}
_REMOVED: dict[str, _Check] = {"study_id": _NAME, "trial_id": _or_null(_NAME)}
_KINDS = {"study": _HEADER, "trial": _TRIAL, "removed": _REMOVED}
