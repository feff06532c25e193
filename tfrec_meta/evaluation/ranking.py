"""From scores to ranks and top-k lists, block by block, so that memory stays bounded.

The rank of a relevant item is a count of the scores above it; nothing is sorted for one item.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = tuple[ArrayLike, ArrayLike] | Callable[[NDArray[np.int64]], ArrayLike]
"""(queries float32 [Q, d], candidates float32 [N, d]), or rows int64 [b] -> float32 [b, N]."""

Block = NDArray[np.float32]

_BLOCK_SCORES = 1 << 18  # 1 MB of float32: a block stays in the cache while it is compared
_MOST_THREADS = 8  # beyond this, memory bandwidth is the limit
_PAIRS_A_ROW = 2  # more relevant items a query than this, and sorting its scores once is cheaper


def rows_at_once(candidates: int, chunk: int | None = None) -> int:
    """Queries a block: `chunk`, or as many as fill 1 MB of scores, at least 16."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk`={chunk}, but a block holds at least one query; use 1 or more.")
    return chunk or max(16, _BLOCK_SCORES // max(candidates, 1))


def _embeddings(name: str, values: ArrayLike) -> Block:
    array = np.ascontiguousarray(values, np.float32)
    if array.ndim != 2:
        raise ValueError(f"`{name}` has shape {array.shape}; give embeddings [rows, dimension].")
    # A row's sum is finite only if all of it is (or it overflows, which is as bad): no boolean
    # copy of a large matrix.
    bad = ~np.isfinite(array.sum(axis=1, dtype=np.float64))
    if bad.any():
        row = int(bad.argmax())
        column = int((~np.isfinite(array[row])).argmax())
        raise ValueError(
            f"`{name}` row {row} holds {array[row, column]} in column {column}; "
            "mend the model: no ranking follows from it."
        )
    return array


def _repeats(items: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of float32 [N, d] that repeat an earlier row, and the first row like each."""
    # Sums of the bit patterns are exact, so equal rows have equal sums; few others do.
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
            f"the scores of query {int(rows[at])} are not finite: item {item} has "
            f"{block[at, item]}. Mend the model, or mask items by `seen`."
        )


def for_each_block(
    scores: Scores,
    rows: NDArray[np.int64],
    candidates: int,
    work: Callable[[slice, Block], None],
    chunk: int | None = None,
) -> None:
    """Scores `rows` over the whole catalogue and hands the scores to `work`, a block at a time.

    Args:
        scores: embeddings or a function (see `Scores`).
        rows: int64 [R], queries to score.
        candidates: N.
        work: takes (which of `rows`, float32 [b, N]). The block is its to change, and is
            overwritten later. With embeddings it is called from several threads at once, in any
            order; the parts don't overlap. A score function is only called from this thread.
        chunk: queries a block; every thread holds one block.

    Raises:
        ValueError: for wrong shapes, or a NaN or infinite score, naming its query.
    """
    step = rows_at_once(candidates, chunk)
    parts = [slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]
    if callable(scores):
        for part in parts:
            block = np.array(scores(rows[part]), np.float32, order="C")  # a copy: it is changed
            if block.shape != (part.stop - part.start, candidates):
                raise ValueError(
                    f"`scores` returned shape {block.shape} for {part.stop - part.start} queries, "
                    f"but the catalogue has {candidates} items; return [queries, {candidates}]."
                )
            _check_block(block, rows[part])
            work(part, block)
        return
    queries, items = _embeddings("queries", scores[0]), _embeddings("candidates", scores[1])
    if queries.shape[1] != items.shape[1] or len(items) != candidates:
        raise ValueError(
            f"`queries` has shape {queries.shape} and `candidates` {items.shape}, "
            f"but a [Q, d] and a [{candidates}, d] with one d are needed."
        )
    # |score| <= |query| |candidate|: where that can't overflow, no block needs a check.
    longest = [
        float(np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64).max(initial=0.0)))
        for x in (queries, items)
    ]
    safe = longest[0] * longest[1] < float(np.finfo(np.float32).max)
    # BLAS rounds the columns at the edges of its tiles otherwise, so that equal candidates would
    # not quite tie, and their order would depend on where they stand.
    repeats, originals = _repeats(items)
    pending = iter(parts)  # threads share it: `next` of a list's iterator is atomic

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
    # Threads of our own, each with a single-threaded product: the counting runs in parallel too,
    # and BLAS's threads, which wait by spinning, cost five times as much on a busy machine.
    with controller.limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(worker) for _ in range(threads)]:
            future.result()


@functools.cache
def _thread_controller() -> Any:
    """What sets the number of BLAS threads; None where threadpoolctl is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def _count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """True values a row; four times faster than `count_nonzero(axis=1)`."""
    return np.bitwise_count(np.packbits(mask, axis=1)).sum(axis=1, dtype=np.int64)


def _first_at(
    ordered: Block, row: NDArray[np.int64], value: Block, after: bool
) -> NDArray[np.int64]:
    """`searchsorted` of value [p] in ordered[row] [p, N], all pairs side by side."""
    flat, width = ordered.reshape(-1), ordered.shape[1]
    base = row * width
    low, size = np.zeros(len(row), np.int64), width
    # Invariant: the answer is in [low, low + size], within the row; `size` halves for all pairs.
    while size > 0:
        half = (size + 1) // 2
        probe = flat[base + low + (half - 1)]
        low += half * ((probe <= value) if after else (probe < value))
        size -= half
    return low


def tied_ranks(
    block: Block, row: NDArray[np.int64], item: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Rank of block[row, item] in its row, from 1; tied scores share the mean of their ranks.

    Args:
        block: float32 [b, N], scores without NaN, -inf where masked; may be sorted in place.
        row, item: int64 [p], pairs in any order; no pair may be masked.

    Returns:
        float64 [p].
    """
    value = block[row, item]
    width = block.shape[1]
    if len(row) > _PAIRS_A_ROW * len(block):
        block.sort(axis=1)
        above = width - _first_at(block, row, value, after=True)
        not_below = width - _first_at(block, row, value, after=False)
        return (above + not_below + 1) / 2
    result = np.empty(len(row))
    for start in range(0, len(row), len(block)):  # gathered rows never outgrow the block
        part = slice(start, start + len(block))
        whole = len(row) == len(block) and np.array_equal(row, np.arange(len(row)))
        gathered = block if whole else block[row[part]]
        threshold = value[part, None]
        mask = gathered > threshold
        above = _count(mask)
        np.greater_equal(gathered, threshold, out=mask)
        result[part] = (above + _count(mask) + 1) / 2
    return result


def top_items(block: Block, k: int) -> NDArray[np.int64]:
    """The k best items of each row of float32 [b, N], best first, ties by the lower index.

    Returns int64 [b, k], -1 where a row has fewer than k scores above -inf.
    """
    width = block.shape[1]
    if not 1 <= k <= width:
        raise ValueError(f"`k`={k}, but the catalogue holds {width} items; use 1 to {width}.")
    kth = np.partition(block, width - k, axis=1)[:, width - k]
    row, item = np.nonzero(block >= kth[:, None])
    value = block[row, item]
    order = np.lexsort((item, -value, row))
    row, item, value = row[order], item[order], value[order]
    first = np.searchsorted(row, np.arange(len(block)))
    place = np.arange(len(row)) - first[row]
    keep = (place < k) & (value > -np.inf)  # ties at the k-th place spill over it
    lists = np.full((len(block), k), -1, np.int64)
    lists[row[keep], place[keep]] = item[keep]
    return lists


def mask_entries(block: Block, rows: NDArray[np.int64], seen: Any) -> None:
    """Sets block [b, N] to -inf where the csr rows `rows` of `seen` have an entry."""
    start, stop = seen.indptr[rows], seen.indptr[rows + 1]
    count = (stop - start).astype(np.int64)
    # Ragged arange: the csr positions of all rows, one after another.
    ends = np.cumsum(count)
    position = np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - (ends - count), count)
    # -inf, not 0: a masked zero would outrank honest negative scores.
    block[np.repeat(np.arange(len(rows)), count), seen.indices[position]] = -np.inf
