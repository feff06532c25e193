"""The config: read from YAML, overridden on the command line, checked with the path."""

import dataclasses
import json

import pytest

from tfrec_meta.data import Feedback
from tfrec_meta.pipeline import config_values
from tfrec_meta.pipeline.config import PipelineConfig, SplitConfig, TunerConfig
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig

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


def test_reads_yaml_as_typed_values(file):
    config = PipelineConfig.read(file)
    assert config.data.interactions.columns == {"user_id": "who", "item_id": "what"}
    assert config.data.users is None
    assert list(config.data.tables) == ["interactions", "items"]
    assert config.tuner.families == ("two_tower", "ials")
    assert config.beam.arguments == ("--runner=FlinkRunner",)
    assert config.evaluator.min_ndcg == 0.0
    assert isinstance(config.evaluator.min_ndcg, float)


def test_missing_settings_have_their_defaults():
    config = PipelineConfig.from_dict(LEAST)
    assert config == PipelineConfig(
        "films", DataConfig(TableConfig("events/*.parquet")), serving="models/films"
    )


def test_overrides_take_precedence_over_the_file(file):
    config = PipelineConfig.read(
        file, ["tuner.trials=9", "data.users.path=users.csv", "trainer.strategy.model.hidden=[8]"]
    )
    assert config.tuner.trials == 9
    assert config.tuner.families == ("two_tower", "ials")
    assert config.data.users == TableConfig("users.csv")
    assert config.trainer.strategy == {"model": {"hidden": [8]}}


def test_round_trips_through_plain_values(file):
    feedback = "feedback={event_weights: {view: 1}, positive: [view], target: [view]}"
    config = PipelineConfig.read(file, [feedback, "evaluator.positive=feedback"])
    assert config.feedback == Feedback(
        event_weights={"view": 1}, positive=["view"], target=["view"]
    )
    assert PipelineConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_a_part_round_trips_through_an_execution_property():
    part = TunerConfig(trials=2, fixed={"model/embedding_dim": 8})
    text = config_values.as_json(part)
    assert config_values.from_json(TunerConfig, text) == part
    assert text == config_values.as_json(dataclasses.replace(part))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"nmae": "x"}, "Unknown setting `nmae`"),
        ({"tuner": {"trails": 3}}, "Unknown setting `tuner.trails`"),
        ({"tuner": {"trials": "three"}}, "`tuner.trials`='three'; use a whole number"),
        ({"tuner": {"trials": True}}, "`tuner.trials`=True; use a whole number"),
        ({"tuner": {"trials": 0}}, "In `tuner`: `trials`=0; use"),
        ({"tuner": {"families": "two_tower"}}, "`tuner.families`='two_tower'; use a list"),
        ({"tuner": {"families": []}}, "In `tuner`: `families`=(); use at least one value"),
        ({"tuner": {"oracle": "gut"}}, "`oracle`='gut'; use one of 'meta_bayesian'"),
        ({"tuner": {"trial_seconds": 0}}, "`trial_seconds`=0.0; use a number above 0"),
        ({"tuner": {"store": "gs://studies"}}, "`store`='gs://studies' is a URL; use a path in"),
        ({"tuner": 3}, "`tuner`=3; use a mapping"),
        ({"name": "a/b"}, "`name`='a/b'; use letters"),
        ({"name": ""}, "`name`=''; use letters"),
        ({"serving": ""}, "`serving` is empty"),
        ({"serving": 3}, "`serving`=3; use a string"),
        ({"metadata": "oracle"}, "`metadata`='oracle'; use one of 'sqlite'"),
        (
            {"serving": "hdfs://models/films"},
            "`serving`='hdfs://models/films' is a URL; use a path",
        ),
        ({"root": "hdfs://runs"}, "`root`='hdfs://runs' is a URL"),
        ({"seed": -1}, "`seed`=-1"),
        ({"data": {}}, "`data.interactions` must be set"),
        ({"data": {"interactions": {"path": ""}}}, "In `data.interactions`: `path` is empty"),
        ({"data": {"interactions": {"path": "v{VERSION}/*"}}}, "not {SPAN}"),
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
        ({"data": LEAST["data"] | {"pseudonyms": ""}}, "In `data`: `pseudonyms` is empty"),
        ({"data": LEAST["data"] | {"pseudonyms": True}}, "`data.pseudonyms`=True; use a string"),
        ({"split": {"protocol": "random"}}, "`protocol`='random'"),
        (
            {"split": {"protocol": "cold-users"}},
            "`split.protocol`='cold-users' needs `data.users`: a model distinguishes held-out",
        ),
        ({"split": {"train": 0.9, "validation": 0.2}}, "leave no events for the test"),
        ({"split": {"partitions": 0}}, "`partitions`=0"),
        ({"evaluator": {"min_auc": 0.6}}, "`min_auc` needs `positive`"),
        ({"evaluator": {"positive": "feedback"}}, "`feedback.positive` does not say which"),
        ({"evaluator": {"positive": "high"}}, "`positive`='high'; use a number, or 'feedback'"),
        ({"feedback": {"weights": {"view": 1}}}, "Unknown setting `feedback.weights`"),
        ({"feedback": {"target": "purchase"}}, "`feedback.target`='purchase'; use a list"),
        ({"feedback": {"event_weights": {"view": 0}}}, "In `feedback`: `event_weights` gives"),
        ({"feedback": {"below": "negative"}}, "In `feedback`: `below`='negative', but without"),
        ({"evaluator": {"confidence": 1}}, "`confidence`=1"),
        ({"infra_validator": {"server": "k8s"}}, "`server`='k8s'"),
        ({"infra_validator": {"memory_mb": 10}}, "`memory_mb`=10"),
    ],
)
def test_refuses_an_invalid_setting_and_names_it(change, words):
    with pytest.raises(ValueError) as error:
        PipelineConfig.from_dict(LEAST | change)
    assert words in str(error.value)


