"""The types of columns: declared, or recognized in text without losing how it is spelt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.events import SCHEMA, BadRows, RowName, flat
from tfrec_meta.data.numbers import CODE, NUMBER, are_mistakes, is_placeholder
from tfrec_meta.data.times import TimeReader
from tfrec_meta.errors import MissingColumn, ParameterError
from tfrec_meta.io.logs import logger

TABLE_PREFIXES = ("users.", "items.")
"""How keys of `columns` begin that rename attributes of one of these tables."""
RESPELLED = b"tfrec_meta.respelled"
"""Key in the metadata of a column of numbers that was text, spelt otherwise than Arrow writes the
numbers: "1.50". The value is such a text."""

_INTEGER = r"^(0|-?[1-9][0-9]*)$"
_log = logger(__name__)


def with_our_names(table: pa.Table, key: str, columns: Mapping[str, str], where: str) -> pa.Table:
    """Renames the columns of a table of users or items.

    Args:
        table: the table as given.
        key: "user_id" or "item_id".
        columns: names in the table by the names used here: that of the id, and those that begin
            with "users." or "items.".
        where: names the table in messages.

    Raises:
        ParameterError: if a named column is missing, or two columns would have one name.
    """
    prefix = key.removesuffix("_id") + "s."
    names = {
        source: ours.removeprefix(prefix)
        for ours, source in columns.items()
        if ours.startswith(prefix)
    }
    missing = [source for source in names if source not in table.column_names]
    if missing:
        raise MissingColumn(
            f"`columns`: {where} has no column `{missing[0]}`, but it has "
            f"{', '.join(table.column_names)}.",
            prefix + names[missing[0]],
            "columns",
        )
    if key not in table.column_names:
        source = columns.get(key, key)
        if source not in table.column_names:
            raise ValueError(
                f"{where} has no column `{source}` (for `{key}`), but it has "
                f"{', '.join(table.column_names)}; name it as in the events."
            )
        names[source] = key
    renamed = table.rename_columns([names.get(name, name) for name in table.column_names])
    twice = {name for name in renamed.column_names if renamed.column_names.count(name) > 1}
    if twice:
        raise ParameterError(
            f"`columns`: {where} has two columns for `{min(twice)}`; give each its own name.",
            "columns",
        )
    return renamed


def check_declared(declared: Iterable[str], name: str, *tables: pa.Table | None) -> None:
    """Raises a ParameterError if a declared column is in none of the tables.

    Args:
        declared: names of columns.
        name: the argument that declares them.
        tables: events, users and items; None is accepted.
    """
    present = [column for table in tables if table is not None for column in table.column_names]
    unknown = sorted(set(declared) - set(present))
    if unknown:
        raise ParameterError(
            f"`{name}` names the column {unknown[0]!r}, but there are only "
            f"{', '.join(dict.fromkeys(present))}.",
            name,
        )


def check_spelling(table: pa.Table, name: str) -> None:
    """Raises a ParameterError if a column is used as text, but was read as numbers.

    A request with the text of the file, such as "1.50", would otherwise not find "1.5".
    """
    spelt = (table.schema.field(name).metadata or {}).get(RESPELLED)
    if spelt is not None:
        raise ParameterError(
            f"The column `{name}` was read as numbers, so that its texts, such as "
            f"{spelt.decode()!r}, are lost, but a feature uses it as text. Declare its type: "
            f"`types`={{{name!r}: 'text'}}.",
            "types",
        )


def with_types(
    tables: tuple[pa.Table, pa.Table | None, pa.Table | None],
    types: Mapping[str, str],
    where: str,
    bad_rows: BadRows,
) -> tuple[pa.Table, pa.Table | None, pa.Table | None]:
    """Returns events, users and items with the declared types of their columns; see `typed`.

    Columns without a declaration, the ids, `time` and `value` keep theirs.

    Raises:
        ParameterError: if a declared column is in none of the tables.
    """
    check_declared(types, "types", *tables)
    events, users, items = (
        None if table is None else with_declared_types(table, types, where, bad_rows)
        for table in tables
    )
    return events, users, items


def with_declared_types(
    table: pa.Table, types: Mapping[str, str], where: str, bad_rows: BadRows
) -> pa.Table:
    """Returns one table with the declared types of its columns; see `typed`."""
    for name in table.column_names:
        if name in types and name not in SCHEMA.names:
            table = typed(table, name, types[name], where, bad_rows=bad_rows)
    return table


class BadCells:
    """Handles cells that do not have the type of their column.

    Args:
        bad_rows: "raise" raises for the first such cell; with "drop", they are missing values.
    """

    def __init__(self, bad_rows: BadRows = "raise") -> None:
        self._bad_rows = bad_rows
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, name: str, count: int, message: str) -> None:
        """Reports cells of the column `name`; the message describes the first of them.

        Raises:
            ParameterError: with the message, unless bad cells are missing values.
        """
        if self._bad_rows == "raise":
            raise ParameterError(
                f"{message}. Leave the cell empty, read such cells as missing "
                f"(`bad_rows`='drop'), or read the column as text: `types`={{{name!r}: 'text'}}.",
                "types",
                "bad_rows",
            )
        first, known = self._found.get(name, (message, 0))
        self._found[name] = first, known + count

    def log(self) -> None:
        """Logs the number of bad cells of each column, with the first one."""
        for message, count in self._found.values():
            _log.warning("%s; %s such cells are missing values.", message, f"{count:,}")
        self._found.clear()


def typed(
    table: pa.Table,
    name: str,
    kind: str | None,
    where: str,
    *,
    bad_rows: BadRows = "raise",
    decimal: str = ".",
    times: TimeReader | None = None,
) -> pa.Table:
    """Returns a whole table with the type of one column declared or recognized; see `typed_part`.

    Args:
        table, name, kind, where, decimal, times: as in `typed_part`.
        bad_rows: what happens to other cells in a column of numbers or times: "raise" raises; with
            "drop" they are missing values, which are logged.
    """
    bad_cells = BadCells(bad_rows)
    table = typed_part(table, name, kind, where, bad_cells, decimal=decimal, times=times)
    bad_cells.log()
    return table


def typed_part(
    table: pa.Table,
    name: str,
    kind: str | None,
    where: str,
    bad_cells: BadCells,
    *,
    decimal: str = ".",
    times: TimeReader | None = None,
    row_name: RowName = lambda row: f"row {row + 1}",
) -> pa.Table:
    """Gives a column its declared type, or recognizes the type of a column of text.

    Text becomes numbers if all cells are numbers, and no digit, zero or sign would be lost.
    Integers that fit int64 become integers; other numbers become floats. In a column that is
    declared as numbers, cells such as "n/a" or "—" are missing. Times become Unix seconds, int64.

    Args:
        table: with the column; cells of text files are text, and empty cells are null.
        name: the column.
        kind: its declared type: "text", "number" or "time"; None recognizes numbers.
        where: names the table in messages.
        bad_cells: handles other cells in a column of numbers or times.
        decimal: the character before the decimals of numbers in text.
        times: reads columns of times; None recognizes numbers and ISO 8601.
        row_name: names a row of the table in messages.

    Raises:
        ValueError: for a cell that is not a number or not a time, unless `bad_cells` accepts them.
        TypeError: if the column cannot have the type.
    """
    column = table[name]
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    metadata = None
    if kind == "text":
        column = column if is_text else _as_text(column, name, where)
    elif kind == "time":
        place = _Place(bad_cells, name, where, row_name)
        column = _times(column, place, times or TimeReader())
    elif kind == "number" and not is_text:
        if not (_is_number(column.type) or pa.types.is_null(column.type)):
            raise TypeError(f"{where}, column `{name}` is of type {column.type}, and no number.")
    elif is_text:
        place = _Place(bad_cells, name, where, row_name)
        column, metadata = _numbers(column, place, decimal, declared=kind == "number")
    else:
        return table
    field = pa.field(name, column.type, metadata=metadata)
    return table.set_column(table.column_names.index(name), field, column)


def common_schema(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    """Returns the schema to which tables of both can be cast: whole and other numbers are floats.

    Raises:
        pa.ArrowTypeError: if columns have types that are too different.
    """
    both = pa.unify_schemas([_decoded(one), _decoded(other)], promote_options="permissive")
    for place, field in enumerate(both):
        respelled = [
            schema.field(field.name).metadata
            for schema in (one, other)
            if schema.get_field_index(field.name) >= 0 and schema.field(field.name).metadata
        ]
        both = both.set(place, field.with_metadata(respelled[0] if respelled else None))
    return both


def _decoded(schema: pa.Schema) -> pa.Schema:
    for place, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            schema = schema.set(place, field.with_type(field.type.value_type))
    return schema


def with_schema(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Casts a table to a `common_schema` of its own; columns that it lacks are null.

    Raises:
        TypeError: for a whole number that floats do not have; `where` names the table.
    """
    if table.schema.equals(schema, check_metadata=True):
        return table
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    table = table.select(schema.names)
    try:
        return table.cast(schema)
    except pa.ArrowInvalid as error:
        raise TypeError(
            f"{where}: {error}, but other rows of the column have fractions. Write the column as "
            "text, or declare it as text with `types`."
        ) from error


