"""Locks of folders: one process at a time writes into a run, a study or a training folder.

The system releases a lock when its process ends, also after a kill.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tfrec_meta.io.files import NO_LOCKS, PathLike, make_folder
from tfrec_meta.io.logs import logger

LOCK = ".lock"  # the file in a locked folder; it stays there
_POLL = 0.1  # seconds between two attempts
_log = logger(__name__)


@contextmanager
def locked_folder(folder: PathLike) -> Iterator[bool]:
    """Holds the lock of a folder, and waits with a message while another process holds it.

    On a file system without locks the block runs without one, with a warning; so it does, silently,
    in a folder that this process may not write to. The lock is not
    reentrant: a thread that holds it must not ask for it again.

    Args:
        folder: created if it does not exist.

    Yields:
        Whether it had to wait, so that the folder may have changed since it was read.

    Example:
        >>> import tempfile
        >>> from tfrec_meta.io.locks import locked_folder
        >>> with locked_folder(tempfile.mkdtemp()) as waited:
        ...     waited
        False
    """
    folder = Path(folder)
    make_folder(folder)
    path = folder / LOCK
    try:
        # Before FileLock, so that the mode of the file follows the umask.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        yield False
        return
    # Not shared between threads: a second thread waits as another process does.
    lock = FileLock(path, poll_interval=_POLL, thread_local=False)
    waited = False
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            _log.warning("%s is in use by %s; waiting until it is free.", folder, _holder(path))
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _log.warning(
            "%s is on a file system without locks (%s). Do not use it from two processes at once.",
            folder,
            error,
        )
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield waited
    finally:
        with contextlib.suppress(OSError):
            path.write_text("")
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:200] or "another process"
    except OSError:
        return "another process"
