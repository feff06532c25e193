"""Proposes which columns of a log are users, items, times, values and event types."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from tfrec_meta.data.privacy.column_names import name_words
from tfrec_meta.data.sources.usual_names import (
    EVENT_TYPES,
    FALLBACK_ITEMS,
    FALLBACK_USERS,
    USUAL,
    compact,
    without_id,
)
from tfrec_meta.data.survey.columns import Column

KEYS = ("user_id", "item_id", "time", "value", "event_type")
"""The columns that are proposed, in the order in which they are shown."""

_IDS = ("user_id", "item_id")
_FALLBACKS = {"user_id": FALLBACK_USERS, "item_id": FALLBACK_ITEMS}
_SURE = 2.5  # score from which a column is accepted without a warning
_MOST_TYPES = 30
# Words of dates that are not those of events.
_OTHER_DATES = frozenset(
    ("birth", "birthdate", "birthday", "dob", "born", "release", "released", "publish", "published")
    + ("signup", "registered", "registration", "joined", "expiry", "expires", "updated", "modified")
)


@dataclasses.dataclass(frozen=True)
class Proposal:
    """The proposed column for one of `KEYS`.

    Attributes:
        key: what the column would be.
        column: its name in the file; None if no column fits.
        by: whether its "name" or its "values" decided, or it was "given".
        sure: whether no other column fits as well, and its name and its values agree.
        alternatives: other columns that fit, best first.
    """

    key: str
    column: str | None = None
    by: Literal["name", "values", "given"] = "name"
    sure: bool = True
    alternatives: tuple[str, ...] = ()


def propose(
    columns: Sequence[Column], given: Mapping[str, str], personal: Collection[str] = ()
) -> dict[str, Proposal]:
    """Returns the proposals by key.

    Args:
        columns: all columns of the log.
        given: names in the file by the names used here, which are taken as they are.
        personal: columns that look like data about people. They are never proposed as items.
    """
    found = {key: Proposal(key, given[key], "given") for key in KEYS if key in given}
    free = [column for column in columns if column.name not in given.values()]
    for key in ("time", "event_type", "user_id", "item_id", "value"):
        if key not in found:
            fitting = [one for one in free if key != "item_id" or one.name not in personal]
            found[key] = _best(key, fitting)
            free = [column for column in free if column.name != found[key].column]
    ids = [key for key in _IDS if found[key].column is None]
    for key, proposal in zip(ids, _by_values(ids, free, personal), strict=False):
        found[key] = proposal
    return {key: found[key] for key in KEYS}


def _best(key: str, columns: Sequence[Column]) -> Proposal:
    scores = {column.name: _score(key, column) for column in columns}
    ranked = sorted((name for name in scores if scores[name] > 0), key=lambda name: -scores[name])
    if not ranked:
        return Proposal(key)
    best = scores[ranked[0]]
    others = tuple(name for name in ranked[1:] if best < _SURE or scores[name] > best - 1)
    by: Literal["name", "values"] = "name" if key in _IDS or _named(key, ranked[0]) else "values"
    formats = next(column.formats for column in columns if column.name == ranked[0])
    is_clear = key != "time" or len(formats) < 2  # else the day or the month comes first
    return Proposal(key, ranked[0], by, best >= _SURE and not others and is_clear, others)


def _by_values(
    keys: Sequence[str], columns: Sequence[Column], personal: Collection[str]
) -> list[Proposal]:
    """Proposes columns whose values repeat as those of ids do, those with most values first."""
    fitting = [
        column
        for column in columns
        if column.kind in ("text", "whole number")
        and column.distinct > 1
        and not column.is_unique
        and not column.can_be_time
    ]
    ranked = sorted(fitting, key=lambda column: -column.distinct)
    people = [column for column in ranked if column.name in personal]
    if "item_id" in keys:
        people = people[: len(keys) - 1]  # one of them can be the user
    usable = [column for column in ranked if column in people or column.name not in personal]
    # Most logs have the user before the item.
    chosen = [column.name for column in fitting if column in usable[: len(keys)]]
    chosen.sort(key=lambda name: name not in personal)
    others = [column.name for column in ranked if column.name not in chosen]
    proposals = []
    for key, name in zip(keys, chosen, strict=False):
        fit = [one for one in (*chosen, *others) if key != "item_id" or one not in personal]
        alternatives = tuple(one for one in fit if one != name)
        proposals.append(Proposal(key, name, "values", False, alternatives))
    return proposals


def _score(key: str, column: Column) -> float:
    match key:
        case "time":
            return _time_score(column)
        case "value":
            return _value_score(column)
        case "event_type":
            return _type_score(column)
        case _:
            return _id_score(column, USUAL[key], _FALLBACKS[key])


def _id_score(column: Column, names: Collection[str], fallback: Collection[str]) -> float:
    if column.kind not in ("text", "whole number"):
        return 0
    bare, has_id = without_id(column.name)
    whole, last = "".join(bare), bare[-1] if bare else ""
    if whole in names:
        score = 4.0 if has_id else 3.0
    elif last in names:
        score = 2.5 if has_id else 1.5
    elif whole in fallback or last in fallback:
        score = 1.0
    else:
        return 0
    if column.is_constant or (column.is_unique and column.rows >= 20):
        score -= 2
    return score


def _time_score(column: Column) -> float:
    other = set(name_words(column.name)) & _OTHER_DATES
    named = -1.0 if other else _named("time", column.name)
    if column.kind == "time":
        return named + 2
    if column.unit:
        return named + 1.5 if named > 0 else 0.5
    if column.formats:  # such as 20260501
        return named + 1.5 if named > 0 else 0
    return 1.0 if named > 0 and column.kind == "whole number" else 0


def _value_score(column: Column) -> float:
    if column.kind not in ("whole number", "number", "true or false"):
        return 0
    return (0, 1.0, 3.0)[_named("value", column.name)]


def _type_score(column: Column) -> float:
    if not 2 <= column.distinct <= _MOST_TYPES or column.kind not in ("text", "whole number"):
        return 0
    named = _named("event_type", column.name)
    known = sum(compact(value) in EVENT_TYPES for value in column.values)
    if column.kind == "text" and 2 * known >= len(column.values):
        return named + 2
    return named / 2


def _named(key: str, name: str) -> int:
    """Returns 2 for a usual name, 1 for a name that ends with one, and else 0."""
    if compact(name) in USUAL[key]:
        return 2
    words = name_words(name)
    return int(bool(words) and words[-1] in USUAL[key])
