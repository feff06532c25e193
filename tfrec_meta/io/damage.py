"""Damaged files: errors that name the file and the way out, and JSON files read with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

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


@contextmanager
def reading(path: PathLike, way_out: str) -> Iterator[None]:
    """Raises DamagedFile for what goes wrong in the block, which reads a record of a file.

    Args:
        path: the file, or the files in words.
        way_out: for the error: what to do.

    Example:
        >>> from tfrec_meta.io.damage import reading
        >>> with reading("evaluation.json", "Evaluate the run again"):
        ...     {"k": 10}["metrics"]
        Traceback (most recent call last):
        ...
        tfrec_meta.io.damage.DamagedFile: evaluation.json is damaged: it has no 'metrics'. \
Evaluate the run again.
    """
    try:
        yield
    except DamagedFile:
        raise
    except _OF_RECORDS as error:
        raise DamagedFile(path, _reason(error), way_out) from error


_OF_RECORDS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    OSError,
    BadZipFile,
)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{Path(error.filename).name}: {error.strerror}"
    if isinstance(error, (ValueError, OSError, BadZipFile)) and str(error):
        return str(error).rstrip(".")
    if isinstance(error, KeyError) and error.args:
        return f"it has no {error.args[0]!r}"
    # The text of the others is about our code, and not about the file.
    return "it has values of other types, or fewer values, than it was written with"


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
