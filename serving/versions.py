"""Versions of a model on disk: `<base>/<integer version>/`."""

from __future__ import annotations

import os
from pathlib import Path

from tfrec_meta.serving.errors import ServerStartError

SAVED_MODEL_FILE = "saved_model.pb"


def version_folders(base: str | os.PathLike[str]) -> dict[int, Path]:
    """Version number to folder, newest first. Other names (temporary siblings) are not versions.

    Raises:
        ServerStartError: if `base` is no folder, is itself a version, or holds no version.
    """
    base = Path(base)
    if not base.is_dir():
        raise ServerStartError(f"`base`={str(base)!r} is not a folder. Export a model to it first.")
    versions = {
        int(entry.name): entry
        for entry in base.iterdir()
        if entry.name.isascii() and entry.name.isdigit() and entry.is_dir()
    }
    if versions:
        return dict(sorted(versions.items(), reverse=True))
    if (base / SAVED_MODEL_FILE).exists():
        raise ServerStartError(
            f"`base`={str(base)!r} is a version itself (it holds {SAVED_MODEL_FILE}). "
            f"Give its parent: {str(base.parent)!r}."
        )
    raise ServerStartError(
        f"`base`={str(base)!r} holds no version: a folder with an integer for a name and "
        f"{SAVED_MODEL_FILE} in it. Export a model to it first."
    )
