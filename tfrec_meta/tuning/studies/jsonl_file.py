"""Appends whole lines to a file, so that a kill or a full disk leaves no half-written record."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from tfrec_meta.io.files import sync, write_bytes


def append_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Appends lines in one write, and returns when they are on the disk.

    Args:
        path: the file, created if it does not exist.
        lines: without their line breaks.

    Raises:
        OSError: if the disk took only a part of the lines; that part is removed again.
    """
    is_new = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(file).st_size
        text = b"".join(line + b"\n" for line in lines)
        if size and os.pread(file, 1, size - 1) != b"\n":
            text = b"\n" + text  # an earlier writer was killed within a line
        written = os.write(file, text)
        if written != len(text):
            os.ftruncate(file, size)
            message = f"only {written} of {len(text)} bytes were written"
            raise OSError(errno.ENOSPC, message, str(path))
        os.fsync(file)
    finally:
        os.close(file)
    if is_new:
        sync(path.parent)


def replace_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Replaces a file's lines; a kill leaves either the old file or the new one."""
    write_bytes(path, b"".join(line + b"\n" for line in lines))
