"""Damaged files: errors that name the file and the way out, and JSON files read with them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tfrec_meta.io.files import PathLike


class DamagedFile(ValueError):
    """A file that was cut, emptied or changed, as by a full disk or an interrupted copy.

    Args:
        path: the file, or the files in words.
        reason: what is wrong with it.
        way_out: what to do, without a full stop.

    Example:
        >>> from tfrec_meta.io.damage import DamagedFile
        >>> str(DamagedFile("run.json", "it is empty", "Train the run again"))
        'run.json is damaged: it is empty. Train the run again.'
    """

    def __init__(self, path: PathLike, reason: str, way_out: str):
        super().__init__(f"{path} is damaged: {reason}. {way_out.rstrip('.')}.")


def read_json(path: PathLike, way_out: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Args:
        path: the file.
        way_out: for the error: what to do.
        keys: that the object must have.

    Raises:
        DamagedFile: if the file is empty or cut, is no JSON object, or lacks a key.
        FileNotFoundError: if there is no such file.
    """
    return parse_json(Path(path).read_bytes(), path, way_out, keys)


def parse_json(
    content: bytes, path: PathLike, way_out: str, keys: Collection[str] = ()
) -> dict[str, Any]:
    """Reads a JSON object from the content of a file; see `read_json`."""
    if not content.strip(b" \t\r\n\0"):
        raise DamagedFile(path, "it is empty", way_out)
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"it is not JSON ({error})", way_out) from error
    if not isinstance(record, dict):
        raise DamagedFile(path, "it is not a JSON object", way_out)
    missing = sorted(set(keys) - set(record))
    if missing:
        raise DamagedFile(path, f"it has no {', '.join(map(repr, missing))}", way_out)
    return record


def read_json_lines(path: PathLike, way_out: str) -> list[dict[str, Any]]:
    """Reads a file of one JSON object per line; raises as `read_json` does.

    Raises:
        DamagedFile: naming the line.
        FileNotFoundError: if there is no such file.
    """
    lines = Path(path).read_bytes().splitlines()
    return [parse_json(line, f"{path}, line {n},", way_out) for n, line in enumerate(lines, 1)]
