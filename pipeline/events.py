"""The rows of Histories as `Interactions`, for nodes that train, search or evaluate in memory."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec_meta.data import Interactions
from tfrec_meta.data.events import RowCheck, typed_events
from tfrec_meta.data.feedback import TARGET, WEIGHT, Feedback
from tfrec_meta.data.times import TimeReader
from tfrec_meta.features import transform as names
from tfrec_meta.pipeline.example_files import record_batches

FEEDBACK = "feedback.json"  # in the folder of CatalogueTables


def read_split(examples: Path | str, split: str) -> pa.Table:
    """Returns the events of one split of the examples of Histories; see `read_files`.

    Args:
        examples: folder of the Examples artifact.
        split: one of `EVENT_SPLITS`.

    Raises:
        FileNotFoundError: if there is no such split.
    """
    folder = Path(examples) / f"Split-{split}"
    if not folder.is_dir():
        found = sorted(path.name.removeprefix("Split-") for path in Path(examples).glob("Split-*"))
        raise FileNotFoundError(
            f"{examples} has no split {split!r}; use one of {', '.join(found)}."
        )
    return read_files([str(folder / "*")])


def read_files(patterns: Iterable[str]) -> pa.Table:
    """Returns the events of TFRecord files of tf.Examples, without their histories.

    Args:
        patterns: glob patterns of the files, without hidden ones. No files give no events.

    Returns:
        The columns of `Interactions.events`, in the order of files and rows, and further ones; a
        further column is a list column if a row has several values.
    """
    paths = sorted(
        path for pattern in patterns for path in glob.glob(pattern) if os.path.isfile(path)
    )
    batches = [_without_history(batch) for batch in record_batches(paths)]
    if not batches:
        none = pa.array([], pa.string())
        return typed_events(pa.table({names.USER_ID: none, names.ITEM_ID: none}), RowCheck())
    table = pa.concat_tables(batches, promote_options="default")
    columns = {name: _plain(table[name].combine_chunks()) for name in table.column_names}
    return typed_events(
        pa.table(columns), RowCheck(), source=os.path.dirname(paths[0]), times=TimeReader("s")
    )


def interactions(events: pa.Table, catalogue: Path | str) -> Interactions:
    """Returns events with the attributes of users and items, and with the declared feedback.

    Args:
        events: from `read_split`, or the `events.parquet` of SeenItems.
        catalogue: folder of the CatalogueTables artifact.
    """
    paths = {name: Path(catalogue) / f"{name}.parquet" for name in ("users", "items")}
    known = {name: pq.read_table(path) for name, path in paths.items() if path.is_file()}
    if "users" in known:  # the rows have these columns too
        joined = set(known["users"].column_names) - set(names.EVENT_COLUMNS)
        events = events.drop_columns([name for name in events.column_names if name in joined])
    feedback = declared_feedback(catalogue)
    if feedback is not None:
        events = _with_declared(events, feedback)
    return Interactions(events, known.get("users"), known.get("items"), feedback=feedback)


def declared_feedback(catalogue: Path | str) -> Feedback | None:
    """Returns how the events count; None if all count alike.

    Args:
        catalogue: folder of the CatalogueTables artifact.
    """
    path = Path(catalogue) / FEEDBACK
    return Feedback.from_dict(json.loads(path.read_text())) if path.is_file() else None


def _with_declared(events: pa.Table, feedback: Feedback) -> pa.Table:
    """Returns the columns of the feedback, which Histories added, in their types in memory."""
    declared = {WEIGHT: pa.float32()}
    if feedback.target is not None:
        declared[TARGET] = pa.bool_()
    for name, kind in declared.items():
        if name in events.column_names:
            column = events[name].cast(kind)
            events = events.set_column(events.column_names.index(name), name, column)
        else:  # there are no events
            events = events.append_column(name, pa.nulls(events.num_rows, kind))
    return events


def _without_history(batch: pa.RecordBatch) -> pa.Table:
    table = pa.Table.from_batches([batch])
    return table.drop_columns([name for name in table.column_names if name == names.HISTORY])


def _plain(column: pa.Array) -> pa.Array:
    """Returns a list column as values, null for empty lists, unless a list has several values."""
    if pa.types.is_null(column.type):
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    values = column.flatten()
    if pa.types.is_large_binary(values.type):
        values = values.cast(pa.string())  # Histories writes UTF-8 only
    if lengths.max(initial=0) <= 1:
        position = np.cumsum(lengths) - 1
        return values.take(pa.array(position, mask=lengths == 0))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(lengths == 0))
