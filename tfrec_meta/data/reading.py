"""Interactions from Parquet, CSV and TSV files: streamed, and every row accountable."""

from __future__ import annotations

import csv
import glob
import gzip
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from tfrec_meta.data.events import SCHEMA, BadRows, RowCheck, TimeUnit, typed_events
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.files import PathLike
from tfrec_meta.io.progress import Progress

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = ".parquet, .csv, .tsv, .csv.gz or .tsv.gz"
_BLOCK = 8 << 20  # bytes of text parsed at a time
_BATCH = 1 << 17  # Parquet rows read at a time
_TEXT_ROW = 30  # bytes of a row of text, about


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


def read_interactions(
    paths: PathLike | Iterable[PathLike],
    columns: Mapping[str, str] | None = None,
    *,
    bad_rows: BadRows = "raise",
    time_unit: TimeUnit = "s",
    encoding: str = "utf8",
    users: PathLike | pa.Table | None = None,
    items: PathLike | pa.Table | None = None,
    name: str | None = None,
) -> Interactions:
    """Reads events from files, in the order given, a batch at a time.

    Args:
        paths: a file, a folder (its data files by name), a glob pattern, or several of these.
            The ending tells the format: .parquet, .csv, .tsv, .csv.gz or .tsv.gz; text files
            begin with a line of column names.
        columns: our name -> the name in the files. `user_id` and `item_id` are needed, `time` and
            `value` used when there; other names add further event columns. Names that are not
            mapped are looked for as they are.
        bad_rows: "raise" on the first row that can't be understood, naming file, row and column;
            "drop" leaves such rows out, counts them by reason in `dropped` and logs examples.
        time_unit: unit of numeric times: s, ms, us or ns.
        encoding: of text files.
        users: a file or table of user attributes, with the user column named as in the events.
        items: the same for items.
        name: what to call the data; the first file's name when None.

    Returns:
        Interactions. `clean()` then drops what can be read but not be true.

    Raises:
        FileNotFoundError: a path is not there, or a folder or pattern holds no data file.
        ValueError: a needed column is missing, a file is damaged, a row is bad, or no row is left.
        TypeError: a column has a type that can't be meant.
    """
    source = EventFiles(paths, columns, bad_rows, time_unit, encoding, name)
    events = pa.concat_tables(source.batches())
    for key in events.column_names[4:]:
        position = events.column_names.index(key)
        events = events.set_column(position, key, _inferred(events[key]))
    return Interactions(
        events,
        source.attributes("user_id", users),
        source.attributes("item_id", items),
        source.name,
        source.dropped,
    )


class EventFiles:
    """Files of events, as `read_interactions` describes them; read a batch at a time.

    Args:
        paths, columns, bad_rows, time_unit, encoding, name: those of `read_interactions`.

    Attributes:
        name: what to call the data.
        dropped: reason -> rows left out so far.

    Raises:
        FileNotFoundError: a path is not there, or a folder or pattern holds no data file.
    """

    def __init__(
        self,
        paths: PathLike | Iterable[PathLike],
        columns: Mapping[str, str] | None,
        bad_rows: BadRows,
        time_unit: TimeUnit,
        encoding: str,
        name: str | None,
    ) -> None:
        self._files = _data_files([paths] if isinstance(paths, str | os.PathLike) else list(paths))
        keys = SCHEMA.names
        self._columns = {key: key for key in keys} | dict(columns or {})
        self._optional = {"time", "value"} - set(columns or {})
        self._check = RowCheck(bad_rows)
        self._time_unit: TimeUnit = time_unit
        self._encoding = encoding
        self.name = name or _stem(self._files[0])

    @property
    def dropped(self) -> Mapping[str, int]:
        return self._check.dropped

    def estimated_rows(self) -> int:
        """About how many rows there are, without reading them: exact for Parquet."""
        return sum(map(_estimated_rows, self._files))

    def batches(self) -> Iterator[pa.Table]:
        """Events of `SCHEMA`, and the further columns, in the order of the files.

        Raises:
            ValueError: a needed column is missing, a file is damaged, a row is bad, or no row is
                left.
            TypeError: a column has a type that can't be meant.
        """
        files, check = self._files, self._check
        kinds: dict[str, pa.DataType] = {}
        left = 0
        total = sum(file.stat().st_size for file in files)
        with Progress(f"reading {self.name}", total) as progress:
            for file in files:
                for batch, row_name in _batches(
                    file, self._columns, self._optional, check, self._encoding, progress
                ):
                    kinds = kinds or {field.name: field.type for field in batch.schema}
                    _check_alike(file, batch, files[0], kinds)
                    events = typed_events(
                        batch,
                        check,
                        source=str(file),
                        row_name=row_name,
                        time_unit=self._time_unit,
                    )
                    left += events.num_rows
                    yield events
        check.log(self.name)
        if not left:
            listed = ", ".join(map(str, files[:3])) + (", ..." if len(files) > 3 else "")
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in check.dropped.items())
            raise ValueError(f"{listed}: no event{f' is left, but {reasons}' if reasons else ''}.")

    def attributes(self, key: str, given: PathLike | pa.Table | None) -> pa.Table | None:
        """The table of users or items, whose id column is named as in the events."""
        return _attribute_table(given, key, self._columns[key], self._encoding)


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
    present = _present(path, columns, header, set(optional))
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


