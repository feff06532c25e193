"""Reads interactions from Parquet, CSV and TSV files in batches; reports each invalid row."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Unpack

import pyarrow as pa

from tfrec_meta.data.column_types import (
    TABLE_PREFIXES,
    BadCells,
    check_declared,
    common_schema,
    typed_part,
    with_schema,
)
from tfrec_meta.data.events import (
    NUMBERS,
    SCHEMA,
    RowCheck,
    typed_events,
)
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.places.files import Source, amount_of, data_files, estimated_rows, stem_of
from tfrec_meta.data.places.queries import SqlQuery
from tfrec_meta.data.sources.attributes import attribute_table, typed_by
from tfrec_meta.data.sources.formats import (
    DELIMITERS,
    JSON_LINES,
    FileFormat,
    FormatOptions,
    suffix_of,
)
from tfrec_meta.data.sources.json_lines import json_batches
from tfrec_meta.data.sources.lists import with_lists
from tfrec_meta.data.sources.text_files import (
    damaged,
    present_columns,
    text_batches,
)
from tfrec_meta.data.sources.unread_columns import warn_of_unread
from tfrec_meta.data.times import TimeReader
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.files import PathLike
from tfrec_meta.io.logs import logger
from tfrec_meta.io.progress import Progress
from tfrec_meta.io.stores import opened, size_of

OnHeader = Callable[[Sequence[str], Mapping[str, str]], None]

_log = logger(__name__)
_BATCH = 1 << 17  # Parquet rows read at a time


def read_interactions(
    paths: PathLike | Iterable[PathLike] | SqlQuery,
    columns: Mapping[str, str] | None = None,
    *,
    users: PathLike | pa.Table | SqlQuery | None = None,
    items: PathLike | pa.Table | SqlQuery | None = None,
    name: str | None = None,
    **options: Unpack[FormatOptions],
) -> Interactions:
    """Reads events from files, in the given order, in batches.

    Args:
        paths: a file, a folder (its data files sorted by name), a glob pattern, or several of
            these, local or on an object store (s3://, gs://). The suffix gives the format:
            .parquet, .csv, .tsv, .jsonl or .ndjson; text files also with .gz or .zst. CSV and TSV
            files begin with a line of column names. `read_sql` reads from databases.
        columns: names in the files by the names used here. `user_id` and `item_id` are required;
            `time` and `value` are optional, but must be in all files or in none; other names add
            further event columns. Events of a file without one of these have no value there. Names
            that are not in the mapping are looked up unchanged.
        users: a file or table of user attributes; the id column has the same name as in the events.
        items: the same for items.
        name: the name of the data; by default the name of the first file.
        options: how the files are written, and what happens to invalid rows: `delimiter`,
            `encoding`, `decimal`, `quote`, `lists`, `types`, `time_unit`, `time_format`, `bad_rows`
            and `max_bad_share`, as `tfrec_meta.data.FileFormat` describes them.

    Returns:
        Interactions. Call `clean()` on them to remove implausible events.

    Raises:
        FileNotFoundError: if a path does not exist, or a folder or pattern has no data file.
        ValueError: if a required column is missing, a file is damaged, a row is invalid, or no row
            remains.
        TypeError: if a column has a type that cannot be converted.
    """
    form = FileFormat(**options)
    source = EventFiles(paths, columns, form, name)
    batches = list(source.batches())
    events = pa.concat_tables(with_schema(part, source.schema, source.name) for part in batches)
    for column in events.column_names[len(SCHEMA) :]:
        if column not in form.types:
            events = typed_by(form, events, column, source.name)
    tables = source.attributes("user_id", users), source.attributes("item_id", items)
    for argument, declared in (("types", form.types), ("lists", form.lists)):
        check_declared(declared, argument, events, *tables)
    return Interactions.assembled(events, *tables, source.name, source.dropped)


class EventFiles:
    """Files of events, read in batches; see `read_interactions`.

    Args:
        paths, columns, name: as in `read_interactions`.
        form: the format of the files.

    Attributes:
        name: the name of the data.
        schema: the common schema of the tables that were read so far.
        dropped: number of rows removed so far, by reason.

    Raises:
        FileNotFoundError: if a path does not exist, or a folder or pattern has no data file.
    """

    def __init__(
        self,
        paths: PathLike | Iterable[PathLike] | SqlQuery,
        columns: Mapping[str, str] | None,
        form: FileFormat,
        name: str | None,
    ) -> None:
        self._files: Sequence[Source] = (
            [paths]
            if isinstance(paths, SqlQuery)
            else data_files([paths] if isinstance(paths, str | os.PathLike) else list(paths))
        )
        keys = SCHEMA.names
        if columns is not None and not isinstance(columns, Mapping):
            raise ParameterError(
                f"`columns`={columns!r}; use a mapping, as in {{'user_id': 'customer'}}.", "columns"
            )
        self._given = {key: key for key in keys} | dict(columns or {})
        # `users.x` and `items.x` rename attributes.
        self._columns = {
            ours: theirs
            for ours, theirs in self._given.items()
            if not ours.startswith(TABLE_PREFIXES)
        }
        if self._columns["user_id"] == self._columns["item_id"]:
            raise ParameterError(
                f"`columns` names {self._columns['user_id']!r} as the column of users and of "
                "items; use two columns.",
                "columns",
            )
        for argument, declared in (("types", form.types), ("lists", form.lists)):
            fixed = [key for key in keys if key in declared]
            if fixed:
                raise ParameterError(
                    f"`{argument}` has no effect on {', '.join(fixed)}, whose type is fixed; leave "
                    "it out.",
                    argument,
                )
        self._optional = {"time", "value"} - set(columns or {})
        if len(self._files) > 1:
            self._optional |= self._columns.keys() - set(keys)
        self._form = form
        self._times: defaultdict[str, TimeReader] = defaultdict(
            lambda: TimeReader(form.time_unit, form.time_format, form.decimal)
        )
        self._bad_cells = BadCells(form.bad_rows)
        self._check = RowCheck(form.bad_rows, form.max_bad_share)
        self.name = name or stem_of(self._files[0])
        self.schema = pa.schema([])

    @property
    def dropped(self) -> Mapping[str, int]:
        return self._check.dropped

    @property
    def examples(self) -> Mapping[str, Sequence[str]]:
        """A sentence about each of the first dropped rows, by reason."""
        return self._check.examples

    def estimated_rows(self) -> int:
        """Returns the number of rows without reading them: exact for Parquet, else estimated."""
        return sum(map(estimated_rows, self._files))

    def batches(self) -> Iterator[pa.Table]:
        """Yields tables of `SCHEMA` and the further columns, in the order of the files.

        Further columns have their declared types, or those of the files; `with_schema` gives all
        tables the same types.

        Raises:
            ValueError: if a required column is missing, a file is damaged, a row is invalid, or no
                row remains.
            TypeError: if a column has a type that cannot be converted.
        """
        files, check = self._files, self._check
        names: list[str] = []
        lacking: dict[str, set[str]] = {}  # further columns that are not in a file, by file
        left = 0
        total, unit = amount_of(files)
        with Progress(f"reading {self.name}", total, unit) as progress:
            for file in files:
                heard = partial(warn_of_unread, file) if file == files[0] else None
                for batch, row_name in raw_batches(
                    file, self._columns, self._optional, check, self._form, progress, heard
                ):
                    names = names or batch.column_names
                    _check_names(file, batch.column_names, files[0], names)
                    lacking[str(file)] = self._columns.keys() - {*SCHEMA.names, *batch.column_names}
                    batch = self._typed(with_lists(batch, self._form.lists), file, row_name)
                    events = typed_events(
                        batch,
                        check,
                        source=str(file),
                        row_name=row_name,
                        times=self._times["time"],
                        decimal=self._form.decimal,
                    )
                    self._add_schema(events.schema, file)
                    left += events.num_rows
                    yield events
        self._report_lacking(lacking)
        self._bad_cells.log()
        check.finish(self.name, left)
        if not left:
            listed = ", ".join(map(str, files[:3])) + (", ..." if len(files) > 3 else "")
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in check.dropped.items())
            raise ValueError(f"{listed}: no event{f' is left, but {reasons}' if reasons else ''}.")

    def _report_lacking(self, lacking: Mapping[str, set[str]]) -> None:
        """Raises for a further column that no file has, and logs those that only some have."""
        for name in sorted(set().union(*lacking.values())):
            without = [file for file, names in lacking.items() if name in names]
            source = f"column `{self._columns[name]}` (for `{name}`)"
            if len(without) == len(lacking):
                raise ParameterError(
                    f"None of the {len(without)} files has a {source}; give the name of the "
                    f"`{name}` column in `columns`.",
                    "columns",
                )
            _log.warning(
                "%s: %d of %d files, such as %s, have no %s; their events have no value there.",
                self.name,
                len(without),
                len(lacking),
                without[0],
                source,
            )

    def _typed(self, batch: pa.Table, file: Source, row_name: Callable[[int], str]) -> pa.Table:
        """Gives further columns their declared types."""
        form = self._form
        for name in batch.column_names:
            if name in form.types and name not in SCHEMA.names:
                batch = typed_part(
                    batch,
                    name,
                    form.types[name],
                    str(file),
                    self._bad_cells,
                    decimal=form.decimal,
                    times=self._times[name],
                    row_name=row_name,
                )
        return batch

    def _add_schema(self, schema: pa.Schema, file: Source) -> None:
        """Extends the common schema by that of a table."""
        if not len(self.schema):
            self.schema = schema
        if schema.equals(self.schema, check_metadata=True):
            return
        try:
            self.schema = common_schema(self.schema, schema)
        except TypeError as error:
            both = (name for name in schema.names if name in self.schema.names)
            name = next(n for n in both if not _fit(schema.field(n), self.schema.field(n)))
            raise TypeError(
                f"{file}, column for `{name}` is of type {schema.field(name).type}, but "
                f"{self.schema.field(name).type} in {self._files[0]}; give the column one type, or "
                "declare it with `types`."
            ) from error

    def attributes(self, key: str, given: PathLike | pa.Table | SqlQuery | None) -> pa.Table | None:
        """Reads a table of users or items, whose id column has the same name as in the events."""
        return attribute_table(given, key, self._given, self._form)


def raw_batches(
    path: Source,
    columns: Mapping[str, str],
    optional: set[str],
    check: RowCheck,
    form: FileFormat,
    progress: Progress,
    on_header: OnHeader | None,
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """Yields a file as tables of untyped columns, each with a function that names its rows.

    Args:
        path: the file, whose suffix gives the format, or a query.
        columns: names in the file by the names of the result.
        optional: those of `columns` that may be missing.
        check: handles rows that cannot be read.
        form: the format of the file.
        progress: counts the bytes that were read.
        on_header: is called with all column names, and the columns that are read.
    """
    if isinstance(path, SqlQuery):
        yield from _query_batches(path, columns, optional, progress, on_header)
        return
    suffix = suffix_of(path)
    if suffix in JSON_LINES:
        yield from json_batches(
            path,
            columns,
            check,
            form.encoding,
            optional=optional,
            progress=progress,
            on_header=on_header,
        )
        return
    if suffix in DELIMITERS:
        yield from text_batches(
            path,
            columns,
            check,
            form.text(path),
            optional=optional,
            numbers={} if form.time_format else NUMBERS,
            undecoded=SCHEMA.names,
            progress=progress,
            on_header=on_header,
        )
        return
    import pyarrow.parquet as pq

    offset = 0
    try:
        with opened(path, random=True) as content, pq.ParquetFile(content) as file:
            header = file.schema_arrow.names
            present = present_columns(path, columns, header, optional)
            if on_header is not None:
                on_header(header, present)
            size, rows = size_of(path), max(file.metadata.num_rows, 1)
            sources = list(dict.fromkeys(present.values()))
            for batch in file.iter_batches(_BATCH, columns=sources):
                table = pa.table({key: batch.column(source) for key, source in present.items()})
                yield table, partial(_row_name, offset)
                offset += batch.num_rows
                progress.advance(size * batch.num_rows // rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(damaged(path, error)) from error


def _query_batches(
    query: SqlQuery,
    columns: Mapping[str, str],
    optional: set[str],
    progress: Progress,
    on_header: OnHeader | None,
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """Yields the rows of a query as `raw_batches` does those of a file."""

    def choose(header: Sequence[str]) -> Mapping[str, str]:
        present = present_columns(query, columns, header, optional)
        if on_header is not None:
            on_header(header, present)
        return present

    for table, offset in query.batches(choose):
        yield table, partial(_row_name, offset)
        progress.advance(table.num_rows)


def _check_names(
    path: Source,
    names: Sequence[str],
    first: Source,
    expected: Sequence[str],
) -> None:
    """Raises if only one of a file and the first file has times, or values.

    Otherwise the events of a file without ratings would count as ratings of 1.
    """
    for name in NUMBERS:
        if name in expected and name not in names:
            raise ValueError(
                f"{path} has no column for `{name}`, but {first} has; make them agree."
            )
        if name in names and name not in expected:
            raise ValueError(f"{path} has a column for `{name}`, but {first} has none.")


def _fit(one: pa.Field, other: pa.Field) -> bool:
    try:
        common_schema(pa.schema([one]), pa.schema([other]))
    except TypeError:
        return False
    return True


def _row_name(first: int, row: int) -> str:
    return f"row {first + row + 1}"
