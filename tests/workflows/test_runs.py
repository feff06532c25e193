"""Run folders. tests/commands/test_train.py and test_evaluate.py train and evaluate runs."""

import json

import pytest

from tfrec_meta.workflows.configs.config_files import read_config
from tfrec_meta.workflows.runs import Run

SMALL = {"data": {"source": ["synthetic-40x20x300"]}, "strategy": {"family": "popularity"}}


def test_a_run_is_begun_once_and_continued(tmp_path):
    run = Run.begin(tmp_path / "run", {**SMALL, "seed": 7})
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["strategy"]["training"]["seed"] == 7
    assert record["split"] == {"protocol": "time", "train": 0.8, "validation": 0.1}

    assert Run.begin(tmp_path / "run").settings == run.settings
    assert Run.begin(tmp_path / "run", {"seed": 7}).settings == run.settings
    with pytest.raises(ValueError, match=r"holds a run with seed=7, not 8\. Use another folder"):
        Run.begin(tmp_path / "run", {"seed": 8})
    assert Run.begin(tmp_path / "run", {**SMALL, "seed": 8}, overwrite=True).settings["seed"] == 8


def test_the_used_shares_may_be_given_again(tmp_path):
    run = Run.begin(tmp_path / "run", {**SMALL, "split": {"protocol": "time"}})
    given = {"split": {"train": 0.8, "validation": 0.1}}
    assert Run.begin(tmp_path / "run", given).settings == run.settings
    with pytest.raises(ValueError, match=r"split\.validation=0\.1, not 0\.2"):
        Run.begin(tmp_path / "run", {"split": {"validation": 0.2}})


def test_impossible_settings_write_nothing(tmp_path):
    for wrong in (
        {"data": {"source": [str(tmp_path / "nowhere.csv")]}},
        {**SMALL, "strategy": {"family": "oracle"}},
        {**SMALL, "split": {"train": 1.5}},
        {**SMALL, "seed": -1},
    ):
        with pytest.raises((ValueError, FileNotFoundError)):
            Run.begin(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_a_run_is_not_changed(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="is not a run folder, but has a folder 'model'"):
        Run.begin(tmp_path, SMALL, overwrite=True)
    assert (tmp_path / "model").is_dir()
    assert not (tmp_path / "run.json").exists()


def test_opening_refuses_other_folders_and_damaged_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1, ')
    with pytest.raises(ValueError, match="is damaged"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format is 99, and this version reads format 2"):
        Run.open(tmp_path)


def test_a_run_of_version_0_1_is_refused_with_the_way_out(tmp_path):
    Run.begin(tmp_path / "run", SMALL)
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    way_out = (
        r"written by tfrec-meta 0\.1.*Train the run again, in a new folder or with --overwrite"
    )
    for use in (Run.open, Run.begin):
        with pytest.raises(ValueError, match=way_out):
            use(tmp_path / "run")
    Run.begin(tmp_path / "run", SMALL, overwrite=True)
    assert Run.open(tmp_path / "run").settings["data"]["source"] == ["synthetic-40x20x300"]


def test_histories_have_past_events_and_no_test_events(tmp_path):
    run = Run.begin(tmp_path / "run", {**SMALL, "split": {"protocol": "leave-last-out"}})
    test = dict(
        zip(
            run.split.test.events["user_id"].to_pylist(),
            run.split.test.events["item_id"].to_pylist(),
            strict=True,
        )
    )
    for user in list(test)[:5]:
        history = run.known_events.history(user)
        events = run.split.data.events.to_pandas()
        assert set(history) == set(events[events.user_id == user].item_id) - {test[user]}
    assert run.known_events.history("nobody") == []
    assert run.known_events.titles()["i0"]


def test_the_report_of_a_small_catalogue_ranks_all_items(tmp_path):
    given = {
        "data": {"source": ["synthetic-40x6x90"]},
        "strategy": {"family": "popularity"},
        "split": {"protocol": "user"},
    }
    run = Run.begin(tmp_path / "run", given)
    run.train()
    assert "ndcg@6" in run.report().read_text()


def test_a_password_in_a_url_is_refused_and_in_no_error(tmp_path):
    given = {"data": {"source": ["postgresql://ann:hidden@host/shop"], "sql": "orders"}}
    (tmp_path / "config.yaml").write_text(json.dumps(given))
    Run.begin(tmp_path / "old", SMALL)
    for use in (
        lambda: read_config(tmp_path / "config.yaml"),
        lambda: Run.begin(tmp_path / "new", given),
        lambda: Run.begin(tmp_path / "old", given),
    ):
        with pytest.raises(ValueError, match="has a password in it") as error:
            use()
        assert "hidden" not in str(error.value)
