"""The version folders of a model: `<base>/<version>/`."""

from __future__ import annotations

import os
from pathlib import Path

from tfrec_meta.export.signatures import MANIFEST, version_of
from tfrec_meta.io.damage import DamagedFile
from tfrec_meta.io.manifests import check_manifest
from tfrec_meta.serving.protocol.errors import ServerStartError

SAVED_MODEL_FILE = "saved_model.pb"


def version_folders(base: str | os.PathLike[str]) -> dict[int, Path]:
    """Returns version numbers and their folders, newest first.

    Folders with other names, such as temporary ones, are ignored. The folders are not checked; see
    `check_version`.

    Raises:
        ServerStartError: if `base` is not a folder, is itself a version, or has no version.
    """
    base = Path(base)
    if not base.is_dir():
        raise ServerStartError(
            f"`base`={str(base)!r} is not a folder. Export a model to it first.", "base"
        )
    versions = {
        version: entry
        for entry in base.iterdir()
        if (version := version_of(entry.name)) is not None and entry.is_dir()
    }
    if versions:
        return dict(sorted(versions.items(), reverse=True))
    if (base / SAVED_MODEL_FILE).exists():
        raise ServerStartError(
            f"`base`={str(base)!r} is a version itself (it holds {SAVED_MODEL_FILE}). "
            f"Use its parent: {str(base.parent)!r}.",
            "base",
        )
    raise ServerStartError(
        f"`base`={str(base)!r} holds no version, which is a folder named by a positive integer "
        f"with {SAVED_MODEL_FILE} in it. Export a model to it first.",
        "base",
    )


def check_version(folder: Path) -> bool:
    """Checks a version folder, and its files against its manifest, without loading the model.

    Returns:
        Whether the folder has a manifest. Versions that other programs exported have none.

    Raises:
        ValueError: if the folder is a link to a place outside its base folder, is incomplete, or
            has a file that differs from the manifest.
    """
    target = folder.resolve()
    if not target.is_relative_to(folder.parent.resolve()):
        raise ValueError(
            f"it is a link to {str(target)!r}, and no model is loaded from outside its base folder"
        )
    if not (folder / SAVED_MODEL_FILE).is_file():
        raise ValueError(f"it has no {SAVED_MODEL_FILE} (an incomplete copy?)")
    try:
        return check_manifest(folder, MANIFEST)
    except DamagedFile as error:
        # The status goes to clients, which need not know where the folder is.
        raise ValueError(str(error).replace(f"{folder}{os.sep}", "")) from error
