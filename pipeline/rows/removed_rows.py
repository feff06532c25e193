"""Rows of a file without those that corrections remove, and the columns of these."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import RowCheck, flat
from tfrec_meta.data.ids import tokens_of

# Columns of `raw_batches` that no file can have: the ids of events, and markers of deletions.
EVENT_ID, DELETED = "\0event_id", "\0deleted"
# Why corrections remove a row.
REPLACED, DELETION = "replaced by a later row", "deleted by a later row"
CORRECTIONS = (REPLACED, DELETION)
_TRUE, _FALSE = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f", "")


class Removed(NamedTuple):
    """Rows of a unit that corrections remove.

    Attributes:
        rows: int64 [r], their numbers in the unit, rising.
        reasons: int8 [r], positions in `CORRECTIONS`.
    """

    rows: np.ndarray
    reasons: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by reason."""
        found = np.bincount(self.reasons, minlength=len(CORRECTIONS)).tolist()
        return {why: count for why, count in zip(CORRECTIONS, found, strict=True) if count}


def without_removed(
    table: pa.Table,
    row_name: Callable[[int], str],
    check: RowCheck,
    file: str,
    first: int,
    removed: Removed | None,
) -> tuple[pa.Table, Callable[[int], str]]:
    """Returns rows without those that corrections remove, and without the columns of these.

    Args:
        table: some rows of a unit.
        row_name: names a row of them.
        check: handles rows without the id of an event.
        file: for error messages.
        first: number of the first row in the unit.
        removed: rows of the unit.
    """
    keep = np.ones(table.num_rows, bool)
    if removed is not None:
        here = np.searchsorted(removed.rows, (first, first + table.num_rows))
        keep[removed.rows[slice(*here)] - first] = False
    if EVENT_ID in table.column_names:
        ids, _ = tokens_of(flat(table[EVENT_ID]), f"{file}, column of event ids")
        missing = pc.fill_null(pc.equal(ids, ""), True).to_numpy(zero_copy_only=False) & keep
        if missing.any():
            row = row_name(int(missing.argmax()))
            message = partial(_missing, file, row)
            check.bad("missing event_id", int(missing.sum()), message)
        keep &= ~missing
    deletions(table, file)  # raises for a cell that is neither true nor false
    table = table.drop_columns([name for name in (EVENT_ID, DELETED) if name in table.column_names])
    if keep.all():
        return table, row_name
    kept = np.flatnonzero(keep)
    return table.filter(pa.array(keep)), lambda row: row_name(int(kept[row]))


def deletions(batch: pa.Table, file: str) -> pa.Array:
    """Returns which rows are markers of a deletion, bool [n].

    Args:
        batch: from `raw_batches`.
        file: for error messages.

    Raises:
        ValueError: for a cell that is neither true nor false.
    """
    if DELETED not in batch.column_names:
        return pa.array(np.zeros(batch.num_rows, bool))
    column = flat(batch[DELETED])
    if not pa.types.is_boolean(column.type):
        texts = pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string())))
        texts = pc.fill_null(texts, "")
        column = pc.is_in(texts, value_set=pa.array(_TRUE))
        other = pc.invert(pc.or_(column, pc.is_in(texts, value_set=pa.array(_FALSE))))
        row = pc.index(other, True).as_py()
        if row >= 0:
            raise ValueError(
                f"{file}: {texts[row].as_py()!r} in the column of deletions is neither true nor "
                "false; use true or 1, and false, 0 or nothing."
            )
    return pc.fill_null(column, False)


def _missing(file: str, row: str) -> str:
    return f"{file}, {row}, column `event_id`: the id of the event is missing."
