"""Data files on object stores."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tfrec_meta as tm
from tests.store_servers import BROKEN
from tfrec_meta.data.survey.survey import survey
from tfrec_meta.io.stores import RemotePath, StoreError, StoreUnavailable

CSV = b"user_id,item_id,time\nann,tea,1700000000\nbob,jam,1700000060\n"


def put(bucket, name, content):
    (RemotePath(bucket) / name).write(content)
    return f"{bucket}/{name}"


def pairs(data):
    return list(
        zip(data.events["user_id"].to_pylist(), data.events["item_id"].to_pylist(), strict=True)
    )


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_text_files_are_read_from_a_store(kind, request):
    bucket = request.getfixturevalue(kind)
    paths = [
        put(bucket, "logs/a.csv", CSV),
        put(bucket, "logs/b.csv.gz", gzip.compress(CSV.replace(b"ann", b"cat"))),
        put(bucket, "more/c.jsonl", b'{"user_id": "dan", "item_id": "tea", "time": 1700000000}\n'),
    ]
    data = tm.read_interactions(paths)
    assert data.name == "a"
    assert pairs(data)[::2] == [("ann", "tea"), ("cat", "tea"), ("dan", "tea")]
    assert len(tm.stream_interactions(f"{bucket}/logs")) == 4


def test_parquet_files_and_tables_are_read_from_a_store(s3, tmp_path):
    table = pa.table({"user_id": ["ann"], "item_id": ["tea"], "time": [1_700_000_000]})
    pq.write_table(table, tmp_path / "log.parquet")
    pq.write_table(pa.table({"item_id": ["tea"], "price": [2.5]}), tmp_path / "items.parquet")
    log = put(s3, "log.parquet", (tmp_path / "log.parquet").read_bytes())
    items = put(s3, "items.parquet", (tmp_path / "items.parquet").read_bytes())
    users = put(s3, "users.csv", b"user_id,age\nann,30\n")
    data = tm.read_interactions(log, items=items, users=users)
    assert pairs(data) == [("ann", "tea")]
    assert data.items["price"].to_pylist() == [2.5]
    assert data.users["age"].to_pylist() == [30]
    assert len(tm.stream_interactions(log)) == 1


def test_folders_and_patterns_stand_for_their_data_files(s3):
    for name in ("d=1/a.csv", "d=1/_SUCCESS", "d=1/deep/b.csv", "d=2/a.csv", "d=2/notes.txt"):
        put(s3, name, CSV)
    assert len(tm.read_interactions(f"{s3}/d=1/")) == 2
    assert len(tm.read_interactions(f"{s3}/d=*/*.csv")) == 4
    for wrong in (f"{s3}/d=3", f"{s3}/d=*/*.parquet"):
        with pytest.raises(FileNotFoundError, match="does not exist, or has no"):
            tm.read_interactions(wrong)
    with pytest.raises(ValueError, match=r"does not end in \.parquet"):
        tm.read_interactions(f"{s3}/d=2/notes.txt")
    with pytest.raises(ValueError, match=r"without '\*\*'"):
        tm.read_interactions(f"{s3}/**/a.csv")
    with pytest.raises(StoreError, match="there is no bucket"):
        tm.read_interactions("s3://elsewhere/a.csv")


def test_wrong_rows_are_named_with_their_url(s3):
    path = put(s3, "log.csv", CSV + b",tea,1700000000\n")
    with pytest.raises(ValueError, match=rf"{path}, row 3 \(line 4\), column `user_id`"):
        tm.read_interactions(path)


def test_a_store_that_fails_while_it_is_read_is_no_damaged_file(s3, s3_proxy):
    path = put(s3, "log.csv", CSV)
    s3_proxy.rule = lambda method, path: BROKEN if method == "GET" else None
    with pytest.raises(StoreUnavailable, match="did not answer"):
        tm.read_interactions(path)


def test_a_log_on_a_store_is_surveyed(s3):
    found = survey([put(s3, "log.csv", CSV)])
    assert (found.events, found.mapping["user_id"].column) == (2, "user_id")
