"""Delimited text files (CSV, TSV), plain or compressed, read as columns of text or numbers."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec_meta.data.events import RowCheck
from tfrec_meta.data.ids import text_of
from tfrec_meta.data.sources.byte_streams import TextStream, damaged
from tfrec_meta.data.sources.formats import TextFormat
from tfrec_meta.data.sources.text_rows import Block, RowSplitter, whole_lines
from tfrec_meta.errors import MissingColumn, ParameterError
from tfrec_meta.io.progress import Progress
from tfrec_meta.io.stores import AnyPath, size_of

_PATIENCE = 16  # blocks after which a column is tried as numbers again
_DELIMITERS = (";", "\t", "|", ",")
_NAMED = 3  # invalid rows of a block and reason that are reported one by one

RowName = Callable[[int], str]


def read_text_table(
    path: AnyPath,
    text: TextFormat,
    columns: Mapping[str, str] | None = None,
    shown: AnyPath | None = None,
) -> pa.Table:
    """Reads a small text file as string columns; raises for an invalid row.

    Args:
        path: the file.
        text: its format.
        columns: names in the file by the names of the result; None for all columns, unchanged.
        shown: the path in messages, if `path` is a converted copy.
    """
    header = header_of(path, text)
    _check_delimiter(shown or path, header, text)
    wanted = dict(columns) if columns is not None else {name: name for name in header}
    check = RowCheck(advice="Fix the file.")
    tables = []
    with Progress(f"reading {path.name}", size_of(path)) as progress:
        for batch, _ in text_batches(path, wanted, check, text, progress=progress, shown=shown):
            tables.append(batch)
    if not tables:
        return pa.table({key: pa.array([], pa.string()) for key in wanted})
    return pa.concat_tables(tables)


def text_batches(
    path: AnyPath,
    columns: Mapping[str, str],
    check: RowCheck,
    text: TextFormat,
    *,
    optional: Iterable[str] = (),
    numbers: Mapping[str, pa.DataType] | None = None,
    undecoded: Collection[str] = (),
    progress: Progress | None = None,
    shown: AnyPath | None = None,
    on_header: Callable[[Sequence[str], Mapping[str, str]], None] | None = None,
) -> Iterator[tuple[pa.Table, RowName]]:
    """Yields a text file as tables, each with a function that names its rows.

    Every line after the header, except for blank ones, is a row of a table, a part of such a row
    (in a quoted cell), or reported to `check`.

    Args:
        path: the file.
        columns: names in the file by the names of the result.
        check: handles rows with a wrong number of cells or stray quotation marks ("unreadable
            row"), and cells that are not in the encoding ("unreadable text").
        text: the format of the file.
        optional: those of `columns` that may be missing.
        numbers: types of those columns that are returned as numbers where all cells of a table
            are, and as strings otherwise. The other columns are strings.
        undecoded: those of `columns` that are returned as bytes where they are not in UTF-8.
        progress: counts the bytes that were read.
        shown: the path in messages, if `path` is a converted copy.
        on_header: is called with all column names, and the columns that are read.

    Raises:
        ValueError: if a required column is missing or the file is damaged.
    """
    stream = TextStream(path, text.encoding, progress, shown)
    pieces = whole_lines(stream)
    header, lines, final, line = _header(stream, text, pieces)
    if text.names is None and not set(columns.values()) <= {*header}:
        _check_delimiter(stream.shown, header, text)
    present = present_columns(stream.shown, columns, header, set(optional))
    if on_header is not None:
        on_header(header, present)
    parser = _Parser(present, header, text, dict(numbers or {}))
    splitter = RowSplitter(text, len(header), line)
    first_row = 0
    while True:
        block = splitter.block(lines, final)
        if block.data:
            place = _Place(stream.shown, block, first_row)
            table = parser.parse(block, splitter, stream.shown)
            rows = table.num_rows + len(block.removed)
            place.report(check)
            broken = _undecodable(table, undecoded)
            for name, bad in broken.items():
                for count, row in _few(np.flatnonzero(bad)):
                    check.bad("unreadable text", count, partial(place.undecodable, row, name))
            if broken:
                good = ~np.logical_or.reduce(list(broken.values()))
                table = table.filter(pa.array(good))
                place.keep(good)
            if table.num_rows:
                yield _decoded(table, undecoded), place.name
            first_row += rows
            splitter.advance(block)
        if final:
            return
        lines, final = next(pieces)


def header_of(path: AnyPath, text: TextFormat) -> list[str]:
    """Returns the column names of a text file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is empty or damaged.
    """
    stream = TextStream(path, text.encoding)
    return _header(stream, text, whole_lines(stream))[0]


def likely_delimiter(header: Sequence[str]) -> str | None:
    """Returns the delimiter that the only name of a header shows; None if it shows no other."""
    counts = {mark: header[0].count(mark) for mark in _DELIMITERS} if len(header) == 1 else {}
    likely = max(counts, key=lambda mark: counts[mark], default="")
    return likely if likely and counts[likely] else None


def _check_delimiter(path: object, header: Sequence[str], text: TextFormat) -> None:
    likely = likely_delimiter(header)
    if likely is not None:
        raise ParameterError(
            f"{path} looks separated by {likely!r}, and not by {text.delimiter!r}: use "
            f"`delimiter`={likely!r}. `tfrec-meta data check FILE --to shop.yaml` recognizes the "
            "format of a log, and writes a config.",
            "delimiter",
        )


def present_columns(
    path: object, columns: Mapping[str, str], header: Sequence[str], optional: set[str]
) -> dict[str, str]:
    """Returns those of `columns` that the file has; raises if a required one is missing."""
    counts = Counter(header)
    present = {}
    for key, source in columns.items():
        if counts[source] > 1:
            raise ValueError(
                f"{path}, column `{source}` appears more than once; give each column its own name."
            )
        if counts[source]:
            present[key] = source
        elif key not in optional:
            listed = ", ".join(header[:50]) + (", ..." if len(header) > 50 else "")
            raise MissingColumn(
                f"{path} has no column `{source}` (for `{key}`), but it has {listed}; "
                f"give the name of the `{key}` column in `columns`.",
                key,
                "columns",
            )
    return present


def _header(
    stream: TextStream, text: TextFormat, pieces: Iterator[tuple[bytes, bool]]
) -> tuple[list[str], bytes, bool, int]:
    """Returns the column names, the first lines after them, whether these are all, and a count.

    The count is the number of lines up to the end of the header.
    """
    data, final = next(pieces)
    if text.names is not None:
        return list(text.names), data, final, 0
    while not data.strip(b"\r\n \t") and not final:
        more, final = next(pieces)
        data += more
    skipped = len(data) - len(data.lstrip(b"\r\n"))
    blank = len(Block(data[:skipped], 0).ends) if skipped else 0
    if not data[skipped:].strip():
        raise ValueError(f"{stream.shown} is empty; it needs a line of column names, then rows.")
    limit = re.compile(rb"\r\n|\n|\r")
    mark = text.quote.encode()
    end, lines = skipped, 0
    while True:  # a quoted name may span lines
        found = limit.search(data, end)
        end, lines = (found.end() if found else len(data)), lines + 1
        if not mark or data.count(mark, skipped, end) % 2 == 0 or end == len(data) or lines > 99:
            break
    try:
        words = data[skipped:end].decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(damaged(stream.shown, error)) from error
    if mark:
        rows = csv.reader(
            io.StringIO(words, newline=""), delimiter=text.delimiter, quotechar=text.quote
        )
        cells = next(rows)
        if next(rows, None) is not None:
            raise ValueError(
                f"{stream.shown}, line {blank + 1}: a quotation mark of the header is not closed."
            )
    else:
        cells = words.split(text.delimiter)
    return [cell.strip() for cell in cells], data[end:], final, blank + lines


class _Parser:
    """Parses blocks; remembers which columns are not numbers."""

    def __init__(
        self,
        present: Mapping[str, str],
        header: Sequence[str],
        text: TextFormat,
        numbers: dict[str, pa.DataType],
    ) -> None:
        place = {name: number for number, name in enumerate(header)}
        # Numbers as names, since names of columns that are not read may be repeated.
        self._sources = {key: str(place[source]) for key, source in present.items()}
        self._names = [str(number) for number in range(len(header))]
        self._text = text
        self._numbers: dict[str, pa.DataType] = {}
        shared = Counter(self._sources.values())
        for key, kind in numbers.items():
            source = self._sources.get(key)
            if source is not None and shared[source] == 1:
                self._numbers[source] = kind
        self._pause: Counter[str] = Counter()

    def parse(self, block: Block, splitter: RowSplitter, shown: AnyPath) -> pa.Table:
        """Returns the columns of the rows of a block; marks invalid rows as removed."""
        data = block.kept()
        mark = self._text.quote
        quoted = bool(mark) and mark.encode() in data
        try:
            data.decode()
            kind = pa.string()
        except UnicodeDecodeError:
            kind = pa.binary()
        numbers = {name: kind for name, kind in self._numbers.items() if not self._paused(name)}
        for _ in range(len(numbers) + 2):
            try:
                return self._table(data, quoted, bool(block.joined), kind, numbers)
            except pa.ArrowInvalid as error:
                column = re.match(r"In CSV column #(\d+):.* conversion error", str(error))
                failed = column[1] if column else ""
                if failed in numbers:
                    del numbers[failed]
                    self._pause[failed] = _PATIENCE
                    continue
                before = len(block.removed)
                splitter.remove_wrong_widths(block)
                if len(block.removed) == before:
                    raise ValueError(damaged(shown, error)) from error
                data = block.kept()
        raise AssertionError("each attempt removes a reason to fail")

    def _paused(self, source: str) -> bool:
        waits = self._pause[source] > 0
        self._pause[source] -= waits
        return waits

    def _wanted(self) -> list[str]:
        return list(dict.fromkeys(self._sources.values()))

    def _table(
        self,
        data: bytes,
        quoted: bool,
        joined: bool,
        kind: pa.DataType,
        numbers: Mapping[str, pa.DataType],
    ) -> pa.Table:
        import pyarrow.csv as arrow_csv

        wanted = self._wanted()
        if not data.strip(b"\r\n"):
            return pa.table({key: pa.array([], pa.string()) for key in self._sources})
        # Without Python callbacks and Python streams: Arrow may call those from threads that
        # outlive the call, and then the process aborts when it ends.
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=self._names
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self._text.delimiter,
                quote_char=self._text.quote if quoted else False,
                newlines_in_values=joined,
            ),
            convert_options=arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types={source: numbers.get(source, kind) for source in wanted},
                include_columns=wanted,
                strings_can_be_null=True,
                null_values=[""],
                decimal_point=self._text.decimal,
            ),
        )
        return pa.table({key: table.column(source) for key, source in self._sources.items()})


class _Place:
    """Names the rows of a parsed block."""

    def __init__(self, shown: AnyPath, block: Block, first_row: int) -> None:
        self._shown, self._block, self._first_row = shown, block, first_row
        self._good: np.ndarray | None = None
        self._lines: np.ndarray | None = None
        self._kept: np.ndarray | None = None

    @property
    def lines(self) -> np.ndarray:
        """Int [rows]: the first line of each row, from 0."""
        if self._lines is None:
            self._lines = self._block.first_lines()
        return self._lines

    def keep(self, good: np.ndarray) -> None:
        """Renumbers the rows after some were removed from the table."""
        self._good = np.flatnonzero(good)

    def name(self, row: int) -> str:
        """Returns the name of a row of the table."""
        if self._kept is None:
            removed = list(self._block.removed)
            self._kept = np.flatnonzero(~np.isin(self.lines, removed))
        number = int(self._kept[row if self._good is None else self._good[row]])
        return self._name(number)

    def _name(self, number: int) -> str:
        line = self._block.line + int(self.lines[number]) + 1
        return f"row {self._first_row + number + 1} (line {line})"

    def undecodable(self, row: int, column: str) -> str:
        """Returns the message for a cell of a row of the table."""
        return (
            f"{self._shown}, {self.name(row)}, column `{column}`: the bytes are not in the "
            "encoding that the file is read with; set `encoding`."
        )

    def report(self, check: RowCheck) -> None:
        """Reports the removed rows."""
        removed = self._block.removed
        lines = np.array(sorted(removed), int)
        for count, line in _few(lines):
            number = int(np.searchsorted(self.lines, line))

            def message(line: int = line, number: int = number) -> str:
                cell = self._block.text_of(line)[:60]
                return f"{self._shown}, {self._name(number)}: {removed[line]} in {cell!r}."

            check.bad("unreadable row", count, message)


def _few(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields counts and examples of rows: the first few one by one, then the others as one."""
    for row in rows[: _NAMED - 1].tolist():
        yield 1, row
    if len(rows) >= _NAMED:
        yield len(rows) - _NAMED + 1, int(rows[_NAMED - 1])


def _undecodable(table: pa.Table, undecoded: Collection[str]) -> dict[str, np.ndarray]:
    """Returns a mask of the invalid rows of each column of bytes that has some."""
    broken = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_binary(column.type) and name not in undecoded:
            _, bad = text_of(column.combine_chunks())
            if bad.any():
                broken[name] = bad
    return broken


def _decoded(table: pa.Table, undecoded: Collection[str]) -> pa.Table:
    def kind(field: Any) -> pa.DataType:
        is_text = pa.types.is_binary(field.type) and field.name not in undecoded
        return pa.string() if is_text else field.type

    return table.cast(pa.schema([(field.name, kind(field)) for field in table.schema]))
