"""Converts configs from and to plain values and execution properties."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tfrec_meta import __version__

VERSION = "version"  # key of the package's version in execution properties

_Config = TypeVar("_Config")
_TYPES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
_PLURALS = {str: "strings", int: "whole numbers", float: "numbers"}


def as_json(config: Any) -> str:
    """Returns a part of the config as an execution property: equal text for equal values.

    It includes the package's version, so that no result of another version comes from the cache.
    """
    return json.dumps({VERSION: __version__, **dataclasses.asdict(config)}, sort_keys=True)


def from_json(kind: type[_Config], text: str) -> _Config:
    """Returns the config of `as_json`.

    Raises:
        ValueError: if the text is not one of `as_json`.
    """
    record = json.loads(text)
    if isinstance(record, dict):
        record.pop(VERSION, None)
    return config_from(kind, record)


def config_from(kind: type[_Config], record: Any, prefix: str = "") -> _Config:
    """Returns a config, with its nested configs, from plain values.

    Args:
        kind: the dataclass.
        record: values by field name; missing fields have their defaults.
        prefix: path of the config, such as "data.", for error messages.

    Raises:
        ValueError: for an unknown or missing field, or an invalid value; the message has the path.
    """
    if not isinstance(record, Mapping):
        raise ValueError(
            f"`{prefix.rstrip('.') or kind.__name__}`={record!r}; use a mapping of settings."
        )
    hints = typing.get_type_hints(kind)
    unknown = [str(key) for key in record if key not in hints]
    if unknown:
        named = ", ".join(f"`{prefix}{key}`" for key in unknown)
        raise ValueError(f"Unknown setting {named}; use one of {', '.join(hints)}.")
    values: dict[str, Any] = {}
    for key, value in record.items():
        path = f"{prefix}{key}"
        nested = [t for t in (hints[key], *typing.get_args(hints[key])) if _is_config(t)]
        if nested and typing.get_origin(hints[key]) is tuple:
            if not isinstance(value, list | tuple):
                raise ValueError(f"`{path}`={value!r}; use a list of mappings.")
            values[key] = tuple(
                config_from(nested[0], entry, f"{path}[{place}].")
                for place, entry in enumerate(value)
            )
        elif nested and value is not None:
            values[key] = config_from(nested[0], value, f"{path}.")
        else:
            values[key] = _typed(hints[key], value, path)
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{', '.join(f'`{prefix}{name}`' for name in missing)} must be set.")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"In `{prefix[:-1]}`: {error}" if prefix else str(error)) from None


def override(record: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Sets a nested value in plain values.

    Raises:
        ValueError: if the keys lead through a value that is not a mapping.
    """
    for depth, key in enumerate(keys[:-1]):
        inner = record.setdefault(key, {})
        if inner is None:
            inner = record[key] = {}
        if not isinstance(inner, dict):
            raise ValueError(
                f"`{'.'.join(keys[: depth + 1])}`={inner!r} is not a group of settings; set it "
                "as a whole."
            )
        record = inner
    record[keys[-1]] = value


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _typed(kind: Any, value: Any, path: str) -> Any:
    """Returns a plain value as the type of its field.

    YAML has lists for tuples, integers for floats, and strings for enums.
    """
    origin = typing.get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        return _typed_option(kind, value, path)
    if origin is typing.Literal:
        return value  # the config checks it
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return origin(value) if value in list(origin) else value  # the config checks it
    fits = {
        str: lambda: isinstance(value, str),
        bool: lambda: isinstance(value, bool),
        int: lambda: isinstance(value, int) and not isinstance(value, bool),
        float: lambda: (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ),
    }
    if origin is tuple:
        return _typed_tuple(kind, value, path)
    if origin in fits and not fits[origin]():
        raise ValueError(f"`{path}`={value!r}; use {_words(kind)}.")
    if origin not in fits and not isinstance(value, Mapping):
        raise ValueError(f"`{path}`={value!r}; use a mapping.")
    return float(value) if origin is float else value


def _typed_option(kind: Any, value: Any, path: str) -> Any:
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    if value is None and len(options) < len(typing.get_args(kind)):
        return None
    if len(options) == 1:
        return _typed(options[0], value, path)
    for option in options:
        try:
            return _typed(option, value, path)
        except ValueError:
            continue
    raise ValueError(f"`{path}`={value!r}; use {' or '.join(map(_words, options))}.")


def _typed_tuple(kind: Any, value: Any, path: str) -> tuple[Any, ...]:
    parts = typing.get_args(kind)
    wrong = f"`{path}`={value!r}; use {_words(kind)}."
    if not isinstance(value, list | tuple):
        raise ValueError(wrong)
    parts = parts[:1] * len(value) if parts[-1] is ... else parts
    if len(parts) != len(value):
        raise ValueError(wrong)
    try:
        return tuple(_typed(part, entry, path) for part, entry in zip(parts, value, strict=True))
    except ValueError:
        raise ValueError(wrong) from None


def _words(kind: Any) -> str:
    """Returns the accepted values in words."""
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        entries = _PLURALS.get(parts[0], "values")
        return f"a list of {entries if parts[-1] is ... else f'{len(parts)} {entries}'}"
    return _TYPES.get(kind, "a mapping")
