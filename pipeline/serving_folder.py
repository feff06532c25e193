"""The folder that TF Serving watches: a version appears complete, or not at all.

On an object store it is there for readers with its manifest, which is uploaded last.

This module does not import TFX, so that tests can run and kill pushes quickly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

from tfrec_meta.export.published import manifest_digest, publish, published_versions
from tfrec_meta.export.signatures import MANIFEST
from tfrec_meta.export.versions import newest_version, publish_version
from tfrec_meta.io.files import work_folder
from tfrec_meta.io.locks import locked_folder
from tfrec_meta.io.manifests import check_manifest
from tfrec_meta.io.stores import AnyPath, RemotePath, any_path

__all__ = ["Pushed", "digest", "newest_version", "push", "served"]


@dataclasses.dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Attributes:
        version: the version number.
        folder: `<serving>/<version>`.
        is_new: false if the newest version was this model already.
    """

    version: int
    folder: AnyPath
    is_new: bool


def push(model: Path | str, serving: Path | str) -> Pushed:
    """Copies a SavedModel into a temporary folder, then renames it to the next version.

    Left-overs of killed pushes are removed. Concurrent pushes get different numbers; if the file
    system supports locks, they also wait for each other, so that one model is pushed once. The
    manifest of the model is checked in the copy.

    Args:
        model: a folder with `saved_model.pb`.
        serving: folder of the served model's versions; created if needed.

    Raises:
        FileNotFoundError: if `model` has no SavedModel.
        DamagedFile: if a file differs from the manifest of `model`.
        StoreError: if an object store refuses or does not answer.
    """
    model, place = Path(model), any_path(serving)
    if not (model / "saved_model.pb").is_file():
        raise FileNotFoundError(
            f"{model} has no saved_model.pb, so it can't be pushed; export the model first."
        )
    if isinstance(place, RemotePath):
        return _push_to_store(model, place)
    serving = place
    with locked_folder(serving):
        newest = newest_version(serving)
        if newest and digest(serving / str(newest)) == digest(model):
            return Pushed(newest, serving / str(newest), is_new=False)
        with work_folder(serving / "push") as work:
            _copy(model, work)
            check_manifest(work, MANIFEST)
            folder = publish_version(work, serving)
    return Pushed(int(folder.name), folder, is_new=True)


def served(serving: Path | str) -> str:
    """Returns the newest version with a digest of its content, which changes with it; "0" if none.

    Raises:
        StoreError: if an object store refuses or does not answer.
    """
    place = any_path(serving)
    if isinstance(place, RemotePath):
        versions = published_versions(place)
        return f"{versions[0]} {manifest_digest(place, versions[0])}" if versions else "0"
    newest = newest_version(place)
    return f"{newest} {digest(place / str(newest))}" if newest else "0"


def _push_to_store(model: Path, serving: RemotePath) -> Pushed:
    newest = published_versions(serving)[:1]
    manifest = model / MANIFEST
    if newest and manifest.is_file():
        ours = hashlib.sha256(manifest.read_bytes()).hexdigest()
        if manifest_digest(serving, newest[0]) == ours:
            return Pushed(newest[0], serving / str(newest[0]), is_new=False)
    folder = publish(model, serving)
    return Pushed(int(folder.name), folder, is_new=True)


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


def _copy(model: Path, work: Path) -> None:
    """Copies contents without permissions, which follow the umask instead."""
    for source in sorted(model.rglob("*")):
        target = work / source.relative_to(model)
        if source.is_dir():
            target.mkdir()
            continue
        shutil.copyfile(source, target)
