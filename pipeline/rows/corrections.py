"""Corrections: a later row with the same id replaces an earlier one, and a marker removes it.

Rows are in the order of spans, files and rows. Ids are those of events, or of users and items whose
spans are increments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import RowCheck, flat
from tfrec_meta.data.ids import tokens_of
from tfrec_meta.pipeline.rows.partitions import by_partition, deserialized, serialized
from tfrec_meta.pipeline.rows.removed_rows import (
    CORRECTIONS,
    DELETED,
    DELETION,
    REPLACED,
    Removed,
    deletions,
)
from tfrec_meta.pipeline.rows.sources import UNREADABLE, Source, Unit, raw_batches

_PARTITIONS = 16


def keys_of(unit: Unit, source: Source) -> Iterator[tuple[int, bytes]]:
    """Yields the ids of a unit's rows, by a partition of the ids.

    Invalid rows and files are passed over; reading returns their errors.
    """
    key = source.key
    assert key is not None
    first = 0
    batches = raw_batches(unit, source, RowCheck("drop"), only=(key, DELETED))
    while True:
        try:
            batch, _ = next(batches)
            ids, _ = tokens_of(flat(batch[key]), f"{unit.file}, column of ids")
            deleted = deletions(batch, unit.file)
        except StopIteration:
            return
        except UNREADABLE:
            return
        table = pa.table(
            {
                "key": ids,
                "shard": np.full(len(ids), unit.shard, np.int32),
                "row": np.arange(first, first + len(ids)),
                "deleted": deleted,
            }
        )
        first += len(ids)
        known = table.filter(pc.fill_null(pc.not_equal(table["key"], ""), False))
        for partition, part in by_partition(known, _PARTITIONS, "key"):
            yield partition, serialized(part)


def removed_rows(packed: Iterable[bytes]) -> dict[int, Removed]:
    """Returns the rows that corrections remove, by shard.

    Args:
        packed: the tables of `keys_of` of all rows of some ids.
    """
    table = pa.concat_tables(map(deserialized, packed)).combine_chunks()
    keys = table["key"].combine_chunks().dictionary_encode().indices.to_numpy()
    shards, rows = table["shard"].to_numpy(), table["row"].to_numpy()
    order = np.lexsort((rows, shards, keys))
    ordered = keys[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    group = np.cumsum(last) - last
    deleted = table["deleted"].to_numpy()[order]
    is_gone = deleted[last][group]  # whether the last row of the id is a deletion
    out = ~last | is_gone
    reasons = np.where(is_gone, CORRECTIONS.index(DELETION), CORRECTIONS.index(REPLACED))
    return _by_shard(shards[order][out], rows[order][out], reasons[out])


def all_removed(parts: Iterable[Mapping[int, Removed]]) -> dict[int, Removed]:
    """Returns the removed rows of all ids, by shard."""
    found = [(shard, *removed) for part in parts for shard, removed in part.items()]
    if not found:
        return {}
    shards = np.concatenate([np.full(len(rows), shard) for shard, rows, _ in found])
    rows, reasons = (np.concatenate([entry[place] for entry in found]) for place in (1, 2))
    return _by_shard(shards, rows, reasons)


def removed_of(units: Sequence[Unit], source: Source) -> dict[int, Removed]:
    """Returns the rows that corrections remove, by shard, without Beam."""
    parts: dict[int, list[bytes]] = {}
    for unit in units:
        for partition, packed in keys_of(unit, source):
            parts.setdefault(partition, []).append(packed)
    return all_removed(map(removed_rows, parts.values()))


def _by_shard(shards: np.ndarray, rows: np.ndarray, reasons: np.ndarray) -> dict[int, Removed]:
    if not len(shards):
        return {}
    order = np.lexsort((rows, shards))
    shards, rows, reasons = shards[order], rows[order], reasons[order].astype(np.int8)
    numbers, starts = np.unique(shards, return_index=True)
    pieces = zip(np.split(rows, starts[1:]), np.split(reasons, starts[1:]), strict=True)
    return {int(n): Removed(*piece) for n, piece in zip(numbers, pieces, strict=True)}
