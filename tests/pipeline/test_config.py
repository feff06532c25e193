"""The config: read from YAML, overridden by words of a command line, checked by name."""

import dataclasses
import json

import pytest

from tfrec_meta.pipeline import config as configs
from tfrec_meta.pipeline.config import (
    DataConfig,
    PipelineConfig,
    SplitConfig,
    TableConfig,
    TunerConfig,
)

LEAST = {
    "name": "films",
    "serving": "models/films",
    "data": {"interactions": {"path": "events/*.parquet"}},
}
YAML = """
name: films
serving: models/films
data:
  interactions:
    path: "events/{SPAN}/*.csv"
    columns: {user_id: who, item_id: what}
  items: {path: films.csv, lists: {genres: "|"}}
tuner: {families: [two_tower, ials], trials: 3}
evaluator: {confidence: 0.9, min_ndcg: 0}
beam: ["--runner=FlinkRunner"]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "films.yaml"
    path.write_text(YAML, encoding="utf-8")
    return path


def test_yaml_becomes_typed_values(file):
    config = PipelineConfig.read(file)
    assert config.data.interactions.columns == {"user_id": "who", "item_id": "what"}
    assert config.data.users is None
    assert list(config.data.tables) == ["interactions", "items"]
    assert config.tuner.families == ("two_tower", "ials")
    assert config.beam == ("--runner=FlinkRunner",)
    assert config.evaluator.min_ndcg == 0.0
    assert isinstance(config.evaluator.min_ndcg, float)


def test_what_is_left_out_has_its_default():
    config = PipelineConfig.from_dict(LEAST)
    assert config == PipelineConfig(
        "films", DataConfig(TableConfig("events/*.parquet")), serving="models/films"
    )


def test_overrides_go_over_the_file(file):
    config = PipelineConfig.read(
        file, ["tuner.trials=9", "data.users.path=users.csv", "trainer.strategy.model.hidden=[8]"]
    )
    assert config.tuner.trials == 9
    assert config.tuner.families == ("two_tower", "ials")
    assert config.data.users == TableConfig("users.csv")
    assert config.trainer.strategy == {"model": {"hidden": [8]}}


def test_it_comes_back_from_plain_values(file):
    config = PipelineConfig.read(file)
    assert PipelineConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_a_part_comes_back_from_an_execution_property():
    part = TunerConfig(trials=2, fixed={"model/embedding_dim": 8})
    text = configs.as_json(part)
    assert configs.from_json(TunerConfig, text) == part
    assert text == configs.as_json(dataclasses.replace(part))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"nmae": "x"}, "no setting `nmae`"),
        ({"tuner": {"trails": 3}}, "no setting `tuner.trails`"),
        ({"tuner": {"trials": "three"}}, "`tuner.trials`='three'; give a whole number"),
        ({"tuner": {"trials": True}}, "`tuner.trials`=True; give a whole number"),
        ({"tuner": {"trials": 0}}, "In `tuner`: `trials`=0; use a whole number, 1 or more"),
        ({"tuner": {"families": "two_tower"}}, "`tuner.families`='two_tower'; give a list"),
        ({"tuner": {"families": []}}, "`families` is empty"),
        ({"tuner": {"oracle": "gut"}}, "`oracle`='gut'; use 'meta_bayesian'"),
        ({"tuner": {"trial_seconds": 0}}, "`trial_seconds`=0.0; use seconds above 0"),
        ({"tuner": {"store": "gs://studies"}}, "`store`='gs://studies' is a URL; use a path in"),
        ({"tuner": 3}, "`tuner` is 3; give a mapping"),
        ({"name": "a/b"}, "`name`='a/b'; use letters"),
        ({"name": ""}, "`name`=''; use letters"),
        ({"serving": ""}, "`serving` is empty"),
        ({"serving": 3}, "`serving`=3; give a text"),
        ({"metadata": "oracle"}, "`metadata`='oracle'; use 'sqlite'"),
        ({"serving": "gs://models/films"}, "`serving`='gs://models/films' is a URL; use a path in"),
        ({"root": "hdfs://runs"}, "`root`='hdfs://runs' is a URL"),
        ({"seed": -1}, "`seed`=-1"),
        ({"data": {}}, "`data.interactions` must be given"),
        ({"data": {"interactions": {"path": ""}}}, "In `data.interactions`: `path` is empty"),
        ({"data": {"interactions": {"path": "v{VERSION}/*"}}}, "no {SPAN}"),
        (
            {"data": {"interactions": {"path": "s3://lake/{SPAN}/*.csv"}}},
            "In `data.interactions`: `path`='s3://lake/{SPAN}/*.csv' is a URL; use a path in a "
            "file system that all workers share",
        ),
        (
            {"data": LEAST["data"] | {"users": {"path": "file:///users.csv"}}},
            "In `data.users`: `path`='file:///users.csv' is a URL",
        ),
        ({"data": LEAST["data"] | {"max_drift": 2}}, "In `data`: `max_drift`=2.0"),
        ({"data": LEAST["data"] | {"drift": {"users.age": 0}}}, "`users.age`=0"),
        ({"data": LEAST["data"] | {"max_split_drift": 0}}, "In `data`: `max_split_drift`=0"),
        ({"data": LEAST["data"] | {"split_drift": {"users.age": 2}}}, "`users.age`=2"),
        ({"data": LEAST["data"] | {"warn_new_ids": float("nan")}}, "`data.warn_new_ids`=nan"),
        ({"data": LEAST["data"] | {"time_unit": "min"}}, "`time_unit`='min'"),
        ({"split": {"protocol": "random"}}, "`protocol`='random'"),
        (
            {"split": {"protocol": "cold-users"}},
            "`split.protocol`='cold-users' needs `data.users`: held-out users can be told apart",
        ),
        ({"split": {"train": 0.9, "validation": 0.2}}, "leave nothing for the test"),
        ({"split": {"partitions": 0}}, "`partitions`=0"),
        ({"evaluator": {"min_auc": 0.6}}, "`min_auc` needs `positive`"),
        ({"evaluator": {"confidence": 1}}, "`confidence`=1"),
        ({"infra_validator": {"server": "k8s"}}, "`server`='k8s'"),
        ({"infra_validator": {"memory_mb": 10}}, "`memory_mb`=10"),
    ],
)
def test_what_makes_no_sense_is_named(change, words):
    with pytest.raises(ValueError) as error:
        PipelineConfig.from_dict(LEAST | change)
    assert words in str(error.value)


def test_cold_users_do_with_a_table_of_users():
    data = LEAST["data"] | {"users": {"path": "users.csv"}}
    config = PipelineConfig.from_dict(LEAST | {"data": data, "split": {"protocol": "cold-users"}})
    assert config.split.protocol == "cold-users"


def test_splits_need_not_be_compared(file):
    assert PipelineConfig.read(file).data.max_split_drift == 0.3
    assert PipelineConfig.read(file, ["data.max_split_drift=null"]).data.max_split_drift is None


def test_what_parts_the_events_is_told_and_nothing_else():
    assert SplitConfig().told(seed=1) == "time, train 0.8, validation 0.1"
    last = SplitConfig(protocol="leave-last-out", train=0.5, history_length=9, partitions=3)
    assert last.told(seed=1) == SplitConfig(protocol="leave-last-out").told(seed=2)
    cold = SplitConfig(protocol="cold-users", train=0.75)
    assert cold.told(seed=7) == "cold-users, train 0.75, validation 0.1, seed 7"


def test_a_missing_part_is_named():
    with pytest.raises(ValueError, match="`data`, `serving` must be given"):
        PipelineConfig.from_dict({"name": "films"})


@pytest.mark.parametrize(
    "text, words", [("a: [", "is no YAML"), ("- a", "holds no mapping"), ("", "holds no mapping")]
)
def test_a_damaged_file_is_named(tmp_path, text, words):
    path = tmp_path / "films.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        PipelineConfig.read(path)


def test_yaml_cannot_make_objects(tmp_path):
    path = tmp_path / "films.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="is no YAML"):
        PipelineConfig.read(path)


@pytest.mark.parametrize("override", ["tuner.trials", "name.first=x", "tuner.trials=[3"])
def test_a_bad_override_is_refused(file, override):
    with pytest.raises(ValueError, match=r"name|no setting|YAML|=value"):
        PipelineConfig.read(file, [override])


def test_the_folder_is_absolute_below_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PipelineConfig.from_dict(LEAST).folder == tmp_path / ".runs" / "films"