def _batches(
    path: Path,
    columns: Mapping[str, str],
    optional: set[str],
    check: RowCheck,
    encoding: str,
    progress: Progress,
) -> Iterator[tuple[pa.Table, Callable[[int], str]]]:
    suffix = suffix_of(path)
    if suffix in DELIMITERS:
        text = TextFormat(DELIMITERS[suffix], encoding=encoding)
        yield from text_batches(path, columns, check, text, optional=optional, progress=progress)
        return
    import pyarrow.parquet as pq

    offset = 0
    try:
        with pq.ParquetFile(path) as file:
            header = file.schema_arrow.names
            present = _present(path, columns, header, optional)
            size, rows = path.stat().st_size, max(file.metadata.num_rows, 1)
            sources = list(dict.fromkeys(present.values()))
            for batch in file.iter_batches(_BATCH, columns=sources):
                table = pa.table({key: batch.column(source) for key, source in present.items()})
                yield table, partial(_row_name, offset)
                offset += batch.num_rows
                progress.advance(size * batch.num_rows // rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(damaged(path, error)) from error


def _check_alike(
    path: Path, batch: pa.Table, first: Path, kinds: Mapping[str, pa.DataType]
) -> None:
    """Refuses a file whose columns differ from those of the first one.

    Else a rating that one file lacks would become a 1 among ratings.
    """
    for name in {*kinds, *batch.column_names}:
        if name not in batch.column_names:
            raise ValueError(
                f"{path} has no column for `{name}`, but {first} has; make them agree."
            )
        if name not in kinds:
            raise ValueError(f"{path} has a column for `{name}`, but {first} has none.")
        kind = batch.schema.field(name).type
        if name not in SCHEMA.names and kind != kinds[name]:
            raise TypeError(
                f"{path}, column for `{name}` is of type {kind}, but {kinds[name]} in {first}; "
                "make the files agree."
            )


def _row_name(first: int, row: int) -> str:
    return f"row {first + row + 1}"


def _present(
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


def _data_files(paths: Sequence[PathLike]) -> list[Path]:
    if not paths:
        raise ValueError("`paths` names no file; give at least one.")
    files: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            found = [
                file
                for file in sorted(path.iterdir())
                if file.is_file() and file.name[0] not in "._" and suffix_of(file) is not None
            ]
        elif path.is_file():
            if suffix_of(path) is None:
                raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
            found = [path]
        else:
            found = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        if not found:
            kind = f"holds no {SUFFIXES} file" if path.is_dir() else "is not there"
            raise FileNotFoundError(f"{path} {kind}; check the path.")
        files += found
    return files


def suffix_of(path: Path) -> str | None:
    """The ending that tells the format, .gz apart: .parquet or a key of `DELIMITERS`, or None."""
    suffixes = path.suffixes
    if suffixes[-1:] == [".gz"]:
        return suffixes[-2] if suffixes[-2:-1] and suffixes[-2] in DELIMITERS else None
    return suffixes[-1] if suffixes and suffixes[-1] in (".parquet", *DELIMITERS) else None


def _estimated_rows(path: Path) -> int:
    if suffix_of(path) == ".parquet":
        import pyarrow.parquet as pq

        try:
            return pq.read_metadata(path).num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(damaged(path, error)) from error
    packed = 4 if path.suffix == ".gz" else 1
    return path.stat().st_size * packed // _TEXT_ROW


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or path.name


def _attribute_table(
    given: PathLike | pa.Table | None, key: str, source: str, encoding: str
) -> pa.Table | None:
    if given is None:
        return None
    if isinstance(given, pa.Table):
        table = given
        path = None
    else:
        path = Path(given)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; check the path.")
        suffix = suffix_of(path)
        if suffix is None:
            raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            try:
                table = pq.read_table(path)
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(damaged(path, error)) from error
        else:
            table = read_text_table(path, TextFormat(DELIMITERS[suffix], encoding=encoding))
            table = pa.table(
                {
                    name: table[name] if name in (key, source) else _inferred(table[name])
                    for name in table.column_names
                }
            )
    if key not in table.column_names:
        if source not in table.column_names:
            raise ValueError(
                f"{path or 'the table'} has no column `{source}` (for `{key}`), but it has "
                f"{', '.join(table.column_names)}; name it as in the events."
            )
        table = table.rename_columns({source: key})
    return table


def _inferred(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as whole numbers if all of it is, else as numbers, else as it is."""
    if pa.types.is_string(column.type) and column.null_count < len(column):
        for kind in (pa.int64(), pa.float64()):
            try:
                return column.cast(kind)
            except pa.ArrowInvalid:
                continue
    return column
