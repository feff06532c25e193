"""Checks of tables of users and items: one row per id."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import flat
from tfrec_meta.data.ids import tokens_of


def attributes_of(table: pa.Table | None, key: str, name: str) -> pa.Table | None:
    """Returns a table of users or items with its ids as strings, and vectors as plain lists.

    Args:
        table: the table; None is returned as it is.
        key: the id column, "user_id" or "item_id".
        name: names the table in errors.

    Raises:
        ValueError: if the column is missing, or an id is missing, repeated or not UTF-8 text.
    """
    if table is None:
        return None
    if key not in table.column_names:
        raise ValueError(f"`{name}` has no column `{key}`, only {table.column_names}.")
    for position, kind in enumerate(table.schema.types):
        if pa.types.is_fixed_size_list(kind):
            lists = _as_lists(table[position])
            table = table.set_column(position, table.column_names[position], lists)
    ids, bad = tokens_of(flat(table[key]), f"`{name}` column `{key}`")
    if bad.any():
        raise ValueError(
            f"`{name}` row {bad.argmax() + 1}, column `{key}`: the id is not UTF-8 text."
        )
    if not (table[key].type == ids.type and table[key].equals(pa.chunked_array([ids]))):
        table = table.set_column(table.column_names.index(key), key, ids)
    refuse_missing_ids(table, key, name)
    ids = table[key]
    codes = ids.combine_chunks().dictionary_encode()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    if len(codes.dictionary) != len(ids):
        rows = codes.indices.to_numpy(zero_copy_only=False)
        _, first = np.unique(rows, return_index=True)
        second = int(np.setdiff1d(np.arange(len(rows)), first)[0])
        raise ValueError(
            f"`{name}` row {second + 1}, column `{key}`: {ids[second].as_py()!r} is already in "
            f"row {int(first[rows[second]]) + 1}; keep one row per id."
        )
    return table


def refuse_missing_ids(table: pa.Table, column: str, name: str) -> None:
    """Raises a ValueError if an id of a column is missing; `name` names the table."""
    missing = pc.fill_null(pc.equal(table[column], ""), True)
    count = pc.sum(missing).as_py() or 0
    if count:
        row = pc.index(missing, True).as_py()
        raise ValueError(
            f"`{name}` row {row + 1}, column `{column}`: the id is missing, as in {count} rows "
            "in all; remove them (from_arrays and read_interactions do, with bad_rows='drop')."
        )


def _as_lists(column: pa.ChunkedArray) -> pa.Array:
    """Converts fixed-size lists to plain ones, since Parquet cannot write the former with nulls."""
    vectors = column.combine_chunks()
    valid = vectors.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(valid * vectors.type.list_size)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, vectors.flatten(), mask=pa.array(~valid))