def test_accepts_cold_users_with_a_users_table():
    data = LEAST["data"] | {"users": {"path": "users.csv"}}
    config = PipelineConfig.from_dict(LEAST | {"data": data, "split": {"protocol": "cold-users"}})
    assert config.split.protocol == "cold-users"


def test_sessions_as_users_leave_out_the_users_and_read_the_column_of_session_ids():
    data = LEAST["data"] | {"users": {"path": "users.csv"}, "sessions": "30m"}
    config = PipelineConfig.from_dict(LEAST | {"data": data})
    assert set(config.data.tables) == {"interactions"}
    assert config.data.tables["interactions"] == config.data.interactions
    config = PipelineConfig.from_dict(LEAST | {"data": data | {"sessions": "visit"}})
    read = config.data.tables["interactions"]
    assert read.columns["session_id"] == "visit"
    assert read.types["session_id"] == "text"
    with pytest.raises(ValueError, match=r"`split\.protocol`='cold-users' needs `data\.users`"):
        PipelineConfig.from_dict(LEAST | {"data": data, "split": {"protocol": "cold-users"}})
    with pytest.raises(ValueError, match="`sessions`='0m'; use seconds above 0"):
        PipelineConfig.from_dict(LEAST | {"data": data | {"sessions": "0m"}})


def test_the_comparison_of_splits_can_be_disabled(file):
    assert PipelineConfig.read(file).data.max_split_drift == 0.3
    assert PipelineConfig.read(file, ["data.max_split_drift=null"]).data.max_split_drift is None


def test_the_identity_of_a_split_has_the_settings_that_determine_it_and_no_others():
    time = {"protocol": "time", "train": 0.8, "validation": 0.1}
    assert json.loads(SplitConfig().identity(seed=1)) == time
    last = SplitConfig(protocol="leave-last-out", train=0.5, history_length=9, partitions=3)
    assert last.identity(seed=1) == SplitConfig(protocol="leave-last-out").identity(seed=2)
    assert json.loads(last.identity(seed=1)) == {"protocol": "leave-last-out"}
    cold = SplitConfig(protocol="cold-users", train=0.75)
    expected = {"protocol": "cold-users", "train": 0.75, "validation": 0.1, "seed": 7}
    assert json.loads(cold.identity(seed=7)) == expected
    assert SplitConfig().identity(1, sessions="30m") == SplitConfig().identity(1)
    assert json.loads(last.identity(1, sessions="30m"))["sessions"] == "30m"


def test_the_target_is_a_part_of_the_identity_of_a_split_of_events():
    feedback = Feedback("action", target=["purchase", "cart"], positive=["cart"])
    for protocol, target in (
        ("time", ["action", "cart", "purchase"]),
        ("leave-last-out", ["action", "cart", "purchase"]),
        ("cold-users", None),
    ):
        identity = json.loads(SplitConfig(protocol=protocol).identity(1, feedback))
        assert identity.get("target") == target


def test_names_missing_settings():
    with pytest.raises(ValueError, match="`data`, `serving` must be set"):
        PipelineConfig.from_dict({"name": "films"})


@pytest.mark.parametrize(
    "text, words",
    [("a: [", "is not valid YAML"), ("- a", "is not a mapping"), ("", "is not a mapping")],
)
def test_refuses_a_damaged_file(tmp_path, text, words):
    path = tmp_path / "films.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        PipelineConfig.read(path)


def test_yaml_can_not_create_objects(tmp_path):
    path = tmp_path / "films.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="is not valid YAML"):
        PipelineConfig.read(path)


@pytest.mark.parametrize("override", ["tuner.trials", "name.first=x", "tuner.trials=[3"])
def test_refuses_an_invalid_override(file, override):
    with pytest.raises(ValueError, match=r"name|Unknown setting|YAML|=value"):
        PipelineConfig.read(file, [override])


def test_the_folder_is_absolute_below_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PipelineConfig.from_dict(LEAST).folder == tmp_path / ".runs" / "films"
