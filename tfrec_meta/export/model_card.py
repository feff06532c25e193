"""The model card that is written next to an exported model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from tfrec_meta.evaluation import Evaluation, Evaluations
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.export.personal_data import used_columns
from tfrec_meta.models.base.contract import Recommender, UserIds


def default_card(
    name: str,
    model: Recommender,
    config: ExportConfig,
    evaluations: Mapping[str, Evaluation] | None = None,
) -> str:
    """Returns a model card in Markdown: what the model is, and on what it was trained and judged.

    Args:
        name: name of the served model.
        model: a fitted model.
        config: the options of the export.
        evaluations: of the model, or of the one of which it is a refit; the model's first.
    """
    found = Evaluations.of(evaluations or {})
    return (
        f"# {name}\n\n- Family: {model.family}\n- Catalogue: {model.spec.catalogue_size} items\n"
        f"- Users known by id: {_known_users(model)}\n"
        f"- Trained on {_training_data(model)}\n\n"
        f"{_evaluation(model, found)}"
        f"{_personal_data(model)}"
        f"```json\n{json.dumps(dataclasses.asdict(model.config), indent=1)}\n```\n\n"
        f"Export:\n\n```json\n{json.dumps(dataclasses.asdict(config), indent=1)}\n```\n"
    )


def _training_data(model: Recommender) -> str:
    if model.trained_on is None:  # a model of an earlier version, or that was fitted by hand
        return f"{int(model.item_counts.numpy().sum())} interactions"
    return str(model.trained_on)


def _evaluation(model: Recommender, found: Evaluations) -> str:
    """What the model was judged on, and the figures; "" without an evaluation."""
    if not found:
        return ""
    lines = ["Full-catalogue evaluation:\n"]
    split = found.judged_on
    if split is not None:
        lines += [
            f"- Split: {split.description}",
            f"- Judged on {split.test}",
            f"- The judged model was trained on {split.train}",
        ]
        if split.validation.events:
            lines.append(f"- Early stopping and settings were chosen on {split.validation}")
        trained = model.trained_on
        if trained is not None and trained != split.train:
            what = (
                f"This model was refitted on all {trained.events:,} events"
                if trained == split.data
                else f"This model was trained on a different set of {trained.events:,} events"
            )
            lines.append(
                f"\n**{what}; the figures are of the same strategy trained on "
                f"{split.train.events:,} events.**"
            )
        lines.append("")
    return "\n".join([*lines, f"```text\n{found}\n```\n\n"])


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
