"""What a table of items holds for the items of a log."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from os import fspath

import numpy as np
import pyarrow as pa

from tfrec_meta.data.sources.attributes import attribute_table
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.sources.usual_names import TITLES, compact
from tfrec_meta.data.tables.attributes import attributes_of
from tfrec_meta.io.files import PathLike


@dataclasses.dataclass(frozen=True)
class ItemTable:
    """A table of items.

    Attributes:
        name: the file.
        ids: the ids of its items, string [rows].
        has_titles: whether there is a column `title`, by which answers and reports name items.
        likely_title: the column that may hold titles, in the words of the file; "" if none does.
    """

    name: str
    ids: pa.ChunkedArray
    has_titles: bool
    likely_title: str

    def found(self, items: np.ndarray) -> int:
        """Returns how many of the items, string [n], are in the table."""
        return int(np.isin(np.asarray(items, str), np.asarray(self.ids.to_pylist(), str)).sum())


def item_table(path: PathLike, columns: Mapping[str, str], form: FileFormat) -> ItemTable:
    """Reads a table of items.

    Args:
        path: the file.
        columns: names in the files by the names used here.
        form: the format of the file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it cannot be read, or has no id column or an id twice.
    """
    table = attribute_table(path, "item_id", columns, form)
    table = attributes_of(table, "item_id", "items")
    assert table is not None
    names = [name for name in table.column_names if name != "item_id"]
    likely = next((name for name in names if compact(name) in TITLES), "")
    return ItemTable(fspath(path), table["item_id"], "title" in names, likely)
