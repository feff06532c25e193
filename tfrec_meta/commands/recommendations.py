"""What `tfrec-meta recommend` and `tfrec-meta adapt` print about the answer of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfrec_meta.commands.base import note
from tfrec_meta.commands.options import MODELS
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import printable

if TYPE_CHECKING:
    from tfrec_meta.serving import Recommendation


TITLE = "title"  # the column of the titles


def served_titles(folder: str | None, model: str, column: str | None = None) -> dict[str, str]:
    """Reads the titles of an exported model's items; an item without a title has its id.

    Args:
        folder: of the exported model; by default that of `model`, if it exists.
        model: the name of the served model.
        column: of the titles; by default "title".
    """
    usual = MODELS / model
    if folder is None and not usual.is_dir():
        return {}
    import pyarrow as pa

    from tfrec_meta.serving import Catalogue

    table = Catalogue.read(usual if folder is None else folder).table
    if column is None and TITLE not in table.column_names:
        texts = [f.name for f in table.schema if pa.types.is_string(f.type) and f.name != "item_id"]
        if texts:
            note(
                f"The items have no column `{TITLE}`, so the answer has ids. --title-column shows "
                f"another column: {', '.join(texts)}."
            )
    ids = table["item_id"].to_pylist()
    titles = table[column or TITLE].to_pylist() if (column or TITLE) in table.column_names else ids
    return {item: str(title or item) for item, title in zip(ids, titles, strict=True)}


def check_title_column(column: str | None, titles: Mapping[str, str]) -> None:
    """Raises ParameterError if a column of titles was given, and no item has a title in it."""
    if column is not None and not any(title != item for item, title in titles.items()):
        raise ParameterError(
            f"`title_column`={column!r}, but no item has a title in it. Use a column of the table "
            "of items; `titles` names the exported model that has the table.",
            "title_column",
            "titles",
        )


def lines(found: Sequence[Recommendation], titles: Mapping[str, str]) -> list[str]:
    """Returns one line per recommendation: rank, score, title and id."""
    shown = []
    for rank, one in enumerate(found, 1):
        title = titles.get(one.item_id)
        named = f"{title}  ({one.item_id})" if title not in (None, one.item_id) else one.item_id
        shown.append(f"{rank:>3}. {one.score:8.4f}  {printable(named, lines=False)}")
    return shown


def records(found: Sequence[Recommendation], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns the recommendations for `--json`."""
    return [
        {"item_id": one.item_id, "score": one.score, "title": titles.get(one.item_id)}
        for one in found
    ]
