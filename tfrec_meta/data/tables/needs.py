"""The columns that a use of the data needs, with errors that state what for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
            raise MissingColumn(
                f"`needs` names `{column}`, but there is no table of {prefix}. It is needed: "
                f"{purpose}. Name the file with this table in `{prefix}`.",
                column,
                "needs",
                prefix,
            )
        wanted = column if table is data.events else name
        if wanted not in table.column_names:
            raise MissingColumn(
                f"`needs` names `{column}`, but {data.name} has only "
                f"{', '.join(table.column_names)} there. It is needed: {purpose}. Add the column, "
                f"give its name in `columns`, or leave it out of `needs`.",
                column,
                "needs",
                "columns",
            )
    return data
