"""JSON Lines files: one JSON object per line, plain or compressed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from tfrec_meta.data.events import RowCheck
from tfrec_meta.data.sources.byte_streams import TextStream
from tfrec_meta.data.sources.text_files import RowName, present_columns
from tfrec_meta.data.sources.text_rows import whole_lines
from tfrec_meta.io.progress import Progress
from tfrec_meta.io.stores import AnyPath


def read_json_table(path: AnyPath, encoding: str) -> pa.Table:
    """Reads a small file with all of its columns; raises for an invalid row."""
    check = RowCheck(advice="Fix the file.")
    rows: list[dict[str, Any]] = []
    for _, objects in _objects(TextStream(path, encoding), check):
        rows += objects
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def json_names(path: AnyPath, encoding: str) -> list[str]:
    """Returns the names in all objects of a file; lines that are not JSON objects have none."""
    names: dict[str, None] = {}
    for _, objects in _objects(TextStream(path, encoding), RowCheck("drop")):
        names.update(dict.fromkeys(name for row in objects for name in row))
    return list(names)


def first_names(path: AnyPath, encoding: str) -> list[str]:
    """Returns the names in the first objects of a file."""
    first = next(_objects(TextStream(path, encoding), RowCheck("drop")), ([], []))
    return list(dict.fromkeys(name for row in first[1] for name in row))


def json_batches(
    path: AnyPath,
    columns: Mapping[str, str],
    check: RowCheck,
    encoding: str,
    *,
    optional: Iterable[str] = (),
    progress: Progress | None = None,
    on_header: Callable[[Sequence[str], Mapping[str, str]], None] | None = None,
) -> Iterator[tuple[pa.Table, RowName]]:
    """Yields a file as tables, each with a function that names its rows.

    Args:
        path: the file.
        columns: names in the file by the names of the result.
        check: handles lines that are not JSON objects, as "unreadable row".
        encoding: of the text.
        optional: those of `columns` that may be missing.
        progress: counts the bytes that were read.
        on_header: is called with the names in the first rows, and the columns that are read.

    Raises:
        ValueError: if a required column is missing in the first rows, or an optional one is in
            later rows only.
    """
    present: dict[str, str] | None = None
    for lines, objects in _objects(TextStream(path, encoding, progress), check):
        found = dict.fromkeys(name for row in objects for name in row)
        if present is None:
            present = present_columns(path, columns, list(found), set(optional))
            if on_header is not None:
                on_header(list(found), present)
        for key, source in columns.items():
            if source in found and key not in present:
                raise ValueError(
                    f"{path} has `{source}` (for `{key}`) only in later rows; write it in each row."
                )
        table = {
            key: _column([row.get(source) for row in objects]) for key, source in present.items()
        }
        yield pa.table(table), partial(_row_name, lines)


def _objects(
    stream: TextStream, check: RowCheck
) -> Iterator[tuple[list[tuple[int, int]], list[dict[str, Any]]]]:
    """Yields the (row, line) numbers and the objects of a piece of the file."""
    row = line = 0
    for data, _ in whole_lines(stream):
        numbers, objects = [], []
        for text in data.split(b"\n")[:-1]:
            line += 1
            if not text.strip():
                continue
            row += 1
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                problem = f"is not JSON ({str(error) or type(error).__name__})"
            else:
                if isinstance(value, dict):
                    numbers.append((row, line))
                    objects.append(value)
                    continue
                problem = "is not a JSON object"
            shown = repr(text[:60].decode("utf8", "replace"))
            where = f"{stream.shown}, row {row} (line {line})"
            check.bad("unreadable row", 1, partial(_message, where, shown, problem))
        if objects:
            yield numbers, objects


def _message(where: str, shown: str, problem: str) -> str:
    return f"{where}: {shown} {problem}."


def _row_name(numbers: Sequence[tuple[int, int]], row: int) -> str:
    return "row {} (line {})".format(*numbers[row])


def _column(cells: list[Any]) -> pa.Array:
    """Returns cells as one column: of their type if they share one, else as text."""
    kinds = {type(cell) for cell in cells} - {type(None)}
    if list in kinds:
        lists = [cell if cell is None or isinstance(cell, list) else [cell] for cell in cells]
        texts = [None if cell is None else [_text(part) for part in cell] for cell in lists]
        return pa.array(texts, pa.list_(pa.string()))
    if len(kinds) <= 1 and dict not in kinds:
        try:
            return pa.array(cells)
        except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):
            pass  # large whole numbers, or half of a surrogate pair
    return pa.array([_text(cell) for cell in cells], pa.string())


def _text(cell: Any) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        cell = int(cell)
    if isinstance(cell, str):
        return cell.encode("utf8", "replace").decode()
    return json.dumps(cell)
