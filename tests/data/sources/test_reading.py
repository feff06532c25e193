import gzip
import logging
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrec_meta.data import read_interactions, stream_interactions
from tfrec_meta.errors import ParameterError

GOOD = "user_id,item_id,time,value\na,x,100,3.5\nb,y,200,4\n"


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def tokens(data):
    return list(zip(*data.events.select(["user_id", "item_id"]).to_pydict().values(), strict=True))


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "good.csv", GOOD)


def test_csv_tsv_gzip_and_parquet_give_the_same_events(tmp_path, good):
    expected = read_interactions(good)
    assert tokens(expected) == [("a", "x"), ("b", "y")]
    assert expected.events["value"].to_pylist() == [3.5, 4.0]
    assert expected.times.tolist() == [100, 200]
    assert expected.name == "good"
    table = pa.table({"user_id": ["a", "b"], "item_id": ["x", "y"], "time": [100, 200]})
    pq.write_table(table.append_column("value", [[3.5, 4.0]]), tmp_path / "one.parquet")
    paths = [
        write(tmp_path / "one.tsv", GOOD.replace(",", "\t")),
        write(tmp_path / "one.csv.gz", gzip.compress(GOOD.encode())),
        write(tmp_path / "one.tsv.gz", gzip.compress(GOOD.replace(",", "\t").encode())),
        write(tmp_path / "bom.csv", "\ufeff" + GOOD.replace("\n", "\r\n")),
        tmp_path / "one.parquet",
    ]
    for path in paths:
        assert read_interactions(path).equals(expected), path


def test_columns_are_mapped_and_further_ones_kept_with_their_type(tmp_path):
    path = write(
        tmp_path / "log.csv",
        'who,what,when,page,place,note\n1,10,2020-01-01,3,0.5,"a, b"\n2,11,2020-01-02,4,1,c\n',
    )
    columns = {"user_id": "who", "item_id": "what", "time": "when"}
    data = read_interactions(
        path, columns | {"position": "page", "propensity": "place", "note": "note"}
    )
    assert data.events.schema.names[4:] == ["position", "propensity", "note"]
    assert data.events.schema.types[4:] == [pa.int64(), pa.float64(), pa.string()]
    assert data.events["note"].to_pylist() == ["a, b", "c"]
    assert data.times.tolist() == [1_577_836_800, 1_577_923_200]
    assert data.events["value"].to_pylist() == [1.0, 1.0]
    assert read_interactions(path, columns).events.num_columns == 4


