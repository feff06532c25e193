"""Saves models, and loads saved models of any family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.io.damage import reading
from tfrec_meta.io.manifests import check_manifest
from tfrec_meta.io.stores import local_path
from tfrec_meta.models.base.contract import Recommender
from tfrec_meta.models.base.saving import read_record
from tfrec_meta.models.registry import FAMILIES


def load_model(folder: Path | str) -> Recommender:
    """Reads a saved model.

    Args:
        folder: written by `save`.

    Raises:
        FileNotFoundError: if the folder holds no saved model.
        DamagedFile: if a file differs from the manifest.
        ValueError: if the model is damaged otherwise, or its format or family is that of another
            version.
    """
    folder = local_path(folder, "a saved model")
    record = read_record(folder)
    _check_family(folder, record)
    check_manifest(folder, way_out="Train or copy the model again")
    return _read(folder, record)


def _read(folder: Path, record: Mapping[str, Any]) -> Recommender:
    _check_family(folder, record)
    with reading(folder, "Save the model again"):
        return FAMILIES[record["family"]].from_folder(folder, record, _read_member)


def _check_family(folder: Path, record: Mapping[str, Any]) -> None:
    if record["family"] not in FAMILIES:
        raise ValueError(
            f"{folder} holds a model of family {record['family']!r}, which this version does not "
            f"have; it has {sorted(FAMILIES)}. Use the version of tfrec-meta that saved the model."
        )


def _read_member(folder: Path) -> Recommender:
    return _read(folder, read_record(folder))  # the manifest of the whole model was checked


def save(model: Recommender, folder: Path | str, overwrite: bool = False) -> None:
    """Saves a fitted model of any family for `load`.

    Args:
        model: fitted.
        folder: becomes visible only when it is complete.
        overwrite: whether to replace an existing folder.

    Raises:
        FileExistsError: if the folder exists and `overwrite` is False.
    """
    model.save(local_path(folder, "a saved model"), overwrite)


def load(folder: Path | str) -> Recommender:
    """Loads a model that `save` wrote; see `load_model`."""
    return load_model(folder)