@dataclasses.dataclass(frozen=True)
class _Place:
    """A column whose cells are converted, and the handling of its bad cells."""

    bad_cells: BadCells
    name: str
    where: str
    row_name: RowName

    def report(self, cells: pa.Array, bad: pa.BooleanArray, what: str) -> None:
        """Reports the bad cells, if there are any."""
        first = pc.index(bad, True).as_py()
        if first >= 0:
            row = f"{self.where}, {self.row_name(first)}, column `{self.name}`"
            cell = cells[first].cast(pa.string()).as_py()
            self.bad_cells.add(self.name, pc.sum(bad).as_py(), f"{row}: {cell[:60]!r} {what}")


def _numbers(
    column: pa.ChunkedArray, place: _Place, decimal: str, declared: bool
) -> tuple[pa.ChunkedArray, dict[bytes, bytes] | None]:
    """Returns a column of text as numbers, if it is one, and its metadata."""
    text = pc.utf8_trim_whitespace(column.combine_chunks().cast(pa.string()))
    text = pc.if_else(pc.equal(text, ""), None, text)
    plain = pc.replace_substring(text, ",", ".") if decimal == "," else text
    is_number = pc.match_substring_regex(plain, f"^{NUMBER}$")
    filled = len(text) - text.null_count
    numbers = pc.sum(is_number).as_py() or 0
    if not declared:
        has_codes = pc.any(pc.match_substring_regex(plain, f"^{CODE}")).as_py()
        placeholders = pc.sum(is_placeholder(text)).as_py() or 0
        if has_codes or not numbers or not are_mistakes(filled - numbers, placeholders, filled):
            return column, None
    elif numbers < filled:
        missing = is_placeholder(text)
        plain = pc.if_else(missing, None, plain)
        filled -= pc.sum(missing).as_py()
    bad = pc.fill_null(pc.and_(pc.is_valid(plain), pc.invert(is_number)), False)
    place.report(text, bad, f"is not a number, as {numbers:,} of {filled:,} cells are")
    plain = pc.if_else(bad, None, plain)
    if pc.all(pc.match_substring_regex(plain, _INTEGER), min_count=0).as_py():
        try:
            return pa.chunked_array([plain.cast(pa.int64())]), None
        except pa.ArrowInvalid:  # longer than int64: a code
            if not declared:
                return column, None
    values = pc.replace_substring_regex(plain, r"^\+", "").cast(pa.float64())
    changed = pc.not_equal(values.cast(pa.string()), plain)
    first = pc.index(changed, True).as_py()
    metadata = None if first < 0 else {RESPELLED: plain[first].as_py().encode()}
    return pa.chunked_array([values]), metadata


def _times(column: pa.ChunkedArray, place: _Place, times: TimeReader) -> pa.ChunkedArray:
    """Returns a column as Unix seconds."""
    cells = flat(column)
    found, bad = times.read(cells, f"{place.where}, column `{place.name}`", place.row_name)
    place.report(cells, pa.array(bad), "is not a time")
    return pa.chunked_array([pc.if_else(pa.array(bad), None, found)])


def _as_text(column: pa.ChunkedArray, name: str, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypeError(
            f"{where}, column `{name}` is of type {column.type}, which cannot be text."
        ) from error


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
