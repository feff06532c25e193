"""`read_sql`: interactions from a table or a query of a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import pyarrow as pa

from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.places.queries import SqlQuery
from tfrec_meta.data.sources.formats import FormatOptions
from tfrec_meta.data.sources.reading import read_interactions


def read_sql(
    query: str,
    url: str,
    columns: Mapping[str, str] | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    users: str | pa.Table | None = None,
    items: str | pa.Table | None = None,
    name: str | None = None,
    **options: Unpack[FormatOptions],
) -> Interactions:
    """Reads events from a database, as `read_interactions` does from files.

    Needs the extra `sql`, and the driver of the database. The rows are read in batches, in a
    transaction that is rolled back.

    Args:
        query: a query, or the name of a table, as "events" or "shop.events".
        url: SQLAlchemy's URL of the database. If it has a user and no password, the password is
            that of the environment variable `TFREC_META_SQL_PASSWORD`.
        columns: names in the result by the names used here, as in `read_interactions`.
        parameters: the values of the query's parameters, which it names as `:since`. The database
            gets them apart from the query.
        users: a query or a table of the same database with the attributes of users and `user_id`,
            or a table of Arrow.
        items: the same for items.
        name: the name of the data; by default that of the table or of the database.
        options: what happens to invalid rows, and the types of columns, as in `read_interactions`.

    Raises:
        ModuleNotFoundError: if SQLAlchemy or the driver is missing.
        FileNotFoundError: if a file of SQLite does not exist.
        ValueError: if the database or the query cannot be read, a required column is missing, a row
            is invalid, or no row remains. No message has the password.

    Example:
        >>> import sqlite3, tempfile
        >>> import tfrec_meta as tm
        >>> file = tempfile.mkdtemp() + "/shop.db"
        >>> with sqlite3.connect(file) as database:
        ...     _ = database.execute("CREATE TABLE orders (customer, product, day)")
        ...     _ = database.execute("INSERT INTO orders VALUES ('ann', 'tea', '2025-01-31')")
        >>> data = tm.read_sql(
        ...     "SELECT * FROM orders WHERE day >= :since",
        ...     f"sqlite:///{file}",
        ...     {"user_id": "customer", "item_id": "product", "time": "day"},
        ...     parameters={"since": "2025-01-01"},
        ... )
        >>> len(data)
        1
    """

    def table(given: Any) -> pa.Table | SqlQuery | None:
        return SqlQuery(given, url, parameters or {}) if isinstance(given, str) else given

    return read_interactions(
        SqlQuery(query, url, parameters or {}),
        columns,
        users=table(users),
        items=table(items),
        name=name,
        **options,
    )
