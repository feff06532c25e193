"""Increments: spans that are read together, corrections, and deliveries that went wrong."""

import dataclasses
import gzip
import json
import logging

import pytest
from tfx.orchestration.portable import data_types
from tfx.types import standard_artifacts

from tests.pipeline.components.test_example_gen import rows_of
from tests.pipeline.reading import WithoutBeam, generate
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.pipeline.components.example_gen import DROPPED, Driver, ExampleGen, Executor
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig
from tfrec_meta.pipeline.rows.spans import spans_of

HEADER = "user_id,item_id,time,id,gone"
DAYS = {
    "day-1/log.csv": ["ann,tea,1,e1,", "bob,jam,2,e2,", "cid,egg,3,e3,false"],
    "day-2/log.csv": ["ann,mug,4,e4,", "bob,tea,2,e2,0"],  # another item of the event e2
    "day-3/log.csv": ["cid,egg,3,e3,true", "ann,jam,5,e5,", "ann,pie,5,e5,"],
}


def write(folder, files, header=HEADER):
    for name, rows in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows]) + "\n")


def increments(folder, pattern="day-{SPAN}/*.csv", **settings):
    return TableConfig(str(folder / pattern), span="increment", **settings)


def events_of(folder, config, kind=WithoutBeam, table="interactions", **settings):
    given = {table: config}
    if table != "interactions":
        given["interactions"] = TableConfig("none.csv")
    data = DataConfig(**given, **settings)
    return generate(folder / "out", table, config, kind=kind, data=data)


def cells(examples, *names):
    return [tuple(row[name][0].decode() for name in names) for row in rows_of(examples)]


def dropped_of(examples):
    return json.loads(examples.get_string_custom_property(DROPPED))


def test_reads_the_window_of_the_newest_spans_in_their_order(tmp_path):
    write(tmp_path, {f"day-{day}/log.csv": [f"u{day},i,{day},,"] for day in (2, 9, 10, 11)})
    for window, days in ((None, (2, 9, 10, 11)), (1, (11,)), (3, (9, 10, 11))):
        examples = events_of(tmp_path / str(window), increments(tmp_path, window=window))
        assert cells(examples, "user_id") == [(f"u{day}",) for day in days]
        assert examples.get_int_custom_property("span") == 11


def test_a_span_counts_with_its_highest_version_only(tmp_path):
    write(tmp_path, {"1/v1/a.csv": ["old,i,1,,"], "1/v10/a.csv": ["u1,i,1,,"]})
    write(tmp_path, {"1/v9/a.csv": ["older,i,1,,"], "2/v1/a.csv": ["u2,i,2,,"]})
    examples = events_of(tmp_path, increments(tmp_path, "{SPAN}/v{VERSION}/*.csv"))
    assert cells(examples, "user_id") == [("u1",), ("u2",)]


def test_spans_are_also_dates_and_numbers_with_zeros(tmp_path):
    write(tmp_path, {"2024-02-29/a.csv": ["x"], "2024-03-01/a.csv": ["x"], "2024-03-1/a.csv": []})
    spans = spans_of(str(tmp_path / "{YYYY}-{MM}-{DD}" / "*.csv"))
    assert [span.number for span in spans] == [19782, 19783]
    assert spans[0].pattern == str(tmp_path / "2024-02-29" / "*.csv")
    write(tmp_path, {"d007.csv": ["x"], "d010.csv": ["x"]})
    spans = spans_of(str(tmp_path / "d{SPAN:3}.csv"))
    assert [(span.number, span.pattern[-8:]) for span in spans] == [
        (7, "d007.csv"),
        (10, "d010.csv"),
    ]
    write(tmp_path / "log", {"2024-03-02.csv": ["u,i,1,,"]})
    examples = events_of(tmp_path, increments(tmp_path, "log/{YYYY}-{MM}-{DD}.csv"))
    assert examples.get_int_custom_property("span") == 19784


@pytest.mark.parametrize("kind", [WithoutBeam, Executor])
def test_later_rows_replace_and_delete_events_by_their_id(tmp_path, kind):
    write(tmp_path, DAYS)
    config = increments(tmp_path, event_id="id", deleted="gone")
    examples = events_of(tmp_path, config, kind)
    assert cells(examples, "user_id", "item_id") == [
        ("ann", "tea"),
        ("ann", "mug"),
        ("bob", "tea"),
        ("ann", "pie"),
    ]
    assert dropped_of(examples) == {"replaced by a later row": 2, "deleted by a later row": 2}
    assert {name for row in rows_of(examples) for name in row} == {"user_id", "item_id", "time"}


