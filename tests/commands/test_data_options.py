"""The options of data and feedback, as settings of a run."""

from pathlib import Path

from tfrec_meta.commands.data_options import DataOptions, FeedbackOptions


def test_data_options_that_are_not_given_are_no_settings():
    assert DataOptions().settings() == {"data": {}, "split": {}}


def test_paths_are_absolute_and_named_sources_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = DataOptions(
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


def test_feedback_options_are_the_feedback_of_a_run():
    assert FeedbackOptions().settings() == {}
    given = FeedbackOptions(
        event_weights={"view": 1.0}, positive=["buy"], below="negative", target=["buy", "order"]
    )
    assert given.settings() == {
        "feedback": {
            "event_weights": {"view": 1.0},
            "positive": ["buy"],
            "below": "negative",
            "target": ["buy", "order"],
        }
    }
