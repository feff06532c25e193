"""Object stores (`s3://`, `gs://`) through `pyarrow.fs`: files, time limits, and clear errors.

Credentials come from the environment only, as the libraries of AWS and Google Cloud find them there
(variables, files that variables name, or the role of the machine). `AWS_ENDPOINT_URL` and
`STORAGE_EMULATOR_HOST` name other servers than those of AWS and Google, and
`TFREC_META_STORE_TIMEOUT` the seconds without an answer after which a request fails (default 60).
A request that fails for a passing reason is repeated, three times at most.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from tfrec_meta.io.files import PathLike

if TYPE_CHECKING:
    import pyarrow.fs as arrow_fs

TIMEOUT = "TFREC_META_STORE_TIMEOUT"
_DEFAULT_TIMEOUT = 60.0  # seconds
_CONNECT_TIMEOUT = 10.0  # seconds
_ATTEMPTS = 3
_BUFFER = 8 << 20  # bytes per request of a stream
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST"}
_SCHEMES = tuple(_ENDPOINTS)
_READ_BY_THE_LIBRARIES = ("AWS_", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", TIMEOUT)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

# Signs in the messages of Arrow's file systems, which have no kinds of errors.
_OF_A_STORE = re.compile(r"AWS Error|google::cloud|curlCode|credentials", re.IGNORECASE)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|bucket (does not exist|not found)", re.IGNORECASE)
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT_MATCH|EXPIRED"
    r"|UNRECOGNIZED_CLIENT|AUTHENTICATION|INVALID_TOKEN|INVALID_SIGNATURE|PERMISSION_DENIED"
    r"|UNAUTHENTICATED|HTTP status 40[13]|credentials|metadata\.google",
    re.IGNORECASE,
)
_MISSING = re.compile(r"NO_SUCH_KEY|RESOURCE_NOT_FOUND|NOT_FOUND|HTTP status 404")
_DOWN = re.compile(
    r"NETWORK_CONNECTION|curlCode|TIMEOUT|UNAVAILABLE|DEADLINE|SLOW_DOWN|INTERNAL|HTTP status 5\d\d"
    r"|couldn't connect",
    re.IGNORECASE,
)


class StoreError(RuntimeError):
    """An object store that refuses, does not answer, or lacks a bucket; names the way out."""


class StoreUnavailable(StoreError):
    """An object store that does not answer."""


def is_url(path: PathLike) -> bool:
    """Returns whether a path is the URL of an object store.

    Example:
        >>> from tfrec_meta.io.stores import is_url
        >>> is_url("s3://bucket/log.csv"), is_url("data/log.csv")
        (True, False)
    """
    return isinstance(path, str) and path.lower().startswith(tuple(f"{one}://" for one in _SCHEMES))


@dataclass(frozen=True)
class RemotePath:
    """A file or a folder on an object store, with the attributes of a `Path` that readers use.

    Attributes:
        url: `s3://bucket/key` or `gs://bucket/key`.

    Raises:
        ValueError: for a URL without a bucket, or with credentials in it.

    Example:
        >>> from tfrec_meta.io.stores import RemotePath
        >>> path = RemotePath("s3://shop/logs/day.csv.gz")
        >>> path.name, path.suffixes, str(path / "more")
        ('day.csv.gz', ['.csv', '.gz'], 's3://shop/logs/day.csv.gz/more')
    """

    url: str

    def __post_init__(self) -> None:
        scheme, _, rest = self.url.partition("://")
        scheme = scheme.lower()
        bucket = rest.partition("/")[0]
        if set(bucket) & set(":@"):
            shown = f"{scheme}://...@{rest.rpartition('@')[2]}" if "@" in rest else "the URL"
            raise ValueError(
                f"{shown} has credentials in it; leave them out, and set them in the environment."
            )
        if scheme not in _SCHEMES or not bucket:
            raise ValueError(
                f"{self.url!r} is not the URL of a file; use s3://BUCKET/PATH or gs://..."
            )
        parts = [part for part in rest.split("/") if part]
        if ".." in parts:
            raise ValueError(f"{self.url!r} has '..' in it; name the folder itself.")
        object.__setattr__(self, "url", f"{scheme}://{'/'.join(parts)}")

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    @property
    def key(self) -> str:
        """`bucket/key`, as Arrow's file systems name it."""
        return self.url.partition("://")[2]

    @property
    def endpoint(self) -> str:
        """The address of another server than that of Amazon or Google; "" without one."""
        return _endpoint(self.url.partition("://")[0], os.environ)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """The last suffix of the name."""
        return PurePosixPath(self.key).suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes of the name."""
        return PurePosixPath(self.key).suffixes

    def is_file(self) -> bool:
        """Returns whether there is such a file."""
        return self._info().is_file

    def size(self) -> int:
        """Returns the size of the file in bytes.

        Raises:
            FileNotFoundError: if there is no such file.
        """
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(f"{self.url} does not exist; check the path.")
        return int(info.size)

    def files(self, recursive: bool = True) -> dict[str, RemoteFile]:
        """Returns the files of a folder by their paths in it, sorted; {} if there is no folder.

        Raises:
            StoreError: also if there is no such bucket.
        """
        return {
            name: RemoteFile(int(info.size), info.mtime)
            for name, info in self._entries(recursive)
            if info.is_file
        }

    def read(self) -> bytes:
        """Returns the content of a small file.

        Raises:
            FileNotFoundError: if there is no such file.
        """
        with opened(self) as file:
            return file.read()

    def write(self, content: bytes) -> None:
        """Writes a small file, which appears complete."""
        with self._written() as file:
            file.write(content)

    def upload(self, local: Path) -> None:
        """Writes a file from a local one; it appears when it is complete."""
        with open(local, "rb") as source, self._written() as target:
            while block := source.read(_BUFFER):
                target.write(block)

    def download(self, local: Path) -> None:
        """Reads a file into a local one."""
        with open(local, "wb") as target, opened(self) as source:
            while block := source.read(_BUFFER):
                target.write(block)

    def remove(self) -> None:
        """Removes a file or a folder, if it exists."""
        # Arrow reports a folder of Google's that has no object of its own as missing.
        with contextlib.suppress(FileNotFoundError), store_errors(self):
            if self._info().is_file:
                self.system.delete_file(self.key)
            elif self._entries(True):
                self.system.delete_dir(self.key)

    @contextmanager
    def _written(self) -> Iterator[Any]:
        was_stopped = False
        try:
            # Without `compression`, Arrow compresses by the suffix of the name.
            with (
                store_errors(self),
                self.system.open_output_stream(self.key, compression=None) as file,
            ):
                try:
                    yield file
                except BaseException:
                    was_stopped = True
                    raise
        except FileNotFoundError as error:  # folders need not exist
            raise StoreError(_no_bucket(self.url)) from error
        except StoreUnavailable:
            raise
        except BaseException:
            if was_stopped:  # Arrow's streams have no abort: closing has made a cut file
                with contextlib.suppress(OSError):
                    self.system.delete_file(self.key)
            raise

    @property
    def system(self) -> arrow_fs.FileSystem:
        """Arrow's file system of the store."""
        scheme, _, key = self.url.partition("://")
        read = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(_READ_BY_THE_LIBRARIES)
        }
        with store_errors(self):
            return _file_system(scheme, key.partition("/")[0], tuple(sorted(read.items())))

    def _info(self) -> Any:
        with store_errors(self):
            return self.system.get_file_info(self.key)

    def _entries(self, recursive: bool) -> list[tuple[str, Any]]:
        """The relative paths of what a folder holds, with Arrow's infos."""
        import pyarrow.fs as arrow_fs

        selector = arrow_fs.FileSelector(self.key, allow_not_found=True, recursive=recursive)
        with store_errors(self):
            infos = self.system.get_file_info(selector)
            if not infos:
                bucket = self.key.partition("/")[0]
                if self.system.get_file_info(bucket).type == arrow_fs.FileType.NotFound:
                    raise StoreError(_no_bucket(self.url))
        prefix = self.key.rstrip("/") + "/"
        named = [(info.path.removeprefix(prefix), info) for info in infos]
        return sorted(named, key=lambda entry: entry[0])