def test_one_column_can_serve_two_names(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,n\na,x,5\n")
    columns = {"user_id": "user", "item_id": "item", "value": "n", "plays": "n"}
    data = read_interactions(path, columns)
    assert data.events["value"].to_pylist() == [5.0]
    assert data.events["plays"].to_pylist() == [5]


def test_many_files_folders_and_patterns_keep_their_order(tmp_path):
    for name in ("b", "a", "c"):
        write(tmp_path / f"{name}.csv", f"user_id,item_id\n{name},x\n")
    write(tmp_path / "_SUCCESS", "")
    write(tmp_path / "notes.txt", "not data")
    assert read_interactions(tmp_path).events["user_id"].to_pylist() == ["a", "b", "c"]
    pattern = str(tmp_path / "[ab].csv")
    assert read_interactions(pattern).events["user_id"].to_pylist() == ["a", "b"]
    listed = [tmp_path / "c.csv", tmp_path / "a.csv"]
    assert read_interactions(listed).events["user_id"].to_pylist() == ["c", "a"]


def test_user_and_item_files_join_by_the_same_column(tmp_path):
    events = write(tmp_path / "e.csv", "uid,iid\n1,10\n")
    users = write(tmp_path / "u.csv", "uid,age,town\n1,30,Ulm\n")
    pq.write_table(pa.table({"iid": [10, 11], "price": [1.5, 2.5]}), tmp_path / "i.parquet")
    data = read_interactions(
        events,
        {"user_id": "uid", "item_id": "iid"},
        users=users,
        items=tmp_path / "i.parquet",
    )
    assert data.users.to_pylist() == [{"user_id": "1", "age": 30, "town": "Ulm"}]
    assert data.items["item_id"].to_pylist() == ["10", "11"]
    with pytest.raises(ValueError, match=r"u.csv has no column `iid` \(for `item_id`\)"):
        read_interactions(events, {"user_id": "uid", "item_id": "iid"}, items=users)
    with pytest.raises(FileNotFoundError, match=r"nobody.csv"):
        read_interactions(
            events, {"user_id": "uid", "item_id": "iid"}, users=tmp_path / "nobody.csv"
        )


BAD = {
    "a number that is none": ("c,z,300,four", "`value`: 'four'", "unreadable value"),
    "a time that is none": ("c,z,noon,4", "`time`: 'noon'", "unreadable time"),
    "a missing user": (",z,300,4", "`user_id`: an empty cell", "missing user_id"),
    "a missing item": ("c,,300,4", "`item_id`: an empty cell", "missing item_id"),
    "an empty value": ("c,z,300,", "`value`: an empty cell", "missing value"),
    "a cell too few": ("c,z,300", "3 cells instead of 4 in 'c,z,300'", "unreadable row"),
    "a cell too many": ("c,z,300,4,5", "5 cells instead of 4", "unreadable row"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_one_bad_row_in_the_middle_is_named_or_dropped(tmp_path, caplog, case, packed):
    row, words, reason = BAD[case]
    text = f"{GOOD}{row}\nd,w,400,5\n"
    path = tmp_path / ("log.csv.gz" if packed else "log.csv")
    write(path, gzip.compress(text.encode()) if packed else text)
    with pytest.raises(ValueError) as error:
        read_interactions(path)
    message = str(error.value)
    for part in (str(path), "row 3 (line 4)", words, "set `bad_rows` to 'drop'"):
        assert part in message
    with caplog.at_level(logging.WARNING):
        data = read_interactions(path, bad_rows="drop", max_bad_share=1)
    assert tokens(data) == [("a", "x"), ("b", "y"), ("d", "w")]
    assert data.dropped == {reason: 1}
    assert f"1 {reason}" in caplog.text
    assert "row 3 (line 4)" in caplog.text


def test_rows_are_numbered_past_blank_lines_and_dropped_rows(tmp_path, caplog):
    path = write(
        tmp_path / "log.csv",
        "user_id,item_id,value\n\na,x,1\nb\n\nc,z\nd,w,four\ne,v,1\n,v,1\n",
    )
    with caplog.at_level(logging.WARNING):
        data = read_interactions(path, bad_rows="drop", max_bad_share=1)
    assert tokens(data) == [("a", "x"), ("e", "v")]
    assert data.dropped == {"unreadable row": 2, "missing user_id": 1, "unreadable value": 1}
    for place in ("row 2 (line 4)", "row 3 (line 6)", "row 4 (line 7)", "row 6 (line 9)"):
        assert place in caplog.text


def test_rows_are_numbered_over_several_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec_meta.data.sources.byte_streams.CHUNK", 1 << 10)
    rows = [f"u{number},x,1" for number in range(2000)]
    rows[500] = "short"
    rows[1500] = "u1500,x,many"
    path = write(tmp_path / "log.csv", "user_id,item_id,value\n" + "\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"row 501 \(line 502\): 1 cells instead of 3"):
        read_interactions(path)
    rows[500] = "u500,x,1"
    write(path, "user_id,item_id,value\n" + "\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"row 1501 \(line 1502\), column `value`: 'many'"):
        read_interactions(path)
    rows[500] = "short"
    write(path, "user_id,item_id,value\n" + "\n".join(rows) + "\n")
    data = read_interactions(path, bad_rows="drop", max_bad_share=1)
    assert data.dropped == {"unreadable row": 1, "unreadable value": 1}
    assert len(data) == 1998


def test_the_second_of_two_files_is_named(tmp_path, good):
    bad = write(tmp_path / "zz.csv", "user_id,item_id,time,value\na,x,1,?\n")
    with pytest.raises(ValueError, match=r"zz.csv, row 1 \(line 2\), column `value`: '\?'"):
        read_interactions([good, bad])


def test_bytes_that_are_not_utf8(tmp_path):
    path = write(tmp_path / "log.csv", "user_id,item_id\nJosé,x\nb,y\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"row 1 \(line 2\), column `user_id`.*not UTF-8"):
        read_interactions(path)
    assert read_interactions(path, bad_rows="drop", max_bad_share=1).dropped == {
        "unreadable user_id": 1
    }
    assert read_interactions(path, encoding="latin1").user_ids.tolist() == ["José", "b"]


def test_parquet_rows_and_types_are_named(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user_id": ["a", None], "item_id": [1, 2]}), path)
    with pytest.raises(ValueError, match=r"log.parquet, row 2, column `user_id`: an empty cell"):
        read_interactions(path)
    assert read_interactions(path, bad_rows="drop", max_bad_share=1).dropped == {
        "missing user_id": 1
    }
    pq.write_table(pa.table({"user_id": ["a"], "item_id": [[1]]}), path)
    with pytest.raises(TypeError, match=r"log.parquet, column `item_id` is of type list"):
        read_interactions(path)
    pq.write_table(pa.table({"user_id": ["a"], "item_id": [1], "time": [[1]]}), path)
    with pytest.raises(TypeError, match=r"log.parquet, column `time` is of type list"):
        read_interactions(path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_error_for_a_missing_column_lists_the_existing_ones(tmp_path, suffix):
    path = tmp_path / f"log.{suffix}"
    if suffix == "csv":
        write(path, "who,item_id\na,x\n")
    else:
        pq.write_table(pa.table({"who": ["a"], "item_id": ["x"]}), path)
    with pytest.raises(ValueError, match=r"no column `user_id`.*who, item_id.*in `columns`"):
        read_interactions(path)
    columns = {"user_id": "who", "time": "when"}
    with pytest.raises(ValueError, match=r"no column `when` \(for `time`\)"):
        read_interactions(path, columns)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_error_for_another_delimiter_names_it(tmp_path, mark):
    log = write(tmp_path / "log.csv", GOOD.replace(",", mark))
    message = rf"looks separated by .*: use `delimiter`={re.escape(repr(mark))}\. .*data check"
    for columns in (None, {"user_id": "client", "item_id": "sku"}):
        with pytest.raises(ParameterError, match=message):
            read_interactions(log, columns)
    assert len(read_interactions(log, delimiter=mark)) == 2
    good = write(tmp_path / "good.csv", GOOD)
    items = write(tmp_path / "items.csv", f"item_id{mark}title\nx{mark}Tea\n")
    with pytest.raises(ParameterError, match=message):
        read_interactions(good, items=items)


def test_the_error_for_a_decimal_comma_names_the_option(tmp_path):
    log = write(tmp_path / "log.csv", "user_id;item_id;value\na;x;12,34\n")
    with pytest.raises(ParameterError, match="'12,34' is not a number; set `decimal` to ','"):
        read_interactions(log, delimiter=";")
    assert read_interactions(log, delimiter=";", decimal=",").events.num_rows == 1


def test_refuses_a_repeated_column(tmp_path):
    path = write(tmp_path / "log.csv", "user_id,item_id,item_id\na,x,y\n")
    with pytest.raises(ValueError, match="column `item_id` appears more than once"):
        read_interactions(path)


def test_a_missing_file_folder_or_pattern_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.csv does not exist"):
        read_interactions(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="holds no"):
        read_interactions(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"\*.csv does not exist"):
        read_interactions(tmp_path / "*.csv")
    with pytest.raises(ValueError, match="names no file"):
        read_interactions([])
    with pytest.raises(ValueError, match=r"log.xlsx does not end in"):
        read_interactions(write(tmp_path / "log.xlsx", ""))


def test_truncated_files_are_named(tmp_path):
    packed = gzip.compress(("user_id,item_id\n" + "a,x\n" * 50_000).encode())
    path = write(tmp_path / "cut.csv.gz", packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"cut.csv.gz is cut off or damaged"):
        read_interactions(path)
    path = write(tmp_path / "not.csv.gz", "user_id,item_id\na,x\n")
    with pytest.raises(ValueError, match=r"not.csv.gz is damaged"):
        read_interactions(path)
    path = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"user_id": ["a"] * 999, "item_id": ["x"] * 999}), path)
    write(path, path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cut.parquet is cut off or damaged"):
        read_interactions(path)
    path = write(tmp_path / "cut.csv", "user_id,item_id,time\na,x,1\nb,y,2\nc,")
    with pytest.raises(ValueError, match=r"cut.csv, row 3 \(line 4\): 2 cells instead of 3"):
        read_interactions(path)


def test_an_empty_result_is_an_error(tmp_path, good):
    empty = write(tmp_path / "empty.csv", "")
    with pytest.raises(ValueError, match=r"empty.csv is empty"):
        read_interactions(empty)
    header = write(tmp_path / "header.csv", "user_id,item_id\n")
    with pytest.raises(ValueError, match=r"header.csv: no event"):
        read_interactions(header)
    assert len(read_interactions([good, header])) == 2
    mapped = {"user_id": "user_id", "item_id": "item_id", "value": "item_id"}
    with pytest.raises(ValueError, match="no event is left, but 2 unreadable value"):
        read_interactions(good, mapped, bad_rows="drop", max_bad_share=1)


def test_quoted_cells_may_hold_line_breaks(tmp_path):
    path = write(
        tmp_path / "log.csv",
        'user_id,item_id,value,note\na,x,1,"one\n\ntwo"\nb,y,2,"say ""hi"""\nc,z,no,-\nd,w\n',
    )
    with pytest.raises(ValueError, match=r"row 4 \(line 7\): 2 cells instead of 4"):
        read_interactions(path, {"note": "note"})
    data = read_interactions(path, {"note": "note"}, bad_rows="drop", max_bad_share=1)
    assert data.events["note"].to_pylist() == ["one\n\ntwo", 'say "hi"']
    write(path, path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"row 3 \(line 6\), column `value`: 'no'"):
        read_interactions(path, {"note": "note"})


def test_bytes_of_another_encoding_in_further_columns_are_an_error(tmp_path):
    path = write(tmp_path / "log.csv", "user_id,item_id,town\na,x,Köln\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"row 1 \(line 2\), column `town`.*set `encoding`"):
        read_interactions(path, {"town": "town"})
    data = read_interactions(path, {"town": "town"}, encoding="latin1")
    assert data.events["town"].to_pylist() == ["Köln"]
    with pytest.raises(ValueError, match=r"log\.csv, row 1 .*set `encoding`"):
        read_interactions(path, users=path)


def test_refuses_values_that_only_some_files_have(tmp_path, good):
    bare = write(tmp_path / "bare.csv", "user_id,item_id,time\na,x,1\n")
    with pytest.raises(ValueError, match=r"bare\.csv has no column for `value`, but .*good"):
        read_interactions([good, bare])
    with pytest.raises(ValueError, match=r"good\.csv has a column for `value`, but .*none"):
        read_interactions([bare, good])


def test_events_of_files_without_a_further_column_have_no_value_there(tmp_path, caplog):
    write(tmp_path / "a.csv", "user_id,item_id\na,x\n")
    write(tmp_path / "b.csv", "device,item_id,user_id\n7,y,b\n")
    data = read_interactions(tmp_path, {"device": "device"})
    assert data.events["device"].to_pylist() == [None, 7]
    assert "1 of 2 files, such as" in caplog.text
    assert "have no column `device` (for `device`); their events have no value" in caplog.text
    with pytest.raises(ValueError, match="None of the 2 files has a column `tv`"):
        read_interactions(tmp_path, {"device": "tv"})
    streamed = stream_interactions(tmp_path, {"device": "device"})
    devices = {device for part in streamed.parts() for device in part.events["device"].to_pylist()}
    assert devices == {None, "7"}


def test_files_must_agree_on_the_types_of_further_columns(tmp_path):
    pq.write_table(pa.table({"user_id": ["a"], "item_id": ["x"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"user_id": ["a"], "item_id": ["x"], "n": ["1"]}), tmp_path / "b.parquet"
    )
    with pytest.raises(TypeError, match=r"b\.parquet, column for `n` is of type string, but int64"):
        read_interactions(tmp_path, {"n": "n"})


def test_cells_with_several_values_become_lists(tmp_path, good):
    events = write(tmp_path / "log.csv", "user_id,item_id,tags\na,x, new |old\nb,y,\nc,z,||\n")
    items = write(tmp_path / "items.csv", "item_id,genres\nx,Action|Comedy\ny,Drama\n")
    lists = {"genres": "|", "tags": "|"}
    data = read_interactions(events, {"tags": "tags"}, items=items, lists=lists)
    assert data.items["genres"].to_pylist() == [["Action", "Comedy"], ["Drama"]]
    assert data.events["tags"].to_pylist() == [["new", "old"], None, None]


def test_columns_with_usual_names_that_are_not_read_are_named(tmp_path, caplog):
    path = write(tmp_path / "log.csv", "userId,movieId,rating,timestamp\n1,2,3.5,100\n")
    columns = {"user_id": "userId", "item_id": "movieId"}
    read_interactions(path, columns)
    assert "not read: rating, timestamp" in caplog.text
    assert "add {'time': 'timestamp', 'value': 'rating'} to `columns`" in caplog.text
    caplog.clear()
    read_interactions(path, columns | {"time": "timestamp", "value": "rating"})
    assert not caplog.text


def test_delimiter_decimal_and_encoding_are_options(tmp_path):
    text = "user_id;item_id;value\nJosé;x;3,5\nAna;y;4\n"
    path = write(tmp_path / "log.csv", text.encode("cp1252"))
    options = {"delimiter": ";", "encoding": "cp1252", "decimal": ","}
    data = read_interactions(path, **options)
    assert data.user_ids.tolist() == ["José", "Ana"]
    assert data.events["value"].to_pylist() == [3.5, 4.0]
    write(path, text.replace("4\n", "1.000\n").encode("cp1252"))
    with pytest.raises(ValueError, match=r"row 2 .*column `value`: '1.000' is not a number"):
        read_interactions(path, **options)


def test_too_many_bad_rows_stop_the_reading_with_examples_of_each_reason(tmp_path):
    rows = ["a,x,1"] * 97 + ["b,y", ",z,1", "c,w,many"]
    path = write(tmp_path / "log.csv", "user_id,item_id,value\n" + "\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"3 of 100 rows are invalid.*`max_bad_share`") as error:
        read_interactions(path, bad_rows="drop")
    for part in ("1 unreadable row", "'b,y'", "1 missing user_id", "'many'", "row 100 (line 101)"):
        assert part in str(error.value)
    data = read_interactions(path, bad_rows="drop", max_bad_share=0.03)
    assert (len(data), sum(data.dropped.values())) == (97, 3)