def test_a_correction_counts_wherever_it_is_in_the_window(tmp_path):
    write(tmp_path, DAYS)
    examples = events_of(tmp_path, increments(tmp_path, window=2, event_id="id", deleted="gone"))
    assert cells(examples, "user_id", "item_id") == [("ann", "mug"), ("bob", "tea"), ("ann", "pie")]


def test_ids_of_events_are_alike_as_numbers_and_as_text(tmp_path):
    write(tmp_path, {"day-1/a.csv": ["ann,tea,1,7,"]})
    (tmp_path / "day-2").mkdir()
    event = {"user_id": "ann", "item_id": "jam", "time": 1, "id": 7}
    (tmp_path / "day-2" / "a.jsonl").write_text(json.dumps(event) + "\n")
    examples = events_of(tmp_path, increments(tmp_path, "day-{SPAN}/*", event_id="id"))
    assert cells(examples, "item_id") == [("jam",)]


@pytest.mark.parametrize("bad_rows", ["raise", "drop"])
def test_an_event_without_an_id_is_invalid(tmp_path, bad_rows):
    write(tmp_path, {"day-1/a.csv": ["ann,tea,1,e1,", "bob,tea,2,,", "bob,jam,3, ,"]})
    config, limits = increments(tmp_path, event_id="id"), {"bad_rows": bad_rows, "max_bad_share": 1}
    if bad_rows == "raise":
        words = r"a\.csv, row 2 \(line 3\), column `event_id`: the id of the event is missing"
        with pytest.raises(ValueError, match=words):
            events_of(tmp_path, config, **limits)
        return
    examples = events_of(tmp_path, config, **limits)
    assert cells(examples, "user_id") == [("ann",)]
    assert dropped_of(examples) == {"missing event_id": 2}


def test_the_latest_row_of_a_user_counts_and_a_marker_deletes_one(tmp_path):
    write(tmp_path, {"1.csv": ["ann,20,", "bob,30,"]}, "user_id,age,gone")
    write(tmp_path, {"2.csv": ["ann,21,", "bob,,yes", "cid,40,no"]}, "user_id,age,gone")
    config = increments(tmp_path, "{SPAN}.csv", deleted="gone")
    examples = events_of(tmp_path, config, table="users")
    assert [(row["user_id"], row["age"]) for row in rows_of(examples)] == [
        ([b"ann"], [21]),
        ([b"cid"], [40]),
    ]
    assert dropped_of(examples) == {"replaced by a later row": 1, "deleted by a later row": 2}


def resolved(config):
    component = ExampleGen("interactions", DataConfig(config))
    execution = data_types.ExecutionInfo(
        exec_properties=dict(component.exec_properties),
        output_dict={"examples": [standard_artifacts.Examples()]},
    )
    return {key: str(value) for key, value in Driver(None).run(execution).exec_properties.items()}


def test_a_late_span_and_a_late_file_take_no_examples_from_the_cache(tmp_path):
    write(tmp_path, {name: DAYS[name] for name in ("day-1/log.csv", "day-3/log.csv")})
    config = increments(tmp_path, event_id="id", deleted="gone")
    found = [resolved(config), resolved(config)]
    write(tmp_path, {"day-2/log.csv": DAYS["day-2/log.csv"]})
    found.append(resolved(config))
    write(tmp_path, {"day-1/late.csv": ["dan,tea,1,e9,"]})
    found.append(resolved(config))
    assert found[0] == found[1]
    assert len({each["input_fingerprint"] for each in found}) == 3
    assert {each["span"] for each in found} == {found[0]["span"]}
    examples = events_of(tmp_path, config)
    assert cells(examples, "user_id", "item_id") == [
        ("dan", "tea"),
        ("ann", "tea"),
        ("ann", "mug"),
        ("bob", "tea"),
        ("ann", "pie"),
    ]


