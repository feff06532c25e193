"""Files and folders that appear complete or not at all, also after a kill or a power failure.

A writer works on a temporary sibling. When it is done, the content is flushed to the disk, one
rename puts it in place, and the parent folder is flushed too. The writer holds a lock on the
sibling, which the system releases when the process ends. The next writer into the same folder
removes siblings without a lock: their writers were killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PathLike = str | os.PathLike[str]

# Siblings: ".model.0123456789abcdef.part" is being written, "….old" was replaced by a new folder.
_SIBLING = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.(?P<kind>part|old)", re.DOTALL)
_EARLIER = re.compile(r"\.(\d+|model)\.[a-z0-9_]{8}|\..+-\d+\.partial")  # tfrec-meta 0.1
_EARLIER_AGE = 3600.0  # seconds; 0.1 took no locks
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # of a file system
_UNLOCKED_AGE = 86_400.0  # seconds: the age of left-overs on file systems without locks
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


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
    with _work(path, lambda work: os.close(_new_file(work, mode))) as work:
        yield work
        sync(work)
        os.replace(work, path)
        sync(path.parent)


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
            is complete, and the two change places in one step.

    Raises:
        FileExistsError: if `target` exists, before or after the block, and `overwrite` is false.
    """
    target = Path(target)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; pass overwrite=True or another folder.")
    with work_folder(target) as work:
        yield work
        sync_tree(work)
        if overwrite and os.path.lexists(target):
            _exchange(work, target)
        else:
            publish_folder(work, target)


@contextmanager
def work_folder(target: PathLike) -> Iterator[Path]:
    """Yields an empty folder beside `target`, which is removed after the block.

    It is for a writer that chooses the final name only when the content is complete, and then
    calls `sync_tree` and `publish_folder`.

    Args:
        target: a path in the folder where the content will be. Its parent folders are created.
    """
    with _work(Path(target), os.mkdir) as work:
        yield work


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


def make_folder(folder: PathLike) -> None:
    """Creates a folder and its missing parents, and flushes their names to the disk."""
    folder = Path(folder)
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def remove(path: PathLike) -> None:
    """Removes a file, a link, or a folder with its content, as far as that is possible."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def clear_leftovers(folder: PathLike) -> list[Path]:
    """Removes the temporary files and folders that killed writers left in a folder.

    Those of a running process stay: it holds a lock on them. On a file system without locks, those
    that are younger than a day stay. A folder that a killed writer had moved away to replace it
    returns to its place, if the new one is not there.

    Returns:
        The paths that were removed.
    """
    removed = []
    for path in _siblings(Path(folder)):
        with contextlib.suppress(OSError), _locked(path) as held:
            if not held:
                continue
            match = _SIBLING.fullmatch(path.name)
            if match is None and time.time() - path.stat().st_mtime < _EARLIER_AGE:
                continue
            target = path.with_name(match["name"] if match else path.name)
            if match and match["kind"] == "old" and not os.path.lexists(target):
                os.rename(path, target)
                continue
            remove(path)
            removed.append(path)
    return removed


def _siblings(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.startswith(".")]
            kinds = (_SIBLING, _EARLIER)
            return [
                Path(entry.path)
                for entry in found
                if any(kind.fullmatch(entry.name) for kind in kinds)
            ]
    except OSError:  # a folder that may be written and not listed
        return []


@contextmanager
def _work(target: Path, create: Callable[[Path], None]) -> Iterator[Path]:
    """Yields a new locked sibling of `target`, which is removed after the block."""
    make_folder(target.parent)
    clear_leftovers(target.parent)
    while True:
        work = _sibling(target)
        create(work)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_locked(work, wait=True))
            except FileNotFoundError:
                continue  # another process took it for a left-over before it had the lock
            if not work.exists():
                continue
            try:
                yield work
            finally:
                remove(work)
            return


def _new_file(path: Path, mode: int) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)


@contextmanager
def _locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Locks a file or folder; yields false if a running process has the lock."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            held = time.time() - os.fstat(descriptor).st_mtime > _UNLOCKED_AGE
        yield held
    finally:
        os.close(descriptor)


def _sibling(path: Path, kind: str = "part") -> Path:
    """A hidden path next to `path` that no other process uses."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.{kind}")


def _exchange(work: Path, target: Path) -> None:
    """Puts `work` in the place of `target`; what was there is then in `work`, or removed."""
    if not _swap(work, target):
        old = _sibling(target, "old")
        with _locked(target):
            os.rename(target, old)
            try:
                os.rename(work, target)
            except OSError:
                os.rename(old, target)
                raise
            sync(target.parent)
            remove(old)
    sync(target.parent)


def _swap(one: Path, other: Path) -> bool:
    """Exchanges two paths in one step; returns false where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if rename(*paths, _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, *NO_LOCKS):
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
