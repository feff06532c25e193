"""The folder that TF Serving watches: a version appears complete, or not at all.

This module does not import TFX, so that tests can run and kill pushes quickly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfrec_meta.export.signatures import is_version, version_of
from tfrec_meta.io.files import publish_folder, sync_tree

_WORK = ".push-"  # not a version's name, so servers ignore it
_LOCK = ".push-lock"


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Attributes:
        version: the version number.
        folder: `<serving>/<version>`.
        is_new: false if the newest version was this model already.
    """

    version: int
    folder: Path
    is_new: bool


def push(model: Path | str, serving: Path | str) -> Pushed:
    """Copies a SavedModel into a temporary folder, then renames it to the next version.

    Leftovers of killed pushes are removed. Concurrent pushes get different numbers; if the file
    system supports locks, they also wait for each other, so that one model is pushed once.

    Args:
        model: a folder with `saved_model.pb`.
        serving: folder of the served model's versions; created if needed.

    Raises:
        FileNotFoundError: if `model` has no SavedModel.
    """
    model, serving = Path(model), Path(serving)
    if not (model / "saved_model.pb").is_file():
        raise FileNotFoundError(
            f"{model} has no saved_model.pb, so it can't be pushed; export the model first."
        )
    serving.mkdir(parents=True, exist_ok=True)
    with _locked(serving) as locked:
        if locked:  # otherwise another push may be using them
            for leftover in serving.glob(f"{_WORK}*/"):
                shutil.rmtree(leftover, ignore_errors=True)
        newest = newest_version(serving)
        if newest and digest(serving / str(newest)) == digest(model):
            return Pushed(newest, serving / str(newest), is_new=False)
        work = Path(tempfile.mkdtemp(prefix=_WORK, dir=serving))
        try:
            _copy(model, work)
            version = _publish(work, serving)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Pushed(version, serving / str(version), is_new=True)


def newest_version(serving: Path | str) -> int:
    """Returns the highest version of a served model; 0 if there is none."""
    serving = Path(serving)
    if not serving.is_dir():
        return 0
    return max((version_of(path.name) or 0 for path in serving.iterdir()), default=0)


def digest(folder: Path | str) -> str:
    """Returns the SHA-256 of the names and contents of all files below a folder, in hexadecimal."""
    folder = Path(folder)
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        name = path.relative_to(folder).as_posix().encode()
        total.update(len(name).to_bytes(8, "big") + name + content)
    return total.hexdigest()


@contextlib.contextmanager
def _locked(serving: Path) -> Iterator[bool]:
    """Locks the folder; yields false if the file system has no locks. A kill releases the lock."""
    with open(serving / _LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def _copy(model: Path, work: Path) -> None:
    """Copies contents without permissions, and flushes them to the disk."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(work, 0o777 & ~mask)  # mkdtemp's 0700 would exclude the server's user
    for source in sorted(model.rglob("*")):
        target = work / source.relative_to(model)
        if source.is_dir():
            target.mkdir()
            continue
        shutil.copyfile(source, target)
    sync_tree(work)


def _publish(work: Path, serving: Path) -> int:
    """Renames the copy to the first free number above the newest version."""
    version = newest_version(serving)
    while True:
        version += 1
        if not is_version(version):
            raise ValueError(
                f"{serving} has the highest possible version, {version - 1}; remove it, so that "
                "later versions can follow."
            )
        try:
            publish_folder(work, serving / str(version))
        except FileExistsError:
            continue  # another push took the number
        return version
