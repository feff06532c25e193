"""Events that exceed memory: read once, partitioned by user on disk, and yielded in parts."""

from __future__ import annotations

import copy
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.column_types import check_declared, with_schema
from tfrec_meta.data.events import flat
from tfrec_meta.data.feedback import Feedback, check_types, type_counts, with_columns
from tfrec_meta.data.ids import (
    Spelling,
    given_ids,
    tokens_of,
    without_decimals,
)
from tfrec_meta.data.interactions import Interactions, Origin
from tfrec_meta.data.places.queries import SqlQuery
from tfrec_meta.data.sources.formats import FileFormat, FormatOptions
from tfrec_meta.data.sources.reading import EventFiles
from tfrec_meta.io.files import PathLike

PART_EVENTS = 500_000
_SPILLED = 1 << 18  # events that are partitioned at a time


def stream_interactions(
    paths: PathLike | Iterable[PathLike] | SqlQuery,
    columns: Mapping[str, str] | None = None,
    *,
    folder: PathLike | None = None,
    part_events: int = PART_EVENTS,
    users: PathLike | pa.Table | SqlQuery | None = None,
    items: PathLike | pa.Table | SqlQuery | None = None,
    name: str | None = None,
    **options: Unpack[FormatOptions],
) -> StreamedInteractions:
    """Reads events like `read_interactions`, in memory that does not grow with their number.

    The files are read once. Their events are written to disk in parts, and all events of a user are
    in one part, so that histories need one part at a time. The parts take about as much space as
    the events do as text.

    Args:
        folder: the parent folder of the parts; by default the system's folder for temporary files.
            The parts are removed with the returned object, but not if the process is killed.
        part_events: approximate number of events per part. A few parts are in memory at a time.

    The other arguments and errors are those of `read_interactions`. Further columns have the types
    that `types` declares, or those that they have in the files: text is not recognized as numbers.

    Raises:
        ValueError: also if some events have a time and others have none.
    """
    if part_events < 1:
        raise ValueError(f"`part_events`={part_events}; use 1 or more.")
    form = FileFormat(**options)
    source = EventFiles(paths, columns, form, name)
    parts = -(-source.estimated_rows() // part_events) or 1
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    place = tempfile.TemporaryDirectory(prefix="tfrec-meta-events-", dir=folder)
    try:
        size, spellings = _spill(source, Path(place.name), parts)
        tables = {
            "user_id": source.attributes("user_id", users),
            "item_id": source.attributes("item_id", items),
        }
        decimals = []  # the ids that have ".0", and are whole numbers
        for key, table in tables.items():
            if table is not None:
                table = table.set_column(
                    table.column_names.index(key), key, tokens_of(flat(table[key]), key)[0]
                )
            of_table = Spelling() if table is None else Spelling.of(table[key])
            if (spellings[key] | of_table).has_decimals:
                decimals.append(key)
                table = None if table is None else without_decimals(table, key)
            tables[key] = table
        for argument, declared in (("types", form.types), ("lists", form.lists)):
            check_declared(declared, argument, source.schema.empty_table(), *tables.values())
        return StreamedInteractions(
            place,
            source.schema,
            size,
            tables["user_id"],
            tables["item_id"],
            source.name,
            source.dropped,
            decimals,
        )
    except BaseException:
        place.cleanup()
        raise


class StreamedInteractions:
    """Events on disk, in parts by user; created by `stream_interactions`.

    Attributes:
        users: the table of users, as in `Interactions`; in memory.
        items: the table of items; in memory.
        name: the name of the data in messages.
        dropped: number of rows removed while reading, by reason.
        sampled: always False, since the events are assumed to be complete.
        feedback: the declared feedback, from `with_feedback`; None if all events count alike.
        origin: the same object for all copies.
    """

    sampled = False
    feedback: Feedback | None = None

    def __init__(
        self,
        place: tempfile.TemporaryDirectory[str],
        schema: pa.Schema,
        size: int,
        users: pa.Table | None,
        items: pa.Table | None,
        name: str,
        dropped: Mapping[str, int],
        decimals: Sequence[str] = (),
    ) -> None:
        self._place = place
        self._decimals = decimals
        self._schema = schema
        self._size = size
        self._files = sorted(Path(place.name).glob("*.arrows"))
        self.users = users
        self.items = items
        self.name = name
        self.dropped = MappingProxyType(dict(dropped))
        self.origin = Origin()
        self._changes: tuple[str, ...] = ()  # methods of Interactions that each part goes through

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"StreamedInteractions({self.name!r}: {len(self):,} events)"

    @property
    def folder(self) -> Path:
        """The folder of the parts; other files in it are removed with it."""
        return Path(self._place.name)

    def with_feedback(self, feedback: Feedback) -> StreamedInteractions:
        """Declares how the events count, as `Interactions.with_feedback`; all parts are checked."""
        if self.feedback is not None and self.feedback != feedback:
            raise ValueError(
                f"{self.name} has another feedback already; declare it once, for the data as read."
            )
        counts: Counter[str] = Counter()
        for file in self._files:
            events = self._read(file)
            with_columns(events, feedback, self.name)
            counts += type_counts(events, feedback, self.name)
        check_types(counts, feedback, self.name)
        declared = copy.copy(self)
        declared.feedback = feedback
        return declared

    def with_equal_weights(self) -> StreamedInteractions:
        """Returns the events as `Interactions.with_equal_weights` does."""
        return self._changed("with_equal_weights")

    def counted_events(self) -> StreamedInteractions:
        """Returns the events as `Interactions.counted_events` does; `len` still counts all."""
        return self._changed("counted_events")

    def _changed(self, change: str) -> StreamedInteractions:
        if self.feedback is None:
            return self
        changed = copy.copy(self)
        changed._changes = (*self._changes, change)
        return changed

    def parts(self) -> Iterator[Interactions]:
        """Yields the parts, each with all events of its users, in the order of the source."""
        for file in self._files:
            yield self._in_memory(self._read(file))

    def of_users(self, user_ids: Sequence[str] | np.ndarray) -> Interactions:
        """Returns the events of these users, in memory."""
        wanted = given_ids(user_ids, "user_ids")
        found = []
        for file in self._files:
            events = self._read(file)
            found.append(events.filter(pc.is_in(events["user_id"], value_set=wanted)))
        return self._in_memory(pa.concat_tables(found))

    def _read(self, file: Path) -> pa.Table:
        events = _read(file, self._schema, self.name)
        for key in self._decimals:
            events = without_decimals(events, key)
        return events

    def _in_memory(self, events: pa.Table) -> Interactions:
        """Some of the events, with their weights."""
        if self.feedback is not None:
            events = with_columns(events, self.feedback, self.name)
        part = Interactions(
            events,
            self.users,
            self.items,
            self.name,
            feedback=self.feedback,
            origin=self.origin,
        )
        for change in self._changes:
            part = getattr(part, change)()
        return part

    def close(self) -> None:
        """Removes the parts from the disk, as garbage collection of the object also does."""
        self._place.cleanup()


def _spill(source: EventFiles, folder: Path, parts: int) -> tuple[int, dict[str, Spelling]]:
    """Writes the events in parts by user, and returns their number and the spelling of ids."""
    size = missing = 0
    spellings = {"user_id": Spelling(), "item_id": Spelling()}
    held: list[pa.Table] = []
    for batch in source.batches():
        size += batch.num_rows
        missing += batch["time"].null_count
        for key, known in spellings.items():
            if known.whole:
                spellings[key] = known | Spelling.of(batch[key])
        held.append(batch)
        if sum(table.num_rows for table in held) >= _SPILLED:
            _append(_joined(held, source), folder, parts)
            held = []
    if held:
        _append(_joined(held, source), folder, parts)
    if 0 < missing < size:
        raise ValueError(
            f"{source.name}: {missing:,} of {size:,} events have no time, but the others have one. "
            "Fix the source, or leave out the column of times."
        )
    return size, spellings


def _joined(held: Sequence[pa.Table], source: EventFiles) -> pa.Table:
    # Later tables may extend the schema; `_read` gives all events the final one.
    return pa.concat_tables(with_schema(table, source.schema, source.name) for table in held)


def _append(events: pa.Table, folder: Path, parts: int) -> None:
    part = _part_of(events["user_id"], parts)
    order = np.argsort(part, kind="stable")
    events = events.take(pa.array(order))
    bounds = np.searchsorted(part[order], np.arange(parts + 1))
    for number in np.flatnonzero(np.diff(bounds)):
        # One stream per write, so that no file stays open, whatever the number of parts.
        with (
            open(folder / f"{number:06d}.arrows", "ab") as file,
            pa.ipc.new_stream(file, events.schema) as writer,
        ):
            writer.write_table(events.slice(bounds[number], bounds[number + 1] - bounds[number]))


def _read(file: Path, schema: pa.Schema, name: str) -> pa.Table:
    tables = []
    with pa.OSFile(str(file)) as stream:
        size = stream.size()
        while stream.tell() < size:
            tables.append(with_schema(pa.ipc.open_stream(stream).read_all(), schema, name))
    return pa.concat_tables(tables)


def _part_of(user_ids: pa.ChunkedArray, parts: int) -> np.ndarray:
    """Returns the part of each event; it depends only on the user id and the number of parts."""
    coded = pc.dictionary_encode(user_ids.combine_chunks())
    # Without ".0": 10 and 10.0 may turn out to be one user.
    tokens = pc.replace_substring_regex(coded.dictionary, r"\.0+$", "").to_pylist()
    hashes = [zlib.crc32(token.encode()) % parts for token in tokens]
    return np.array(hashes, np.int64)[coded.indices.to_numpy()]
