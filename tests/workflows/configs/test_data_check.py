"""The starting config of a log: it is read again, and reads the log."""

import dataclasses

import pytest

from tests.data.survey.log import ROWS, write_log
from tfrec_meta.commands.data_options import DataOptions
from tfrec_meta.errors import ParameterError
from tfrec_meta.workflows.configs.config_files import read_config
from tfrec_meta.workflows.configs.data_check import check_data, starting_config
from tfrec_meta.workflows.run_settings import complete_settings, read_data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(folder, rows=None, **options) -> str:
    given = DataOptions(data=["log.csv"], **options).settings()
    return starting_config(check_data(given, rows), given)


def settings_of(folder, text):
    (folder / "shop.yaml").write_text(text, encoding="utf8")
    return read_config(folder / "shop.yaml")


def test_the_config_of_a_log_has_comments(folder):
    write_log(folder)
    assert (
        config_of(folder)
        == """\
# Settings of tfrec-meta, for: tfrec-meta train --run runs/shop --config FILE
data:
  source: [log.csv]
  columns:  # our name: the name in the files
    user_id: customer
    item_id: product
    time: when
    event_type: action
  # 15.4% of the rows cannot be read. Fix the files, or drop these rows:
  # bad_rows: drop
  # max_bad_share: 0.16
# feedback:  # all types of events count alike, unless you say how they count:
#   event_weights: {view: 1, purchase: 1}
#   target: [purchase]
split:
  protocol: time  # train on the past, test on the future
  # 50% of the last users are new: see docs/metalearning.md
  # 50% of the last items are new: give `items`, a table with
  #   their texts, and see the family content_tower
recommend_history: true  # 12.5% of the pairs of user and item are repeated
#   these may be repeated views: with a `target` such as purchases, use true
#   only if users repeat these; else past purchases are recommended again
seed: 42
strategy:
  family: ials  # trains in seconds; then compare two_tower (docs/models.md)
"""
    )


def test_the_config_reads_the_events_that_were_counted(folder):
    write_log(folder, rows="".join(ROWS.splitlines(keepends=True)[:10]))
    settings = settings_of(folder, config_of(folder))
    data = read_data(complete_settings(settings)["data"], seed=42)
    assert (len(data), len(data.user_ids), len(data.item_ids)) == (10, 4, 4)
    assert data.events["event_type"].to_pylist().count("purchase") == 2


def test_the_commented_settings_are_valid_too(folder):
    write_log(folder)
    text = config_of(folder)
    for line in ("bad_rows: drop", "max_bad_share: 0.16"):
        text = text.replace(f"  # {line}", f"  {line}")
    text = text.replace("# feedback:", "feedback:").replace("#   ", "  ", 2)
    settings = complete_settings(settings_of(folder, text))
    assert settings["feedback"]["target"] == ["purchase"]
    assert len(read_data(settings["data"], 42, settings["feedback"])) == 10


def test_a_few_invalid_rows_are_dropped_by_the_config(folder):
    rows = "".join(f"u{n % 9},p{n % 7},{1_700_000_000 + n},view\n" for n in range(199))
    write_log(folder, rows=rows + "u1,,1700000000,view\n")
    assert "\n  bad_rows: drop  # 0.50% of the rows cannot be read\n" in config_of(folder)


def test_given_options_are_in_the_config(folder):
    write_log(folder)
    text = config_of(
        folder,
        columns={"user_id": "product", "item_id": "customer", "place": "action"},
        bad_rows="drop",
        max_bad_share=0.5,
        duplicates="last",
        split="item",
        train=0.6,
        pseudonyms="KEY",
    )
    settings = settings_of(folder, text)
    assert settings["data"] == {
        "source": [str(folder / "log.csv")],
        "columns": {"user_id": "product", "item_id": "customer", "time": "when", "place": "action"},
        "bad_rows": "drop",
        "max_bad_share": 0.5,
        "clean": {"duplicates": "last"},
        "pseudonyms": "KEY",
    }
    assert settings["split"] == {"protocol": "item", "train": 0.6}


def test_unsure_columns_have_a_remark_and_optional_ones_stay_out(folder):
    header, row = "user_id,artist_id,track_id,plays,minutes", "u{0},a{1},t{1},{1},{1}\n"
    write_log(folder, header, "".join(row.format(n % 5, n % 3) for n in range(30)))
    text = config_of(folder)
    assert "    item_id: artist_id  # unsure; or track_id\n" in text
    assert "    # value: plays  # unsure; or minutes\n" in text
    assert settings_of(folder, text)["data"]["columns"] == {
        "user_id": "user_id",
        "item_id": "artist_id",
    }


def test_dates_with_two_meanings_have_a_remark(folder):
    write_log(folder, rows="a,p,01/02/2026,view\nb,p,03/02/2026,view\n")
    line = "  time_format: '%d/%m/%Y'  # unsure: the day or the month comes first; or %m/%d/%Y\n"
    assert line in config_of(folder)


@pytest.mark.parametrize(
    "name", ["user: x # y", "user\x1b[2J id", "yes", "user 'a' \"b\"", "№ 用户"]
)
def test_any_column_name_is_written_as_it_is(folder, name):
    quoted = name.replace('"', '""')
    write_log(folder, f'"{quoted}",item', "a,p\nb,p\nb,q\n")
    text = config_of(folder, columns={"user_id": name})
    assert "\x1b" not in text
    assert settings_of(folder, text)["data"]["columns"]["user_id"] == name


def test_ids_that_look_personal_suggest_pseudonyms(folder):
    write_log(folder, rows=ROWS.replace("a,", "ann@shop.example,").replace("b,", "b@shop.example,"))
    text = config_of(folder)
    assert "  # pseudonyms: TFREC_META_KEY" in text
    assert "shop.example" not in text


def test_a_log_without_ids_has_no_config(folder):
    write_log(folder, "alpha,beta", "1.5,x\n2.5,y\n")
    given = DataOptions(data=["log.csv"]).settings()
    found = check_data(given)
    with pytest.raises(ValueError, match="needs a column of users and one of items"):
        starting_config(found, given)


def test_named_data_and_options_without_effect_are_refused(folder):
    write_log(folder)
    with pytest.raises(ValueError, match="movielens-100k has known columns"):
        check_data(DataOptions(data=["movielens-100k"]).settings())
    options = DataOptions(data=["log.csv"], data_folder="folder")
    with pytest.raises(ParameterError, match="`data_folder` is that of the MovieLens files"):
        check_data(options.settings())
    options = dataclasses.replace(options, data_folder=None, max_bad_share=0.5)
    with pytest.raises(ParameterError, match="`max_bad_share` has no effect"):
        check_data(options.settings())
