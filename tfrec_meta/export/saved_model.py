"""Writes a fitted model as a SavedModel that stock TF Serving loads, on CPU or GPU."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from tfrec_meta.errors import ParameterError
from tfrec_meta.export import signatures as names
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.export.model_card import default_card
from tfrec_meta.export.needed_spec import needed_spec
from tfrec_meta.export.published import publish, refuse_published
from tfrec_meta.export.signature_functions import SignatureFunctions
from tfrec_meta.export.versions import next_version, publish_version
from tfrec_meta.export.warm_up import write_warm_up_requests
from tfrec_meta.features import FeatureSpec
from tfrec_meta.io.files import atomic_folder, work_folder
from tfrec_meta.io.manifests import write_manifest
from tfrec_meta.io.progress import Progress
from tfrec_meta.io.stores import AnyPath, RemotePath, any_path
from tfrec_meta.models.base.contract import Recommender, UserIds


def export_model(
    model: Recommender,
    base: Path | str,
    config: ExportConfig = ExportConfig(),
    version: int | None = None,
    card: str = "",
) -> AnyPath:
    """Writes `<base>/<version>/`, which becomes visible only once it is complete.

    On an object store (s3://, gs://) it is complete, and there for readers, with its manifest,
    which is uploaded last.

    Args:
        model: a fitted model of any family.
        base: the folder of one served model; its name is the name of the model.
        config: the options fixed at export time.
        version: a positive integer; by default the highest version in `base` plus 1.
        card: Markdown for `assets.extra/model_card.md`; by default `default_card`.

    Returns:
        The new version folder.

    Raises:
        FileExistsError: if the version exists.
        ValueError: if `base` has no name or is a file, `version` is not a whole number from 1 to
            2**63 - 1, a filter is not a category of the items, or `diversity` is set for a family
            without embeddings.
        StoreError: if an object store refuses or does not answer.
    """
    if version is not None and not names.is_version(version):
        raise ParameterError(
            f"`version`={version!r}; use a whole number from 1 to 2**63 - 1.", "version"
        )
    place = any_path(base)
    if isinstance(place, RemotePath):
        return _publish(model, place, config, version, card)
    base = _checked_base(base)
    if version is None:
        with work_folder(base / str(next_version(base))) as work:
            _write(model, work, model_name(base), config, card)
            return publish_version(work, base)
    folder = base / str(int(version))
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists already, and exported versions are never changed. Use another "
            "`version`."
        )
    write_model(model, folder, model_name(base), config, card)
    return folder


def _publish(
    model: Recommender, base: RemotePath, config: ExportConfig, version: int | None, card: str
) -> RemotePath:
    """Writes the version into a temporary folder, and publishes it on an object store."""
    refuse_published(base, version)
    with tempfile.TemporaryDirectory(prefix="tfrec-meta-export-") as folder:
        work = Path(folder) / base.name
        write_model(model, work, base.name, config, card)
        return publish(work, base, version)


def write_model(
    model: Recommender,
    folder: Path | str,
    name: str,
    config: ExportConfig = ExportConfig(),
    card: str = "",
) -> None:
    """Writes the SavedModel into exactly this folder, visible only once it is complete.

    Args:
        model: a fitted model of any family.
        folder: the new folder.
        name: name of the served model.
        config: the options fixed at export time.
        card: Markdown for `assets.extra/model_card.md`; by default `default_card`.

    Raises:
        FileExistsError: if `folder` exists.
        ValueError: if a filter is not a category of the items, or `diversity` is set for a family
            without embeddings.
    """
    with atomic_folder(folder) as new:
        _write(model, new, name, config, card)


def _write(model: Recommender, new: Path, name: str, config: ExportConfig, card: str) -> None:
    """Writes the content of a version into an empty folder, the manifest last."""
    with Progress(f"exporting {name}", 3, "steps") as progress:
        vocabularies = new / "vocabularies"  # in the folder, so that a kill leaves none elsewhere
        vocabularies.mkdir()
        functions = SignatureFunctions(model, config, vocabularies)
        progress.advance(1)
        mark = {names.MANIFEST_MARK: functions.signatures[names.RECOMMEND]}
        options = tf.saved_model.SaveOptions(function_aliases=mark)
        tf.saved_model.save(functions.root, str(new), functions.signatures, options)
        shutil.rmtree(vocabularies)
        progress.advance(1)
        _write_assets(model, new / names.EXTRA_ASSETS, name, config, card, functions.inputs)
        write_manifest(new, names.MANIFEST)
        progress.advance(1)


def _write_assets(
    model: Recommender,
    extra: Path,
    name: str,
    config: ExportConfig,
    card: str,
    inputs: Mapping[str, Any],
) -> None:
    """Writes the folder with the spec, the catalogue, the model card and the warm-up requests."""
    extra.mkdir()
    spec = needed_spec(model, user_ids=model.user_ids is UserIds.EMBEDDING)
    spec.save(extra / names.FEATURE_SPEC)
    pq.write_table(catalogue_table(model.spec, model.items), extra / names.CATALOGUE)
    (extra / names.MODEL_CARD).write_text(
        card or default_card(name, model, config), encoding="utf-8"
    )
    write_warm_up_requests(extra / names.WARM_UP_REQUESTS, name, model.spec, config, inputs)


def model_name(base: Path | str) -> str:
    """Returns the name of the model that a folder holds: the last part of its path.

    Raises:
        ValueError: if there is none.
    """
    name = Path(os.path.abspath(base)).name if str(base).strip() else ""
    if not name or "\0" in name:
        raise ParameterError(
            f"`base`={str(base)!r} has no name for the model; use a folder such as models/shop.",
            "base",
        )
    return name


def _checked_base(base: Path | str) -> Path:
    model_name(base)
    path = Path(base)
    if path.exists() and not path.is_dir():
        raise ParameterError(
            f"`base`={str(base)!r} is a file; use the folder of the served model.", "base"
        )
    return path


def catalogue_table(spec: FeatureSpec, items: pa.Table | None) -> pa.Table:
    """Returns `item_id` and the attributes of each item, in the order of the scores.

    Args:
        spec: a fitted FeatureSpec; its item vocabulary sets the order.
        items: the items table; None gives a table of ids. An item without a row has null
            attributes.
    """
    tokens = pa.table({"item_id": spec.items.tokens})
    if items is None:
        return tokens
    rows = np.full(len(tokens), -1)
    found = spec.items.encode(items["item_id"])
    rows[found[found > 0] - 1] = np.flatnonzero(found > 0)
    taken = items.take(pa.array(rows, mask=rows < 0))
    return taken.set_column(taken.column_names.index("item_id"), "item_id", tokens["item_id"])
