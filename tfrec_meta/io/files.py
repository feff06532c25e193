"""The edge to the disk: nothing half-written is ever visible, and what is fetched is verified."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PathLike = str | os.PathLike[str]


def cache_folder(cache: PathLike | None = None) -> Path:
    """Where fetched data is kept: `cache`, else $TFREC_META_CACHE, else the user's cache folder."""
    chosen = cache or os.environ.get("TFREC_META_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # here, so that reading local files needs no look at the home folder

    return Path(platformdirs.user_cache_dir("tfrec-meta", appauthor=False))


@contextmanager
def atomic_folder(target: PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty sibling folder that becomes `target` once the block ends well.

    Args:
        target: the folder to make; its parents are made too.
        overwrite: replace a `target` that is there; it stays whole until the new one is; a
            kill between two renames leaves it beside, under a hidden name.

    Raises:
        FileExistsError: `target` is there, before or after the block, and `overwrite` is false.
    """
    target = Path(target)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; pass overwrite=True or another folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        os.chmod(work, 0o777 & ~_umask())  # mkdtemp's 0700 would lock out whoever shares a cache
        yield work
        _replace_folder(work, target, overwrite)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sha256_of(path: PathLike) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace_folder(work: Path, target: Path, overwrite: bool) -> None:
    """Raises FileExistsError where another process was faster."""
    if overwrite and target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        try:
            os.replace(target, old)  # onto an empty folder: allowed, and in one step
            try:
                os.replace(work, target)
            except OSError:
                os.replace(old, target)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
        return
    try:
        os.replace(work, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(f"{target} was made meanwhile by another process.") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
