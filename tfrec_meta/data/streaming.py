"""More events than fit into memory: read once, put on disk by user, given back part by part."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import BadRows, TimeUnit
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.reading import EventFiles
from tfrec_meta.io.files import PathLike

PART_EVENTS = 500_000
_SPILLED = 1 << 18  # events that are sorted into parts at a time


def stream_interactions(
    paths: PathLike | Iterable[PathLike],
    columns: Mapping[str, str] | None = None,
    *,
    folder: PathLike | None = None,
    part_events: int = PART_EVENTS,
    bad_rows: BadRows = "raise",
    time_unit: TimeUnit = "s",
    encoding: str = "utf8",
    users: PathLike | pa.Table | None = None,
    items: PathLike | pa.Table | None = None,
    name: str | None = None,
) -> StreamedInteractions:
    """Reads events as `read_interactions` does, in memory that doesn't grow with their number.

    The files are read once, and their events written to disk in parts, all of a user's in one, so
    that histories need one part at a time. That takes about the space of the events as text.

    Args:
        folder: where the parts go, in a folder of their own that is removed with the answer; the
            system's place for temporary files when None. A killed process leaves it behind.
        part_events: of a part, about; what is in memory at a time is a few parts.

    The other arguments, and what is raised, are those of `read_interactions`; further columns keep
    the type that they have in the files.

    Raises:
        ValueError: besides, if some events have a time and some have none.
    """
    if part_events < 1:
        raise ValueError(f"`part_events`={part_events}; use 1 or more.")
    source = EventFiles(paths, columns, bad_rows, time_unit, encoding, name)
    parts = -(-source.estimated_rows() // part_events) or 1
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    place = tempfile.TemporaryDirectory(prefix="tfrec-meta-events-", dir=folder)
    try:
        size = _spill(source, Path(place.name), parts)
        tables = source.attributes("user_id", users), source.attributes("item_id", items)
        return StreamedInteractions(place, size, *tables, source.name, source.dropped)
    except BaseException:
        place.cleanup()
        raise


class StreamedInteractions:
    """Events on disk, a part of the users at a time; made by `stream_interactions`.

    Attributes:
        users: what is known of users, as of `Interactions`; in memory.
        items: what is known of items; in memory.
        name: says in messages which data this is.
        dropped: reason -> rows left out while reading.
        sampled: False: events are taken to be all there are.
    """

    sampled = False

    def __init__(
        self,
        place: tempfile.TemporaryDirectory[str],
        size: int,
        users: pa.Table | None,
        items: pa.Table | None,
        name: str,
        dropped: Mapping[str, int],
    ) -> None:
        self._place = place
        self._size = size
        self._files = sorted(Path(place.name).glob("*.arrows"))
        self.users = users
        self.items = items
        self.name = name
        self.dropped = MappingProxyType(dict(dropped))

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"StreamedInteractions({self.name!r}: {len(self):,} events)"

    @property
    def folder(self) -> Path:
        """Where the parts are; others may keep theirs there, and they go with it."""
        return Path(self._place.name)

    def parts(self) -> Iterator[Interactions]:
        """All events of some users, then of others; within a part in the order of the source."""
        for file in self._files:
            yield Interactions(_read(file), self.users, self.items, self.name)

    def of_users(self, user_ids: Sequence[str] | np.ndarray) -> Interactions:
        """The events of these users, in memory."""
        wanted = pa.array(np.asarray(user_ids, object), pa.string())
        found = []
        for file in self._files:
            events = _read(file)
            found.append(events.filter(pc.is_in(events["user_id"], value_set=wanted)))
        return Interactions(pa.concat_tables(found), self.users, self.items, self.name)

    def close(self) -> None:
        """Removes what is on disk; also done when nothing refers to this any more."""
        self._place.cleanup()


def _spill(source: EventFiles, folder: Path, parts: int) -> int:
    """Writes the events by user, and returns how many."""
    size = missing = 0
    held: list[pa.Table] = []
    for batch in source.batches():
        size += batch.num_rows
        missing += batch["time"].null_count
        held.append(batch)
        if sum(table.num_rows for table in held) >= _SPILLED:
            _append(pa.concat_tables(held), folder, parts)
            held = []
    if held:
        _append(pa.concat_tables(held), folder, parts)
    if 0 < missing < size:
        raise ValueError(
            f"{source.name}: {missing:,} of {size:,} events have no time, and the others have one. "
            "Mend the source, or leave the column of times out."
        )
    return size


def _append(events: pa.Table, folder: Path, parts: int) -> None:
    part = _part_of(events["user_id"], parts)
    order = np.argsort(part, kind="stable")
    events = events.take(pa.array(order))
    bounds = np.searchsorted(part[order], np.arange(parts + 1))
    for number in np.flatnonzero(np.diff(bounds)):
        # A stream of its own for each stretch: no file stays open, however many parts there are.
        with (
            open(folder / f"{number:06d}.arrows", "ab") as file,
            pa.ipc.new_stream(file, events.schema) as writer,
        ):
            writer.write_table(events.slice(bounds[number], bounds[number + 1] - bounds[number]))


def _read(file: Path) -> pa.Table:
    tables = []
    with pa.OSFile(str(file)) as stream:
        size = stream.size()
        while stream.tell() < size:
            tables.append(pa.ipc.open_stream(stream).read_all())
    return pa.concat_tables(tables)


def _part_of(user_ids: pa.ChunkedArray, parts: int) -> np.ndarray:
    """The part of each event: the same for a user in any run, on any machine."""
    coded = pc.dictionary_encode(user_ids.combine_chunks())
    hashes = [zlib.crc32(token.encode()) % parts for token in coded.dictionary.to_pylist()]
    return np.array(hashes, np.int64)[coded.indices.to_numpy()]
