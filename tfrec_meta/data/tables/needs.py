"""The columns that a use of the data needs, with errors that state what for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tfrec_meta.data.interactions import Interactions
from tfrec_meta.errors import MissingColumn


def read_needed(read: Callable[[], Interactions], needs: Mapping[str, str]) -> Interactions:
    """Returns the data that `read` reads, if it has the needed columns.

    Args:
        read: reads the data.
        needs: what each needed column is for, by its name here: that of an event column, or
            "users.x" and "items.x" for the attribute x of one of these tables.

    Raises:
        MissingColumn: if a needed column is missing; the message has its purpose.
    """
    try:
        data = read()
    except MissingColumn as error:
        if error.column not in needs:
            raise
        raise MissingColumn(
            f"{error} It is needed: {needs[error.column]}.", error.column, *error.parameters
        ) from error
    tables = {"users.": data.users, "items.": data.items}
    for column, purpose in needs.items():
        prefix, dot, name = column.partition(".")
        table = tables.get(prefix + dot, data.events)
        if table is None:
            raise no_table(column, purpose)
        wanted = column if table is data.events else name
        if wanted not in table.column_names:
            raise no_column(column, purpose, data.name, table.column_names)
    return data


def no_table(column: str, purpose: str) -> MissingColumn:
    """Returns the error about a needed attribute of a table that is not given."""
    table = column.partition(".")[0]
    return MissingColumn(
        f"`needs` names `{column}`, but there is no table of {table}. It is needed: {purpose}. "
        f"Name the file with this table in `{table}`.",
        column,
        "needs",
        table,
    )


def no_column(column: str, purpose: str, source: str, known: Iterable[str]) -> MissingColumn:
    """Returns the error about a needed column that a source with the `known` ones lacks."""
    return MissingColumn(
        f"`needs` names `{column}`, but {source} has only {', '.join(known)} there. It is needed: "
        f"{purpose}. Add the column, give its name in `columns`, or leave it out of `needs`.",
        column,
        "needs",
        "columns",
    )
