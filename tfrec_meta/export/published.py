"""Versions of a model on an object store: the data first, the manifest last; readers go by it.

Readers ignore a folder without a manifest. Object stores cannot rename folders. So a writer first
claims its version with a file. A process that sees another claim withdraws its own.

This module imports no TensorFlow; the server reads with it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import random
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from tfrec_meta.errors import ParameterError
from tfrec_meta.export.signatures import MANIFEST, is_version, version_of
from tfrec_meta.io.damage import DamagedFile
from tfrec_meta.io.files import atomic_folder
from tfrec_meta.io.logs import logger
from tfrec_meta.io.manifests import check_manifest, parse_manifest
from tfrec_meta.io.progress import Progress
from tfrec_meta.io.stores import RemoteFile, RemotePath, StoreError, StoreUnavailable

_log = logger(__name__)

_SAVED_MODEL = "saved_model.pb"
_CLAIM = ".publishing-"  # begins the name of a file that a writer puts into its version first
_ATTEMPTS = 20  # to get a version number of one's own
_LEFT_OVER = datetime.timedelta(days=1)  # the age of what stopped writers left
_WAY_OUT = "Export the model again"


def publish(work: Path, base: RemotePath, version: int | None = None) -> RemotePath:
    """Uploads a complete version folder; it appears with its manifest, which is uploaded last.

    Processes that publish at the same time get different versions. If an upload fails, what it
    uploaded is removed, or a later call removes it when it is older than a day.

    Args:
        work: the local folder, with its manifest.
        base: the folder of the served model.
        version: a positive integer; by default the highest version plus 1.

    Returns:
        The version folder.

    Raises:
        FileExistsError: if the version is published already, or its folder has other files.
        DamagedFile: if a file differs from the manifest.
        StoreError: if the store refuses or does not answer.
    """
    if not check_manifest(work, MANIFEST):
        raise DamagedFile(work / MANIFEST, "it is missing", _WAY_OUT)
    refuse_published(base, version)
    _remove_leftovers(base)
    folder, claim = _claimed(base, version)
    sizes = {
        path.relative_to(work).as_posix(): path.stat().st_size
        for path in work.rglob("*")
        if path.is_file()
    }
    # TF Serving, which does not know of manifests, looks for the SavedModel.
    order = sorted(sizes, key=lambda name: (name == MANIFEST, name == _SAVED_MODEL, name))
    try:
        with Progress(f"uploading {folder}", sum(sizes.values())) as progress:
            for name in order:
                (folder / name).upload(work / name)
                progress.advance(sizes[name])
    except StoreUnavailable:
        raise  # removing would take as long again, and fail
    except BaseException:
        with contextlib.suppress(StoreError):
            _withdraw(folder)
        raise
    try:
        claim.remove()
    except StoreError as error:
        _log.warning("%s is published, but %s could not be removed: %s", folder, claim.name, error)
    return folder


def refuse_published(base: RemotePath, version: int | None) -> None:
    """Raises FileExistsError if a version is published, and StoreError if the store refuses.

    It is called before the work, so that this does not fail at its end.
    """
    found = published_versions(base)
    if version is not None and version in found:
        raise _exists(base / str(version))


def published_versions(base: RemotePath) -> list[int]:
    """Returns the versions with a manifest, newest first.

    Raises:
        StoreError: if the store refuses or does not answer.
    """
    return _published(base.files())


def manifest_digest(base: RemotePath, version: int) -> str:
    """Returns the SHA-256 of the manifest of a version, in hexadecimal.

    The manifest has the digests of all other files, so equal digests mean equal versions.
    """
    return hashlib.sha256((base / str(version) / MANIFEST).read()).hexdigest()


def fetch_version(base: RemotePath, version: int, target: Path) -> None:
    """Downloads a version into a new local folder, which appears once it matches its manifest.

    Raises:
        DamagedFile: if a file is missing or differs from the manifest.
        FileExistsError: if `target` exists.
        StoreError: if the store refuses or does not answer.
    """
    folder = base / str(version)
    content = (folder / MANIFEST).read()
    files = parse_manifest(content, str(folder / MANIFEST), _WAY_OUT)
    with (
        atomic_folder(target) as work,
        Progress(f"fetching {folder}", sum(one.size for one in files.values())) as progress,
    ):
        for name, record in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                (folder / name).download(work / name)
            except FileNotFoundError as error:
                raise DamagedFile(str(folder / name), "it is missing", _WAY_OUT) from error
            progress.advance(record.size)
        (work / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
        (work / MANIFEST).write_bytes(content)
        try:
            check_manifest(work, MANIFEST)
        except DamagedFile as error:
            raise DamagedFile(str(folder), "a file differs from its manifest", _WAY_OUT) from error


def _published(files: Mapping[str, RemoteFile]) -> list[int]:
    suffix = f"/{MANIFEST}"
    found = (version_of(name.removesuffix(suffix)) for name in files if name.endswith(suffix))
    return sorted((version for version in found if version is not None), reverse=True)


def _claimed(base: RemotePath, version: int | None) -> tuple[RemotePath, RemotePath]:
    """A version folder that no other process writes, and the file that claims it.

    Lists of S3 and of Google Cloud Storage show what was written before them. So of two processes
    that choose one number at least one sees the claim of the other; who sees one gives way.
    """
    for _ in range(_ATTEMPTS):
        folder = base / str(_next(base) if version is None else int(version))
        claim = folder / f"{_CLAIM}{secrets.token_hex(8)}"
        claim.write(b"")
        others = set(folder.files()) - {claim.name}
        if not others:
            return folder, claim
        claim.remove()
        if MANIFEST in others and version is not None:
            raise _exists(folder)
        if version is not None:
            raise FileExistsError(
                f"{folder} has files already: another process publishes this version, or was "
                "stopped, or other software wrote them. Use another `version`, or remove the "
                "folder if nothing uses it."
            )
        time.sleep(random.uniform(0.05, 0.5))
    raise StoreError(f"{base}: other processes publish at the same time; publish again later.")


def _next(base: RemotePath) -> int:
    folders = {name.partition("/")[0] for name in base.files() if "/" in name}
    version = max((version_of(name) or 0 for name in folders), default=0) + 1
    if not is_version(version):
        raise ParameterError(
            f"`base`={str(base)!r} has the highest possible version, {version - 1}; remove it, "
            "so that later versions can follow.",
            "base",
        )
    return version


def _exists(folder: RemotePath) -> FileExistsError:
    return FileExistsError(
        f"{folder} exists already, and exported versions are never changed. Use another `version`."
    )


def _withdraw(folder: RemotePath) -> None:
    """Removes what was uploaded of a version, unless it is published."""
    if (folder / MANIFEST).is_file():
        _log.warning("%s is published, though its publication was stopped.", folder)
    else:
        folder.remove()


def _remove_leftovers(base: RemotePath) -> None:
    """Removes the versions that were claimed, but not published nor written to for a day.

    A folder without a claim may be a version of other software, which has no manifest.
    """
    files = base.files()
    whole = {str(version) for version in _published(files)}
    newest: dict[str, datetime.datetime] = {}
    claimed: set[str] = set()
    now = datetime.datetime.now(datetime.UTC)
    for name, file in files.items():
        top, _, rest = name.partition("/")
        if version_of(top) is not None and top not in whole:
            newest[top] = max(newest.get(top, file.written or now), file.written or now)
            if rest.startswith(_CLAIM):
                claimed.add(top)
    for top in sorted(claimed):
        if now - newest[top] > _LEFT_OVER:
            try:
                (base / top).remove()
            except StoreError as error:
                _log.warning("left-over files cannot be removed: %s", error)
            else:
                _log.warning("removed %s, which a stopped process had left unfinished", base / top)
