"""Settings of a run: the data, the split and the seed that they describe."""

import pytest

from tfrec_meta import data as tfd
from tfrec_meta.commands import data_options
from tfrec_meta.errors import ParameterError
from tfrec_meta.workflows.run_settings import (
    DEFAULTS,
    complete_settings,
    read_data,
)


def test_data_comes_from_names_and_from_files(tmp_path):
    made = read_data({**DEFAULTS["data"], "source": ["synthetic-40x20x300"]}, seed=3)
    assert made.equals(tfd.synthetic(40, 20, 300, seed=3))

    made.write(tmp_path / "written")
    source = {**DEFAULTS["data"], "source": [str(tmp_path / "written")]}
    assert read_data(source, seed=0).equals(made)

    (tmp_path / "log.csv").write_text("who,what\nann,tea\nann,tea\nbob,\nbob,jam\n")
    source = {
        **DEFAULTS["data"],
        "source": [str(tmp_path / "log.csv")],
        "columns": {"user_id": "who", "item_id": "what"},
        "bad_rows": "drop",
        "max_bad_share": 1.0,
    }
    read = read_data(source, seed=0)
    assert read.events["item_id"].to_pylist() == ["tea", "jam"]
    assert read.dropped == {"missing item_id": 1, "duplicate": 1}


def test_rules_of_cleaning_are_settings(tmp_path):
    (tmp_path / "log.csv").write_text(
        "user_id,item_id,time,value\nann,tea,5,1\nann,tea,6,2\nann,jam,7,3\nbob,tea,8,9\n"
    )
    given = data_options.DataOptions(
        data=[str(tmp_path / "log.csv")], duplicates="last", value_range=(1, 5), time_range=(0, 6)
    ).settings()
    data = complete_settings(given)["data"]
    read = read_data(data, seed=0)
    assert read.events["value"].to_pylist() == [2.0]
    assert read.dropped == {"impossible time": 2, "duplicate": 1}
    named = complete_settings({"data": {"source": ["synthetic-40x20x300"]}})["data"]
    made = read_data(named, seed=3)
    assert len(read_data({**named, "clean": {"value_range": [1, 3]}}, seed=3)) < len(made)
    given = data_options.DataOptions(
        data=[str(tmp_path / "log.csv")], min_user_events=2, min_item_events=2
    ).settings()
    read = read_data(complete_settings(given)["data"], seed=0)  # bob has one event, then jam too
    assert read.events["value"].to_pylist() == [1.0, 2.0]
    assert read.dropped == {"user with too few events": 1, "item with too few events": 1}
    with pytest.raises(ParameterError, match="`clean` has 'dups'; use any of duplicates, value_r"):
        complete_settings({"data": {"clean": {"dups": "last"}}})
    with pytest.raises(ParameterError, match=r"`value_range`=\['a', 'b'\]; use a lowest and a"):
        complete_settings({"data": {"clean": {"value_range": ["a", "b"]}}})


def test_sessions_become_the_users_of_a_run(tmp_path):
    log = tmp_path / "log.csv"
    # ann comes twice to tea in her first visit, and once in a second one; cid has no time.
    log.write_text(
        "user_id,item_id,time,visit\nann,tea,0,v1\nann,tea,60,v1\nann,tea,9000,v2\n"
        "bob,jam,120,v3\nbob,tea,180,v3\ncid,tea,,v4\n"
    )

    def read(**options):
        given = data_options.DataOptions(data=[str(log)], duplicates="last", **options).settings()
        return read_data(complete_settings(given)["data"], seed=0)

    by_gap = read(sessions="30m")
    assert by_gap.events["user_id"].to_pylist() == ["1", "3", "2", "2"]
    assert by_gap.dropped == {"missing time": 1, "duplicate": 1}
    by_column = read(sessions="visit", min_user_events=2)
    assert by_column.events["user_id"].to_pylist() == ["v3", "v3"]
    assert by_column.dropped["user with too few events"] == 2


@pytest.mark.parametrize("sessions", ["visit", "session_id"])
def test_sessions_of_data_without_session_ids_are_refused(sessions):
    data = complete_settings({"data": {"source": ["synthetic-40x20x300"]}})["data"]
    with pytest.raises(ParameterError, match=f"`sessions`='{sessions}'.*idle gap such as 30m"):
        read_data({**data, "sessions": sessions}, seed=3)
    with pytest.raises(ParameterError, match="`sessions`='0m'; use seconds above 0"):
        complete_settings({"data": {"sessions": "0m"}})


def test_one_seed_is_used_for_split_and_training():
    assert complete_settings({"seed": 7})["strategy"]["training"]["seed"] == 7
    given = {"strategy": {"training": {"seed": 8}}}
    assert complete_settings(given)["seed"] == 8
    with pytest.raises(ParameterError, match="`seed`=-1; use a whole number from 0 to") as error:
        complete_settings({"seed": -1})
    assert error.value.parameter == "seed"