@dataclass(frozen=True)
class RemoteFile:
    """A file in the list of a folder: its size in bytes, and when it was written."""

    size: int
    written: datetime | None


AnyPath = Path | RemotePath
"""A local path, or one on an object store."""


def any_path(path: PathLike | RemotePath) -> AnyPath:
    """Returns a path as a `Path`, or as a `RemotePath` if it is the URL of an object store.

    Raises:
        ValueError: for a URL with another scheme.
    """
    if isinstance(path, RemotePath):
        return path
    scheme = _URL.match(str(path))
    if scheme and not is_url(path):
        raise ValueError(
            f"URLs that begin with {scheme[0]} cannot be read; use a local path, "
            "s3://BUCKET/PATH, gs://BUCKET/PATH, or the URL of a database for events."
        )
    return RemotePath(str(path)) if is_url(path) else Path(path)


def local_path(path: PathLike, what: str) -> Path:
    """Returns a path on this machine.

    Args:
        path: the path.
        what: what it is of, for the error, as "a run folder".

    Raises:
        ValueError: for the URL of an object store, which would become a folder named "s3:".
    """
    if is_url(path):
        raise ValueError(f"{path} is a URL, but {what} is on this machine; use a local path.")
    return Path(path)


def size_of(path: AnyPath) -> int:
    """Returns the size of a file in bytes."""
    return path.size() if isinstance(path, RemotePath) else path.stat().st_size


