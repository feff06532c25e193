"""Tables and queries of databases."""

import datetime
import decimal
import sqlite3

import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.data.places.queries import (
    SqlQuery,
    absolute_url,
    is_database,
    refuse_password,
    shown_url,
)

COLUMNS = {"user_id": "customer", "item_id": "product", "time": "day", "value": "stars"}


@pytest.fixture
def shop(tmp_path):
    """The URL of a database with three orders, two customers and a wide table."""
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (customer TEXT, product INTEGER, day, stars REAL)")
        rows = [
            ("ann", 1, "2025-01-31", 5.0),
            ("bob", 2, "2025-02-01", 3.5),
            ("ann; DROP TABLE orders", 2, "2025-02-02", 1.0),
        ]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
        database.execute("CREATE TABLE customers (customer TEXT, age INTEGER)")
        database.execute("INSERT INTO customers VALUES ('ann', 31), ('bob', NULL)")
    database.close()
    return f"sqlite:///{tmp_path}/shop.db"


def test_a_table_is_read_with_its_types(shop):
    data = tm.read_sql("orders", shop, COLUMNS)
    assert data.name == "orders"
    assert data.events["user_id"].to_pylist() == ["ann", "bob", "ann; DROP TABLE orders"]
    assert data.events["item_id"].to_pylist() == ["1", "2", "2"]
    first = int(datetime.datetime(2025, 1, 31, tzinfo=datetime.UTC).timestamp())
    assert data.events["time"].to_pylist() == [first, first + 86_400, first + 2 * 86_400]
    assert data.events["value"].to_pylist() == [5.0, 3.5, 1.0]


def test_parameters_are_bound_and_not_part_of_the_query(shop):
    query = "SELECT * FROM orders WHERE customer = :who"
    for who, events in (("ann", 1), ("ann; DROP TABLE orders", 1)):
        data = tm.read_sql(query, shop, COLUMNS, parameters={"who": who})
        assert (len(data), data.name) == (events, "shop")
    assert len(tm.read_sql("orders", shop, COLUMNS)) == 3


def test_users_and_items_come_from_queries_too(shop):
    items = pa.table({"product": ["1", "2"], "title": ["tea", "jam"]})
    data = tm.read_sql("orders", shop, COLUMNS, users="customers", items=items)
    assert data.users["age"].to_pylist() == [31, None]
    assert data.items["title"].to_pylist() == ["tea", "jam"]


def test_large_tables_are_read_in_batches_and_streamed(shop, monkeypatch):
    monkeypatch.setattr("tfrec_meta.data.places.queries._ROWS", 2)
    assert len(tm.read_sql("orders", shop, COLUMNS)) == 3
    query = SqlQuery("SELECT * FROM orders", shop)
    assert query.count() == 3
    streamed = tm.stream_interactions(query, COLUMNS, part_events=1)
    assert sum(len(part) for part in streamed.parts()) == 3


def test_a_query_writes_nothing(shop):
    with pytest.raises(ValueError, match=r"shop\.db \(DELETE FROM orders\) cannot be read"):
        tm.read_sql("DELETE FROM orders", shop, COLUMNS)
    assert len(tm.read_sql("orders", shop, COLUMNS)) == 3


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("visits", r"has no table `visits`, but it has customers, orders\."),
        ("SELECT color FROM orders", "cannot be read: no such column: color"),
        ("SELECT * FROM orders WHERE day > :since", "value is required for bind parameter"),
        ("SELECT customer, day FROM orders", r"has no column `product` \(for `item_id`\)"),
        ("SELECT *, customer FROM orders", "column `customer` appears more than once"),
        ("SELECT * FROM orders WHERE 1 = 0", "no event"),
        (" ", "use a query, or the name of a table"),
    ],
)
def test_a_wrong_query_says_what_is_wrong(shop, query, message):
    with pytest.raises(ValueError, match=message):
        tm.read_sql(query, shop, COLUMNS)


def test_a_column_of_several_types_is_named(shop):
    query = "SELECT customer, product, CASE product WHEN 1 THEN 'x' ELSE 5 END AS day FROM orders"
    columns = {"user_id": "customer", "item_id": "product", "time": "day"}
    with pytest.raises(ValueError, match=r"rows from 1, column `day`: .* with CAST"):
        tm.read_sql(query, shop, columns)


