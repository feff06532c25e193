"""Tuner: TFX's results, the records of trials, and continuing after a kill."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.pipeline import conftest, training_toys
from tfrec_meta import Feedback, Strategy
from tfrec_meta.evaluation import Objective
from tfrec_meta.pipeline.components import trainer, tuner
from tfrec_meta.pipeline.config import TrainerConfig, TunerConfig
from tfrec_meta.tuning import AllTrialsFailed, PriorStudies, StudyStore
from tfrec_meta.tuning import tuner as study_tuner
from tfrec_meta.workflows import tune as strategy_search

FIXED = {"two_tower/embedding_dim": 8, "two_tower/encoder": "mean"}


def settings(root, **options):
    options = {"trials": 3, "epochs": 2, "oracle": "random", "fixed": FIXED, **options}
    return training_toys.config(
        root, tuner=TunerConfig(**options), trainer=TrainerConfig(strategy=training_toys.STRATEGY)
    )


@pytest.fixture(scope="session")
def given(toy_histories, toy_graph):
    return training_toys.inputs(toy_histories, toy_graph)


@pytest.fixture(scope="module")
def tuned(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return training_toys.tune(settings(folder), given, folder), folder


def trials_of(outputs):
    return json.loads((Path(outputs["tuner_results"].uri) / tuner.TRIALS).read_text())


def best_of(outputs):
    (path,) = Path(outputs["best_hyperparameters"].uri).iterdir()
    return json.loads(path.read_text())


def test_writes_tfxs_files_and_the_trials(tuned):
    outputs, _ = tuned
    trials = trials_of(outputs)
    assert len(trials) == 3
    assert all(trial["error"] is None and 0 < trial[Objective.NDCG] < 1 for trial in trials)
    assert all(trial["seconds"] > 0 and trial["epochs"] == 2 for trial in trials)
    assert trials[0]["values"]["two_tower/training/batch_size"] == 512
    best = max(trials, key=lambda trial: trial[Objective.NDCG])
    assert best_of(outputs)["values"] == best["values"]
    table = json.loads((Path(outputs["tuner_results"].uri) / "tuner_results.json").read_text())
    assert [row["score"] for row in table] == sorted(
        (t[Objective.NDCG] for t in trials), reverse=True
    )
    assert table[0]["two_tower/embedding_dim"] == 8


def test_trainer_uses_the_hyperparameters(tuned):
    strategy = trainer.chosen_strategy(training_toys.STRATEGY, 42, best_of(tuned[0]))
    assert strategy.model.embedding_dim == 8
    assert strategy.model.user_id == best_of(tuned[0])["values"]["two_tower/user_id"]
    assert strategy.training.epochs == 3  # the config's; the budget of a trial is not a part of it


def test_removes_the_study_when_finished(tuned):
    assert not list((tuned[1] / "toy" / "work" / "studies").iterdir())


def test_stores_and_reports_the_study(tuned):
    outputs, folder = tuned
    (study,) = StudyStore(folder / "toy" / "studies").studies()
    assert study.protocol == "time"
    assert study.oracle == "random"
    assert study.budget == 2
    found = {trial["trial_id"]: trial for trial in study.trials}
    assert {name: trial["value"] for name, trial in found.items()} == {
        trial["trial_id"]: trial[Objective.NDCG] for trial in trials_of(outputs)
    }
    strategy = Strategy.from_dict(study.ranked()[0]["strategy"])
    assert strategy.model.embedding_dim == 8
    assert strategy.training.epochs == 3  # the complete strategy
    page = Path(outputs["tuner_results"].uri) / tuner.REPORT
    assert "val_ndcg@10" in page.read_text()


def test_the_content_of_the_store_does_not_invalidate_the_cache(given, tmp_path):
    properties = training_toys.properties(
        training_toys.component(tuner.Tuner, settings(tmp_path), **given)
    )
    assert str(tmp_path / "toy" / "studies") in properties["custom_config"]
    (tmp_path / "toy" / "studies").mkdir(parents=True)
    (tmp_path / "toy" / "studies" / "studies.jsonl").write_text("")
    again = training_toys.component(tuner.Tuner, settings(tmp_path), **given)
    assert training_toys.properties(again) == properties
    own = training_toys.component(tuner.Tuner, settings(tmp_path, store="/srv/all"), **given)
    assert '"/srv/all' in training_toys.properties(own)["custom_config"].replace("\\", "")


def test_the_default_oracle_reads_the_configured_store(given, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        study_tuner, "load_prior_studies", lambda *given: loaded.append(given) or PriorStudies()
    )
    config = settings(tmp_path, trials=1, oracle="meta_bayesian", store=str(tmp_path / "all"))
    outputs = training_toys.tune(config, given, tmp_path / "out")
    ((header, _, store, _),) = loaded
    assert header["protocol"] == "time"
    assert store.folder == tmp_path / "all"
    assert trials_of(outputs)[0]["suggested_by"] == "default"
    assert len(StudyStore(tmp_path / "all").studies()) == 1


class SearchStarted(Exception):
    """Raised in place of a search."""


@pytest.mark.parametrize("recommend_history", [False, True])
def test_the_search_ranks_items_of_the_history_if_the_config_says_so(
    given, tmp_path, monkeypatch, recommend_history
):
    def stop(data, *others):
        raise SearchStarted(data.recommend_history)

    monkeypatch.setattr(strategy_search, "strategy_tuner", stop)
    config = dataclasses.replace(settings(tmp_path), recommend_history=recommend_history)
    with pytest.raises(SearchStarted, match=str(recommend_history)):
        training_toys.tune(config, given, tmp_path)


class Kill(BaseException):
    """Simulates SIGKILL: no code catches it."""


@pytest.mark.slow
def test_continues_after_a_kill_with_the_remaining_trials(given, tuned, tmp_path, monkeypatch):
    real, calls = strategy_search.train, []

    def dying(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise Kill
        return real(*args, **kwargs)

    monkeypatch.setattr(strategy_search, "train", dying)
    with pytest.raises(Kill):
        training_toys.tune(settings(tmp_path), given, tmp_path / "killed")
    outputs = training_toys.tune(settings(tmp_path), given, tmp_path / "again")
    assert len(calls) == 4  # the first, the killed one, the same again, and the third
    keys = ("trial_id", Objective.NDCG, "values")
    found, whole = ([{k: t[k] for k in keys} for t in trials_of(o)] for o in (outputs, tuned[0]))
    assert found == whole


def test_fails_if_all_trials_fail_and_then_starts_again(given, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(strategy_search, "train", lambda *_, **__: 1 / 0)
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
def test_refuses_an_invalid_space_before_anything_runs(given, options, message):
    with pytest.raises(ValueError, match=message):
        training_toys.component(tuner.Tuner, settings("unused", **options), **given)


@pytest.mark.slow
def test_searches_whether_weights_help_and_the_trainer_follows(toy_examples, tmp_path):
    feedback = Feedback(weight="value", positive=2)
    made = conftest.run_histories(toy_examples, tmp_path / "histories", feedback=feedback)
    given = training_toys.inputs(made, conftest.fitted_graph(made, tmp_path))
    options = {"families": ["popularity"], "fixed": {}, "trials": 2, "oracle": "grid"}
    outputs = training_toys.tune(settings(tmp_path, **options), given, tmp_path)
    tried = [trial["values"]["use_weights"] for trial in trials_of(outputs)]
    assert sorted(tried) == [False, True]
    strategy = trainer.chosen_strategy({}, 42, best_of(outputs))
    assert strategy.use_weights == best_of(outputs)["values"]["use_weights"]
    fixed = trainer.chosen_strategy({"use_weights": False}, 42)
    assert not fixed.use_weights
