"""Settings of a run from a YAML file."""

import json
from typing import get_args

import pytest

from tests.workflows.configs.wrong_configs import BEYOND_A_SCHEMA, WRONG
from tfrec_meta.errors import ParameterError
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.workflows.baselines import BASELINES
from tfrec_meta.workflows.configs.config_files import (
    errors_of_config,
    group_over,
    read_config,
    run_part,
    settings_over,
)
from tfrec_meta.workflows.configs.evaluation_settings import Baseline, EvaluationSettings
from tfrec_meta.workflows.run_settings import DEFAULTS, complete_settings

FULL = """\
data:
  source: log.csv
  columns: {user_id: customer, item_id: product}
  items: /srv/items.csv
  clean: {duplicates: last}
feedback:
  event_weights: {view: 1, purchase: 10}
split:
  protocol: time
  train: 0.7
  validation:
recommend_history: true
seed: 7
strategy:
  family: two_tower
  model: {embedding_dim: 16}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a config in the working directory, and returns its path."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "shop.yaml").write_text(text)
        return "shop.yaml"

    return write


def test_settings_are_read_and_missing_ones_are_missing(config, tmp_path):
    assert read_config(config(FULL)) == {
        "data": {
            "source": [str(tmp_path / "log.csv")],
            "columns": {"user_id": "customer", "item_id": "product"},
            "items": "/srv/items.csv",
            "clean": {"duplicates": "last"},
        },
        "feedback": {"event_weights": {"view": 1, "purchase": 10}},
        "split": {"protocol": "time", "train": 0.7},
        "recommend_history": True,
        "seed": 7,
        "strategy": {"family": "two_tower", "model": {"embedding_dim": 16}},
    }


def test_json_and_an_almost_empty_file_are_configs(config):
    assert read_config(config(json.dumps({"seed": 3}))) == {"seed": 3}
    assert read_config(config("data:\nseed: 3\n")) == {"seed": 3}
    assert read_config(config("data: {source: movielens-100k}"))["data"] == {
        "source": ["movielens-100k"]
    }


def test_complete_settings_are_a_config(config):
    settings = complete_settings({"data": {"source": ["synthetic-40x20x300"]}})
    assert complete_settings(read_config(config(json.dumps(settings)))) == settings
    assert set(DEFAULTS) == set(settings)


@pytest.mark.parametrize(("text", "words"), [*WRONG, *BEYOND_A_SCHEMA])
def test_a_wrong_config_names_the_file_and_the_key(config, text, words):
    with pytest.raises(ValueError, match=words) as error:
        read_config(config(text))
    assert str(error.value).startswith("shop.yaml")


def test_a_config_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "shop.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_config(tmp_path / "shop.yaml")
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "none.yaml")


def test_given_settings_win_and_replace_whole_values(config):
    settings = read_config(config(FULL))
    given = {
        "data": {"columns": {"user_id": "client"}},
        "feedback": {"event_weights": {"view": 2.0}},
        "seed": 9,
        "split": {"protocol": "time", "validation": 0.1},
    }
    result = settings_over(settings, given)
    assert result["data"]["columns"] == {"user_id": "client"}
    assert result["data"]["clean"] == {"duplicates": "last"}
    assert result["feedback"] == {"event_weights": {"view": 2.0}}
    assert result["split"] == {"protocol": "time", "train": 0.7, "validation": 0.1}
    assert result["seed"] == 9
    assert settings == read_config("shop.yaml")  # nothing is changed in place


def test_the_groups_of_other_commands_are_no_settings_of_a_run(config):
    text = FULL + "evaluation: {k: 3}\nexport: {filters: [genre]}\npipeline: {name: films}\n"
    settings = read_config(config(text))
    assert set(settings) - set(run_part(settings)) == {"evaluation", "export", "pipeline"}
    assert group_over(settings, "evaluation", {"resamples": 0}) == EvaluationSettings(
        k=3, resamples=0
    )
    assert group_over(settings, "export", {}) == ExportConfig(filters=("genre",))
    assert group_over({}, "evaluation", {}) == EvaluationSettings()


def test_the_baselines_of_the_settings_are_those_of_the_library():
    assert get_args(Baseline) == tuple(BASELINES)


def test_another_protocol_or_family_leaves_out_what_belongs_to_the_one_of_the_file(config):
    settings = read_config(config(FULL))
    given = {"split": {"protocol": "leave-last-out"}, "strategy": {"family": "ease"}}
    result = settings_over(settings, given)
    assert result["split"] == {"protocol": "leave-last-out"}
    assert result["strategy"] == {"family": "ease"}
    same = settings_over(settings, {"strategy": {"family": "two_tower"}})
    assert same["strategy"]["model"] == {"embedding_dim": 16}


def test_later_errors_name_the_setting_of_the_file_unless_it_was_given():
    config = {"strategy": {"model": {"l2": -1}}}
    error = ParameterError("`l2`=-1; use 0 or more.", "l2")
    with (
        pytest.raises(ValueError, match=r"shop.yaml: `strategy.model.l2`=-1; use 0 or more"),
        errors_of_config("shop.yaml", config),
    ):
        raise error
    with pytest.raises(ParameterError) as raised, errors_of_config("shop.yaml", config, config):
        raise error
    assert raised.value is error
