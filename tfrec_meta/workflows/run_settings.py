"""The settings of a run, as `run.json` holds them, and the data and split that they describe.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.checks import Interval, check, share, whole_number
from tfrec_meta.data import (
    Feedback,
    Interactions,
    Split,
    SplitProtocol,
    movielens,
    read_interactions,
    split_by_item,
    split_by_time,
    split_by_user,
    split_cold_items,
    split_cold_users,
    split_leave_last_out,
    synthetic,
)
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.privacy.pseudonyms import pseudonymise
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.errors import ParameterError

Settings = dict[str, Any]

DEFAULTS: Settings = {
    "data": {
        "source": ["movielens-100k"],
        "folder": None,
        "columns": {},
        "users": None,
        "items": None,
        "pseudonyms": None,  # the environment variable with the key; None keeps the ids
        **FileFormat().as_dict(),
        "clean": dataclasses.asdict(CleaningRules()),
    },
    "feedback": {},  # fields of `Feedback`; empty: all events count alike
    "split": {"protocol": "item", "train": None, "validation": None},
    "recommend_history": False,
    "seed": 42,
    "strategy": {},
}
# The settings of the data that say how files are read; `read_interactions` describes them.
FORMAT_SETTINGS = tuple(FileFormat().as_dict())
# Settings whose value is a mapping.
_MAPPINGS = ("columns", "event_weights", "lists", "types")
# Default shares of train and validation. The protocol leave-last-out has no shares: the last event
# of each user is a test event.
_SHARES = {
    SplitProtocol.ITEM: (0.75, 0.0),
    SplitProtocol.USER: (0.75, 0.0),
    SplitProtocol.TIME: (0.8, 0.1),
    SplitProtocol.COLD_USERS: (0.8, 0.0),
    SplitProtocol.COLD_ITEMS: (0.8, 0.0),
}
PROTOCOLS: tuple[str, ...] = (*_SHARES, SplitProtocol.LEAVE_LAST_OUT)

_SYNTHETIC = re.compile(r"synthetic(?:-(\d+)x(\d+)x(\d+))?")


def read_data(
    data: Mapping[str, Any], seed: int, feedback: Mapping[str, Any] | None = None
) -> Interactions:
    """Reads the interactions that the "data" and "feedback" parts of the settings describe.

    Args:
        data: as in `DEFAULTS`. A source is "movielens-<name>", "synthetic" or
            "synthetic-<users>x<items>x<interactions>", a folder of `Interactions.write`, or files
            for `read_interactions`, whose rows are cleaned. Named data and such folders are cleaned
            only by rules other than the defaults.
        seed: seed of synthetic data.
        feedback: as in `DEFAULTS`; declared before the rows are cleaned, so that two events that
            differ only in their type are no duplicates.
    """
    _refuse_unused(data)
    declared = Feedback.from_dict(feedback) if feedback else None
    columns = dict(data["columns"])
    if declared is not None:
        columns = {**{name: name for name in declared.columns_read}, **columns}
    found, is_clean = _read({**data, "columns": columns}, seed)
    if declared is not None:
        found = found.with_feedback(declared)
    rules = CleaningRules.from_dict(data.get("clean", {}))
    if not is_clean or rules != CleaningRules():
        found = found.clean(**dataclasses.asdict(rules))
    key = data.get("pseudonyms")
    return pseudonymise(found, key) if key else found


def _refuse_unused(data: Mapping[str, Any]) -> None:
    """Raises ParameterError if data with a fixed form comes with settings for files."""
    first = data["source"][0]
    is_table = (Path(first) / "interactions.json").is_file()
    if len(data["source"]) != 1 or not (is_named_source(first) or is_table):
        return
    for name in ("columns", "users", "items"):
        if data[name]:
            raise ParameterError(
                f"`{name}` has no effect on {first}, which has columns and tables of its own; "
                f"leave out `{name}`, or name files as the data.",
                name,
            )


def _read(data: Mapping[str, Any], seed: int) -> tuple[Interactions, bool]:
    """The interactions, and whether they need no cleaning."""
    sources = list(data["source"])
    first = sources[0]
    if len(sources) == 1 and first.startswith("movielens-"):
        return movielens(first.removeprefix("movielens-"), data["folder"]), True
    made = _SYNTHETIC.fullmatch(first)
    if len(sources) == 1 and made:
        size = [int(n) for n in made.groups() if n]
        return synthetic(*size, seed=seed), True
    if len(sources) == 1 and (Path(first) / "interactions.json").is_file():
        return Interactions.read(first), True
    read = read_interactions(
        sources,
        data["columns"] or None,
        **{name: data[name] for name in FORMAT_SETTINGS},
        users=data["users"],
        items=data["items"],
    )
    return read, False


def is_named_source(source: str) -> bool:
    """Returns whether a data source is a name and not a path."""
    return source.startswith("movielens-") or _SYNTHETIC.fullmatch(source) is not None


def fill_shares(split: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the "split" part of the settings, with default shares where they are None.

    Raises:
        ParameterError: for an unknown protocol, for impossible shares, or for shares of a protocol
            without shares.
    """
    protocol, train, validation = split["protocol"], split["train"], split["validation"]
    if protocol not in PROTOCOLS:
        raise ParameterError(
            f"`protocol`={protocol!r}; use one of {', '.join(PROTOCOLS)}.", "protocol"
        )
    if protocol == SplitProtocol.LEAVE_LAST_OUT:
        if train is not None or validation is not None:
            raise ParameterError(
                "The split leave-last-out has no shares; leave out `train` and `validation`.",
                "train",
                "validation",
            )
        return dict(split)
    usual = _SHARES[SplitProtocol(protocol)]
    train = usual[0] if train is None else train
    validation = usual[1] if validation is None else validation
    check("train", train, Interval(0, 1, "a share between 0 and 1", open_low=True, open_high=True))
    check("validation", validation, share())
    if train + validation >= 1:
        raise ParameterError(
            f"`train`={train} and `validation`={validation} leave no test events; use shares with "
            "a sum below 1.",
            "train",
            "validation",
        )
    return {"protocol": protocol, "train": train, "validation": validation}