@contextmanager
def opened(path: AnyPath, random: bool = False) -> Iterator[IO[bytes]]:
    """Yields an open file for reading.

    Args:
        path: the file.
        random: whether a reader goes to places in the file, as those of Parquet do, and does not
            read it from its beginning to its end.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreError: also for errors of the store in the block.
    """
    if isinstance(path, Path):
        with _opened_here(path, random) as local:
            yield local
        return
    with store_errors(path):
        if random:
            file = path.system.open_input_file(path.key)
        else:
            file = path.system.open_input_stream(path.key, compression=None, buffer_size=_BUFFER)
        with file:
            yield file


def _opened_here(path: Path, random: bool) -> Any:
    if not random:
        return open(path, "rb")
    import pyarrow as pa

    return pa.OSFile(str(path))  # Arrow's threads must not call into Python


@contextmanager
def store_errors(path: AnyPath) -> Iterator[None]:
    """Raises StoreError or FileNotFoundError for the errors of a store in the block."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(path, Path) or not _is_of_a_store(error):
            raise
        raise _described(path.url, error) from error


def _is_of_a_store(error: Exception) -> bool:
    # Arrow's own errors; ours name the way out already.
    return type(error) is FileNotFoundError or bool(_OF_A_STORE.search(str(error)))


def _described(url: str, error: Exception) -> Exception:
    """The error for users of an error of Arrow's file systems."""
    text = str(error)
    reason = re.split(r"\. Detail:| error_info=|\n", text)[0][:300].rstrip(".")
    if text.startswith(url):
        return error
    if _NO_BUCKET.search(text):
        return StoreError(_no_bucket(url))
    if _REFUSED.search(text):
        names = (
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE"
            if url.startswith("s3:")
            else "GOOGLE_APPLICATION_CREDENTIALS"
        )
        return StoreError(
            f"{url}: the store refused the credentials ({reason}). Set {names}, or a role that may "
            "use this bucket."
        )
    if isinstance(error, FileNotFoundError) or _MISSING.search(text):
        return FileNotFoundError(f"{url} does not exist; check the path.")
    if _DOWN.search(text):
        is_google = url.startswith("gs:")
        tries = f"within {_timeout():g} s" if is_google else f"after {_ATTEMPTS} attempts"
        return StoreUnavailable(
            f"{url}: the store did not answer {tries} ({reason}). Try later; check "
            f"{_ENDPOINTS[url[:2]]} if it is set; or raise {TIMEOUT}, the limit of "
            f"{_timeout():g} s."
        )
    return StoreError(f"{url}: {reason}.")


def _no_bucket(url: str) -> str:
    scheme, _, key = url.partition("://")
    return (
        f"{url}: there is no bucket {key.partition('/')[0]!r}; create it, or check the name "
        f"({scheme}://BUCKET/PATH)."
    )


def _endpoint(scheme: str, environment: Mapping[str, str]) -> str:
    own = environment.get("AWS_ENDPOINT_URL_S3") if scheme == "s3" else None
    return own or environment.get(_ENDPOINTS[scheme]) or ""


def _timeout() -> float:
    """Seconds without an answer after which a request fails."""
    given = os.environ.get(TIMEOUT)
    try:
        seconds = float(given) if given else _DEFAULT_TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise ValueError(f"{TIMEOUT}={given!r}; use a number of seconds, as in 60.")
    return seconds


@functools.lru_cache(maxsize=16)
def _file_system(
    scheme: str, bucket: str, environment: tuple[tuple[str, str], ...]
) -> arrow_fs.FileSystem:
    """A file system; `environment` is the key of the cache: the system keeps what it has read."""
    import pyarrow.fs as arrow_fs

    read = dict(environment)
    seconds = _timeout()
    if scheme == "gs":
        endpoint = _endpoint(scheme, read)
        server, _, host = endpoint.rpartition("://")
        # Emulators have no credentials.
        emulator = {"anonymous": True, "endpoint_override": host.rstrip("/")} if endpoint else {}
        if emulator:
            emulator["scheme"] = server or "http"
        limit = timedelta(seconds=seconds)
        return arrow_fs.GcsFileSystem(retry_time_limit=limit, **emulator)
    endpoint = _endpoint(scheme, read)
    server, _, host = endpoint.rpartition("://")
    region = read.get("AWS_REGION") or read.get("AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else arrow_fs.resolve_s3_region(bucket)
    return arrow_fs.S3FileSystem(
        region=region,
        endpoint_override=host.rstrip("/") or None,
        scheme=server or "https",
        connect_timeout=min(seconds, _CONNECT_TIMEOUT),
        request_timeout=seconds,
        retry_strategy=arrow_fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
