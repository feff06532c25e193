"""Tuner as a node: TFX's results, trials beside them, and going on after a kill."""

import json
from pathlib import Path

from tests.pipeline import training_toys
from tfrec_meta import api
from tfrec_meta.pipeline import trainer, tuner
from tfrec_meta.pipeline.configs import TrainerConfig, TunerConfig
from tfrec_meta.tuning import OBJECTIVE, AllTrialsFailed

import pytest

FIXED = {"two_tower/embedding_dim": 8, "two_tower/encoder": "mean"}


def settings(root, **options):
    options = {"trials": 3, "epochs": 2, "oracle": "random", "fixed": FIXED, **options}
    return training_toys.config(
        root, tuner=TunerConfig(**options), trainer=TrainerConfig(strategy=training_toys.STRATEGY)
    )


@pytest.fixture(scope="session")
def given(toy_histories, toy_transform):
    return training_toys.inputs(toy_histories, toy_transform)


@pytest.fixture(scope="module")
def tuned(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return training_toys.tune(settings(folder), given, folder), folder


def trials_of(outputs):
    return json.loads((Path(outputs["tuner_results"].uri) / tuner.TRIALS).read_text())


def best_of(outputs):
    (path,) = Path(outputs["best_hyperparameters"].uri).iterdir()
    return json.loads(path.read_text())


def test_it_writes_tfxs_files_and_the_trials(tuned):
    outputs, _ = tuned
    trials = trials_of(outputs)
    assert len(trials) == 3
    assert all(trial["error"] is None and 0 < trial[OBJECTIVE] < 1 for trial in trials)
    assert all(trial["seconds"] > 0 and trial["epochs"] == 2 for trial in trials)
    assert trials[0]["values"]["two_tower/training/batch_size"] == 512
    best = max(trials, key=lambda trial: trial[OBJECTIVE])
    assert best_of(outputs)["values"] == best["values"]
    table = json.loads((Path(outputs["tuner_results"].uri) / "tuner_results.json").read_text())
    assert [row["score"] for row in table] == sorted((t[OBJECTIVE] for t in trials), reverse=True)
    assert table[0]["two_tower/embedding_dim"] == 8


def test_trainer_makes_the_strategy_of_what_it_found(tuned):
    strategy = trainer.chosen_strategy(training_toys.STRATEGY, 42, best_of(tuned[0]))
    assert strategy.model.embedding_dim == 8
    assert strategy.model.user_id == best_of(tuned[0])["values"]["two_tower/user_id"]
    assert strategy.training.epochs == 3  # the config's; a trial's budget is no part of it


def test_the_study_is_gone_when_it_has_finished(tuned):
    assert not list((tuned[1] / "toy" / "work" / "studies").iterdir())


class Kill(BaseException):
    """Stands in for SIGKILL: nothing of ours catches it."""


def test_killed_in_a_trial_it_goes_on_with_those_that_are_left(given, tuned, tmp_path, monkeypatch):
    real, calls = api.train, []

    def dying(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise Kill
        return real(*args, **kwargs)

    monkeypatch.setattr(api, "train", dying)
    with pytest.raises(Kill):
        training_toys.tune(settings(tmp_path), given, tmp_path / "killed")
    outputs = training_toys.tune(settings(tmp_path), given, tmp_path / "again")
    assert len(calls) == 4  # the first, the one that was killed, that again, and the third
    keys = ("trial_id", OBJECTIVE, "values")
    found, whole = ([{k: t[k] for k in keys} for t in trials_of(o)] for o in (outputs, tuned[0]))
    assert found == whole


def test_if_all_trials_fail_the_node_does_and_begins_anew(given, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(api, "train", lambda *_, **__: 1 / 0)
        with pytest.raises(AllTrialsFailed, match="ZeroDivisionError"):
            training_toys.tune(settings(tmp_path, trials=2), given, tmp_path / "failed")
    outputs = training_toys.tune(settings(tmp_path, trials=1), given, tmp_path / "again")
    assert trials_of(outputs)[0]["error"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ("oracle_bones",)}, "oracle_bones"),
        ({"fixed": {"embedding_dim": 8}}, "embedding_dim"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_before_anything_runs(given, options, message):
    with pytest.raises(ValueError, match=message):
        training_toys.component(tuner.Tuner, settings("unused", **options), **given)
