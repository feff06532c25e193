"""The model card that is written next to an exported model."""

from __future__ import annotations

import dataclasses
import json

from tfrec_meta.export.config import ExportConfig
from tfrec_meta.models.base.contract import Recommender


def default_card(name: str, model: Recommender, config: ExportConfig) -> str:
    """Returns a model card in Markdown, with the facts that the model itself holds.

    Args:
        name: name of the served model.
        model: a fitted model.
        config: the options of the export.
    """
    return (
        f"# {name}\n\n- Family: {model.family}\n- Catalogue: {model.spec.catalogue_size} items\n"
        f"- Users known by id: {len(model.spec.users) - 1}\n"
        f"- Trained on {int(model.item_counts.numpy().sum())} interactions\n\n"
        f"```json\n{json.dumps(dataclasses.asdict(model.config), indent=1)}\n```\n\n"
        f"Export:\n\n```json\n{json.dumps(dataclasses.asdict(config), indent=1)}\n```\n"
    )
