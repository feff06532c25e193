"""Joins the text columns of items into one text per item."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tfrec_meta.features import FeatureSpec


def joined_texts(items: pa.Table | None, columns: Sequence[str]) -> list[str]:
    """Returns one text per row of an items table.

    Args:
        items: a table with these columns.
        columns: columns of strings or lists of strings, joined by spaces in this order. A null
            counts as "".

    Raises:
        ValueError: if there is no items table, or a column is missing or has other values than
            strings.
    """
    if items is None:
        raise ValueError("The data has no items table. Use one with texts, such as titles.")
    if not columns:
        raise ValueError("`columns` is empty; use columns with texts, such as 'title'.")
    texts = [""] * len(items)
    for name in columns:
        if name not in items.column_names:
            raise ValueError(
                f"`columns` has {name!r}; use columns of the items table: {items.column_names}."
            )
        for row, value in enumerate(items[name].to_pylist()):
            parts = value if isinstance(value, list) else [value]
            if not all(part is None or isinstance(part, str) for part in parts):
                raise ValueError(f"Column {name!r} has {value!r}; use columns of strings.")
            texts[row] = " ".join([texts[row], *filter(None, parts)]).strip()
    return texts


def item_texts(spec: FeatureSpec, items: pa.Table | None, columns: Sequence[str]) -> list[str]:
    """Returns one text per item of the catalogue, in its order; "" for items not in the table.

    Args:
        spec: a fitted spec; text j belongs to item row j + 1.
        items: see `joined_texts`.
        columns: see `joined_texts`.
    """
    found = joined_texts(items, columns)
    assert items is not None  # otherwise `joined_texts` raised
    texts = [""] * len(spec.items)
    for row, text in zip(spec.items.encode(items["item_id"]), found, strict=True):
        texts[row] = text
    return texts[1:]
