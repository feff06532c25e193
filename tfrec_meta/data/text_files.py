"""Delimited text files (CSV, TSV, plain or gzipped), streamed as columns of strings."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from tfrec_meta.data.events import SCHEMA, RowCheck
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.progress import Progress

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 8 << 20  # bytes of text parsed at a time


@dataclass(frozen=True)
class TextFormat:
    """How a delimited text file is written.

    Attributes:
        delimiter: one character.
        names: the columns of a file without a header line; None when the first line names them.
        encoding: of the text.
        quoted: whether "..." may enclose a cell.
    """

    delimiter: str = ","
    names: tuple[str, ...] | None = None
    encoding: str = "utf8"
    quoted: bool = True


def read_text_table(
    path: Path,
    text: TextFormat,
    columns: Mapping[str, str] | None = None,
    shown: Path | None = None,
) -> pa.Table:
    """A whole small text file as string columns; a bad row is an error that names it.

    Args:
        columns: our name -> name in the file; all columns as they are named when None.
        shown: the path to show in messages, where `path` is a converted copy.
    """
    header = header_of(path, text)
    wanted = dict(columns) if columns is not None else {name: name for name in header}
    check = RowCheck(advice="Mend the file.")
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
    """Streams a text file as columns of strings, with words for each row of a batch.

    Args:
        path: the file.
        columns: our name -> name in the file.
        check: gets rows with the wrong number of cells, as "unreadable row".
        text: how the file is written.
        optional: which of `columns` may be absent.
        as_bytes: which of `columns` to give as bytes, so that `typed_events` can name a row whose
            bytes are no text; elsewhere such bytes are an error that names the column only.
        progress: told of the bytes that were read.
        shown: the path to show in messages, where `path` is a converted copy.
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
        return f"row {record + 1} (line {_line(path, record + has_header, text.quoted)})"

    def skipped_name(record: int, what: str) -> str:
        return f"{shown or path}, {record_name(record)}: {what}."

    told = 0

    def tell_skipped() -> None:
        nonlocal told
        for record, what in skipped[told:]:
            told += 1
            check.bad("unreadable row", 1, partial(skipped_name, record, what))

    offset = 0
    try:
        # One thread: only then does Arrow know the number of a bad row.
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
                quote_char='"' if text.quoted else False,
                newlines_in_values=text.quoted,
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
                tell_skipped()
                first = offset

                def row_name(row: int, first: int = first) -> str:
                    record = first + row
                    for number, _ in skipped:  # in rising order
                        record += number <= record
                    return record_name(record)

                table = pa.table({key: batch.column(source) for key, source in present.items()})
                # A source that serves two names is read as bytes if one of them asks for it.
                kinds = [(key, pa.binary() if key in as_bytes else pa.string()) for key in present]
                yield table.cast(pa.schema(kinds)), row_name
                offset += batch.num_rows
        tell_skipped()
    except pa.ArrowInvalid as error:
        tell_skipped()
        raise ValueError(damaged(shown or path, error)) from error
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(damaged(shown or path, error)) from error


def header_of(path: Path, text: TextFormat) -> list[str]:
    """The column names of a text file.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is empty or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; check the path.")
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
        if text.quoted
        else line.split(text.delimiter)
    )


def suffix_of(path: Path) -> str | None:
    """The ending that tells the format, .gz apart: .parquet or a key of `DELIMITERS`, or None."""
    suffixes = path.suffixes
    if suffixes[-1:] == [".gz"]:
        return suffixes[-2] if suffixes[-2:-1] and suffixes[-2] in DELIMITERS else None
    return suffixes[-1] if suffixes and suffixes[-1] in (".parquet", *DELIMITERS) else None


def present_columns(
    path: Path, columns: Mapping[str, str], header: Sequence[str], optional: set[str]
) -> dict[str, str]:
    """Our name -> theirs, for the columns that the file has."""
    repeated = {name for name in header if list(header).count(name) > 1}
    present = {}
    for key, source in columns.items():
        if source in repeated:
            raise ValueError(f"{path}, column `{source}` is there more than once; name each once.")
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
    """Words for an error of the layers below that read `path`."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if "UTF8" in reason or isinstance(error, UnicodeDecodeError):
        return (
            f"{path} is not in the encoding that it is read in: {reason}. Pass `encoding`, or save "
            "it as UTF-8."
        )
    cut = isinstance(error, EOFError) or "footer" in reason or "magic bytes" in reason
    return f"{path} is {'cut off or damaged' if cut else 'damaged'}: {reason}. Fetch it again."


class _CountedStream:
    """A readable, unpacked file that tells `progress` how much of the packed one was read."""

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
    """The line, from 1, of a record, from 0: blank lines are none, quoted cells may span lines."""
    inside = False
    number = 0
    # Latin-1 reads any bytes; line ends of all systems count, as they do for Arrow.
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
