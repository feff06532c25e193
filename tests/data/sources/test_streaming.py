"""Events that are streamed from files: parts by user, errors by name, and what is on disk."""

import itertools
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tfrec_meta as tm
from tfrec_meta.data.sources import streaming

DATA = tm.synthetic(50, 30, 600, seed=5)


def write(folder, table=DATA.events, files=3):
    folder.mkdir(exist_ok=True)
    bounds = np.linspace(0, len(table), files + 1).astype(int)
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        pq.write_table(table[start:stop], folder / f"part-{number}.parquet")
    return folder


def test_parts_hold_every_event_once_and_all_of_a_user_in_one(tmp_path):
    streamed = tm.stream_interactions(write(tmp_path / "events"), part_events=100)
    parts = list(streamed.parts())
    assert len(parts) == 6
    assert len(streamed) == sum(len(part) for part in parts) == 600
    together = pa.concat_tables([part.events for part in parts])
    order = [("user_id", "ascending"), ("time", "ascending"), ("item_id", "ascending")]
    assert together.sort_by(order).equals(DATA.events.sort_by(order))
    users = [user for part in parts for user in part.user_ids]
    assert len(users) == len(set(users)) == 50


def test_events_of_a_part_keep_the_order_of_the_files(tmp_path):
    streamed = tm.stream_interactions(write(tmp_path / "events"), part_events=100)
    row = {pair: row for row, pair in enumerate(zip(*pairs(DATA), strict=True))}
    for part in streamed.parts():
        rows = [row[pair] for pair in zip(*pairs(part), strict=True)]
        assert rows == sorted(rows)


def pairs(data):
    return data.events["user_id"].to_pylist(), data.events["item_id"].to_pylist()


def test_a_part_is_the_same_in_another_run(tmp_path, monkeypatch):
    """Parts go by a hash that neither Python's seed nor the size of what is sorted changes."""
    folder = write(tmp_path / "events")
    before = [part.events for part in tm.stream_interactions(folder, part_events=100).parts()]
    monkeypatch.setattr(streaming, "_SPILLED", 64)
    again = tm.stream_interactions(folder, part_events=100)
    assert [part.events for part in again.parts()] == before
    # The check value of CRC-32, 0xCBF43926, ends in 262.
    assert streaming._part_of(pa.chunked_array([["123456789"]]), 1000).tolist() == [262]


def test_no_more_events_are_sorted_at_a_time_than_a_stretch(tmp_path, monkeypatch):
    sizes = []
    append = streaming._append
    monkeypatch.setattr(streaming, "_SPILLED", 150)
    monkeypatch.setattr(
        streaming,
        "_append",
        lambda events, *rest: (sizes.append(len(events)), append(events, *rest)),
    )
    tm.stream_interactions(write(tmp_path / "events", files=12))  # of 50 each
    assert sizes == [150] * 4


def test_parts_are_removed_with_the_events(tmp_path):
    streamed = tm.stream_interactions(write(tmp_path / "events"), folder=tmp_path / "work")
    (place,) = (tmp_path / "work").iterdir()
    assert any(place.iterdir())
    streamed.close()
    assert not list((tmp_path / "work").iterdir())


def test_events_of_some_users(tmp_path):
    streamed = tm.stream_interactions(write(tmp_path / "events"), part_events=100)
    some = streamed.of_users(DATA.user_ids[:7])
    assert sorted(some.user_ids) == sorted(DATA.user_ids[:7])
    assert len(some) == np.isin(DATA.user_codes, np.arange(7)).sum()


def test_text_is_streamed_too(tmp_path):
    lines = "".join(f"{u},{i},{n}\n" for n, (u, i) in enumerate(zip(*pairs(DATA), strict=True)))
    (tmp_path / "events.csv").write_text(f"who,what,time\n{lines}")
    columns = {"user_id": "who", "item_id": "what"}
    streamed = tm.stream_interactions(tmp_path / "events.csv", columns, part_events=100)
    assert len(streamed) == 600
    assert len(list(streamed.parts())) > 1


def further(streamed, name):
    """The cells of a further column by user, and the types that the parts have."""
    tables = [part.events for part in streamed.parts()]
    cells = {}
    for table in tables:
        cells |= dict(zip(table["user_id"].to_pylist(), table[name].to_pylist(), strict=True))
    return cells, {table.schema.field(name).type for table in tables}


def test_declared_types_hold_in_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_SPILLED", 1)
    for name, rows in (("a", "ann,x,9,02139,2024-05-01"), ("b", "bob,x,9.5,1,1714521601")):
        header = "user_id,item_id,price,zip,seen"
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{rows}\n")
    columns = {name: name for name in ("price", "zip", "seen")}
    types = {"price": "number", "zip": "text", "seen": "time"}
    streamed = tm.stream_interactions(tmp_path, columns, types=types, part_events=1)
    assert len(list(streamed.parts())) == 2
    assert further(streamed, "price") == ({"ann": 9.0, "bob": 9.5}, {pa.float64()})
    assert further(streamed, "zip") == ({"ann": "02139", "bob": "1"}, {pa.string()})
    seconds = {"ann": 1_714_521_600, "bob": 1_714_521_601}
    assert further(streamed, "seen") == (seconds, {pa.int64()})
    in_memory = tm.read_interactions(tmp_path, columns, types=types)
    assert in_memory.events.schema == next(streamed.parts()).events.schema
    with pytest.raises(ValueError, match="`types` names the column 'size'"):
        tm.stream_interactions(tmp_path, columns, types={"size": "text"})


