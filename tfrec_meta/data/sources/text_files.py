"""Delimited text files (CSV, TSV, plain or gzipped), streamed as columns of strings."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from tfrec_meta.data.events import SCHEMA, RowCheck
from tfrec_meta.data.sources.formats import TextFormat
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.progress import Progress

_BLOCK = 8 << 20  # bytes of text parsed at a time


def read_text_table(
    path: Path,
    text: TextFormat,
    columns: Mapping[str, str] | None = None,
    shown: Path | None = None,
) -> pa.Table:
    """Reads a small text file as string columns; raises for an invalid row.

    Args:
        path: the file.
        text: its format.
        columns: names in the file by the names of the result; None for all columns, unchanged.
        shown: the path in messages, if `path` is a converted copy.
    """
    header = header_of(path, text)
    wanted = dict(columns) if columns is not None else {name: name for name in header}
    check = RowCheck(advice="Fix the file.")
    tables = []
    with Progress(f"reading {path.name}", path.stat().st_size) as progress:
        for batch, _ in text_batches(
            path, wanted, check, text, as_bytes=(), progress=progress, shown=shown
        ):
            tables.append(batch)
    if not tables:
        return pa.table({key: pa.array([], pa.string()) for key in wanted})
    return pa.concat_tables(tables)


def text_batches(
    path: Path,
    columns: Mapping[str, str],
    check: RowCheck,
    text: TextFormat,
    *,
    optional: Iterable[str] = (),
    as_bytes: Collection[str] = SCHEMA.names,
    progress: Progress | None = None,
    shown: Path | None = None,
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    """Yields a text file as tables of string columns, each with a function that names its rows.

    Args:
        path: the file.
        columns: names in the file by the names of the result.
        check: handles rows with a wrong number of cells, as "unreadable row".
        text: the format of the file.
        optional: those of `columns` that may be missing.
        as_bytes: those of `columns` to return as bytes, so that `typed_events` can name a row
            whose bytes are not text. In the other columns, the error names the column only.
        progress: counts the bytes that were read.
        shown: the path in messages, if `path` is a converted copy.
    """
    import pyarrow.csv as arrow_csv

    header = header_of(path, text)
    present = present_columns(path, columns, header, set(optional))
    has_header = text.names is None
    skipped: list[tuple[int, str]] = []  # data row (from 0), what is wrong

    def on_invalid(row: Any) -> str:
        found = f"{row.actual_columns} cells instead of {row.expected_columns}"
        skipped.append((row.number - 1 - has_header, f"{found} in {row.text[:60]!r}"))
        return "error" if check.bad_rows == "raise" else "skip"

    def record_name(record: int) -> str:
        return f"row {record + 1} (line {_line(path, record + has_header, bool(text.quote))})"

    def skipped_name(record: int, what: str) -> str:
        return f"{shown or path}, {record_name(record)}: {what}."

    reported = 0

    def report_skipped() -> None:
        nonlocal reported
        for record, what in skipped[reported:]:
            reported += 1
            check.bad("unreadable row", 1, partial(skipped_name, record, what))

    offset = 0
    try:
        # One thread, since Arrow numbers invalid rows only then.
        reader = arrow_csv.open_csv(
            _CountedStream(path, progress),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK,
                column_names=None if has_header else list(header),
                encoding=text.encoding,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=text.delimiter,
                quote_char=text.quote or False,
                newlines_in_values=bool(text.quote),
                invalid_row_handler=on_invalid,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types={source: pa.string() for source in present.values()}
                | {source: pa.binary() for key, source in present.items() if key in as_bytes},
                include_columns=list(dict.fromkeys(present.values())),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        with closing(reader):
            for batch in reader:
                report_skipped()
                first = offset

                def row_name(row: int, first: int = first) -> str:
                    record = first + row
                    for number, _ in skipped:  # in ascending order
                        record += number <= record
                    return record_name(record)

                table = pa.table({key: batch.column(source) for key, source in present.items()})
                # A column with two names in the result is read as bytes if either needs bytes.
                kinds = [(key, pa.binary() if key in as_bytes else pa.string()) for key in present]
                yield table.cast(pa.schema(kinds)), row_name
                offset += batch.num_rows
        report_skipped()
    except pa.ArrowInvalid as error:
        report_skipped()
        raise ValueError(damaged(shown or path, error)) from error
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(damaged(shown or path, error)) from error


def header_of(path: Path, text: TextFormat) -> list[str]:
    """Returns the column names of a text file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is empty or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; check the path.")
    if text.names is not None:
        return list(text.names)
    try:
        is_utf8 = text.encoding.lower().replace("-", "") == "utf8"
        encoding = "utf-8-sig" if is_utf8 else text.encoding
        with _open_text(path, encoding) as file:
            line = next((line for line in file if line.strip()), "")
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(damaged(path, error)) from error
    if not line:
        raise ValueError(f"{path} is empty; it needs a line of column names, then rows.")
    line = line.rstrip("\r\n")
    return (
        next(csv.reader([line], delimiter=text.delimiter))
        if bool(text.quote)
        else line.split(text.delimiter)
    )


def present_columns(
    path: Path, columns: Mapping[str, str], header: Sequence[str], optional: set[str]
) -> dict[str, str]:
    """Returns those of `columns` that the file has; raises if a required one is missing."""
    repeated = {name for name in header if list(header).count(name) > 1}
    present = {}
    for key, source in columns.items():
        if source in repeated:
            raise ValueError(
                f"{path}, column `{source}` appears more than once; give each column its own name."
            )
        if source in header:
            present[key] = source
        elif key not in optional:
            raise ParameterError(
                f"{path} has no column `{source}` (for `{key}`), but it has {', '.join(header)}; "
                f"give the name of the `{key}` column in `columns`.",
                "columns",
            )
    return present


def damaged(path: Path, error: BaseException) -> str:
    """Returns the message for an error of the libraries that read `path`."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if "UTF8" in reason or isinstance(error, UnicodeDecodeError):
        return (
            f"{path} is not in the encoding that it is read with: {reason}. Pass `encoding`, or "
            "save the file as UTF-8."
        )
    cut = isinstance(error, EOFError) or "footer" in reason or "magic bytes" in reason
    state = "cut off or damaged" if cut else "damaged"
    return f"{path} is {state}: {reason}. Download or write it again."


class _CountedStream:
    """A readable, decompressed file that reports the compressed bytes read to `progress`."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        self._raw = open(path, "rb")  # noqa: SIM115 (Arrow closes it, through `close`)
        self._file: IO[bytes] = self._raw
        if path.suffix == ".gz":
            self._file = gzip.GzipFile(fileobj=self._raw)  # type: ignore[assignment]
        self._progress, self._seen = progress, 0

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if self._progress is not None:
            position = self._raw.tell()
            self._progress.advance(position - self._seen)
            self._seen = position
        return data

    def close(self) -> None:
        self._file.close()
        self._raw.close()


def _line(path: Path, record: int, quoted: bool) -> int:
    """Returns the line, from 1, of a record, from 0.

    Blank lines are not records, and quoted cells may span lines.
    """
    inside = False
    number = 0
    # Latin-1 decodes any bytes; the line ends of all systems count, as in Arrow.
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="latin-1") as file:
        for number, line in enumerate(file, 1):
            if not inside and line.strip("\n"):
                if record == 0:
                    return number
                record -= 1
            if quoted and line.count('"') % 2:
                inside = not inside
    return number


def _open_text(path: Path, encoding: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline="", errors="replace")
    return open(path, encoding=encoding, newline="", errors="replace")