def split_data(data: Interactions, split: Mapping[str, Any], seed: int) -> Split:
    """Splits the data as the "split" part of the settings describes."""
    split = fill_shares(split)
    train, validation = split["train"], split["validation"]
    match SplitProtocol(split["protocol"]):
        case SplitProtocol.LEAVE_LAST_OUT:
            return split_leave_last_out(data)
        case SplitProtocol.TIME:
            return split_by_time(data, train, validation)
        case SplitProtocol.ITEM:
            return split_by_item(data, train, validation, seed)
        case SplitProtocol.USER:
            return split_by_user(data, train, validation, seed)
        case protocol:
            cold_users = protocol is SplitProtocol.COLD_USERS
            cold = split_cold_users if cold_users else split_cold_items
            return cold(data, round(1 - train - validation, 9), validation, seed)


def complete_settings(given: Mapping[str, Any]) -> Settings:
    """Returns the given settings with the defaults of missing ones, and one seed for all.

    Raises:
        ParameterError: for a negative seed, an impossible split or format of the data.
    """
    settings = merged(DEFAULTS, given)
    settings["strategy"] = merged({"training": {"seed": settings["seed"]}}, settings["strategy"])
    settings["seed"] = settings["strategy"]["training"]["seed"]
    check("seed", settings["seed"], whole_number(0))
    settings["split"] = fill_shares(settings["split"])
    FileFormat(**{name: settings["data"][name] for name in FORMAT_SETTINGS})
    CleaningRules.from_dict(settings["data"]["clean"])
    if settings["feedback"]:
        settings["feedback"] = Feedback.from_dict(settings["feedback"]).as_dict()
    return settings


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with the values of `over`. Nested mappings are merged in the same way."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def single_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each single setting with its dotted name, as ("split.protocol", "time")."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and key not in _MAPPINGS:
            yield from single_settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
