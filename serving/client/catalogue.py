"""Titles and attributes of the items of a served model, read from its version folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrec_meta.export import signatures
from tfrec_meta.serving.protocol.errors import ServerStartError
from tfrec_meta.serving.protocol.versions import SAVED_MODEL_FILE, check_version, version_folders

if TYPE_CHECKING:
    import pyarrow as pa

_INSIDE = Path(signatures.EXTRA_ASSETS, signatures.CATALOGUE)


def _usable(version: Path) -> bool:
    try:
        check_version(version)
    except ValueError:
        return False
    return True


class Catalogue:
    """The items of a model by id, in the order of the catalogue.

    Args:
        table: a column `item_id` of unique strings, and any attribute columns.

    Raises:
        ValueError: if the table has no column `item_id`.

    Example:
        >>> import pyarrow as pa
        >>> from tfrec_meta.serving import Catalogue
        >>> catalogue = Catalogue(pa.table({"item_id": ["m1"], "title": ["Alien"]}))
        >>> catalogue.title("m1"), catalogue.title("m2")
        ('Alien', 'm2')
    """

    def __init__(self, table: pa.Table):
        if signatures.ITEM_ID not in table.column_names:
            raise ValueError(
                f"the catalogue has the columns {table.column_names}, but no "
                f"{signatures.ITEM_ID!r}. Export the model again."
            )
        self.table = table

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Catalogue:
        """Reads the catalogue of a version folder, or of the newest complete version of a base.

        Args:
            folder: `<base>/<version>`, or `<base>`.

        Raises:
            FileNotFoundError: if there is no version or no catalogue.
            ValueError: if the catalogue is damaged.
        """
        folder = Path(folder)
        path = folder / _INSIDE
        if not (folder / SAVED_MODEL_FILE).exists():
            try:
                versions = version_folders(folder).values()
            except ServerStartError as error:
                raise FileNotFoundError(str(error)) from None
            # The newest version may be incomplete: the server skips it, too.
            path = next(filter(_usable, versions), folder) / _INSIDE
        if not path.is_file():
            raise FileNotFoundError(
                f"no catalogue at {str(path)!r}. Use the folder of an exported version, "
                "<base>/<version>, or export the model again."
            )
        import pyarrow as pa  # imported here: a client that shows no titles does not need it
        import pyarrow.parquet as pq

        try:
            # Not `read_table`: it imports pandas and pyarrow.dataset, which takes 0.3 s.
            return cls(pq.ParquetFile(path).read())
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"cannot read {str(path)!r}: {error}. Export the model again."
            ) from error

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        ids = self.table.column(signatures.ITEM_ID).to_pylist()
        return {item_id: row for row, item_id in enumerate(ids)}

    @cached_property
    def _titles(self) -> list[Any]:
        if "title" not in self.table.column_names:
            return [None] * self.table.num_rows
        return self.table.column("title").to_pylist()

    def title(self, item_id: str) -> str:
        """Returns the title of the item, or its id if the catalogue has no title for it."""
        row = self._rows.get(item_id)
        return item_id if row is None or not self._titles[row] else str(self._titles[row])

    def attributes(self, item_id: str) -> dict[str, Any]:
        """Returns all columns of an item.

        Raises:
            KeyError: if the item is unknown.
        """
        return dict(self.table.slice(self._rows[item_id], 1).to_pylist()[0])

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return int(self.table.num_rows)
