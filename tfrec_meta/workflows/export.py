"""Exports a fitted model for TF Serving, with its evaluation in the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tfrec_meta.evaluation import Evaluation, format_table
from tfrec_meta.export.saved_model import ExportConfig, default_card, export_model
from tfrec_meta.models import Recommender


def export(
    model: Recommender,
    base: Path | str,
    config: ExportConfig = ExportConfig(),
    *,
    version: int | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
) -> Path:
    """Exports a SavedModel that TF Serving loads: `<base>/<version>/saved_model.pb`.

    Args:
        model: a fitted model.
        base: the folder of this served model; its last part is the model's name.
        config: what requests may ask for.
        version: a positive integer; by default the next one.
        evaluations: what `evaluate` gave, for the model card.

    Returns:
        The version folder.
    """
    card = default_card(Path(base).name, model, config)
    if evaluations:
        card += f"\nFull-catalogue evaluation:\n\n```text\n{format_table(evaluations)}\n```\n"
    return export_model(model, base, config, version, card)
