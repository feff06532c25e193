"""A survey of a log: what is read, dropped and counted."""

import json
from calendar import timegm

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.survey.log import ROWS, write_log
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.sources import byte_streams
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.survey.survey import survey
from tfrec_meta.errors import ParameterError


@pytest.fixture
def log(tmp_path):
    return write_log(tmp_path)


def test_the_facts_of_a_log_are_counted(log):
    found = survey(log)
    assert {key: one.column for key, one in found.mapping.items()} == {
        "user_id": "customer",
        "item_id": "product",
        "time": "when",
        "value": None,
        "event_type": "action",
    }
    assert (found.rows, found.events, found.users, found.items) == (13, 10, 4, 4)
    assert found.dropped == {"missing user_id": 1, "unreadable time": 1, "duplicate": 1}
    assert found.invalid_share == 2 / 13  # a copy can be read
    assert found.event_types == {"view": 8, "purchase": 2}
    assert (found.repeats.pairs, found.repeats.repeated) == (8, 1)
    assert found.recommends_history
    assert (found.newcomers.users, found.newcomers.new_users) == (2, 1)
    assert (found.newcomers.items, found.newcomers.new_items) == (2, 1)
    assert found.first_time == timegm((2026, 1, 1, 0, 0, 0))
    assert found.last_time == timegm((2026, 1, 10, 0, 0, 0))
    assert (found.times, found.split, found.is_sample) == ("dates", "time", False)


def test_examples_name_file_row_and_column(log):
    (example,) = survey(log).examples["unreadable time"]
    assert example.startswith(f"{log}, row 12 (line 13), column `time`: 'soon' is not a time")


def test_a_log_with_personal_columns_shows_no_cells(tmp_path):
    rows = ROWS.replace("a,", "ann@shop.example,").replace("b,", "bob@shop.example,")
    found = survey(write_log(tmp_path, rows=rows))
    assert [one.column for one in found.personal] == ["customer"]
    (example,) = found.examples["unreadable time"]
    assert example.endswith("column `time`")
    assert "shop.example" not in json.dumps(found.as_dict())


def test_the_result_is_ready_for_json(log):
    record = json.loads(json.dumps(survey(log).as_dict()))
    assert record["repeats"] == {"pairs": 8, "repeated": 1, "share": 0.125}
    assert record["newcomers"]["since"] == "2026-01-09 00:00:00"
    assert record["format"]["bad_rows"] == "raise"


def test_given_columns_and_rules_are_used(log):
    rules = CleaningRules(duplicates="last")
    found = survey(log, {"item_id": "action"}, rules=rules)
    assert found.mapping["item_id"].column == "action"
    assert found.events == 6  # of a: view, purchase; of b: view, purchase; of c and d: view
    with pytest.raises(ParameterError, match="has no column `nothing`"):
        survey(log, {"item_id": "nothing"})


def test_a_delimiter_and_a_unit_of_times_are_recognized(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user;item;ts\na;p;1700000000000\nb;p;1700000001000\n")
    found = survey([path])
    assert (found.form.delimiter, found.form.time_unit) == (";", "ms")
    assert (found.times, found.events) == ("milliseconds since 1970", 2)
    assert found.first_time == 1_700_000_000
    assert survey(path, form=FileFormat(time_unit="us")).form.time_unit == "us"


def test_dates_with_two_meanings_have_two_formats(tmp_path):
    found = survey(write_log(tmp_path, rows="a,p,01/02/2026,view\nb,p,03/02/2026,view\n"))
    assert found.time_formats == ("%d/%m/%Y", "%m/%d/%Y")
    assert found.form.time_format == "%d/%m/%Y"
    assert found.first_time == timegm((2026, 2, 1, 0, 0, 0))


def test_without_columns_that_look_like_ids_only_columns_are_described(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("alpha,beta\n1.5,x\n2.5,y\n")
    found = survey(path)
    assert not found.is_readable
    assert [column.kind for column in found.columns] == ["number", "text"]
    assert found.events == 0


def test_a_log_without_a_valid_row_still_has_counts(tmp_path):
    found = survey(
        write_log(tmp_path, rows=",p1,2026-01-03,view\n,p2,2026-01-04,view\n"),
        {"user_id": "customer"},
    )
    assert (found.rows, found.events) == (2, 0)
    assert found.dropped == {"missing user_id": 2}


def test_logs_without_times_suggest_a_random_split(tmp_path):
    found = survey(write_log(tmp_path, "user,item", "a,p\nb,p\na,q\n"))
    assert (found.split, found.newcomers, found.first_time) == ("item", None, None)


def test_json_lines_and_parquet_are_surveyed(tmp_path):
    rows = [{"user": f"u{n % 3}", "item": n % 4, "stars": 1.0 + n % 5} for n in range(12)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    of_json, of_parquet = survey(tmp_path / "log.jsonl"), survey(tmp_path / "log.parquet")
    assert of_json.columns == of_parquet.columns
    assert of_json.events == of_parquet.events == 12
    assert of_parquet.mapping["value"].column == "stars"


def test_a_sample_ends_with_a_block_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(byte_streams, "CHUNK", 100)
    rows = "".join(f"u{n % 7},p{n % 5},{1_700_000_000 + n},view\n" for n in range(200))
    path = write_log(tmp_path, rows=rows)
    found = survey(path, rows=20)
    assert found.is_sample
    assert 20 <= found.rows < 40
    assert not survey(path, rows=200).is_sample
    with pytest.raises(ParameterError, match="`rows`=0"):
        survey(path, rows=0)


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_is_refused(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match="is empty"):
        survey(tmp_path / "log.csv")


def test_decimal_commas_are_recognized(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user;item;rating\na;p;12,34\nb;p;5\nb;q;0,5\n")
    found = survey(path)
    assert (found.form.delimiter, found.form.decimal, found.events) == (";", ",", 3)
    assert found.mapping["value"].column == "rating"


@pytest.mark.parametrize("cells", ["1,234 12,345", "2.5 12,34", "1,2,3 4,5,6"])
def test_other_commas_are_no_decimals(tmp_path, cells):
    path = tmp_path / "log.csv"
    rows = zip("ab", cells.split(), strict=False)
    path.write_text("user;item;x;y\n" + "".join(f"{user};p;{cell};2.5\n" for user, cell in rows))
    assert survey(path).form.decimal == "."


def test_users_and_items_that_say_the_same_are_noted(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item\n" + "".join(f"u{n % 12},p{n % 12}\n" for n in range(36)))
    found = survey(path)
    assert (found.is_one_to_one, found.is_sure) == (True, False)
    path.write_text("user,item\n" + "".join(f"u{n % 12},p{n % 11}\n" for n in range(36)))
    assert survey(path).is_sure
