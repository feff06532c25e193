"""Plain values of YAML texts, within limits, and YAML of plain values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tfrec_meta.extras import not_installed
from tfrec_meta.io.files import PathLike

_MAX_TEXT = 1_000_000  # characters and values of a YAML text, with a copy for each alias
_MAX_DEPTH = 50


def read_yaml(path: PathLike) -> dict[str, Any]:
    """Returns the settings of a YAML file; JSON is YAML, too.

    Args:
        path: a file with a mapping, in UTF-8.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: as `parse_yaml`, or if the file holds no text in UTF-8, or no mapping.
        ImportError: if PyYAML is not installed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8: {error.reason}. Save it again as UTF-8."
        ) from error
    record = parse_yaml(text, str(path))
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a mapping of settings; write key: value lines.")
    return record


def parse_yaml(text: str, source: str) -> Any:
    """Returns the plain values of a YAML text.

    Args:
        text: the text.
        source: names the text in the error message.

    Raises:
        ValueError: if the text is not YAML, a mapping has a key twice, or its values are too many,
            too long or too deep. An alias counts as a copy of its values, so a short text can
            stand for gigabytes.
        ImportError: if PyYAML is not installed.
    """
    try:
        import yaml  # here: configs that are created in Python need no parser
    except ImportError as error:
        raise not_installed("A YAML config", error) from error

    shown = source if len(source) <= 100 else f"{source[:97]}..."
    if len(text) > _MAX_TEXT:
        raise ValueError(f"{shown} has {len(text):,} characters; use {_MAX_TEXT:,} or fewer.")
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None:
            _expanded_size(node, {}, 0)
        return yaml.safe_load(text)
    except _Refused as error:
        raise ValueError(f"{shown} {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError) as error:
        raise ValueError(f"{shown} is not valid YAML: {error}") from error


def yaml_of(value: Any) -> str:
    """Returns plain values as YAML in one line, to be written after a key.

    Args:
        value: text, numbers, booleans, None, and lists and mappings of these.

    Raises:
        ImportError: if PyYAML is not installed.

    Example:
        >>> from tfrec_meta.io.yaml_text import yaml_of
        >>> yaml_of(["log.csv", "2026: a\\nb"]), yaml_of({"view": 1.0})
        ('[log.csv, "2026: a\\\\nb"]', '{view: 1.0}')
    """
    try:
        import yaml
    except ImportError as error:
        raise not_installed("A YAML config", error) from error
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, allow_unicode=True, sort_keys=False, width=math.inf
    )
    return text.strip()[1:-1]


class _Refused(Exception):
    """A YAML text stands for too many values, or for two values of one key."""


def _expanded_size(node: Any, known: dict[int, int | None], depth: int) -> int:
    """Returns the number of characters and values of a node, with a copy for each alias.

    Args:
        node: of PyYAML.
        known: the sizes of the nodes that were visited; None while a node is being visited.
        depth: number of nodes around this one.

    Raises:
        _Refused: if it is above the limit, a node contains itself, or a mapping has a key twice.
    """
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise _Refused("has a value that contains itself; write the values out.")
        return size
    if depth > _MAX_DEPTH:
        raise _Refused(f"is nested deeper than {_MAX_DEPTH} levels; use fewer.")
    known[id(node)] = None
    size = 1
    if isinstance(node.value, str):
        size += len(node.value)
    else:
        _refuse_doubled_keys(node)
        for child in node.value:
            for each in child if isinstance(child, tuple) else (child,):
                size += _expanded_size(each, known, depth + 1)
    if size > _MAX_TEXT:
        raise _Refused(
            f"stands for more than {_MAX_TEXT:,} characters, aliases included; use fewer aliases."
        )
    known[id(node)] = size
    return size


def _refuse_doubled_keys(node: Any) -> None:
    """Raises for a mapping with a key twice: PyYAML would drop the first value silently."""
    pairs = [child for child in node.value if isinstance(child, tuple)]
    keys = [key.value for key, _ in pairs if isinstance(key.value, str)]
    doubled = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
    if doubled is not None:
        raise _Refused(f"has two values for the key {doubled!r}; keep one.")
