"""The version folders of a served model, `<base>/<version>/`: their numbers and how they appear."""

from __future__ import annotations

from pathlib import Path

from tfrec_meta.errors import ParameterError
from tfrec_meta.export.signatures import is_version, version_of
from tfrec_meta.io.files import publish_folder, sync_tree


def newest_version(base: Path | str) -> int:
    """Returns the highest version of a served model; 0 if there is none."""
    base = Path(base)
    folders = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    return max((version_of(path.name) or 0 for path in folders), default=0)


def next_version(base: Path | str) -> int:
    """Returns the highest version in `base` plus 1, or 1 if there is no version.

    Raises:
        ValueError: if the highest version has no successor.
    """
    version = newest_version(base) + 1
    if not is_version(version):
        raise ParameterError(
            f"`base`={str(base)!r} has the highest possible version, {version - 1}; remove it, so "
            "that later versions can follow.",
            "base",
        )
    return version


def publish_version(work: Path, base: Path) -> Path:
    """Flushes a complete folder to the disk and renames it to the next free version.

    Processes that publish at the same time get different versions.

    Args:
        work: the folder, in `base`.
        base: the folder of the served model.

    Returns:
        The version folder.
    """
    sync_tree(work)
    version = next_version(base)
    while True:
        try:
            publish_folder(work, base / str(version))
        except FileExistsError:  # another process took the number
            version = max(version + 1, next_version(base))
        else:
            return base / str(version)
