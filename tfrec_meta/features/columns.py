"""Converts raw columns, or arrays from requests, to NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.errors import ParameterError

# An extreme number in a request must not dominate the user's other features, or overflow.
MAX_DEVIATIONS = 10.0
MAX_ENTRY = np.float32(1e6)  # of a vector; products of larger entries overflow to NaN
MAX_WHOLE = 2**24  # float32, which tf.Examples have, holds each whole number up to this one
NOT_WHOLE = (
    f"holds numbers that are not whole, or exceed {MAX_WHOLE:,}; declare a Number, or declare its "
    "type as text."
)


def floats(values: Any) -> np.ndarray:
    """Returns float32 [n], as in requests; NaN for null, infinity for too large numbers.

    Dates and timestamps count as Unix seconds.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if pa.types.is_temporal(values.type):
            values = seconds(values)
        values = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)


def seconds(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Returns a column of dates or timestamps as Unix seconds, int64."""
    return values.cast(pa.timestamp("s"), safe=False).cast(pa.int64())


def mean_and_scale(statistics: tuple[float, float]) -> tuple[np.float32, np.float32]:
    """Returns the number to subtract and the factor to multiply with afterwards.

    It is a factor because TensorFlow replaces a division by a constant with a product that rounds
    differently.
    """
    mean, deviation = statistics
    # TensorFlow treats numbers below the smallest normal one as 0.
    return np.float32(mean), np.float32(max(1.0 / deviation, float(np.finfo(np.float32).tiny)))


def standardised(values: Any, statistics: tuple[float, float]) -> np.ndarray:
    """Returns the encoding of a `Number`, float32 [n, 2], with (mean, deviation) `statistics`."""
    mean, scale = mean_and_scale(statistics)
    raw = floats(values)
    present = np.isfinite(raw)
    with np.errstate(over="ignore"):
        scaled = (np.where(present, raw, mean) - mean) * scale
    cut = np.clip(scaled, -MAX_DEVIATIONS, MAX_DEVIATIONS)
    return np.stack([cut, present.astype(np.float32)], axis=1)


def vectors(values: Any, dim: int, name: str) -> np.ndarray:
    """Returns the encoding of a `Vector`, float32 [n, dim].

    Raises:
        ValueError: if a vector has another length; `name` names the column.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(valid & (lengths != dim))
        if len(wrong):
            raise ValueError(
                f"`{name}` has {lengths[wrong[0]]:.0f} numbers in row {wrong[0] + 1}, but "
                f"`dim`={dim}; use null for a missing vector."
            )
        result = np.zeros((len(column), dim), np.float32)
        flat = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float32)
        result[valid] = flat.reshape(-1, dim)
    else:
        result = np.asarray(values, np.float32)
        if result.ndim != 2 or result.shape[1] != dim:
            raise ValueError(f"`{name}` has shape {list(result.shape)}; use [n, {dim}].")
    return np.clip(np.where(np.isfinite(result), result, np.float32(0)), -MAX_ENTRY, MAX_ENTRY)


def padded_tokens(values: Any, width: int, name: str) -> np.ndarray:
    """Returns tokens, object [n, width], padded with "" on the right; `name` names the column."""
    column = as_arrow(values)
    padded = np.full((len(column), width), "", object)
    if is_list(column.type):
        row = pc.list_parent_indices(column).to_numpy()
        flat = tokens(pc.list_flatten(column), name)
        first = np.searchsorted(row, np.arange(len(column)))
        place = np.arange(len(row)) - first[row]
        kept = place < width
        padded[row[kept], place[kept]] = flat.to_numpy(zero_copy_only=False)[kept]
    else:
        padded[:, 0] = tokens(column, name).to_numpy(zero_copy_only=False)
    return padded


def tokens(column: pa.Array, name: str) -> pa.Array:
    """Returns a plain column as text, string [n] with "" for null.

    Whole numbers have no decimal point, also in a column of floats, as numbers with missing ones
    are in pandas.

    Raises:
        ParameterError: for other floats, whose text would depend on who writes it; `name` names the
            column.
    """
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
        fits = pc.and_(pc.equal(pc.floor(column), column), pc.less_equal(pc.abs(column), MAX_WHOLE))
        if not pc.all(fits, min_count=0).as_py():
            raise ParameterError(f"The column `{name}` {NOT_WHOLE}", "types")
        column = column.cast(pa.int64())
    return pc.fill_null(column.cast(pa.string()), "")


def as_arrow(values: Any) -> pa.Array:
    """Returns one plain or list array of a column, a NumPy array [n] or [n, w], or a sequence."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        is_coded = pa.types.is_dictionary(values.type)
        return values.dictionary_decode() if is_coded else values
    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = list(values)
    return pa.array(values, from_pandas=True)


def matrix(rows: Any) -> np.ndarray | None:
    """Returns an object array [n, h], or None if the rows are not lists of the same length."""
    if not len(rows):
        return np.empty((0, 0), object)
    try:
        array = np.asarray(rows, object)
    except ValueError:  # the rows are arrays of different lengths
        return None
    return array if array.ndim == 2 else None


def latest_known(rows: np.ndarray, length: int) -> np.ndarray:
    """Removes unknown items and keeps the latest `length` others of each history.

    Args:
        rows: int32 [n, h] item rows, oldest first; 0 for unknown items and padding.
        length: width of the result.

    Returns:
        int32 [n, length], oldest first, padded with 0 on the right.
    """
    n = len(rows)
    known = rows > 0
    # The number of known items after each known item; 0 for the latest.
    from_latest = np.cumsum(known[:, ::-1], axis=1)[:, ::-1] - 1
    kept = np.minimum(known.sum(axis=1), length)
    place = kept[:, None] - 1 - from_latest
    result = np.zeros((n, length), np.int32)
    row, column = np.nonzero(known & (place >= 0))
    result[row, place[row, column]] = rows[row, column]
    return result


def is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
