"""Files and folders that appear complete or not at all, also after a kill or a power failure.

A writer works on a temporary sibling. When it is done, the content is flushed to the disk, one
rename puts it in place, and the parent folder is flushed too.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PathLike = str | os.PathLike[str]


def cache_folder(cache: PathLike | None = None) -> Path:
    """Returns the folder for downloaded data.

    It is `cache`, else $TFREC_META_CACHE, else the user's cache folder.
    """
    chosen = cache or os.environ.get("TFREC_META_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # here, since it looks up the home folder, which local files do not need

    return Path(platformdirs.user_cache_dir("tfrec-meta", appauthor=False))


@contextmanager
def atomic_file(path: PathLike, *, mode: int = 0o666) -> Iterator[Path]:
    """Yields the path of an empty sibling file that replaces `path` if the block succeeds.

    The sibling has a hidden name with another suffix, so a pattern such as "*.npz" does not match
    it. If the block raises, the sibling is removed and `path` stays as it was.

    Args:
        path: the file to write. Its parent folders are created.
        mode: permissions of the file, before the umask.

    Example:
        >>> import tempfile
        >>> from tfrec_meta.io.files import atomic_file
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with atomic_file(path) as work:
        ...     _ = work.write_text("1 2 3")
        >>> path.read_text()
        '1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = _sibling(path)
    os.close(os.open(work, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))
    try:
        yield work
        sync(work)
        os.replace(work, path)
        sync(path.parent)
    finally:
        work.unlink(missing_ok=True)


def write_bytes(path: PathLike, content: bytes, *, mode: int = 0o666) -> None:
    """Writes a file atomically; see `atomic_file`."""
    with atomic_file(path, mode=mode) as work:
        work.write_bytes(content)


def write_text(path: PathLike, text: str, *, mode: int = 0o666) -> None:
    """Writes a UTF-8 text file atomically; see `atomic_file`."""
    write_bytes(path, text.encode(), mode=mode)


@contextmanager
def atomic_folder(target: PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty sibling folder that becomes `target` if the block succeeds.

    Args:
        target: the folder to create. Its parent folders are created too.
        overwrite: whether to replace an existing `target`. It stays in place until the new folder
            is complete. A kill between the two renames leaves the old one under a hidden name.

    Raises:
        FileExistsError: if `target` exists, before or after the block, and `overwrite` is false.
    """
    target = Path(target)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; pass overwrite=True or another folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = _sibling(target)
    work.mkdir()
    try:
        yield work
        sync_tree(work)
        if overwrite and target.exists():
            _exchange_folder(work, target)
        else:
            publish_folder(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish_folder(work: PathLike, target: PathLike) -> None:
    """Puts a complete folder in place by one rename.

    The caller has flushed its content; see `sync_tree`.

    Args:
        work: the folder, in the same file system as `target`.
        target: its new path. An empty folder there is replaced.

    Raises:
        FileExistsError: if `target` exists, such as one that another process has published.
    """
    target = Path(target)
    try:
        os.rename(work, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(
                f"{target} was created by another process in the meantime."
            ) from error
        raise
    sync(target.parent)


def sync(path: PathLike) -> None:
    """Flushes a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: PathLike) -> None:
    """Flushes a folder with all files and folders below it to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                sync(path)
        sync(parent)


def _sibling(path: Path) -> Path:
    """A hidden path next to `path` that no other process uses."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")


def _exchange_folder(work: Path, target: Path) -> None:
    old = _sibling(target)
    try:
        os.rename(target, old)
        try:
            os.rename(work, target)
        except OSError:
            os.rename(old, target)
            raise
        sync(target.parent)
    finally:
        shutil.rmtree(old, ignore_errors=True)
