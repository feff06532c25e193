"""The config of a run as the config of a pipeline."""

import pytest

from tfrec_meta.data import Feedback
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.pipeline.config import (
    EvaluatorConfig,
    PipelineConfig,
    SplitConfig,
    TrainerConfig,
    TunerConfig,
)
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig

TIME = "split: {protocol: time}\n"
SHOP = """\
data:
  source: log.csv
  columns: {user_id: customer, item_id: product, time: when, users.years: age, items.cost: price}
  users: users.csv
  items: items.parquet
  needs: {items.cost: cheap ones sell, items.stock: it is left out at 0}
  lists: {genres: "|"}
  delimiter: ;
  time_format: "%d/%m/%Y"
  bad_rows: drop
  pseudonyms: SHOP_KEY
  clean: {duplicates: last, min_user_events: 2}
  sessions: 30m
feedback: {event_type: action, event_weights: {view: 1}}
split: {protocol: leave-last-out}
recommend_history: true
seed: 7
strategy: {family: two_tower, model: {embedding_dim: 16}, history_length: 50}
evaluation: {k: 20}
export: {max_k: 50}
pipeline: {root: work, split: {partitions: 4}, data: {max_drift: 0.5}, evaluator: {min_ndcg: 0.1}}
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Writes a config in the working directory, and reads it as that of a pipeline."""
    monkeypatch.chdir(tmp_path)
    for name in ("log.csv", "users.csv", "items.parquet"):
        (tmp_path / name).touch()

    def read(text, overrides=()):
        (tmp_path / "shop.yaml").write_text(text)
        return PipelineConfig.read("shop.yaml", overrides)

    return read


def test_every_setting_of_a_run_becomes_one_of_the_pipeline(read, tmp_path):
    form = {"lists": {"genres": "|"}, "delimiter": ";"}
    log = {"user_id": "customer", "item_id": "product", "time": "when"}
    data = DataConfig(
        TableConfig(str(tmp_path / "log.csv"), log, **form),
        TableConfig(str(tmp_path / "users.csv"), {"user_id": "customer", "years": "age"}, **form),
        TableConfig(
            str(tmp_path / "items.parquet"),
            {"item_id": "product", "cost": "price"},
            **form,
        ),
        time_format="%d/%m/%Y",
        bad_rows="drop",
        pseudonyms="SHOP_KEY",
        clean=CleaningRules(duplicates="last", min_user_events=2),
        sessions="30m",
        needs={"items.cost": "cheap ones sell", "items.stock": "it is left out at 0"},
        max_drift=0.5,
    )
    strategy = {"family": "two_tower", "model": {"embedding_dim": 16}, "history_length": 50}
    assert read(SHOP) == PipelineConfig(
        "shop",
        data,
        "models/shop",
        root="work",
        feedback=Feedback("action", event_weights={"view": 1}),
        recommend_history=True,
        split=SplitConfig("leave-last-out", history_length=50, partitions=4),
        tuner=TunerConfig(enabled=False),
        trainer=TrainerConfig({**strategy, "training": {"seed": 7}}, export={"max_k": 50}),
        evaluator=EvaluatorConfig(k=20, min_ndcg=0.1),
        seed=7,
    )


def test_a_short_config_has_the_defaults_of_runs(read):
    config = read("data: {source: log.csv}\nsplit: {protocol: time}\n")
    assert (config.name, config.serving, config.seed) == ("shop", "models/shop", 42)
    assert config.split == SplitConfig("time", 0.8, 0.1)
    assert config.data.tables.keys() == {"interactions"}
    assert config.feedback is None
    assert config.trainer.strategy["family"] == "two_tower"
    assert not config.tuner.enabled


def test_a_search_is_on_if_the_file_describes_one(read):
    text = "split: {protocol: time}\ndata: {source: log.csv}\nstrategy: {family: ials}\n"
    tuner = read(f"{text}pipeline: {{tuner: {{trials: 3}}}}").tuner
    assert (tuner.enabled, tuner.trials, tuner.families) == (True, 3, ("ials",))
    tuner = read(f"{text}pipeline: {{tuner: {{families: [ease]}}}}").tuner
    assert tuner.families == ("ease",)


def test_overrides_win_over_the_file(read):
    config = read(SHOP, ["split.protocol=time", "name=films", "tuner.enabled=true"])
    assert (config.split.protocol, config.name, config.tuner.enabled) == ("time", "films", True)