def test_whole_decimals_as_ids_keep_their_digits(shop):
    query = SqlQuery("orders", shop)
    whole = [decimal.Decimal(2**53 + 1), None]
    ids = query._column("id", whole, 0, is_id=True)
    assert ids.to_pylist() == [str(2**53 + 1), None]
    halves = query._column("value", [decimal.Decimal("2.5")], 0, is_id=False)
    assert halves.to_pylist() == [2.5]


def test_a_missing_file_is_not_created(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.db does not exist"):
        tm.read_sql("orders", f"sqlite:///{tmp_path}/no.db", COLUMNS)
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("nothing://host/shop", ValueError, "SQLAlchemy has no such database"),
        ("shop.db", ValueError, "`url` is not the URL of a database"),
        ("postgresql://u@h:abc/db", ValueError, "u@h:abc/db is not the URL .* its port is not"),
        ("https://host/shop", ValueError, "`url` is not the URL of a database"),
        ("S3://bucket/shop", ValueError, "`url` is not the URL of a database"),
        ("s3://bucket/shop", ValueError, "`url` is not the URL of a database"),
        ("mssql+pymssql://ann:hidden@host/shop", ImportError, "needs pymssql, which is not"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url, kind, message):
    with pytest.raises(kind, match=message) as error:
        tm.read_sql("orders", url, COLUMNS)
    assert "hidden" not in str(error.value)


def test_a_password_from_the_environment_is_in_no_message(monkeypatch):
    seen = []

    def create_engine(url, **options):
        from sqlalchemy.exc import OperationalError

        seen.append((url.password, options["connect_args"]))
        raise OperationalError("connect", {}, Exception(f"login of ann with {url.password} failed"))

    monkeypatch.setattr("sqlalchemy.create_engine", create_engine)
    monkeypatch.setenv("TFREC_META_SQL_PASSWORD", "hidden-word")
    with pytest.raises(ValueError, match=r"login of ann with \*\*\* failed") as error:
        tm.read_sql("orders", "postgresql://ann@host/shop", COLUMNS)
    assert seen == [("hidden-word", {"connect_timeout": 30})]
    assert "hidden-word" not in str(error.value)
    assert error.value.__suppress_context__


def test_passwords_in_urls_are_hidden_and_refused_in_settings():
    url = "postgresql://ann:p@ss/word@host/shop?sslmode=require&password=other"
    assert shown_url(url) == "postgresql://ann:***@host/shop?sslmode=require&password=***"
    for wrong in (url, "mysql://ann:word@host/shop", "mysql://host/shop?user=a&passwd=word"):
        with pytest.raises(ValueError, match="TFREC_META_SQL_PASSWORD") as error:
            refuse_password(wrong)
        assert "word@" not in str(error.value)
        assert "=word" not in str(error.value)
    for right in ("sqlite:///shop.db", "postgresql://ann@host:5432/shop", "mysql://host/shop"):
        refuse_password(right)
    refuse_password("postgresql://ann@host/shop?passfile=/etc/pgpass")
    assert "word" not in repr(SqlQuery("orders", "mysql://ann:word@host/shop"))


@pytest.mark.parametrize(
    "option",
    [
        "odbc_connect=DRIVER=x;UID=ann;PWD=hidden",
        "odbc_connect=DRIVER%3Dx%3BPWD%3Dhidden",
        "odbc%5Fconnect=PWD%3Dhidden",
        "sslpassword=hidden",
        "driver=x&pass%77ord=hidden",
        "access_token=hidden",
    ],
)
def test_passwords_in_options_of_urls_are_hidden_and_refused(option):
    url = f"mssql+pyodbc://host/shop?{option}"
    assert "hidden" not in shown_url(url)
    with pytest.raises(ValueError, match="has a password in it") as error:
        refuse_password(url)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://ann:hidden@localhost", "localhost"),
        ("postgresql://ann:hi/dden@localhost:5432", "localhost"),
        ("postgresql://ann:hidden@host/shop?x=1", "shop"),
        ("sqlite:////a/shop.db", "shop"),
        ("sqlite://", "query"),
    ],
)
def test_the_name_of_the_data_has_no_password(url, name):
    assert SqlQuery("SELECT 1", url).name == name


def test_urls_of_databases_are_recognized_and_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_database("sqlite:///shop.db")
    assert not any(map(is_database, ("s3://a/b", "gs://a/b", "a/b.csv", "movielens-100k")))
    assert absolute_url("sqlite:///a/shop.db?x=1") == f"sqlite:///{tmp_path}/a/shop.db?x=1"
    for same in ("sqlite:////a/shop.db", "sqlite://", "sqlite:///:memory:", "mysql://h/shop.db"):
        assert absolute_url(same) == same
