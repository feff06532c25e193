"""Cells with several values, such as "Action|Comedy", as lists."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def with_lists(table: pa.Table, lists: Mapping[str, str]) -> pa.Table:
    """Returns the table with the text of some columns divided into list<string>.

    Args:
        table: any table.
        lists: the separator by column; columns that the table does not have are passed over.
    """
    for name, mark in lists.items():
        if name in table.column_names:
            column = table[name]
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                chunks = [divided(chunk, mark) for chunk in column.chunks]
                divided_column = pa.chunked_array(chunks, pa.list_(pa.string()))
                table = table.set_column(table.column_names.index(name), name, divided_column)
    return table


def divided(column: pa.Array, mark: str) -> pa.ListArray:
    """Divides text into its trimmed parts; empty parts are left out, an empty cell is null."""
    parts = pc.split_pattern(column.cast(pa.string()), mark)
    values = pc.utf8_trim_whitespace(parts.flatten())
    filled = pc.not_equal(values, "")
    parents = pc.list_parent_indices(parts).to_numpy()
    counts = np.bincount(parents[filled.to_numpy(zero_copy_only=False)], minlength=len(column))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), values.filter(filled), mask=pa.array(counts == 0)
    )
