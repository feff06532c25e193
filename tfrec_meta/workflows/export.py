"""Exports a fitted model for TF Serving, with its evaluation in the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tfrec_meta.evaluation import Evaluation
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.export.model_card import default_card
from tfrec_meta.export.saved_model import export_model, model_name
from tfrec_meta.io.stores import AnyPath
from tfrec_meta.models import Recommender


def export(
    model: Recommender,
    base: Path | str,
    config: ExportConfig = ExportConfig(),
    *,
    version: int | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
) -> AnyPath:
    """Exports a SavedModel that TF Serving loads: `<base>/<version>/saved_model.pb`.

    Args:
        model: a fitted model.
        base: the folder of this served model, local or on an object store (s3://, gs://); its last
            part is the name of the model.
        config: the options fixed at export time.
        version: a positive integer; by default the highest version in `base` plus 1.
        evaluations: the result of `evaluate`, for the model card. Of a refitted model, that of the
            model that was judged; the card says so.

    Returns:
        The new version folder, a `Path` or a `RemotePath`.

    Raises:
        FileExistsError: if the version exists.
        ValueError: if the model cannot offer what `config` has.
        StoreError: if an object store refuses or does not answer.

    Example:
        >>> import tempfile
        >>> import tfrec_meta as tm
        >>> data = tm.synthetic(users=20, items=10, interactions=100, seed=1)
        >>> model = tm.train(data, "popularity", progress=False)
        >>> folder = tm.export(model, tempfile.mkdtemp() + "/shop")
        >>> folder.name, (folder / "saved_model.pb").is_file()
        ('1', True)
    """
    card = default_card(model_name(base), model, config, evaluations)
    return export_model(model, base, config, version, card)
