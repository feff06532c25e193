"""Settings, data and splits of a run folder. Training is in test_cli.py, where a run is whole."""

import json

import pytest

from tfrec_meta import data as tfd
from tfrec_meta.workflows.runs import DEFAULTS, PROTOCOLS, Run, read_data, split_data

SMALL = {"data": {"source": ["synthetic-40x20x300"]}, "strategy": {"family": "popularity"}}


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
    }
    read = read_data(source, seed=0)
    assert read.events["item_id"].to_pylist() == ["tea", "jam"]
    assert read.dropped == {"missing item_id": 1, "duplicate": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_splits_by_its_usual_shares(protocol):
    data = tfd.synthetic(40, 20, 300, seed=3)
    split = split_data(data, {"protocol": protocol, "train": None, "validation": None}, seed=1)
    assert len(split.train_index) > len(split.test_index) > 0


def test_shares_are_those_that_are_given():
    data = tfd.synthetic(40, 20, 300, seed=3)
    split = split_data(data, {"protocol": "user", "train": 0.5, "validation": 0.25}, seed=1)
    expected = tfd.split_by_user(data, 0.5, 0.25, seed=1)
    assert (split.test_index == expected.test_index).all()
    with pytest.raises(ValueError, match="takes no shares"):
        split_data(data, {"protocol": "leave-last-out", "train": 0.5, "validation": None}, seed=1)


def test_a_run_is_begun_once_and_gone_on_with(tmp_path):
    run = Run.begin(tmp_path / "run", {**SMALL, "seed": 7})
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["strategy"]["training"]["seed"] == 7
    assert record["split"] == {"protocol": "item", "train": 0.75, "validation": 0.0}

    assert Run.begin(tmp_path / "run").settings == run.settings
    assert Run.begin(tmp_path / "run", {"seed": 7}).settings == run.settings
    with pytest.raises(ValueError, match=r"holds a run with seed=7, not 8\. Use another folder"):
        Run.begin(tmp_path / "run", {"seed": 8})
    assert Run.begin(tmp_path / "run", {**SMALL, "seed": 8}, overwrite=True).settings["seed"] == 8


def test_the_shares_that_were_used_may_be_said_again(tmp_path):
    run = Run.begin(tmp_path / "run", {**SMALL, "split": {"protocol": "time"}})
    said = {"split": {"train": 0.8, "validation": 0.1}}
    assert Run.begin(tmp_path / "run", said).settings == run.settings
    with pytest.raises(ValueError, match=r"split\.validation=0\.1, not 0\.2"):
        Run.begin(tmp_path / "run", {"split": {"validation": 0.2}})


def test_nothing_is_written_for_settings_that_make_no_sense(tmp_path):
    for wrong in (
        {"data": {"source": [str(tmp_path / "nowhere.csv")]}},
        {**SMALL, "strategy": {"family": "oracle"}},
        {**SMALL, "split": {"train": 1.5}},
    ):
        with pytest.raises((ValueError, FileNotFoundError)):
            Run.begin(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="is no run, but has a 'model' of its own"):
        Run.begin(tmp_path, SMALL, overwrite=True)
    assert (tmp_path / "model").is_dir()
    assert not (tmp_path / "run.json").exists()


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1, ')
    with pytest.raises(ValueError, match="is damaged"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99, but this version reads 1"):
        Run.open(tmp_path)


def test_histories_hold_the_past_and_not_the_test_events(tmp_path):
    run = Run.begin(tmp_path / "run", {**SMALL, "split": {"protocol": "leave-last-out"}})
    test = dict(
        zip(
            run.split.test.events["user_id"].to_pylist(),
            run.split.test.events["item_id"].to_pylist(),
            strict=True,
        )
    )
    for user in list(test)[:5]:
        history = run.history(user)
        events = run.split.data.events.to_pandas()
        assert set(history) == set(events[events.user_id == user].item_id) - {test[user]}
    assert run.history("nobody") == []
    assert run.titles()["i0"]