def test_the_pipeline_can_have_paths_of_its_own(read):
    path = "lake/span-{SPAN}/*.csv"
    own = f"pipeline: {{serving: films, data: {{interactions: {{path: '{path}'}}}}}}\n"
    config = read("data: {source: [a.csv, b.csv], columns: {user_id: u}}\n" + own + TIME)
    assert config.data.interactions == TableConfig(path, {"user_id": "u"})
    assert config.serving == "films"


def test_a_folder_of_files_of_one_format_is_a_pattern(read, tmp_path):
    folder = tmp_path / "logs [1]"
    folder.mkdir()
    text = f"data: {{source: '{folder}'}}\n{TIME}"
    for name in ("a.csv.gz", "b.csv.gz", "notes.txt"):
        (folder / name).touch()
    assert read(text).data.interactions.path == f"{tmp_path}/logs [[]1]/*.csv.gz"
    (folder / "c.parquet").touch()
    with pytest.raises(
        ValueError, match=r"has files that end in \.csv\.gz and \.parquet; use a pa"
    ):
        read(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("split: {protocol: item}", "In `split`: `protocol`='item'; use one of 'time', 'leave"),
        (
            "data: {source: movielens-100k}",
            "`data.source`='movielens-100k' is not a log that a pipe",
        ),
        ("data: {source: 'sqlite:///shop.db', sql: log}", "is not a log that a pipeline can read"),
        ("data: {source: [a.csv, b.csv]}", "`data.source` has 2 entries, but a pipeline reads one"),
        ("data: {source: 'logs/**/*.csv'}", "has `**`, which a pipeline does not know; use a pat"),
        ("split: {protocol: cold-users}", "`validation`=0.0; use a share between 0 and 1"),
        # The file is read as by the commands.
        ("split: {protocol: tme}", "shop.yaml: `split.protocol`='tme'; use one of item"),
        ("sed: 3", "shop.yaml: `sed` is not a setting; did you mean `seed`"),
        # The pipeline checks its own group.
        ("pipeline: {tuner: {trails: 3}}", "Unknown setting `tuner.trails`"),
        ("pipeline: {data: 3}", "`pipeline.data`=3"),
        ("pipeline: {data: {interactions: log.csv}}", "`pipeline.data.interactions`='log.csv'"),
        # Two values that contradict one another.
        (
            "split: {protocol: time}\npipeline: {split: {train: 0.5}}",
            "`pipeline.split.train`=0.5, but with `split.train` of the file it is 0.8. Leave out",
        ),
        ("seed: 3\npipeline: {seed: 4}", "`pipeline.seed`=4, but with `seed` of the file it is 3"),
        ("pipeline: {feedback: {positive: 4}}", "`pipeline.feedback`={'positive': 4}, but with"),
        (
            "pipeline: {data: {users: {path: u.csv}}}",
            "`pipeline.data.users`={'path': 'u.csv'}, but",
        ),
        (
            "evaluation: {k: 5}\npipeline: {evaluator: {k: 6}}",
            "`pipeline.evaluator.k`=6, but with `evaluation.k` of the file it is 5",
        ),
        (
            "pipeline: {data: {interactions: {columns: {user_id: x}}}}",
            "Leave out `pipeline.data.interactions.columns.user_id`, and set `data.columns`",
        ),
        (
            "pipeline: {trainer: {strategy: {family: ease}}}",
            "Leave out `pipeline.trainer.strategy`, and set `strategy`",
        ),
    ],
)
def test_a_setting_that_a_pipeline_does_not_have_is_named_with_the_way_out(read, text, words):
    data = "" if "source" in text else "data: {source: log.csv, columns: {user_id: u}}\n"
    whole = f"{data}{text}\n{'' if 'split:' in text else TIME}"
    with pytest.raises(ValueError) as error:
        read(whole)
    assert words in str(error.value)
    assert str(error.value).startswith("shop.yaml")


def test_the_config_of_a_pipeline_is_no_config_of_a_run(read):
    with pytest.raises(ValueError, match="`data`, `serving` must be set"):
        read("name: films")
    with pytest.raises(ValueError, match="Unknown setting `feed`"):
        read("{name: films, serving: x, data: {interactions: {path: x.csv}}, feed: 1}")