def test_a_span_of_the_window_without_files_is_an_error(tmp_path):
    write(tmp_path, DAYS)
    (tmp_path / "day-2" / "log.csv").unlink()
    with pytest.raises(ValueError, match=r"day-2 is a span of the window .*Add the data, or rem"):
        resolved(increments(tmp_path))
    resolved(increments(tmp_path, window=1))
    (tmp_path / "day-4").mkdir()
    with pytest.raises(ValueError, match=r"day-4 is a later span than 3, but has no file"):
        resolved(increments(tmp_path, window=1))


@pytest.mark.parametrize("between", ["-", "/"])
def test_a_date_of_the_window_without_files_is_an_error(tmp_path, between):
    days = {day: between.join(("2024", "02", day)) + "/a.csv" for day in ("27", "28", "29")}
    write(tmp_path, {name: ["u,i,1,,"] for name in days.values()})
    config = increments(tmp_path, between.join(("{YYYY}", "{MM}", "{DD}")) + "/*.csv")
    (tmp_path / days["28"]).unlink()
    with pytest.raises(ValueError, match=r"02.28 is a span of the window .*Add the data, or rem"):
        resolved(config)
    resolved(dataclasses.replace(config, window=1))
    write(tmp_path, {days["28"]: ["u,i,1,,"]})
    (tmp_path / days["29"]).unlink()
    for kind in (config, TableConfig(config.path)):
        with pytest.raises(ValueError, match=r"02.29 is a later span than 19781, but has no file"):
            resolved(kind)


@pytest.mark.parametrize("file", ["a.csv", "notes.txt"])
def test_a_folder_of_no_date_of_the_calendar_is_named(tmp_path, file):
    write(tmp_path, {"2025-12-31/a.csv": ["u,i,1,,"], f"2025-13-40/{file}": ["u,i,1,,"]})
    words = r"/2025-13-40\S* is of no date of the calendar: month must be in .*Rename it, or"
    for settings in ({"span": "increment"}, {}):
        with pytest.raises(ValueError, match=words):
            resolved(TableConfig(str(tmp_path / "{YYYY}-{MM}-{DD}" / "*.csv"), **settings))


@pytest.mark.parametrize("names", [("01", "1"), ("2/v01", "2/v1"), ("01/v3", "1/v2")])
def test_two_paths_of_one_number_are_named(tmp_path, names):
    write(tmp_path, {f"{name}/a.csv": ["u,i,1,,"] for name in names})
    pattern = "{SPAN}/v{VERSION}/*.csv" if "v" in names[0] else "{SPAN}/*.csv"
    words = f"/{names[0]}/a.csv and .*/{names[1]}/a.csv have the same .* Rename one of them"
    for settings in ({"span": "increment"}, {}):
        with pytest.raises(ValueError, match=words):
            resolved(TableConfig(str(tmp_path / pattern), **settings))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{SPAN}/**/*.csv", r"has `\*\*`, .* one `\*` for each level"),
        ("{SPAN}/{SPAN}.csv", "has other placeholders than one {SPAN}, or"),
        ("{YYYY}-{MM}.csv", "has other placeholders than"),
        ("{SPAN}/{YYYY}-{MM}-{DD}.csv", "has other placeholders than"),
    ],
)
def test_a_pattern_of_no_clear_span_is_refused(path, words):
    with pytest.raises(ValueError, match=words):
        TableConfig(path)


def test_an_increment_that_was_compressed_again_is_named(tmp_path, caplog):
    def deliver(day, text, time):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=time))

    log = f"{HEADER}\nann,tea,1,,\n"
    for day, text in enumerate((log, log.replace("tea", "jam"), log), start=1):
        deliver(str(day), text, time=day)
    with caplog.at_level(logging.WARNING):
        events_of(tmp_path, increments(tmp_path, "{SPAN}/*.csv.gz"))
    assert "/3/a.csv.gz has the same content as" in caplog.text
    assert caplog.text.count("delivered twice") == 1
    end = (tmp_path / "3" / "a.csv.gz").read_bytes()[-8:]
    (tmp_path / "3" / "a.csv.gz").write_bytes(b"no gzip" + end)
    with pytest.raises(ValueError, match=r"3/a\.csv\.gz is damaged: .*Download or write it again"):
        events_of(tmp_path / "bad", increments(tmp_path, "{SPAN}/*.csv.gz"))


