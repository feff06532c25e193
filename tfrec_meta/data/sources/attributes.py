"""Tables of users and items: reading them from files, with the names and types of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from tfrec_meta.data.column_types import typed, with_declared_types, with_our_names
from tfrec_meta.data.sources.formats import JSON_LINES, SUFFIXES, FileFormat, suffix_of
from tfrec_meta.data.sources.json_lines import read_json_table
from tfrec_meta.data.sources.lists import with_lists
from tfrec_meta.data.sources.text_files import damaged, read_text_table
from tfrec_meta.data.times import TimeReader
from tfrec_meta.io.files import PathLike


def attribute_table(
    given: PathLike | pa.Table | None, key: str, columns: Mapping[str, str], form: FileFormat
) -> pa.Table | None:
    """Reads a table of users or items.

    Args:
        given: a file, a table, or None.
        key: "user_id" or "item_id".
        columns: names in the files by the names used here. The id has the same name as in the
            events. `users.x` or `items.x` renames the attribute x of one of the tables.
        form: the format of the file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged, has no id column, or holds a cell that is no number in a
            column of numbers.
    """
    if given is None:
        return None
    if isinstance(given, pa.Table):
        table = with_our_names(given, key, columns, f"the table of {key.removesuffix('_id')}s")
        return with_declared_types(table, form.types, f"the table with `{key}`", form.bad_rows)
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; check the path.")
    suffix = suffix_of(path)
    if suffix is None:
        raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(damaged(path, error)) from error
    elif suffix in JSON_LINES:
        table = read_json_table(path, form.encoding)
    else:
        table = read_text_table(path, form.text(path))
    table = with_lists(with_our_names(table, key, columns, str(path)), form.lists)
    for name in table.column_names:
        if name != key:
            table = typed_by(form, table, name, str(path))
    return table


def typed_by(form: FileFormat, table: pa.Table, name: str, where: str) -> pa.Table:
    """Gives a column the type that a format declares, or recognizes it; see `typed`."""
    return typed(
        table,
        name,
        form.types.get(name),
        where,
        bad_rows=form.bad_rows,
        decimal=form.decimal,
        times=TimeReader(form.time_unit, form.time_format, form.decimal),
    )
