"""Tables of users and items: reading them from files, with the names and types of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tfrec_meta.data.column_types import typed, with_declared_types, with_our_names
from tfrec_meta.data.places.queries import SqlQuery
from tfrec_meta.data.sources.formats import JSON_LINES, SUFFIXES, FileFormat, suffix_of
from tfrec_meta.data.sources.json_lines import read_json_table
from tfrec_meta.data.sources.lists import with_lists
from tfrec_meta.data.sources.text_files import damaged, read_text_table
from tfrec_meta.data.times import TimeReader
from tfrec_meta.io.files import PathLike
from tfrec_meta.io.stores import any_path, opened


def attribute_table(
    given: PathLike | pa.Table | SqlQuery | None,
    key: str,
    columns: Mapping[str, str],
    form: FileFormat,
) -> pa.Table | None:
    """Reads a table of users or items.

    Args:
        given: a file, a table, a query, or None.
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
    if isinstance(given, SqlQuery):
        table = with_our_names(_rows_of(given), key, columns, str(given))
        for name in table.column_names:
            if name in form.types:
                table = typed_by(form, table, name, str(given))
        return with_lists(table, form.lists)
    if isinstance(given, pa.Table):
        table = with_our_names(given, key, columns, f"the table of {key.removesuffix('_id')}s")
        return with_declared_types(table, form.types, f"the table with `{key}`", form.bad_rows)
    path = any_path(given)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; check the path.")
    suffix = suffix_of(path)
    if suffix is None:
        raise ValueError(f"{path} does not end in {SUFFIXES}; rename or convert it.")
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            with opened(path, random=True) as file:
                table = pq.read_table(file)
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


def _rows_of(query: SqlQuery) -> pa.Table:
    header: list[str] = []

    def choose(names: Sequence[str]) -> Mapping[str, str]:
        header.extend(names)
        return {name: name for name in names}

    tables = [table for table, _ in query.batches(choose)]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in header})
    return pa.concat_tables(tables, promote_options="permissive")


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
