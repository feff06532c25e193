"""The files that paths, folders and patterns stand for, on this machine and on object stores."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from tfrec_meta.data.places.queries import SqlQuery
from tfrec_meta.data.sources.byte_streams import damaged
from tfrec_meta.data.sources.formats import COMPRESSIONS, SUFFIXES, suffix_of
from tfrec_meta.io.files import PathLike
from tfrec_meta.io.stores import AnyPath, RemotePath, any_path, opened, size_of

Source = AnyPath | SqlQuery
"""A file, or a query in its place."""

_TEXT_ROW = 30  # approximate bytes per row of text


def data_files(paths: Sequence[PathLike]) -> list[AnyPath]:
    """Returns the data files of files, folders and glob patterns, in the order of reading.

    Raises:
        FileNotFoundError: if a path does not exist, or a folder or pattern has no data file.
        ValueError: if a file has another suffix.
    """
    if not paths:
        raise ValueError("`paths` names no file; give at least one.")
    files: list[AnyPath] = []
    for given in paths:
        path = any_path(given)
        if isinstance(path, RemotePath):
            files += _remote_files(path)
            continue
        if path.is_dir():
            found = [
                file
                for file in sorted(path.iterdir())
                if file.is_file() and file.name[0] not in "._" and suffix_of(file) is not None
            ]
        elif path.is_file():
            if suffix_of(path) is None:
                raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
            found = [path]
        else:
            found = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        if not found:
            kind = f"holds no {SUFFIXES} file" if path.is_dir() else "does not exist"
            raise FileNotFoundError(f"{path} {kind}; check the path.")
        files += found
    return files


def _remote_files(path: RemotePath) -> list[AnyPath]:
    """The data files that a file, folder or pattern on an object store stands for."""
    parts = path.url.split("/")
    wild = next((n for n, part in enumerate(parts) if set(part) & set("*?[")), None)
    if wild is not None:
        if wild < 3 or "**" in path.url:
            raise ValueError(f"{path}: use patterns below the bucket, and without '**'.")
        base = RemotePath("/".join(parts[:wild]))
        pattern = "/" + "/".join(parts[wild:])
        names = [name for name in base.files() if PurePosixPath("/" + name).match(pattern)]
        found: list[AnyPath] = [base / name for name in names if suffix_of(base / name)]
    elif path.is_file():
        if suffix_of(path) is None:
            raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
        found = [path]
    else:
        names = [name for name in path.files(recursive=False) if name[0] not in "._"]
        found = [path / name for name in names if suffix_of(path / name)]
    if not found:
        raise FileNotFoundError(f"{path} does not exist, or has no {SUFFIXES} file; check it.")
    return found


def amount_of(files: Sequence[Source]) -> tuple[int | None, str]:
    """The amount of work to read them, and its unit."""
    if any(isinstance(file, SqlQuery) for file in files):
        return None, "rows"
    return sum(size_of(file) for file in files if not isinstance(file, SqlQuery)), "B"


def estimated_rows(path: Source) -> int:
    if isinstance(path, SqlQuery):
        return path.count()
    if suffix_of(path) == ".parquet":
        import pyarrow.parquet as pq

        try:
            with opened(path, random=True) as file:
                return pq.read_metadata(file).num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(damaged(path, error)) from error
    packed = 4 if path.suffix.lower() in COMPRESSIONS else 1
    return size_of(path) * packed // _TEXT_ROW


def stem_of(path: Source) -> str:
    return path.name if isinstance(path, SqlQuery) else path.name.split(".")[0] or path.name