def test_cells_of_another_type_are_named_by_file_and_row_or_missing(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("user_id,item_id,price\nann,x,9\n")
    (tmp_path / "b.csv").write_text("user_id,item_id,price\n,x,1\nbob,x,many\neve,x,n/a\n")
    given = {"columns": {"price": "price"}, "types": {"price": "number"}}
    for read in (tm.read_interactions, tm.stream_interactions):
        with pytest.raises(ValueError, match=r"b\.csv, row 2 \(line 3\), column `price`: 'many'"):
            read(tmp_path, **given)
    streamed = tm.stream_interactions(tmp_path, **given, bad_rows="drop", max_bad_share=0.5)
    assert further(streamed, "price")[0] == {"ann": 9, "bob": None, "eve": None}
    assert caplog.text.count("1 such cells are missing values") == 1


def test_whole_and_other_numbers_of_parquet_files_are_one_type(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_SPILLED", 1)
    for number, price in enumerate([pa.array([9]), pa.array([9.5]), pa.nulls(1)]):
        table = pa.table({"user_id": [f"u{number}"], "item_id": ["x"], "price": price})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    streamed = tm.stream_interactions(tmp_path, {"price": "price"}, part_events=1)
    expected = {"u0": 9.0, "u1": 9.5, "u2": None}
    assert further(streamed, "price") == (expected, {pa.float64()})
    table = tm.read_interactions(tmp_path, {"price": "price"}).events
    assert table["price"].type == pa.float64()
    assert table["price"].to_pylist() == [9.0, 9.5, None]


def test_whole_numbers_that_floats_do_not_have_are_refused_next_to_fractions(tmp_path):
    for number, price in enumerate([2**53 + 1, 0.5]):
        table = pa.table({"user_id": ["u"], "item_id": ["x"], "price": [price]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    for read in (tm.read_interactions, tm.stream_interactions):
        with pytest.raises(TypeError, match=r"9007199254740993.*declare it as text with `types`"):
            list(getattr(read(tmp_path, {"price": "price"}), "parts", list)())
    text = tm.read_interactions(tmp_path, {"price": "price"}, types={"price": "text"})
    assert text.events["price"].to_pylist() == ["9007199254740993", "0.5"]


def refused(tmp_path, *tables, **options):
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    with pytest.raises((ValueError, TypeError)) as error:
        tm.stream_interactions(tmp_path, folder=tmp_path / "work", **options)
    if (tmp_path / "work").exists():
        assert not list((tmp_path / "work").iterdir())
    return str(error.value)


def test_a_missing_column_is_named(tmp_path):
    table = pa.table({"user_id": ["u"], "article": ["a"]})
    assert re.search(
        r"0\.parquet has no column `item_id`.*it has user_id, article", refused(tmp_path, table)
    )


def test_files_without_events_are_named(tmp_path):
    assert re.search(r"0\.parquet.*: no event", refused(tmp_path, DATA.events[:0]))


def test_a_missing_id_is_named_by_file_and_row(tmp_path):
    table = pa.table({"user_id": ["u", None], "item_id": ["a", "b"]})
    assert re.search(r"0\.parquet, row 2, column `user_id`", refused(tmp_path, table))


def test_bad_rows_can_be_dropped_and_are_counted(tmp_path):
    pq.write_table(
        pa.table({"user_id": ["u", None], "item_id": ["a", "b"]}), tmp_path / "e.parquet"
    )
    streamed = tm.stream_interactions(tmp_path, bad_rows="drop", max_bad_share=1)
    assert (len(streamed), dict(streamed.dropped)) == (1, {"missing user_id": 1})


def test_refuses_files_with_different_columns(tmp_path):
    first = pa.table({"user_id": ["u"], "item_id": ["a"], "value": [1.0]})
    assert "has no column for `value`" in refused(tmp_path, first, first.drop(["value"]))


def test_refuses_times_for_only_some_events(tmp_path):
    table = pa.table({"user_id": ["u", "v"], "item_id": ["a", "b"], "time": pa.array([1, None])})
    assert "1 of 2 events have no time" in refused(tmp_path, table)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"broken\.parquet is cut off or damaged"):
        tm.stream_interactions(tmp_path)


def test_a_part_has_events(tmp_path):
    with pytest.raises(ValueError, match="`part_events`=0; use 1 or more"):
        tm.stream_interactions(write(tmp_path / "events"), part_events=0)