def test_an_increment_that_was_delivered_twice_is_named(tmp_path, caplog):
    write(tmp_path, DAYS | {"day-4/copy.csv": DAYS["day-1/log.csv"]})
    config = increments(tmp_path, types={"gone": "text"})
    with caplog.at_level(logging.WARNING):
        examples = events_of(tmp_path, config)
    assert "day-4/copy.csv has the same content as" in caplog.text
    assert "was delivered twice. Its copies are dropped." in caplog.text
    assert len(cells(examples, "user_id")) == 11  # Histories drops and counts the copies
    with pytest.raises(
        ValueError, match=r"delivered twice, and it would undo corrections\. Remove"
    ):
        events_of(tmp_path / "ids", dataclasses.replace(config, event_id="id"))
    keep = CleaningRules(duplicates="keep")
    with pytest.raises(ValueError, match=r"twice, and its events would count twice\. Remove one"):
        events_of(tmp_path / "kept", config, clean=keep)


def test_days_without_events_are_no_copies_of_each_other(tmp_path, caplog):
    write(tmp_path, DAYS | {"day-4/a.csv": [], "day-5/a.csv": []})
    examples = events_of(tmp_path, increments(tmp_path, event_id="id", deleted="gone"))
    assert len(cells(examples, "user_id")) == 4
    assert "twice" not in caplog.text


def test_a_changed_schema_is_an_error_that_names_both_files(tmp_path):
    def read(first, second, **settings):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for day, (header, row) in enumerate((first, second), start=1):
            write(folder, {f"day-{day}/a.csv": [row]}, header)
        return rows_of(events_of(folder, increments(folder, **settings)))

    known = ("user_id,item_id,value,price", "u,i,1,9.5")
    with pytest.raises(ValueError, match=r"day-2/a\.csv has text in column `price`, but .*day-1"):
        read(known, ("user_id,item_id,value,price", "u,i,1,dear"))
    with pytest.raises(ValueError, match=r"day-2/a\.csv has no column for `value`, but"):
        read(known, ("user_id,item_id,price", "u,i,1"))
    with pytest.raises(ValueError, match=r"day-1/a\.csv has no column `id`, which data\.inter"):
        read(known, (known[0], "u,i,1,8"), event_id="id")
    with pytest.raises(ValueError, match=r"day-2/a\.csv has no column `user_id`"):
        read(known, ("user,item_id,value", "u,i,1"))
    types = {"price": "text"}
    assert [
        row["price"]
        for row in read(known, ("user_id,item_id,value,price", "u,i,1,dear"), types=types)
    ] == [[b"9.5"], [b"dear"]]
    rows = read(known, ("user_id,item_id,value,shop", "u,i,1,02139"))
    assert [sorted(set(row) - {"user_id", "item_id", "value"}) for row in rows] == [
        ["price"],
        ["shop"],
    ]


@pytest.mark.parametrize(
    "interactions, users, words",
    [
        ({"span": "increment"}, None, r"`span`='increment', but `path`='log\.csv' has no \{SPAN\}"),
        ({"span": "daily"}, None, "`span`='daily'; use"),
        ({"window": 7}, None, "`window`=7 has no effect on snapshots"),
        ({"deleted": "gone"}, None, r"`interactions\.deleted` needs `interactions\.event_id`"),
        ({}, {"event_id": "id"}, r"`users\.event_id` has no effect"),
        ({}, {"deleted": "gone"}, r"`users\.deleted` has no effect on a snapshot"),
    ],
)
def test_settings_without_effect_are_refused(interactions, users, words):
    with pytest.raises(ValueError, match=words):
        DataConfig(
            TableConfig("log.csv", **interactions),
            None if users is None else TableConfig("users.csv", **users),
        )


def test_a_window_below_one_is_refused():
    with pytest.raises(ValueError, match="`window`=0; use a whole number, 1 or more"):
        TableConfig("{SPAN}.csv", span="increment", window=0)


def test_a_cell_that_is_neither_true_nor_false_is_named(tmp_path):
    write(tmp_path, {"day-1/a.csv": ["ann,tea,1,e1,perhaps"]})
    with pytest.raises(ValueError, match=r"a\.csv: 'perhaps' in the column of deletions"):
        events_of(tmp_path, increments(tmp_path, event_id="id", deleted="gone"))
