"""Settings from a YAML file: those of runs, and of their evaluation and export.

Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.checks import shortened
from tfrec_meta.data import Feedback
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.errors import ParameterError, named
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.io.records import create
from tfrec_meta.io.yaml_text import read_yaml
from tfrec_meta.models.base.configs import config_fields
from tfrec_meta.models.registry import FAMILIES
from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
from tfrec_meta.workflows.run_settings import (
    DEFAULTS,
    MAPPINGS,
    STRATEGY_FIELDS,
    Settings,
    absolute_source,
    checked_settings,
    merged,
)

EVALUATION, EXPORT, PIPELINE = "evaluation", "export", "pipeline"
"""The groups of a config file that are no settings of a run."""
_DATACLASSES: Mapping[str, type] = {EVALUATION: EvaluationSettings, EXPORT: ExportConfig}


def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


# The keys of each group of settings; groups that are not listed have keys of their own.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "": (*DEFAULTS, EVALUATION, EXPORT, PIPELINE),
    "data": tuple(DEFAULTS["data"]),
    "data.clean": _fields(CleaningRules),
    "feedback": _fields(Feedback),
    "split": tuple(DEFAULTS["split"]),
    "strategy": STRATEGY_FIELDS,
    **{group: _fields(kind) for group, kind in _DATACLASSES.items()},
}
_FREE_GROUPS = ("strategy.model", "strategy.training", "strategy.features", PIPELINE)
_GROUPS = (*filter(None, _KEYS), *_FREE_GROUPS)
_PATHS = ("folder", "users", "items")


def read_config(path: Path | str) -> Settings:
    """Reads settings from a YAML file, or JSON, which is YAML.

    Args:
        path: a file with settings in the form of `DEFAULTS`, and with the groups `evaluation`,
            `export` and `pipeline`. `source` may be one text. Relative paths of data are relative
            to the working directory.

    Returns:
        The settings, with absolute paths of data. Missing ones, and those without a value, are
        missing. The pipeline checks its own group.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for an unknown key, a value of a wrong type, or values that contradict one
            another; the message names the file and the key.
    """
    record = read_yaml(path)
    with errors_of_config(path, record):
        return _checked(record)


@contextlib.contextmanager
def errors_of_config(
    path: Path | str, config: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Raises errors about settings of a config file with their names in the file.

    Args:
        path: the file.
        config: its settings.
        given: settings that win over those of the file; errors about these do not name the file.
    """
    try:
        yield
    except ParameterError as error:
        keys = list(_keys(config))
        names = {name: f"`{key}`" for key in keys for name in _endings(key)}
        names |= {key: f"`{key}`" for key in keys}
        for key in _keys(given or {}):
            names.pop(key.rpartition(".")[2], None)
        if not set(error.parameters) & set(names):
            raise
        others = [name for name in error.parameters if name not in names]
        raise ParameterError(f"{path}: {named(error, names)}", *others) from error


def run_part(config: Mapping[str, Any]) -> Settings:
    """Returns the settings of a config file that are settings of a run."""
    return {key: value for key, value in config.items() if key in DEFAULTS}


def group_over(config: Mapping[str, Any], group: str, given: Mapping[str, Any]) -> Any:
    """Returns the dataclass of a group of a config file, with given fields over those of the file.

    Args:
        config: as `read_config` returns it.
        group: `EVALUATION` or `EXPORT`.
        given: fields by name.

    Raises:
        ParameterError: for a value that is not accepted.
    """
    return create(_DATACLASSES[group], config_fields({**config.get(group, {}), **given}))


def settings_over(config: Mapping[str, Any], given: Mapping[str, Any]) -> Settings:
    """Returns the settings of a config file with given ones over them.

    A given setting replaces the whole value of the file, also a mapping such as `columns`. With
    another protocol of the split, the shares of the file are left out, and with another family its
    settings of the model.

    Args:
        config, given: in the form of `DEFAULTS`, any part.
    """
    result = {
        key: {name: one for name, one in value.items() if not _is_replaced(name, given.get(key))}
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
    }
    for group, choice, dependent in (
        ("split", "protocol", ("train", "validation")),
        ("strategy", "family", ("model",)),
    ):
        own, wanted = result.get(group, {}), given.get(group, {}).get(choice)
        if wanted is not None and wanted != own.get(choice):
            result[group] = {key: value for key, value in own.items() if key not in dependent}
    return merged(result, given)


