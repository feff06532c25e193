"""The first rows of a data file with all of its columns, as they are written."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from tfrec_meta.data.column_types import common_schema
from tfrec_meta.data.events import RowCheck
from tfrec_meta.data.sources.formats import DELIMITERS, JSON_LINES, FileFormat, suffix_of
from tfrec_meta.data.sources.json_lines import first_names
from tfrec_meta.data.sources.reading import raw_batches
from tfrec_meta.data.sources.text_files import damaged, header_of, likely_delimiter
from tfrec_meta.io.progress import Progress
from tfrec_meta.io.stores import AnyPath, opened, size_of


def with_delimiter(path: AnyPath, form: FileFormat) -> FileFormat:
    """Returns the format with the delimiter that the header of a text file shows.

    The delimiter stays as it is if it is given, or if the header has several columns with it.
    """
    if suffix_of(path) not in DELIMITERS or form.delimiter is not None:
        return form
    likely = likely_delimiter(header_of(path, form.text(path)))
    return dataclasses.replace(form, delimiter=likely) if likely else form


def first_rows(path: AnyPath, form: FileFormat, rows: int) -> pa.Table:
    """Returns the first readable rows with all columns of unique names, untyped.

    Args:
        path: the file.
        form: its format.
        rows: the most rows to return.

    Raises:
        ValueError: if the file is empty or damaged.
    """
    header = _header(path, form)
    columns = {name: name for name in header if header.count(name) == 1}
    check = RowCheck("drop")
    tables: list[pa.Table] = []
    left = rows
    with Progress(f"reading {path.name}", size_of(path)) as progress:
        for batch, _ in raw_batches(path, columns, set(columns), check, form, progress, None):
            tables.append(batch.slice(0, left))
            left -= tables[-1].num_rows
            if left <= 0:
                break
    if not tables:
        return pa.table({name: pa.nulls(0) for name in columns})
    schema = tables[0].schema
    try:
        for table in tables[1:]:
            schema = common_schema(schema, table.schema)
        return pa.concat_tables(table.cast(schema) for table in tables)
    except (TypeError, pa.ArrowInvalid):  # a column of several types: one block has to do
        return tables[0]


def _header(path: AnyPath, form: FileFormat) -> list[str]:
    suffix = suffix_of(path)
    if suffix in JSON_LINES:
        return first_names(path, form.encoding)
    if suffix in DELIMITERS:
        return header_of(path, form.text(path))
    import pyarrow.parquet as pq

    try:
        with opened(path, random=True) as file:
            return list(pq.read_schema(file).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(damaged(path, error)) from error
