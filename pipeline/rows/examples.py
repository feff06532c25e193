"""Events, users and items as the columns of examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data import Interactions
from tfrec_meta.data.histories import Histories, histories
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.rows.surveys import EVENT_COLUMNS


def event_columns(
    data: Interactions,
    past: Histories,
    rows: np.ndarray,
    users: pa.Table | None,
    config: SplitConfig,
) -> dict[str, pa.Array]:
    """Returns the columns of the examples of some events, one list per row."""
    taken = data.events.take(pa.array(rows)).combine_chunks()
    columns = {name: _as_lists(taken[name]) for name in taken.column_names}
    columns[names.HISTORY] = _history(data, past, rows, config.history_length)
    if users is not None:
        user_rows = pc.index_in(taken[names.USER_ID].combine_chunks(), value_set=users["user_id"])
        attributes = users.drop_columns(["user_id"]).take(user_rows)
        columns.update({name: _as_lists(attributes[name]) for name in attributes.column_names})
    return columns


def positive_histories(data: Interactions) -> Histories:
    """Returns the histories of all events, without the events that are not positive."""
    past, weights = histories(data), data.weights
    if weights is None:
        return past
    positive = weights[past.order] > 0
    before = np.concatenate([[0], np.cumsum(positive)])
    return Histories(past.order[positive], before[past.start], before[past.stop])


def prefixed(table: pa.Table, name_of: Callable[[str], str]) -> dict[str, pa.Array]:
    """Returns the columns of the examples of users or items, by their names in examples."""
    return {name_of(name): _as_lists(table[name]) for name in table.column_names}


def plain_lists(column: pa.Array, name: str) -> pa.Array:
    """Returns a list column as int64, float32 or strings; as bytes for ids.

    Bytes that are not UTF-8 are replaced, as in `features.text`, since no lookup could find them.
    Ids with such bytes are dropped instead.
    """
    kind = column.type.value_type
    if not pa.types.is_large_binary(kind):
        return column.cast(pa.list_(kind))
    if name in EVENT_COLUMNS:
        return column.cast(pa.list_(pa.binary()))
    try:
        return column.cast(pa.list_(pa.string()))
    except pa.ArrowInvalid:
        cells = [cell.decode("utf-8", "replace") for cell in column.flatten().to_pylist()]
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.array(cells), mask=column.is_null())


def _history(data: Interactions, past: Histories, rows: np.ndarray, length: int) -> pa.Array:
    stop = past.stop[rows]
    count = np.minimum(stop - past.start[rows], length)
    offsets = np.concatenate([[0], np.cumsum(count)])
    position = np.arange(offsets[-1]) + np.repeat(stop - count - offsets[:-1], count)
    codes = pa.array(data.item_codes[past.order[position]])
    items = pa.array(data.item_ids, pa.string()).cast(pa.binary()).take(codes)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items)


def _as_lists(column: pa.ChunkedArray) -> pa.Array:
    """Returns one list per row, null where there is no value; text as bytes, bools as integers."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int64())
    if not pa.types.is_list(array.type):
        present = array.is_valid().to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(present)]), pa.int32())
        array = pa.ListArray.from_arrays(offsets, array.drop_null(), mask=pa.array(~present))
    text = pa.types.is_string(array.type.value_type)
    return array.cast(pa.list_(pa.binary())) if text else array
