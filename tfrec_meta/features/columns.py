"""Raw columns, or arrays as requests carry them, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A wild number in one request must not drown, or overflow, all else that is known of the user.
MAX_DEVIATIONS = 10.0
MAX_ENTRY = np.float32(1e6)  # of a vector: products of larger ones overflow to NaN


def floats(values: Any) -> np.ndarray:
    """float32 [n], as a request carries numbers; NaN for null, infinity for what is too large."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)


def mean_and_scale(statistics: tuple[float, float]) -> tuple[np.float32, np.float32]:
    """What is taken off a number, and then multiplied with it.

    A factor, since TensorFlow makes of a division by a constant a product that rounds otherwise.
    """
    mean, deviation = statistics
    # Below the smallest normal number, TensorFlow would take it for 0.
    return np.float32(mean), np.float32(max(1.0 / deviation, float(np.finfo(np.float32).tiny)))


def standardised(values: Any, statistics: tuple[float, float]) -> np.ndarray:
    mean, scale = mean_and_scale(statistics)
    raw = floats(values)
    present = np.isfinite(raw)
    with np.errstate(over="ignore"):
        scaled = (np.where(present, raw, mean) - mean) * scale
    cut = np.clip(scaled, -MAX_DEVIATIONS, MAX_DEVIATIONS)
    return np.stack([cut, present.astype(np.float32)], axis=1)


def vectors(values: Any, dim: int, name: str) -> np.ndarray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(valid & (lengths != dim))
        if len(wrong):
            raise ValueError(
                f"`{name}` has {lengths[wrong[0]]:.0f} numbers in row {wrong[0] + 1}, but "
                f"`dim`={dim}; use null where there is no vector."
            )
        result = np.zeros((len(column), dim), np.float32)
        flat = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float32)
        result[valid] = flat.reshape(-1, dim)
    else:
        result = np.asarray(values, np.float32)
        if result.ndim != 2 or result.shape[1] != dim:
            raise ValueError(f"`{name}` has shape {list(result.shape)}; use [n, {dim}].")
    return np.clip(np.where(np.isfinite(result), result, np.float32(0)), -MAX_ENTRY, MAX_ENTRY)


def padded_tokens(values: Any, width: int) -> np.ndarray:
    """Object array [n, width] of tokens, "" where there is none."""
    column = as_arrow(values)
    padded = np.full((len(column), width), "", object)
    if is_list(column.type):
        row = pc.list_parent_indices(column).to_numpy()
        flat = pc.fill_null(pc.list_flatten(column).cast(pa.string()), "")
        first = np.searchsorted(row, np.arange(len(column)))
        place = np.arange(len(row)) - first[row]
        kept = place < width
        padded[row[kept], place[kept]] = flat.to_numpy(zero_copy_only=False)[kept]
    else:
        padded[:, 0] = pc.fill_null(column.cast(pa.string()), "").to_numpy(zero_copy_only=False)
    return padded


def as_arrow(values: Any) -> pa.Array:
    """One flat array, or one of lists, of a column, a NumPy array [n] or [n, w], or a sequence."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        is_coded = pa.types.is_dictionary(values.type)
        return values.dictionary_decode() if is_coded else values
    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = list(values)
    return pa.array(values, from_pandas=True)


def matrix(rows: Any) -> np.ndarray | None:
    """Object array [n, h], or None where the rows are not lists of one width."""
    if not len(rows):
        return np.empty((0, 0), object)
    try:
        array = np.asarray(rows, object)
    except ValueError:  # from rows that are arrays of several widths
        return None
    return array if array.ndim == 2 else None


def latest_known(rows: np.ndarray, length: int) -> np.ndarray:
    """Drops unknown rows, keeps the latest `length` others, oldest first, zeros on the right.

    Args:
        rows: int32 [n, h], 0 where there is no known item.
        length: width of the answer.

    Returns:
        int32 [n, length].
    """
    n = len(rows)
    known = rows > 0
    # From the right, the place of each known item among the known ones: 0 is the latest.
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
