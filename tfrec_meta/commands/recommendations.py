"""What `tfrec-meta recommend` and `tfrec-meta adapt` print about the answer of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfrec_meta.commands.options import MODELS
from tfrec_meta.io.logs import printable

if TYPE_CHECKING:
    from tfrec_meta.serving import Recommendation


def served_titles(folder: str | None, model: str) -> dict[str, str]:
    """Reads the titles of an exported model's items; an item without a title has its id.

    Args:
        folder: of the exported model; by default that of `model`, if it exists.
        model: the name of the served model.
    """
    usual = MODELS / model
    if folder is None and not usual.is_dir():
        return {}
    from tfrec_meta.serving import Catalogue

    catalogue = Catalogue.read(usual if folder is None else folder)
    return {item: catalogue.title(item) for item in catalogue}


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
