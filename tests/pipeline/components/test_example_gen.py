"""Tables as examples: types, spans, and error messages."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tfx.orchestration.portable import data_types
from tfx.types import standard_artifacts

from tests.pipeline.reading import WithoutBeam, generate
from tfrec_meta.data import pseudonymise, read_interactions
from tfrec_meta.pipeline.components.example_gen import (
    DROPPED,
    Driver,
    ExampleGen,
    Executor,
)
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig


def rows_of(examples) -> list[dict[str, list]]:
    """Returns the rows, each {column: values} without missing cells, in the order of shards."""
    folder = Path(examples.uri, "Split-all")
    assert all(path.name.startswith("data_tfrecord-") for path in folder.iterdir())
    files = [str(path) for path in sorted(folder.iterdir())]
    rows = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        row = {}
        for name, feature in features.items():
            kind = feature.WhichOneof("kind")
            values = list(getattr(feature, kind).value) if kind else []
            if values:
                row[name] = values
        rows.append(row)
    return rows


def generated(tmp_path, table, files, time_unit="s", kind=WithoutBeam, **settings):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    config = TableConfig(str(tmp_path / settings.pop("pattern", "*.csv")), **settings)
    return generate(tmp_path / "out", table, config, time_unit, kind)


def test_csv_cells_are_integers_numbers_or_text_and_empty_ones_are_missing(tmp_path):
    examples = generated(
        tmp_path,
        "users",
        {"users.csv": "user_id,age,score,name\n007,31,1,Ann\n8,,2.5,\n"},
    )
    assert rows_of(examples) == [
        {"user_id": [b"007"], "age": [31], "score": [1.0], "name": [b"Ann"]},
        {"user_id": [b"8"], "score": [2.5]},
    ]
    assert examples.split_names == '["all"]'
    assert examples.get_int_custom_property("rows") == 2


def test_uses_one_type_per_column_for_all_files(tmp_path):
    examples = generated(
        tmp_path,
        "users",
        {
            "a.csv": "user_id,age,size,only_here\na,1,1,5\n",
            "b.csv": "user_id,age,size\nb,2.5,\n",
            "c.csv": "user_id,age,size\nc,3,tall\n",
        },
        kind=Executor,
    )
    assert rows_of(examples) == [
        {"user_id": [b"a"], "age": [1.0], "size": [b"1"], "only_here": [5]},
        {"user_id": [b"b"], "age": [2.5]},
        {"user_id": [b"c"], "age": [3.0], "size": [b"tall"]},
    ]


def test_renames_columns_and_splits_cells(tmp_path):
    examples = generated(
        tmp_path,
        "items",
        {"items.tsv": "movie\tgenres\tplace\n1\tDrama| War \t0.5 2\n2\t\t1 3\n3\tWar||\t1 4\n"},
        pattern="items.tsv",
        columns={"item_id": "movie", "where": "place"},
        lists={"genres": "|", "where": " "},
    )
    assert rows_of(examples) == [
        {"item_id": [b"1"], "genres": [b"Drama", b"War"], "where": [0.5, 2.0]},
        {"item_id": [b"2"], "where": [1.0, 3.0]},
        {"item_id": [b"3"], "genres": [b"War"], "where": [1.0, 4.0]},
    ]


def test_ignores_files_that_are_not_data(tmp_path):
    files = {"day/_SUCCESS": "", "day/.part.crc": "x", "day/part-0.csv": "user_id\na\n"}
    assert rows_of(generated(tmp_path, "users", files, pattern="day/*")) == [{"user_id": [b"a"]}]


def test_reads_gzipped_files(tmp_path):
    path = tmp_path / "users.csv.gz"
    path.write_bytes(gzip.compress(b"user_id,age\na,1\n"))
    examples = generate(tmp_path / "out", "users", TableConfig(str(path)))
    assert rows_of(examples) == [{"user_id": [b"a"], "age": [1]}]


@pytest.mark.parametrize(
    "cells, unit, seconds",
    [
        (["10", "25"], "s", [10, 25]),
        (["1999", "-1"], "ms", [1, -1]),  # floor: half a second before 1970 is in second -1
        (["1970-01-01", "1970-01-02T00:00:05"], "s", [0, 86405]),
        (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:09Z"], "s", [0, 9]),
    ],
)
def test_converts_times_to_unix_seconds(tmp_path, cells, unit, seconds):
    text = "user_id,item_id,time\n" + "".join(f"u,i,{cell}\n" for cell in cells)
    rows = rows_of(generated(tmp_path, "interactions", {"log.csv": text}, unit))
    assert [row["time"] for row in rows] == [[second] for second in seconds]


def test_integer_values_become_floats(tmp_path):
    rows = rows_of(generated(tmp_path, "interactions", {"log.csv": "user_id,item_id,value\n1,2,4"}))
    assert rows == [{"user_id": [b"1"], "item_id": [b"2"], "value": [4.0]}]
    assert isinstance(rows[0]["value"][0], float)


@pytest.mark.parametrize(
    "row, words",
    [
        ("1,3,6,abc", "row 2 (line 3), column `value`: 'abc' is not a number."),
        ("1,3,6,", "row 2 (line 3), column `value`: an empty cell is not a finite number."),
        ("1,3,soon,4", "row 2 (line 3), column `time`: 'soon' is not a time, or not in the unit"),
        ("1,,6,4", "row 2 (line 3), column `item_id`: an empty cell is not an id."),
        ("1,3,6", "row 2 (line 3): 3 cells instead of 4"),
        ("1,3,01/02/2025,4", "'01/02/2025' may have the day or the month first; set `time_format`"),
    ],
)
def test_stops_at_an_invalid_event_as_the_library(tmp_path, row, words):
    text = f"user_id,item_id,time,value\n1,2,5,4\n{row}\n"
    with pytest.raises(ValueError) as error:
        generated(tmp_path, "interactions", {"log.csv": text}, time_unit=None)
    assert f"{tmp_path}/log.csv" in str(error.value)
    assert words in str(error.value)
    with pytest.raises(ValueError) as in_library:
        read_interactions(tmp_path / "log.csv")
    assert words in str(in_library.value)


@pytest.mark.parametrize("bad_rows", ["raise", "drop"])
def test_an_attribute_without_an_id_is_invalid(tmp_path, bad_rows):
    (tmp_path / "u.csv").write_text("user_id,age\na,1\n ,2\nb,3\n")
    users = TableConfig(str(tmp_path / "u.csv"))
    data = DataConfig(TableConfig("none.csv"), users, bad_rows=bad_rows, max_bad_share=0.5)
    if bad_rows == "raise":
        words = r"u\.csv, row 2 \(line 3\), column `user_id`: the id is missing\. Fix the file, or"
        with pytest.raises(ValueError, match=words):
            generate(tmp_path, "users", users, data=data)
    else:
        examples = generate(tmp_path, "users", users, data=data)
        assert [row["user_id"] for row in rows_of(examples)] == [[b"a"], [b"b"]]
        assert json.loads(examples.get_string_custom_property(DROPPED)) == {"missing user_id": 1}


def test_refuses_values_in_some_files_only(tmp_path):
    files = {"a.csv": "user_id,item_id,value\nu,i,3\n", "b.csv": "user_id,item_id\nu,j\n"}
    with pytest.raises(
        ValueError, match=r"b\.csv has no column for `value`, but .*a\.csv has; make"
    ):
        generated(tmp_path, "interactions", files)


def test_recognizes_the_unit_of_times_over_all_files(tmp_path, caplog):
    """1,000,000 in seconds is the 12th of January 1970; among milliseconds it is a mistake."""
    now = 1_700_000_000
    files = {
        "a.csv": f"user_id,item_id,time\nu,i,{now}123\n",
        "b.csv": "user_id,item_id,time\nu,j,1000000\n",
    }
    with pytest.raises(ValueError, match=r"b\.csv, row 1 .*'1000000' is not a time, or not in the"):
        generated(tmp_path, "interactions", files, time_unit=None)
    assert "are read as milliseconds since 1970" in caplog.text
    files["b.csv"] = f"user_id,item_id,time\nu,j,{now}999\n"
    rows = rows_of(generated(tmp_path / "two", "interactions", files, time_unit=None))
    assert [row["time"] for row in rows] == [[now], [now]]


def test_counts_a_bad_line_of_json(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"user_id": "u", "item_id": 7}\nnot json\n[1]\n')
    table = TableConfig(str(tmp_path / "log.jsonl"))
    data = DataConfig(table, bad_rows="drop", max_bad_share=0.9)
    examples = generate(tmp_path, "interactions", table, data=data)
    assert rows_of(examples) == [{"user_id": [b"u"], "item_id": [b"7"]}]
    assert json.loads(examples.get_string_custom_property(DROPPED)) == {"unreadable row": 2}
    with pytest.raises(ValueError, match=r"log\.jsonl, row 2 \(line 2\): 'not json' is not JSON"):
        generate(tmp_path / "raise", "interactions", table)


def test_reads_parquet_columns_of_all_types(tmp_path):
    table = pa.table(
        {
            "item_id": pa.array([1.0, 2.0, 3.0]),  # as pandas writes ids with missing values
            "kind": pa.array(["a", "b", None]).dictionary_encode(),
            "tags": pa.array([["x", None, "y"], [], None]),
            "vector": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float64(), 2)),
            "new": pa.array([True, False, None]),
            "since": pa.array([0, 1500, None], pa.timestamp("ms")),
            "share": pa.array([0.5, float("nan"), 1.0], pa.float64()),
            "count": pa.array([1, 2, 3], pa.uint8()),
            "nothing": pa.nulls(3),
            "blob": pa.array([b"\x00\xff", b"", None]),
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    path = TableConfig(str(tmp_path / "items.parquet"))
    assert rows_of(generate(tmp_path / "out", "items", path)) == [
        {
            "item_id": [b"1"],
            "kind": [b"a"],
            "tags": [b"x", b"y"],
            "vector": [1.0, 2.0],
            "new": [b"true"],
            "since": [0],
            "share": [0.5],
            "count": [1],
            "blob": [b"\x00\xff"],
        },
        {
            "item_id": [b"2"],
            "kind": [b"b"],
            "vector": [3.0, 4.0],
            "new": [b"false"],
            "since": [1],
            "count": [2],
            "blob": [b""],
        },
        {"item_id": [b"3"], "vector": [5.0, 6.0], "share": [1.0], "count": [3]},
    ]


def test_combines_parquet_files_of_different_types(tmp_path):
    def write(name, **columns):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")

    write("a", user_id=["a"], item_id=[1], time=pa.array([5], pa.timestamp("s")), value=[1])
    write("b", user_id=[2], item_id=["x"], time=[6], value=[2.5])
    write("c", user_id=["c"], item_id=["y"], time=["1970-01-01T00:00:07"], value=["3"])
    config = TableConfig(str(tmp_path / "*.parquet"))
    assert rows_of(generate(tmp_path / "out", "interactions", config)) == [
        {"user_id": [b"a"], "item_id": [b"1"], "time": [5], "value": [1.0]},
        {"user_id": [b"2"], "item_id": [b"x"], "time": [6], "value": [2.5]},
        {"user_id": [b"c"], "item_id": [b"y"], "time": [7], "value": [3.0]},
    ]


def test_divides_a_parquet_file_into_units_without_losing_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec_meta.pipeline.rows.sources._ROWS_PER_UNIT", 100)
    users = [f"u{n}" for n in range(1000)]
    table = pa.table({"user_id": users, "item_id": users, "value": np.arange(1000) / 2})
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=50)
    config = TableConfig(str(tmp_path / "log.parquet"))
    examples = generate(tmp_path / "out", "interactions", config, kind=Executor)
    assert len(list(Path(examples.uri, "Split-all").iterdir())) == 10
    rows = rows_of(examples)
    assert [row["user_id"][0].decode() for row in rows] == users
    assert [row["value"][0] for row in rows] == [n / 2 for n in range(1000)]


def test_uses_the_highest_span_and_version_by_number(tmp_path):
    files = {
        "span-9/v1/users.csv": "user_id\nold\n",
        "span-10/v2/users.csv": "user_id\nolder\n",
        "span-10/v10/users.csv": "user_id\nnew\n",
    }
    examples = generated(tmp_path, "users", files, pattern="span-{SPAN}/v{VERSION}/users.csv")
    assert rows_of(examples) == [{"user_id": [b"new"]}]
    assert examples.get_int_custom_property("span") == 10
    assert examples.get_int_custom_property("version") == 10
    assert examples.get_string_custom_property("input_fingerprint").startswith("split:all,num")


def test_refuses_a_later_span_without_files(tmp_path):
    (tmp_path / "span-2").mkdir()
    with pytest.raises(ValueError, match=r"users: .*/span-2 is a later span than 1, but has no"):
        generated(tmp_path, "users", {"span-1/a.csv": "user_id\na\n"}, pattern="span-{SPAN}/*.csv")


def test_errors_for_missing_files_and_rows_name_pattern_and_span(tmp_path):
    with pytest.raises(ValueError, match=r"users, span 0 \(.*/\*\.csv\) has no file.*\.path"):
        generated(tmp_path, "users", {})
    with pytest.raises(ValueError, match=r"users\.path='.*\{SPAN\}\.csv' can't be resolved"):
        generated(tmp_path, "users", {}, pattern="{SPAN}.csv")
    with pytest.raises(ValueError, match=r"users, span 3 \(.*/3\.csv\) has no rows\. Add"):
        generated(tmp_path, "users", {"3.csv": "user_id,age\n"}, pattern="{SPAN}.csv")
    pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"none\.parquet\) has no rows"):
        generated(tmp_path, "users", {}, pattern="none.parquet")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.csv", "user,age\n1,2\n", r"a\.csv has no column `user_id` .*user, age\. Name the"),
        ("a.csv", "user_id,age\n1,2,3\n", r"a\.csv, row 1 \(line 2\): 3 cells instead of 2"),
        ("a.csv", "", r"a\.csv is empty"),
        ("a.csv", "user_id,age,age\n1,2,3\n", r"several columns `age`"),
        ("a.parquet", "PAR1 and no more", r"a\.parquet is cut off or damaged"),
        ("a.csv.gz", "not packed", r"a\.csv\.gz is damaged"),
        ("a.json", "{}", r"a\.json does not end in \.parquet, \.csv"),
    ],
)
def test_names_files_that_can_not_be_read(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=r"users, span 0 \(.*\) can't be read:\n.*" + message):
        generated(tmp_path, "users", {name: text}, pattern="a.*")
    assert not list((tmp_path / "out").rglob("data_tfrecord*"))


def test_reports_errors_of_beams_workers_unchanged(tmp_path):
    files = {"a.csv": "user_id\nu\n", "b.csv": "user\nu\n"}
    with pytest.raises(
        ValueError, match=r"can't be read:\n\S*/b\.csv has no column `user_id`[^\n]*$"
    ):
        generated(tmp_path, "users", files, kind=Executor)


def test_refuses_types_that_an_example_can_not_represent(tmp_path):
    table = pa.table({"user_id": ["a"], "where": [{"x": 1}]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"column `where` is of type struct.*leave it out"):
        generated(tmp_path, "users", {}, pattern="a.parquet")


def test_invalid_rows_are_dropped_and_counted_up_to_the_highest_share(tmp_path):
    good = "".join(f"u{n},i,{1_700_000_000_000 + n},1\n" for n in range(8))
    text = f"user_id,item_id,time,value\n{good},i,1,1\nu, ,1,1\nu,i,1,much\nu,i\n"
    (tmp_path / "log.csv").write_text(text)
    table = TableConfig(str(tmp_path / "log.csv"))

    def read(share):
        data = DataConfig(table, time_unit="ms", bad_rows="drop", max_bad_share=share)
        return generate(tmp_path / f"{share}", "interactions", table, data=data)

    examples = read(0.5)
    assert [row["time"] for row in rows_of(examples)] == [[1_700_000_000]] * 8
    read_by_library = read_interactions(
        tmp_path / "log.csv", time_unit="ms", bad_rows="drop", max_bad_share=0.5
    )
    dropped = json.loads(examples.get_string_custom_property(DROPPED))
    assert dropped == dict(read_by_library.dropped)
    assert sum(dropped.values()) == 4
    with pytest.raises(ValueError, match=r"4 of 12 rows are invalid .*Examples: .*'much' is not"):
        read(0.2)


def test_whole_and_other_numbers_are_of_one_type_in_all_spans(tmp_path):
    spans = [
        generated(tmp_path / name, "items", {"i.csv": f"item_id,price,zip\na,{price},02139\n"})
        for name, price in (("one", "9.5"), ("two", "9"))
    ]
    assert [rows_of(span) for span in spans] == [
        [{"item_id": [b"a"], "price": [price], "zip": [b"02139"]}] for price in (9.5, 9.0)
    ]
    assert all(isinstance(rows_of(span)[0]["price"][0], float) for span in spans)


def test_declared_types_hold(tmp_path):
    text = "item_id;price;code;since\na;9,5;7;2024-01-02\n"
    settings = {"types": {"price": "number", "code": "text", "since": "time"}}
    settings |= {"delimiter": ";", "decimal": ","}
    examples = generated(tmp_path, "items", {"i.csv": text}, **settings)
    row = {"item_id": [b"a"], "price": [9.5], "code": [b"7"], "since": [1_704_153_600]}
    assert rows_of(examples) == [row]
    missing = generated(
        tmp_path / "missing", "items", {"i.csv": text.replace("9,5", "n/a")}, **settings
    )
    assert rows_of(missing) == [{key: row[key] for key in ("item_id", "code", "since")}]
    with pytest.raises(ValueError, match=r"i\.csv, row 1 .*: 'cheap' is not a number, as 0 of 1"):
        generated(tmp_path, "items", {"i.csv": text.replace("9,5", "cheap")}, **settings)


def test_text_of_parquet_files_is_read_as_numbers_if_declared(tmp_path):
    table = pa.table({"item_id": ["a", "b"], "price": ["1.5", "n/a"], "size": ["1", "2"]})
    path = tmp_path / "i.parquet"
    pq.write_table(table, path)
    items = TableConfig(str(path), types={"price": "number"})
    assert rows_of(generate(tmp_path / "out", "items", items)) == [
        {"item_id": [b"a"], "price": [1.5], "size": [b"1"]},
        {"item_id": [b"b"], "size": [b"2"]},
    ]
    pq.write_table(table.set_column(1, "price", [["1.5", "dear"]]), path)
    with pytest.raises(ValueError, match=r"row 2: 'dear' is not a number, as 1 of 2 cells are"):
        generate(tmp_path / "again", "items", items)


NUMBERS_AND_OTHERS = {
    # Cells of two files -> whether the column is one of numbers, as in the library.
    "placeholders": (["1.5", "2", "n/a"], ["—", "4", ""], True),
    "one mistake of ten": (["1", "2", "3", "4", "5"], ["6", "7", "8", "9", "ten"], True),
    "many words": (["1", "2", "three"], ["4", "five", ""], False),
    "codes": (["02139", "1", "2"], ["3", "4", "5"], False),
    "whole numbers": (["1", "2", " 3 "], ["4", "5", ""], True),
}


@pytest.mark.parametrize("name", NUMBERS_AND_OTHERS)
@pytest.mark.parametrize("bad_rows", ["raise", "drop"])
def test_a_column_of_mostly_numbers_is_read_as_by_the_library(tmp_path, name, bad_rows):
    *parts, are_numbers = NUMBERS_AND_OTHERS[name]
    lines = [f"i{row},{cell}" for row, cell in enumerate(cell for part in parts for cell in part)]
    header, half = "item_id,price", len(parts[0])
    for file, part in (("a", lines[:half]), ("b", lines[half:]), ("all", lines)):
        folder = tmp_path / ("whole" if file == "all" else "parts")
        folder.mkdir(exist_ok=True)
        (folder / f"{file}.csv").write_text("\n".join([header, *part]) + "\n")
    (tmp_path / "log.csv").write_text("user_id,item_id\nu,i0\n")
    items = TableConfig(str(tmp_path / "parts" / "*.csv"))
    data = DataConfig(TableConfig("log.csv"), items=items, bad_rows=bad_rows)

    def library():
        path = tmp_path / "whole" / "all.csv"
        return read_interactions(tmp_path / "log.csv", items=path, bad_rows=bad_rows).items["price"]

    if bad_rows == "raise" and name in ("placeholders", "one mistake of ten"):
        words = r"(n/a|ten)' is not a number, as (3 of 5|9 of 10) cells are"
        with pytest.raises(ValueError, match=words):
            library()
        with pytest.raises(ValueError, match=rf"\.csv, row (3|5) .*{words}"):
            generate(tmp_path, "items", items, data=data)
        return
    found = [
        row.get("price", [None])[0]
        for row in rows_of(generate(tmp_path, "items", items, data=data))
    ]
    assert any(isinstance(cell, bytes) for cell in found) != are_numbers
    wanted = library().to_pylist()
    assert [cell.decode() if isinstance(cell, bytes) else cell for cell in found] == wanted


def test_pseudonyms_replace_the_ids_of_users_only(tmp_path, monkeypatch):
    """They are those of the library, also for 7.0, which is written like 7."""
    monkeypatch.setenv("SHOP_KEY", "k" * 16)
    (tmp_path / "log.csv").write_text("user_id,item_id\n7.0,7\n 8,8\n")
    (tmp_path / "users.csv").write_text("user_id,age\n8,30\n7,40\n")
    log, users = (TableConfig(str(tmp_path / name)) for name in ("log.csv", "users.csv"))
    data = DataConfig(log, users, pseudonyms="SHOP_KEY")
    library = pseudonymise(
        read_interactions(tmp_path / "log.csv", users=tmp_path / "users.csv"), "SHOP_KEY"
    )
    made = rows_of(generate(tmp_path / "a", "interactions", log, data=data))
    assert [row["user_id"][0].decode() for row in made] == library.events["user_id"].to_pylist()
    assert [row["item_id"] for row in made] == [[b"7"], [b"8"]]
    made = rows_of(generate(tmp_path / "b", "users", users, data=data))
    assert [row["user_id"][0].decode() for row in made] == library.users["user_id"].to_pylist()


def test_another_key_takes_no_examples_from_the_cache_and_none_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("user_id,item_id\n7,7\n")
    log = TableConfig(str(tmp_path / "log.csv"))
    component = ExampleGen("interactions", DataConfig(log, pseudonyms="SHOP_KEY"))

    def resolved():
        execution = data_types.ExecutionInfo(
            exec_properties=dict(component.exec_properties),
            output_dict={"examples": [standard_artifacts.Examples()]},
        )
        return {
            key: str(value) for key, value in Driver(None).run(execution).exec_properties.items()
        }

    monkeypatch.delenv("SHOP_KEY", raising=False)
    with pytest.raises(
        ValueError, match=r"\$SHOP_KEY is not set, but pseudonyms need a secret key"
    ):
        resolved()
    found = []
    for key in ("k" * 16, "l" * 16, "k" * 16):
        monkeypatch.setenv("SHOP_KEY", key)
        found.append(resolved())
    assert found[0] == found[2] != found[1]
    assert "kkkk" not in str(found)


def test_refuses_two_columns_of_one_name(tmp_path):
    with pytest.raises(ValueError, match=r"column `user_id`, but data\.users\.columns maps `uid`"):
        generated(tmp_path, "users", {"a.csv": "user_id,uid\n1,2\n"}, columns={"user_id": "uid"})


def test_a_needed_column_that_is_missing_is_an_error_with_its_purpose(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,price\n1,2\n")
    items, log = TableConfig(str(tmp_path / "items.csv"), {"cost": "price"}), TableConfig("log.csv")

    def read(needs):
        data = DataConfig(log, items=items, needs={"time": "the order", **needs})
        return generate(tmp_path / str(len(needs)), "items", items, kind=WithoutBeam, data=data)

    assert rows_of(read({"items.cost": "cheap ones sell"})) == [{"item_id": [b"1"], "cost": [2]}]
    words = (
        r"`items\.stock`, but .*/items\.csv has only cost, item_id there\. It is needed: filters\."
    )
    with pytest.raises(ValueError, match=words):
        read({"items.cost": "cheap ones sell", "items.stock": "filters"})
    with pytest.raises(ValueError, match=r"there is no table of users\. It is needed: groups\."):
        read({"users.age": "groups"})


def test_refuses_a_table_without_a_config():
    with pytest.raises(ValueError, match="`table`='users'; use one of interactions"):
        ExampleGen("users", DataConfig(TableConfig("i.csv")))