def _is_replaced(name: str, given: Mapping[str, Any] | None) -> bool:
    return name in MAPPINGS and name in (given or {})


def _checked(record: Mapping[str, Any]) -> Settings:
    settings: Settings = _plain(record, "")
    data = settings.get("data", {})
    if isinstance(data.get("source"), str):
        data["source"] = [data["source"]]
    seed = settings.get("seed")
    training = settings.get("strategy", {}).get("training", {})
    if seed is not None and training.get("seed", seed) != seed:
        raise ParameterError(
            f"`seed`={seed!r}, but `strategy.training.seed`={training['seed']!r}; keep one of "
            "them, which counts for both.",
            "seed",
        )
    family = settings.get("strategy", {}).get("family")
    if family is not None and family not in list(FAMILIES):
        raise ParameterError(f"`family`={family!r}; use one of {', '.join(FAMILIES)}.", "family")
    checked_settings(merged(DEFAULTS, run_part(settings)))
    for group in _DATACLASSES:
        with _names_of_group(group):
            group_over(settings, group, {})
    if "source" in data:
        data["source"] = [absolute_source(source) for source in data["source"]]
    for name in _PATHS:
        if name in data:
            data[name] = absolute_source(data[name])
    return settings


def _plain(record: Any, group: str) -> dict[str, Any]:
    """Returns the settings of a group that have a value; raises for an unknown key."""
    if not isinstance(record, Mapping):
        raise ParameterError(f"`{group}`={shortened(record)}; use a mapping of settings.", group)
    result: dict[str, Any] = {}
    for key, value in record.items():
        path = f"{group}.{key}".lstrip(".")
        if key not in _KEYS.get(group, (key,)):
            raise ParameterError(f"`{path}` is not a setting; {_advice(str(key), group)}", path)
        if value is None:
            continue
        if path in _GROUPS:
            result[key] = _plain(value, path)
        else:
            _refuse_other_types(value, path)
            result[key] = value
    return result


def _advice(key: str, group: str) -> str:
    """What to use instead of an unknown key: a similar one, or any of its group."""
    alike = difflib.get_close_matches(key, _KEYS[group], n=1)
    inside = {
        name: f"{other}.{name}"
        for other in reversed(tuple(_KEYS))
        if other
        for name in _KEYS[other]
    }
    similar = [f"{group}.{name}".lstrip(".") for name in alike]
    similar = similar or [inside[name] for name in difflib.get_close_matches(key, inside, 1, 0.8)]
    known = f"use one of {', '.join(_KEYS[group])}."
    return f"did you mean `{similar[0]}`? Else {known}" if similar else known


@contextlib.contextmanager
def _names_of_group(group: str) -> Iterator[None]:
    """Raises errors about the fields of a group with their dotted names."""
    try:
        yield
    except ParameterError as error:
        names = {name: f"{group}.{name}" for name in error.parameters}
        text = named(error, {name: f"`{path}`" for name, path in names.items()})
        raise ParameterError(text, *names.values()) from error


def _refuse_other_types(value: Any, path: str) -> None:
    """Raises for values that JSON does not have, such as dates, and for keys that are no text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ParameterError(
                    f"`{path}` has the key {key!r}, which is no text; quote it.", path
                )
            _refuse_other_types(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _refuse_other_types(inner, path)
    elif not isinstance(value, str | int | float | None):
        kind = type(value).__name__
        raise ParameterError(f"`{path}`={value} is a {kind}; quote it to have a text.", path)


def _keys(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings, groups before their members."""
    for key, value in settings.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def _endings(key: str) -> Iterator[str]:
    """The names under which errors know a setting: "a.b.c", "b.c" and "c"."""
    parts = key.split(".")
    return (".".join(parts[first:]) for first in range(len(parts)))
