"""The model card that is written next to an exported model."""

from __future__ import annotations

import dataclasses
import json

from tfrec_meta.export.config import ExportConfig
from tfrec_meta.export.personal_data import used_columns
from tfrec_meta.models.base.contract import Recommender, UserIds


def default_card(name: str, model: Recommender, config: ExportConfig) -> str:
    """Returns a model card in Markdown, with the facts that the model itself holds.

    Args:
        name: name of the served model.
        model: a fitted model.
        config: the options of the export.
    """
    return (
        f"# {name}\n\n- Family: {model.family}\n- Catalogue: {model.spec.catalogue_size} items\n"
        f"- Users known by id: {_known_users(model)}\n"
        f"- Trained on {int(model.item_counts.numpy().sum())} interactions\n\n"
        f"{_personal_data(model)}"
        f"```json\n{json.dumps(dataclasses.asdict(model.config), indent=1)}\n```\n\n"
        f"Export:\n\n```json\n{json.dumps(dataclasses.asdict(config), indent=1)}\n```\n"
    )


def _known_users(model: Recommender) -> str:
    number = len(model.spec.users) - 1
    return {
        UserIds.EMBEDDING: f"{number}",
        UserIds.FEATURES: f"{number}, by a hash of the id",
        UserIds.UNUSED: "none; scores do not depend on the id",
    }[model.user_ids]


def _personal_data(model: Recommender) -> str:
    """The table of the columns that look personal; it holds none of their values."""
    rows = [
        f"| {_cell(used.column.full_name)} | {used.column.reason} | {used.use.sentence} |"
        for used in used_columns(model)
    ]
    if not rows:
        return ""
    head = "| column | looks like | what happens to it |\n|---|---|---|\n"
    return "Columns that look personal:\n\n" + head + "\n".join(rows) + "\n\n"


def _cell(text: str) -> str:
    """Returns a column's name in one cell of a Markdown table."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return "`" + plain.replace("`", "'").replace("|", r"\|") + "`"
