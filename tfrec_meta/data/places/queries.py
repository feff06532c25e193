"""`SqlQuery`: a query or a table of a database, which the readers of data take in place of a file.

SQLAlchemy connects, quotes names and binds parameters; no SQL is built from text here. A password
comes from the environment, and no message has it.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import pyarrow as pa

from tfrec_meta.errors import ParameterError
from tfrec_meta.extras import not_installed
from tfrec_meta.io.stores import is_url

if TYPE_CHECKING:
    import sqlalchemy

PASSWORD = "TFREC_META_SQL_PASSWORD"
_CONNECT_TIMEOUT = 30  # seconds
_CONNECT_TIMEOUTS = {  # the options by the drivers that have one
    "psycopg": "connect_timeout",
    "psycopg2": "connect_timeout",
    "pymysql": "connect_timeout",
    "mysqldb": "connect_timeout",
    "mysqlconnector": "connection_timeout",
    "pymssql": "login_timeout",
}
_ROWS = 50_000  # fetched at a time
_SHOWN = 60  # characters of a query in messages
_URL = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://", re.IGNORECASE)
_NO_DATABASE = re.compile(
    r"(abfss?|adl|az|file|ftp|gcs|hdfs|https?|s3[an]|sftp|wasbs?)://", re.IGNORECASE
)
_WITH_PASSWORD = re.compile(r"^[^:]+://[^@/]*:.+@")
_SECRET = r"(pass(?!file)|pwd|secret|token)"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_SECRET_INSIDE = re.compile(rf"{_SECRET}\w*\s*=", re.IGNORECASE)
_TABLE = re.compile(r"\w+(\.\w+)?")


@dataclass(frozen=True)
class SqlQuery:
    """Rows of a database.

    Args:
        statement: a query, or the name of a table, as "events" or "shop.events".
        url: SQLAlchemy's URL of the database, as "sqlite:///shop.db" or
            "postgresql+psycopg://reader@db.example.com/shop". If it has a user and no password,
            the password is that of the environment variable `TFREC_META_SQL_PASSWORD`.
        parameters: the values of the query's parameters, which it names as `:since`.

    Raises:
        ParameterError: for an empty statement, or a URL that is none of a database.

    Example:
        >>> from tfrec_meta.data.places.queries import SqlQuery
        >>> str(SqlQuery("events", "postgresql://reader:secret@db/shop"))
        'postgresql://reader:***@db/shop (events)'
    """

    statement: str
    url: str = field(repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.statement, str) or not self.statement.strip():
            raise ParameterError(
                f"`query`={self.statement!r}; use a query, or the name of a table.", "query"
            )
        if not is_database(self.url):
            raise ParameterError(
                "`url` is not the URL of a database; use one such as sqlite:///shop.db or "
                "postgresql+psycopg://user@host/name.",
                "url",
            )
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def __str__(self) -> str:
        text = " ".join(self.statement.split())
        return f"{shown_url(self.url)} ({text[:_SHOWN]}{'...' * (len(text) > _SHOWN)})"

    @property
    def name(self) -> str:
        """The table, the database without its suffix, or the host."""
        if self._is_table:
            return self._query
        place = shown_url(self.url).partition("://")[2].partition("?")[0]
        host, _, database = place.rpartition("@")[2].partition("/")
        name = os.path.basename(database).partition(".")[0]
        return name or re.sub(r":\d*$", "", host) or "query"

    @property
    def _is_table(self) -> bool:
        return _TABLE.fullmatch(self.statement.strip()) is not None

    def count(self) -> int:
        """Returns the number of rows."""
        import sqlalchemy as sql

        with self._connection() as connection:
            table = self._table(connection)
            rows = sql.text(self._query).columns() if table is None else sql.select(table)
            counted = sql.select(sql.func.count()).select_from(rows.subquery())
            return int(connection.execute(counted, self._bound()).scalar_one())

    def batches(
        self, choose: Callable[[Sequence[str]], Mapping[str, str]]
    ) -> Iterator[tuple[pa.Table, int]]:
        """Yields some columns of the rows, some rows at a time, each with the number of the first.

        Args:
            choose: is called once with the names of all columns, and returns those that are read,
                by the names of the result.

        Raises:
            ValueError: if the database or the query cannot be read; names the reason.
            ModuleNotFoundError: if SQLAlchemy or the driver of the database is missing.
        """
        import sqlalchemy as sql

        offset = 0
        with self._connection() as connection:
            reading = connection.execution_options(stream_results=True, max_row_buffer=_ROWS)
            table = self._table(connection)
            if table is None:
                result = reading.execute(sql.text(self._query), self._bound())
                present = choose(list(result.keys()))
            else:
                present = choose(list(table.columns.keys()))
                wanted = dict.fromkeys(present.values())
                result = reading.execute(sql.select(*(table.columns[name] for name in wanted)))
            place = {name: number for number, name in enumerate(result.keys())}
            for rows in result.partitions(_ROWS):
                cells = list(zip(*rows, strict=True))
                yield (
                    pa.table(
                        {
                            ours: self._column(
                                theirs, cells[place[theirs]], offset, ours.endswith("_id")
                            )
                            for ours, theirs in present.items()
                        }
                    ),
                    offset,
                )
                offset += len(rows)

    def _column(self, name: str, values: Sequence[Any], offset: int, is_id: bool) -> pa.Array:
        if is_id and all(map(_is_whole_decimal, values)):  # floats have no numbers above 2^53
            values = [None if value is None else str(int(value)) for value in values]
        if any(isinstance(value, uuid.UUID) for value in values):
            values = [None if value is None else str(value) for value in values]
        try:
            column = pa.array(values)
        except (pa.ArrowException, OverflowError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{self}, rows from {offset + 1}, column `{name}`: {reason}; give it one type, "
                "with CAST."
            ) from error
        return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column

    @property
    def _query(self) -> str:
        return self.statement.strip().rstrip(";")

    def _bound(self) -> dict[str, Any]:
        return {} if self._is_table else dict(self.parameters)

    def _table(self, connection: sqlalchemy.Connection) -> sqlalchemy.Table | None:
        """The table that the statement names; None if it is a query."""
        if not self._is_table:
            return None
        import sqlalchemy as sql

        schema, _, name = self._query.rpartition(".")
        try:
            return sql.Table(name, sql.MetaData(), schema=schema or None, autoload_with=connection)
        except sql.exc.NoSuchTableError:
            has = sql.inspect(connection).get_table_names(schema=schema or None)
            raise ValueError(
                f"{shown_url(self.url)} has no table `{self._query}`, but it has "
                f"{', '.join(has[:50]) or 'none'}."
            ) from None

    @contextmanager
    def _connection(self) -> Iterator[sqlalchemy.Connection]:
        """A connection, whose transaction is rolled back: nothing is written."""
        try:
            import sqlalchemy as sql
        except ModuleNotFoundError as error:
            raise not_installed("`tfrec_meta.read_sql`", error, "sql") from error
        shown, password = shown_url(self.url), None
        try:
            url = _parsed(self.url, shown)
            if url.username and url.password is None and os.environ.get(PASSWORD):
                url = url.set(password=os.environ[PASSWORD])
            password = url.password
            _refuse_missing_file(url, shown)
            # One connection, with no values of rows or parameters in its errors.
            engine = sql.create_engine(
                url,
                hide_parameters=True,
                poolclass=sql.pool.NullPool,
                connect_args=_limits(url),
            )
            with engine.connect() as connection:
                yield connection
        except sql.exc.NoSuchModuleError:
            raise ValueError(
                f"{shown}: SQLAlchemy has no such database; use a URL such as sqlite:///shop.db."
            ) from None
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{shown} needs {error.name}, which is not installed: pip install {error.name}",
                name=error.name,
            ) from None
        except sql.exc.SQLAlchemyError as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            if password:
                reason = reason.replace(str(password), "***")
            raise ValueError(
                f"{self} cannot be read: {reason.rstrip('.')}. Check the URL, the query, and "
                f"{PASSWORD} if the database wants a password."
            ) from None


def is_database(source: object) -> bool:
    """Returns whether a data source is the URL of a database."""
    if not isinstance(source, str) or is_url(source) or _NO_DATABASE.match(source):
        return False
    return _URL.match(source) is not None


def shown_url(url: str) -> str:
    """Returns the URL of a database without its passwords, for messages."""
    hidden = re.sub(r"^([^:]+://[^@/:]*):.*@", r"\1:***@", url)
    front, mark, options = hidden.partition("?")
    return front + mark + "&".join(map(_shown_option, options.split("&")))


def refuse_password(url: str) -> None:
    """Raises ParameterError for a URL with a password, which settings and logs would show."""
    if _WITH_PASSWORD.search(url) or any(map(_has_secret, url.partition("?")[2].split("&"))):
        raise ParameterError(
            f"`source`={shown_url(url)!r} has a password in it; leave it out, and set the "
            f"environment variable {PASSWORD}.",
            "source",
        )


def _shown_option(option: str) -> str:
    name = unquote_plus(option).partition("=")[0]
    is_hidden = name.lower() == "odbc_connect" or _has_secret(option)
    return f"{name}=***" if is_hidden else option


def _has_secret(option: str) -> bool:
    """Whether an option of a URL is a password, or text with one, as that of `odbc_connect`."""
    name, _, value = unquote_plus(option).partition("=")
    return bool(_SECRET_NAME.search(name) or _SECRET_INSIDE.search(value))


def absolute_url(url: str) -> str:
    """Returns the URL of a database; the path of a file of SQLite is made absolute."""
    found = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/?:][^?]*)(\?.*)?", url)
    if found is None or found[2].startswith("file:"):
        return url
    return f"{found[1]}{os.path.abspath(found[2])}{found[3] or ''}"


def _is_whole_decimal(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, Decimal) and value.is_finite() and value == int(value)


def _limits(url: sqlalchemy.URL) -> dict[str, int]:
    option = _CONNECT_TIMEOUTS.get(url.get_driver_name())
    return {} if option is None or option in url.query else {option: _CONNECT_TIMEOUT}


def _parsed(url: str, shown: str) -> sqlalchemy.URL:
    import sqlalchemy as sql

    try:
        return sql.make_url(url)
    except ValueError:  # of a port
        raise ValueError(
            f"{shown} is not the URL of a database; its port is not a number."
        ) from None


def _refuse_missing_file(url: sqlalchemy.URL, shown: str) -> None:
    """Raises FileNotFoundError for a file that SQLite would create."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path.startswith((":", "file:")):
        return
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{shown}: {path} does not exist; check the path.")
