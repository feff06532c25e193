"""What is written about items, as one text each."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tfrec_meta.features import FeatureSpec


def joined_texts(items: pa.Table | None, columns: Sequence[str]) -> list[str]:
    """A text for each row of an items table.

    Args:
        items: with these columns.
        columns: strings or lists of strings, joined by a blank in this order; a null counts as "".

    Raises:
        ValueError: without an items table, or for a column that it lacks or that holds no strings.
    """
    if items is None:
        raise ValueError("The data has no items table, hence no texts. Give one with titles.")
    if not columns:
        raise ValueError("`columns` is empty; name one with texts, as 'title'.")
    texts = [""] * len(items)
    for name in columns:
        if name not in items.column_names:
            raise ValueError(
                f"The items table has no column `{name}`; it has {items.column_names}."
            )
        for row, value in enumerate(items[name].to_pylist()):
            parts = value if isinstance(value, list) else [value]
            if not all(part is None or isinstance(part, str) for part in parts):
                raise ValueError(f"Column `{name}` holds {value!r}; name one with strings.")
            texts[row] = " ".join([texts[row], *filter(None, parts)]).strip()
    return texts


def item_texts(spec: FeatureSpec, items: pa.Table | None, columns: Sequence[str]) -> list[str]:
    """A text for each item of the catalogue, in its order; "" for items that the table lacks.

    Args:
        spec: fitted; text j is of the item of row j + 1.
        items: see `joined_texts`.
        columns: likewise.
    """
    found = joined_texts(items, columns)
    assert items is not None  # or there were no texts
    texts = [""] * len(spec.items)
    for row, text in zip(spec.items.encode(items["item_id"]), found, strict=True):
        texts[row] = text
    return texts[1:]
