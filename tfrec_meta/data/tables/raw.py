"""Arrow tables of raw arrays and data frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tfrec_meta.data.column_types import TABLE_PREFIXES, with_our_names
from tfrec_meta.data.ids import id_array
from tfrec_meta.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd


def table_of_arrays(columns: Mapping[str, Any]) -> pa.Table:
    """Returns sequences of the same length as a table; None for a column that is left out.

    Raises:
        ParameterError: for a value that is no sequence.
        ValueError: if the lengths differ.
    """
    arrays = {key: _arrow(key, given) for key, given in columns.items() if given is not None}
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{key}` {length}" for key, length in lengths.items())
        raise ValueError(f"columns of different lengths: {listed}; give one entry per event.")
    return pa.table(arrays)


def tables_of_frames(
    events: pd.DataFrame,
    users: pd.DataFrame | None,
    items: pd.DataFrame | None,
    columns: Mapping[str, str] | None,
) -> tuple[pa.Table, pa.Table | None, pa.Table | None]:
    """Returns data frames as tables with our names of their columns.

    Args:
        events, users, items: the frames.
        columns: names in the frames by our names, as in `Interactions.from_pandas`.

    Raises:
        ParameterError: if `columns` is no mapping, or two columns would have one name.
        ValueError: if a frame lacks a column of `columns`.
    """
    if columns is not None and not isinstance(columns, Mapping):
        raise ParameterError(
            f"`columns`={columns!r}; use a mapping, as in {{'user_id': 'customer'}}.", "columns"
        )
    columns = columns or {}
    theirs = {
        source: ours for ours, source in columns.items() if not ours.startswith(TABLE_PREFIXES)
    }
    for source in theirs:
        if source not in events.columns:
            raise ValueError(
                f"`columns` names {source!r}, but the frame has {list(events.columns)}."
            )
    of_users, of_items = (
        None
        if frame is None
        else with_our_names(_from_frame(frame, argument), key, columns, f"`{argument}`")
        for argument, key, frame in (("users", "user_id", users), ("items", "item_id", items))
    )
    return _from_frame(events.rename(columns=theirs), "events"), of_users, of_items


def _arrow(name: str, given: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(given, pa.Array | pa.ChunkedArray):
        return given
    if isinstance(given, str | bytes) or not hasattr(given, "__len__"):
        raise ParameterError(f"`{name}`={given!r}; use a sequence with one entry per event.", name)
    return id_array(given, name)


def _from_frame(frame: pd.DataFrame, argument: str) -> pa.Table:
    """Returns a data frame as an Arrow table; a wrong column is named in the error."""
    columns = [str(column) for column in frame.columns]
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    if doubled:
        raise ParameterError(
            f"`{argument}` has several columns `{doubled[0]}` once `columns` is applied; drop or "
            "rename one of them.",
            "columns",
        )
    arrays = [_arrow(column, frame.iloc[:, place]) for place, column in enumerate(columns)]
    return pa.table(arrays, names=columns)
