"""Versions of a model on disk: `<base>/<version>/`."""

from __future__ import annotations

import os
from pathlib import Path

from tfrec_meta.export.signatures import version_of
from tfrec_meta.serving.protocol.errors import ServerStartError

SAVED_MODEL_FILE = "saved_model.pb"


def version_folders(base: str | os.PathLike[str]) -> dict[int, Path]:
    """Version number to folder, newest first. Other names (temporary siblings) are not versions.

    Whether a version can be used is for `check_version` to say.

    Raises:
        ServerStartError: if `base` is no folder, is itself a version, or holds no version.
    """
    base = Path(base)
    if not base.is_dir():
        raise ServerStartError(
            f"`base`={str(base)!r} is not a folder. Export a model to it first.", "base"
        )
    versions = {
        version: entry
        for entry in sorted(base.iterdir())  # of "07" and "7" it is always the same one
        if (version := version_of(entry.name)) is not None and entry.is_dir()
    }
    if versions:
        return dict(sorted(versions.items(), reverse=True))
    if (base / SAVED_MODEL_FILE).exists():
        raise ServerStartError(
            f"`base`={str(base)!r} is a version itself (it holds {SAVED_MODEL_FILE}). "
            f"Give its parent: {str(base.parent)!r}.",
            "base",
        )
    raise ServerStartError(
        f"`base`={str(base)!r} holds no version: a folder with a positive integer for a name and "
        f"{SAVED_MODEL_FILE} in it. Export a model to it first.",
        "base",
    )


def check_version(folder: Path) -> None:
    """Looks at what can be told without loading the version.

    Raises:
        ValueError: if its folder is a link that leads out of the base folder, or it is not whole.
    """
    target = folder.resolve()
    if not target.is_relative_to(folder.parent.resolve()):
        raise ValueError(
            f"it is a link to {str(target)!r}, and no model is loaded from outside its base folder"
        )
    if not (folder / SAVED_MODEL_FILE).is_file():
        raise ValueError(f"it has no {SAVED_MODEL_FILE} (half copied?)")
