"""Files as chunks of UTF-8 bytes: decompressed, decoded, and no longer than at their opening."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from tfrec_meta.io.logs import logger
from tfrec_meta.io.progress import Progress
from tfrec_meta.io.stores import AnyPath, RemotePath, opened

CHUNK = 4 << 20  # bytes of text that are processed at a time
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_log = logger(__name__)


class TextStream:
    """The text of a file.

    Bytes that another process appends after the opening are not read.

    Args:
        path: the file; .gz and .zst are decompressed.
        encoding: of the text.
        progress: counts the bytes of the file that were read.
        shown: the path in messages, if `path` is a converted copy.

    Attributes:
        grew: whether the file has grown since its opening; known after `chunks`.

    Raises:
        FileNotFoundError: if the file does not exist.
    """

    def __init__(
        self,
        path: AnyPath,
        encoding: str,
        progress: Progress | None = None,
        shown: AnyPath | None = None,
    ) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; check the path.")
        self.shown = shown or path
        self.grew = False
        self._path, self._progress = path, progress
        self._remote_size = 0
        self._codec = codecs.lookup(encoding).name

    def chunks(self) -> Iterator[bytes]:
        """Yields UTF-8 text without a byte order mark, in pieces that may end within a line.

        Raises:
            ValueError: if the file is damaged, or not in its encoding.
        """
        plain = self._codec in ("utf-8", "utf-8-sig")
        decoder = None if plain else codecs.getincrementaldecoder(self._codec)()
        try:
            with opened(self._path) as file:
                limited = _Limited(file, self._size(file))
                first = True
                with _decompressed(self._path, limited) as stream:
                    while data := stream.read(CHUNK):
                        self._advance(limited)
                        if first and plain:
                            data = self._without_mark(data)
                        first = False
                        text = data if decoder is None else decoder.decode(data).encode()
                        yield text.removeprefix(codecs.BOM_UTF8) if decoder and first else text
                if decoder is not None:
                    yield decoder.decode(b"", final=True).encode()
                self._compare(file, limited)
        except (EOFError, OSError, UnicodeError, zlib.error, pa.ArrowInvalid) as error:
            raise ValueError(damaged(self.shown, error)) from error

    def _size(self, file: IO[bytes]) -> int:
        if isinstance(self._path, RemotePath):
            # A file on a store is replaced, and does not grow.
            self._remote_size = self._remote_size or self._path.size()
            return self._remote_size
        return os.fstat(file.fileno()).st_size

    def _advance(self, limited: _Limited) -> None:
        if self._progress is not None:
            self._progress.advance(limited.fresh())

    def _without_mark(self, data: bytes) -> bytes:
        if data[:2] in _UTF16 or (data[1:2] == b"\0" and data[3:4] == b"\0"):
            raise ValueError(
                f"{self.shown} is UTF-16, but is read as UTF-8; set `encoding` to 'utf-16'."
            )
        return data.removeprefix(codecs.BOM_UTF8)

    def _compare(self, file: IO[bytes], limited: _Limited) -> None:
        now = self._size(file)
        if limited.left or now < limited.size:
            raise ValueError(
                f"{self.shown} became shorter while it was read; read it when it is complete."
            )
        if now > limited.size:
            self.grew = True
            _log.warning(
                "%s grew from %s to %s bytes while it was read; what was added is not read.",
                self.shown,
                f"{limited.size:,}",
                f"{now:,}",
            )


def damaged(path: AnyPath, error: BaseException) -> str:
    """Returns the message for an error of the libraries that read `path`."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if "UTF8" in reason or isinstance(error, UnicodeError):
        return (
            f"{path} is not in the encoding that it is read with: {reason}. Pass `encoding`, or "
            "save the file as UTF-8."
        )
    marks = ("footer", "magic bytes", "runcated", "nexpected end", "incomplete")
    cut = isinstance(error, EOFError) or any(mark in reason for mark in marks)
    state = "cut off or damaged" if cut else "damaged"
    return f"{path} is {state}: {reason}. Download or write it again."


class _Limited(io.RawIOBase):
    """The first `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.size = self.left = size
        self._file, self._reported = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self.left))
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def fresh(self) -> int:
        """Returns the number of bytes that were read since the last call."""
        position = self.size - self.left
        fresh, self._reported = position - self._reported, position
        return fresh


def _decompressed(path: AnyPath, limited: _Limited) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=io.BufferedReader(limited, 1 << 20))  # type: ignore[return-value]
    if suffix == ".zst":
        raw = io.BufferedReader(limited, 1 << 20)
        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return io.BufferedReader(limited, 1 << 20)
