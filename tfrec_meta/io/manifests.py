"""Manifests: the sizes and SHA-256 digests of all files of a folder, to recognise damage.

The export writes one into each version, and the server checks it, so this module needs only the
standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tfrec_meta.io.damage import DamagedFile, parse_json
from tfrec_meta.io.files import PathLike, write_text

__all__ = [
    "MANIFEST",
    "FileRecord",
    "check_manifest",
    "parse_manifest",
    "read_manifest",
    "stamp",
    "write_manifest",
]

MANIFEST = "manifest.json"
_FORMAT = 1
_WAY_OUT = "Copy or export it again"


Stamp = frozenset[tuple[str, int, int, int]]
"""Names, sizes, times and inodes of files; see `stamp`."""


class FileRecord(NamedTuple):
    """The size of a file in bytes, and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


def write_manifest(folder: Path, name: str = MANIFEST) -> None:
    """Writes the manifest of a complete folder; it lists all other files.

    Args:
        folder: with all its files.
        name: path of the manifest in the folder.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    names.pop(name, None)
    files = {
        name: {"size": path.stat().st_size, "sha256": _digest(path)} for name, path in names.items()
    }
    record = {"format": _FORMAT, "files": files}
    write_text(folder / name, json.dumps(record, indent=1) + "\n")


def read_manifest(path: Path, way_out: str = _WAY_OUT) -> Mapping[str, FileRecord] | None:
    """Reads a manifest.

    Args:
        path: of the manifest.
        way_out: for the error: what to do.

    Returns:
        The files by their paths, with "/"; None if there is no manifest.

    Raises:
        DamagedFile: if it is cut or empty, or names a file outside of its folder.
    """
    return parse_manifest(path.read_bytes(), path, way_out) if path.is_file() else None


def parse_manifest(content: bytes, path: PathLike, way_out: str) -> Mapping[str, FileRecord]:
    """Reads the content of a manifest; see `read_manifest`.

    Args:
        content: of the file.
        path: for errors.
        way_out: for errors: what to do.
    """
    record = parse_json(content, path, way_out, ("format", "files"))
    if record["format"] != _FORMAT:
        raise DamagedFile(path, f"its format is {record['format']!r}, not {_FORMAT}", way_out)
    try:
        files = {
            name: FileRecord(int(one["size"]), str(one["sha256"]))
            for name, one in record["files"].items()
        }
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedFile(path, f"a size or digest is missing ({error})", way_out) from error
    outside = [name for name in files if name.startswith("/") or ".." in name.split("/")]
    if outside:
        raise DamagedFile(path, f"it names {outside[0]!r}, outside of its folder", way_out)
    return files


def check_manifest(folder: Path, name: str = MANIFEST, way_out: str = _WAY_OUT) -> bool:
    """Checks a folder against its manifest: first all sizes, then all digests.

    Files that the manifest does not list are ignored.

    Args:
        folder: of the files.
        name: path of the manifest in the folder.
        way_out: for the error: what to do.

    Returns:
        Whether there is a manifest. Without one, nothing is checked.

    Raises:
        DamagedFile: for the first file that is missing or differs, or a damaged manifest.
    """
    files = read_manifest(folder / name, way_out)
    if files is None:
        return False
    for file, expected in files.items():
        try:
            size = os.stat(folder / file).st_size
        except OSError as error:
            raise DamagedFile(folder / file, "it is missing", way_out) from error
        if size != expected.size:
            reason = f"it has {size:,} of {expected.size:,} bytes"
            raise DamagedFile(folder / file, reason, way_out)
    for file, expected in files.items():
        if _digest(folder / file) != expected.sha256:
            reason = f"its content is not that of {name}"
            raise DamagedFile(folder / file, reason, way_out)
    return True


def stamp(folder: Path) -> Stamp:
    """Returns names, sizes, times and inodes of all files of a folder, without reading them.

    An equal stamp means that the files have not been written in the meantime.
    """
    found = []
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = os.path.join(parent, name)
            try:
                status = os.stat(path)
            except OSError:  # a temporary file of a copy that is under way
                continue
            found.append((path, status.st_size, status.st_mtime_ns, status.st_ino))
    return frozenset(found)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
