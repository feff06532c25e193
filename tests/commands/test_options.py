"""Shared options, as settings of a run."""

import json
from pathlib import Path

import click
import pytest

from tfrec_meta.commands import options
from tfrec_meta.errors import ParameterError


def test_data_options_that_are_not_given_are_no_settings():
    assert options.DataOptions().settings() == {"data": {}, "split": {}}


def test_paths_are_absolute_and_named_sources_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = options.DataOptions(
        data=("movielens-100k", "synthetic-4x3x9", "log.csv"),
        data_folder="ml",
        users="users.csv",
        columns={"user_id": "who"},
        split="time",
        train=0.5,
    )
    here = Path.cwd()
    assert given.settings() == {
        "data": {
            "source": ["movielens-100k", "synthetic-4x3x9", str(here / "log.csv")],
            "folder": str(here / "ml"),
            "users": str(here / "users.csv"),
            "columns": {"user_id": "who"},
        },
        "split": {"protocol": "time", "train": 0.5},
    }


def test_strategy_options_replace_values_of_the_strategy_file(tmp_path):
    path = tmp_path / "strategy.json"
    path.write_text(json.dumps({"family": "ease", "training": {"epochs": 3, "batch_size": 64}}))
    given = options.StrategyOptions(family="ials", epochs=5, seed=7, strategy=str(path))
    assert given.settings() == {
        "seed": 7,
        "strategy": {
            "family": "ials",
            "training": {"epochs": 5, "batch_size": 64, "seed": 7},
        },
    }
    assert options.StrategyOptions().settings() == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"familly": "ease"}'])
def test_a_file_that_is_not_a_strategy_is_refused(text, tmp_path):
    path = tmp_path / "strategy.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"strategy\.json") as error:
        options.read_strategy(path)
    assert error.value.parameter == "strategy"


def test_names_are_split_at_commas():
    assert options.names(" a, b,,c ") == ["a", "b", "c"]
    assert options.names(None) == []
    assert options.baseline_names(None) is None
    assert options.baseline_names("none") == []
    assert options.baseline_names("ials,ease") == ["ials", "ease"]


def test_feedback_options_are_the_feedback_of_a_run():
    assert options.FeedbackOptions().settings() == {}
    given = options.FeedbackOptions(
        event_weights={"view": 1.0}, positive=["buy"], below="negative", target="buy, order"
    )
    assert given.settings() == {
        "feedback": {
            "event_weights": {"view": 1.0},
            "positive": ["buy"],
            "below": "negative",
            "target": ["buy", "order"],
        }
    }


def test_weights_and_positive_events_are_read_from_text():
    weights = options.EventWeights().convert("view=1,a=b=2.5", None, None)
    assert weights == {"view": 1.0, "a=b": 2.5}
    for wrong in ("view", "=1", "view=", "view=much"):
        with pytest.raises(click.UsageError, match="is not TYPE=WEIGHT"):
            options.EventWeights().convert(wrong, None, None)
    assert options.Positive().convert("4", None, None) == 4.0
    assert options.Positive().convert("buy,order", None, None) == ["buy", "order"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("genres=|", {"genres": "|"}),
        ("tags=,", {"tags": ","}),
        ("genres=|,tags=;", {"genres": "|", "tags": ";"}),
        ("tags=,,genres= / ", {"tags": ",", "genres": " / "}),
    ],
)
def test_separators_of_lists_may_be_commas(words, expected):
    assert options.Separators().convert(words, None, None) == expected


def test_a_tab_can_be_written_in_words():
    for words in ("tab", "\\t", "\t"):
        assert options.Character().convert(words, None, None) == "\t"
