"""Computes ranks and top-k lists from scores, in blocks of queries, so that memory is bounded.

The rank of a relevant item is a count of the scores above it. Scores are sorted only for queries
with several relevant items.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.errors import ParameterError

Scores = tuple[ArrayLike, ArrayLike] | Callable[[NDArray[np.int64]], ArrayLike]
"""(queries float32 [Q, d], candidates float32 [N, d]), or rows int64 [b] -> float32 [b, N]."""

Block = NDArray[np.float32]

_BLOCK_SCORES = 1 << 18  # 1 MB of float32, so that a block stays in the CPU cache
_MOST_THREADS = 8  # with more, memory bandwidth is the limit
_PAIRS_PER_ROW = 2  # with more relevant items per query, sorting its scores is cheaper


def rows_per_block(candidates: int, chunk: int | None = None) -> int:
    """Returns the queries per block: `chunk`, or as many as fill 1 MB of scores, at least 16."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk`={chunk}; use 1 or more.")
    return chunk or max(16, _BLOCK_SCORES // max(candidates, 1))


def _embeddings(name: str, values: ArrayLike) -> Block:
    array = np.ascontiguousarray(values, np.float32)
    if array.ndim != 2:
        raise ValueError(f"`{name}` has shape {array.shape}; use embeddings [rows, dimension].")
    # A sum is finite only if all its values are. Unlike np.isfinite on the whole matrix, this
    # needs no boolean copy.
    bad = ~np.isfinite(array.sum(axis=1, dtype=np.float64))
    if bad.any():
        row = int(bad.argmax())
        column = int((~np.isfinite(array[row])).argmax())
        raise ValueError(
            f"`{name}` has {array[row, column]} in row {row}, column {column}; fix the model, "
            "because non-finite embeddings cannot be ranked."
        )
    return array


def _repeats(items: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows of float32 [N, d] that repeat an earlier row, and those earlier rows."""
    # Sums of the bit patterns are exact, so equal rows have equal sums, and few other rows do.
    items = items + np.float32(0)  # -0.0 becomes 0.0
    _, group, size = np.unique(
        items.view(np.uint32).sum(axis=1, dtype=np.uint64), return_inverse=True, return_counts=True
    )
    suspects = np.flatnonzero(size[group] > 1)
    if not len(suspects):
        return suspects, suspects
    _, first, like = np.unique(items[suspects], axis=0, return_index=True, return_inverse=True)
    original = suspects[first[like.reshape(-1)]]
    repeated = original != suspects
    return suspects[repeated], original[repeated]


def _check_block(block: Block, rows: NDArray[np.int64]) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(block.sum(axis=1, dtype=np.float64))
    if not finite.all():
        at = int((~finite).argmax())
        item = int((~np.isfinite(block[at])).argmax())
        raise ValueError(
            f"The scores of query {int(rows[at])} are not finite: item {item} has "
            f"{block[at, item]}. Fix the model, or mask items by `seen`."
        )


def for_each_block(
    scores: Scores,
    rows: NDArray[np.int64],
    candidates: int,
    work: Callable[[slice, Block], None],
    chunk: int | None = None,
) -> None:
    """Scores `rows` over the whole catalogue and calls `work` for each block of scores.

    Args:
        scores: embeddings or a function (see `Scores`).
        rows: int64 [R], queries to score.
        candidates: N.
        work: receives (slice of `rows`, float32 [b, N]). It may change the block, which is
            overwritten later. With embeddings it is called from several threads, in any order, for
            parts that do not overlap. A score function is called from this thread only.
        chunk: queries per block; every thread has one block.

    Raises:
        ValueError: for wrong shapes, or a NaN or infinite score; the message names its query.
    """
    step = rows_per_block(candidates, chunk)
    parts = [slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]
    if callable(scores):
        for part in parts:
            block = np.array(
                scores(rows[part]), np.float32, order="C"
            )  # a copy, because `work` may change it
            if block.shape != (part.stop - part.start, candidates):
                raise ValueError(
                    f"`scores` returned shape {block.shape} for {part.stop - part.start} queries; "
                    f"return [queries, {candidates}], one score per item of the catalogue."
                )
            _check_block(block, rows[part])
            work(part, block)
        return
    queries, items = _embeddings("queries", scores[0]), _embeddings("candidates", scores[1])
    if queries.shape[1] != items.shape[1] or len(items) != candidates:
        raise ValueError(
            f"`queries` has shape {queries.shape} and `candidates` {items.shape}, "
            f"use [Q, d] and [{candidates}, d] with the same d."
        )
    # |score| <= |query| |candidate|. If this bound cannot overflow, blocks need no check.
    longest = [
        float(np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64).max(initial=0.0)))
        for x in (queries, items)
    ]
    safe = longest[0] * longest[1] < float(np.finfo(np.float32).max)
    # BLAS may round columns differently at the edges of its tiles. Equal candidates would then not
    # tie, and their order would depend on their position.
    repeats, originals = _repeats(items)
    pending = iter(parts)  # shared by all threads: `next` of a list's iterator is atomic

    def worker() -> None:
        buffer = np.empty((min(step, len(rows)), candidates), np.float32)
        for part in pending:
            block = buffer[: part.stop - part.start]
            with np.errstate(over="ignore", invalid="ignore"):
                np.dot(queries[rows[part]], items.T, out=block)
            if len(repeats):
                block[:, repeats] = block[:, originals]
            if not safe:
                _check_block(block, rows[part])
            work(part, block)

    threads = min(len(os.sched_getaffinity(0)), len(parts), _MOST_THREADS)
    controller = _thread_controller() if threads > 1 else None
    if controller is None:
        worker()
        return
    # One thread per block, each with a single-threaded product, so that counting also runs in
    # parallel. Threads of BLAS, which wait by spinning, take five times as long on a busy machine.
    with controller.limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(worker) for _ in range(threads)]:
            future.result()


@functools.cache
def _thread_controller() -> Any:
    """Returns the controller of BLAS threads; None if threadpoolctl is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def _count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Counts the True values of each row, four times faster than `count_nonzero(axis=1)`."""
    return np.bitwise_count(np.packbits(mask, axis=1)).sum(axis=1, dtype=np.int64)


def _first_at(
    ordered: Block, row: NDArray[np.int64], value: Block, after: bool
) -> NDArray[np.int64]:
    """Runs `searchsorted` of value [p] in ordered[row] [p, N], for all pairs in parallel."""
    flat, width = ordered.reshape(-1), ordered.shape[1]
    base = row * width
    low, size = np.zeros(len(row), np.int64), width
    # Invariant: the result is in [low, low + size], within the row. `size` halves for all pairs.
    while size > 0:
        half = (size + 1) // 2
        probe = flat[base + low + (half - 1)]
        low += half * ((probe <= value) if after else (probe < value))
        size -= half
    return low


def tied_ranks(
    block: Block, row: NDArray[np.int64], item: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Ranks block[row, item] in its row, from 1; tied scores share the mean of their ranks.

    Args:
        block: float32 [b, N], scores without NaN, -inf where masked. It may be sorted in place.
        row, item: int64 [p], pairs in any order, none of them masked.

    Returns:
        float64 [p].
    """
    value = block[row, item]
    width = block.shape[1]
    if len(row) > _PAIRS_PER_ROW * len(block):
        block.sort(axis=1)
        above = width - _first_at(block, row, value, after=True)
        not_below = width - _first_at(block, row, value, after=False)
        return (above + not_below + 1) / 2
    result = np.empty(len(row))
    for start in range(0, len(row), len(block)):  # gathered rows are never larger than the block
        part = slice(start, start + len(block))
        is_identity = len(row) == len(block) and np.array_equal(row, np.arange(len(row)))
        gathered = block if is_identity else block[row[part]]
        threshold = value[part, None]
        mask = gathered > threshold
        above = _count(mask)
        np.greater_equal(gathered, threshold, out=mask)
        result[part] = (above + _count(mask) + 1) / 2
    return result


def top_items(block: Block, k: int) -> NDArray[np.int64]:
    """Returns the k best items of each row of float32 [b, N], best first, ties by lower index.

    The result is int64 [b, k], -1 where a row has fewer than k scores above -inf.
    """
    width = block.shape[1]
    if not 1 <= k <= width:
        raise ParameterError(
            f"`k`={k}, but the catalogue has {width} items; use 1 to {width}.", "k"
        )
    kth = np.partition(block, width - k, axis=1)[:, width - k]
    row, item = np.nonzero(block >= kth[:, None])
    value = block[row, item]
    order = np.lexsort((item, -value, row))
    row, item, value = row[order], item[order], value[order]
    first = np.searchsorted(row, np.arange(len(block)))
    position = np.arange(len(row)) - first[row]
    keep = (position < k) & (value > -np.inf)  # ties with the k-th item are cut off
    lists = np.full((len(block), k), -1, np.int64)
    lists[row[keep], position[keep]] = item[keep]
    return lists


def mask_entries(block: Block, rows: NDArray[np.int64], seen: Any) -> None:
    """Sets block [b, N] to -inf where the csr rows `rows` of `seen` have an entry."""
    start, stop = seen.indptr[rows], seen.indptr[rows + 1]
    count = (stop - start).astype(np.int64)
    # A ragged arange: the csr positions of all rows, concatenated.
    ends = np.cumsum(count)
    position = np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - (ends - count), count)
    # -inf and not 0, which would rank above negative scores.
    block[np.repeat(np.arange(len(rows)), count), seen.indices[position]] = -np.inf
