"""tm.tune: searches with real trainings, and how studies are recorded and reused."""

import dataclasses
import json
import math

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.data import split_leave_last_out, synthetic
from tfrec_meta.evaluation import Objective
from tfrec_meta.metalearning import recommender
from tfrec_meta.metalearning.outer_loops import OUTER_LOOPS
from tfrec_meta.tuning import StrategySpace, StudyStore, TrialStopped, tuner
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.studies import shipped as prior_studies
from tfrec_meta.tuning.surrogates import meta_surrogate
from tfrec_meta.workflows import tune as strategy_search

DATA = synthetic(60, 40, 900, seed=3)
SPLIT = split_leave_last_out(DATA, validation=True)
QUICK = tm.Strategy(training=tm.TrainingConfig(epochs=2, batch_size=64))
SMALL = {"two_tower/embedding_dim": 8, "two_tower/encoder": "mean"}


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch):
    """No studies of the package, so that each test has only its own."""
    monkeypatch.setattr(prior_studies, "shipped_studies", list)


@pytest.fixture(autouse=True)
def short_surrogate_trainings(monkeypatch):
    monkeypatch.setattr(meta_surrogate, "_STEPS", 300)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return tm.tune(
        SPLIT,
        trials=4,
        strategy=QUICK,
        families=("two_tower", "ials", "ease"),
        oracle="random",
        fixed=SMALL,
        folder=folder,
        progress=False,
    ), folder


def test_a_study_compares_families_over_the_full_catalogue(study):
    found, _ = study
    assert len(found.trials) == 4
    assert found.trials[0]["strategy"]["family"] == "two_tower"
    assert len({trial["strategy"]["family"] for trial in found.trials}) > 1
    assert all(0 < trial[Objective.NDCG] < 1 and trial["error"] is None for trial in found.trials)
    assert found.best_value == max(trial[Objective.NDCG] for trial in found.trials)
    assert f"{found.best_value:.4f}" in str(found)
    for trial in found.trials:
        epochs = 2 if trial["strategy"]["family"] == "two_tower" else 0
        assert len(trial["curve"]) == epochs


def test_training_the_best_strategy_reproduces_its_trial(study):
    found, _ = study
    best = max(found.trials, key=lambda trial: trial[Objective.NDCG])
    chosen = QUICK.with_changes(best["strategy"])
    assert chosen == found.best_strategy
    assert chosen.training.epochs == 2
    reports = []
    found = evaluator()(best["strategy"], 2, None, lambda *report: reports.append(report))
    assert found[Objective.NDCG] == best[Objective.NDCG]
    values = [line["val_ndcg@10"] for line in found["curve"]]
    assert reports == list(enumerate(values, 1))
    assert best["reports"] == values


@pytest.mark.slow
def test_meta_learned_models_can_be_searched(monkeypatch):
    monkeypatch.setattr(recommender, "MIN_TASKS", 10)  # of 60 users
    trainings = []

    def train(*given):
        trainings.append(recommender.learn_to_adapt(*given))

    loop = OUTER_LOOPS["meta_learned"]._replace(train=train)
    monkeypatch.setitem(OUTER_LOOPS, "meta_learned", loop)
    found = tm.tune(
        SPLIT,
        trials=3,
        strategy=tm.Strategy("meta_learned", tm.MetaLearnedConfig(steps=2, folds=2, iterations=2)),
        families=("meta_learned", "popularity"),
        oracle="random",
        fixed={"family": "meta_learned", "meta_learned/embedding_dim": 16},
        remember=False,
        progress=False,
    )
    assert [len(losses) for losses in trainings] == [2, 2, 2]  # each trial has its own episodes
    assert all(trial["error"] is None and 0 < trial[Objective.NDCG] < 1 for trial in found.trials)
    shapes = [trial["strategy"]["model"] for trial in found.trials]
    assert set(shapes[0]) == {"embedding_dim", "l2", "unseen_weight", "weights_l2"}
    assert len({shape["l2"] for shape in shapes}) == 3
    assert found.best_strategy.model.steps == 2  # the fixed part stays


def evaluator():
    features = tm.FeatureSpec.infer(SPLIT.train).fit(SPLIT.train)
    return strategy_search.trial_evaluator(
        strategy_search.SearchEvents(SPLIT.train, SPLIT.validation), QUICK, features
    )


@pytest.mark.slow
def test_an_exception_of_a_report_ends_the_training():
    reports = []

    def stop(epoch, value):
        reports.append((epoch, value))
        raise TrialStopped

    record = {"family": "two_tower", "model": {"embedding_dim": 8}, "training": {}}
    with pytest.raises(TrialStopped):
        evaluator()(record, 2, None, stop)
    ((epoch, value),) = reports
    assert epoch == 1
    assert 0 < value < 1


@pytest.mark.slow
def test_an_ensemble_reports_epochs_without_values():
    small = {"embedding_dim": 8, "encoder": "mean"}
    members = [{"family": "two_tower", "model": small}, {"family": "ease"}]
    record = {"family": "ensemble", "model": {"members": members}, "training": {}}
    reports = []
    evaluator()(record, 2, None, lambda *report: reports.append(report))
    assert reports == [(1, None), (2, None)]


def test_a_search_whose_only_trial_times_out_raises():
    with pytest.raises(RuntimeError, match=r"All 1 trials failed.*`trial_seconds`=0\.001"):
        tm.tune(SPLIT, trials=1, strategy=tm.Strategy("ials"), trial_seconds=0.001, progress=False)


def test_a_distributed_search_needs_a_folder(monkeypatch):
    for name, value in workers.environment("worker", 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="`folder`=None"):
        tm.tune(SPLIT, trials=1, progress=False)


@pytest.mark.slow
def test_a_rating_model_is_searched_by_rmse():
    strategy = tm.Strategy(
        "ranker",
        tm.RankerConfig(target="rating"),
        tm.TrainingConfig(epochs=1, batch_size=64),
    )
    found = tm.tune(SPLIT, trials=2, strategy=strategy, progress=False)
    assert found.objective == "val_rmse"
    assert found.best_value == min(trial["val_rmse"] for trial in found.trials)
    assert found.best_strategy.model.target == "rating"
    with pytest.raises(ValueError, match=r"val_ndcg@10.*val_rmse"):
        tm.tune(SPLIT, strategy=strategy, families=("ranker", "ease"), progress=False)


def test_repeating_a_call_only_reads_the_study(study, monkeypatch):
    found, folder = study
    monkeypatch.setattr(strategy_search, "train", None)
    again = tm.tune(
        SPLIT,
        trials=4,
        strategy=QUICK,
        families=("two_tower", "ials", "ease"),
        oracle="random",
        fixed=SMALL,
        folder=folder,
        progress=False,
    )
    assert again == found


def test_other_data_in_the_same_folder_is_refused(study):
    with pytest.raises(ValueError, match="another data"):
        tm.tune(
            SPLIT.train.take(np.arange(500)),
            trials=4,
            strategy=QUICK,
            families=("two_tower", "ials", "ease"),
            oracle="random",
            fixed=SMALL,
            folder=study[1],
            progress=False,
        )


def search_events(data, monkeypatch):
    """Returns the training and validation events of a search."""
    seen = {}

    def stop(events, *_):
        seen.update(train=events.train, validation=events.validation)
        raise KeyboardInterrupt

    monkeypatch.setattr(strategy_search, "trial_evaluator", stop)
    with pytest.raises(KeyboardInterrupt):
        tm.tune(data, trials=1, progress=False)
    return seen["train"], seen["validation"]


def pairs(data):
    return set(zip(*(data.events[n].to_pylist() for n in ("user_id", "item_id")), strict=True))


def test_a_split_is_validated_by_its_validation_part(monkeypatch):
    train, validation = search_events(SPLIT, monkeypatch)
    assert train.equals(SPLIT.train)
    assert validation.equals(SPLIT.validation)


def test_without_validation_each_users_last_training_event_is_held_out(monkeypatch):
    split = split_leave_last_out(DATA, validation=False)
    train, validation = search_events(split, monkeypatch)
    assert len(train) + len(validation) == len(split.train)
    assert pairs(train) | pairs(validation) <= pairs(split.train)
    latest = {}
    for user, time in zip(
        split.train.events["user_id"].to_pylist(), split.train.times, strict=True
    ):
        latest[user] = max(time, latest.get(user, 0))
    for user, time in zip(validation.events["user_id"].to_pylist(), validation.times, strict=True):
        assert time == latest[user]


def test_a_random_tenth_of_a_random_part_is_held_out(monkeypatch):
    split = tm.split_by_item(DATA, train=0.75)
    train, validation = search_events(split, monkeypatch)
    assert train.sampled
    assert 0.08 < len(validation) / len(split.train) < 0.12


def test_validation_events_without_known_items_are_refused():
    unknown = tm.Interactions.from_arrays(["u"], ["from elsewhere"])
    with pytest.raises(ValueError, match="no model can be chosen by them"):
        tm.tune(SPLIT.train, trials=1, validation=unknown, progress=False)


def test_the_fixed_part_of_a_strategy_stays():
    base = tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(normalise=False, embedding_dim=32),
        tm.TrainingConfig(epochs=5, seed=7),
        history_length=20,
    )
    record = {
        "family": "two_tower",
        "model": {"embedding_dim": 16},
        "training": {"user_dropout": 0},
    }
    chosen = base.with_changes(record)
    assert chosen.model == tm.TwoTowerConfig(normalise=False, embedding_dim=16)
    assert chosen.training == tm.TrainingConfig(epochs=5, seed=7, user_dropout=0)
    assert chosen.history_length == 20
    other = base.with_changes({"family": "ease", "model": {"l2": 3.0}, "training": {}})
    assert other.model == type(other.model)(l2=3.0)


# Strategies with a teacher.

TAUGHT = tm.Strategy(
    "two_tower",
    tm.TwoTowerConfig(embedding_dim=8, encoder="mean", negatives="full"),
    tm.TrainingConfig(epochs=1, batch_size=64),
    teacher="ease",
)


@pytest.mark.slow
def test_the_teacher_of_a_strategy_is_fitted_first():
    model = tm.train(SPLIT.train, TAUGHT, progress=False)
    alone = dataclasses.replace(TAUGHT, teacher=None)
    teacher = tm.train(SPLIT.train, "ease", progress=False)
    by_hand = tm.train(SPLIT.train, alone, teacher=teacher, features=teacher.spec, progress=False)
    assert model.curve[-1]["loss"] == by_hand.curve[-1]["loss"]
    assert model.curve[-1]["loss"] != tm.train(SPLIT.train, alone, progress=False).curve[-1]["loss"]


def test_a_strategy_with_a_teacher_round_trips_through_json():
    record = json.loads(json.dumps(TAUGHT.as_dict()))
    assert record["teacher"] == "ease"
    assert tm.Strategy.from_dict(record) == TAUGHT
    assert "teacher" not in tm.Strategy().as_dict()


def test_an_invalid_teacher_is_refused():
    full = TAUGHT.model
    for arguments, message in (
        (("two_tower", full, "two_tower"), r"`teacher`='two_tower'; use one of ials, .*ease"),
        (("two_tower", full, "oracle_bones"), r"`teacher`='oracle_bones'"),
        (("two_tower", tm.TwoTowerConfig(), "ease"), r"`negatives`='in_batch'.*Use 'full'"),
        (("ials", None, "ease"), r"'ials' cannot learn from a teacher"),
    ):
        family, model, teacher = arguments
        with pytest.raises(ValueError, match=message):
            tm.Strategy(family, model, teacher=teacher)
    with pytest.raises(ValueError, match="a teacher of its own, 'ease'"):
        tm.train(SPLIT.train, TAUGHT, teacher=object())


def test_a_searched_teacher_replaces_the_strategys():
    taught = {"family": "two_tower", "model": {}, "training": {}}
    assert TAUGHT.with_changes(taught).teacher == "ease"
    assert TAUGHT.with_changes({**taught, "teacher": None}).teacher is None
    assert TAUGHT.with_changes({**taught, "teacher": "ials"}).teacher == "ials"
    assert TAUGHT.with_changes({"family": "ials"}).teacher is None


# Recording and reusing studies. A formula scores the trials, so no model is trained.


def grid(hp):
    """A grid of twenty points of iALS."""
    return {
        "model": {
            "embedding_dim": hp.Choice("embedding_dim", [4, 8, 16, 32, 64], default=64),
            "l2": hp.Choice("l2", [1.0, 2.0, 4.0, 8.0], default=8.0),
        }
    }


IALS = tm.Strategy("ials")
BEST = {"family": "ials", "ials/embedding_dim": 8, "ials/l2": 2.0}


@pytest.fixture
def by_formula(monkeypatch):
    """Scores trials by a formula with its maximum at BEST; returns the evaluated records."""
    evaluated = []

    def evaluator(*_):
        def evaluate(record, epochs, folder, report):
            evaluated.append(record)
            model = record["model"]
            distance = abs(math.log2(model["embedding_dim"] / 8)) + abs(math.log2(model["l2"] / 2))
            return {Objective.NDCG: 0.4 - distance / 20}

        return evaluate

    monkeypatch.setattr(strategy_search, "trial_evaluator", evaluator)
    return evaluated


def tune_by_formula(data=SPLIT, trials=20, **options):
    options = {"strategy": IALS, "space": grid, "progress": False, **options}
    return tm.tune(data, trials, **options)


def lines(store):
    return [json.loads(line) for line in (store / "studies.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_second_study_starts_with_the_best_of_the_first(by_formula, tmp_path, capsys):
    first = tune_by_formula(
        store=tmp_path, description="films of one cinema", folder=tmp_path / "first"
    )
    assert first.trials[0]["suggested_by"] == "default"
    similar = split_leave_last_out(synthetic(70, 45, 1000, seed=4), validation=True)
    second = tune_by_formula(similar, 2, store=tmp_path, progress=True)
    assert second.trials[1]["values"] == BEST
    assert second.trials[1]["suggested_by"] == "prior"
    assert second.prior_suggestions[0]["values"] == BEST
    assert capsys.readouterr().err.startswith("1 prior study with 20 trials; the search starts")
    studies = StudyStore(tmp_path).studies()
    assert [len(study.trials) for study in studies] == [20, 2]
    one = studies[0]
    assert one.header() == dict(first.header)
    assert one.data["description"] == "films of one cinema"
    assert one.data["name"] == DATA.name
    assert one.data["fingerprint"]
    assert one.protocol == "leave-last-out"
    assert one.profile["log_users"] == pytest.approx(math.log1p(60))
    assert (one.oracle, one.budget, one.budget_unit) == ("meta_bayesian", 8, "epochs")
    assert one.trials == first.records
    assert tm.Strategy.from_dict(one.ranked()[0]["strategy"]) == first.best_strategy
    assert list((tmp_path / "surrogates").glob("*.npz"))


@pytest.mark.slow
def test_prior_studies_are_weighted_by_similarity(by_formula, tmp_path, monkeypatch):
    embedded, weighted = [], []
    monkeypatch.setattr(
        strategy_search, "data_embedding", lambda *given: embedded.append(given) or [1.0, 2.0]
    )
    weigh = tuner.similarity_weights
    monkeypatch.setattr(
        tuner, "similarity_weights", lambda *given: weighted.append(given) or weigh(*given)
    )
    tune_by_formula(store=tmp_path, description="films", similarity=("texts",))
    assert embedded == [(SPLIT.train, "films")]
    assert StudyStore(tmp_path).studies()[0].text_embedding == [1.0, 2.0]
    assert not weighted  # there were no prior studies
    similar = split_leave_last_out(synthetic(70, 45, 1000, seed=4), validation=True)
    tune_by_formula(similar, 2, store=tmp_path, similarity=("profile", "texts"))
    ((_, profile, texts),) = weighted
    assert profile["log_users"] == pytest.approx(math.log1p(70))
    assert texts == [1.0, 2.0]
    with pytest.raises(ValueError, match="`similarity` has colour; use any of profile, texts"):
        tune_by_formula(similar, 2, similarity=("colour",))


def test_a_search_learns_only_from_comparable_studies(by_formula, tmp_path, capsys):
    tune_by_formula(store=tmp_path)
    for data, options in (
        (SPLIT.train, {"validation": SPLIT.validation}),  # it is unknown how these were held out
        (tm.split_by_item(DATA, train=0.6, validation=0.2), {}),
        (SPLIT, {"space": None}),  # its names have other meanings
    ):
        found = tune_by_formula(data, 2, store=tmp_path, progress=True, **options)
        assert found.trials[1]["suggested_by"] == "random"
        assert "No comparable prior studies" in capsys.readouterr().err
        assert found.prior_suggestions == ()
    assert [study.protocol for study in StudyStore(tmp_path).studies()] == [
        *("leave-last-out", "given", "random", "leave-last-out")
    ]


def test_the_environment_sets_the_store(by_formula, tmp_path, monkeypatch):
    monkeypatch.setenv("TFREC_META_STUDIES", str(tmp_path))
    tune_by_formula(trials=1, oracle="random")
    assert [line["kind"] for line in lines(tmp_path)] == ["study", "trial"]


def test_without_remember_no_store_is_read_or_written(by_formula, tmp_path, monkeypatch):
    tune_by_formula(store=tmp_path)
    monkeypatch.setenv("TFREC_META_STUDIES", str(tmp_path))
    before = (tmp_path / "studies.jsonl").read_bytes()
    found = tune_by_formula(trials=2, remember=False)
    assert found.trials[1]["suggested_by"] == "random"
    assert (tmp_path / "studies.jsonl").read_bytes() == before


def test_a_killed_search_writes_each_trial_to_the_store_once(by_formula, tmp_path, monkeypatch):
    def killed(at):
        def evaluate(*given):
            if len(by_formula) == at:
                raise KeyboardInterrupt
            return whole(*given)

        whole = real()
        monkeypatch.setattr(strategy_search, "trial_evaluator", lambda *_: evaluate)
        with pytest.raises(KeyboardInterrupt):
            tune_by_formula(trials=6, folder=tmp_path / "study", store=tmp_path)

    real = strategy_search.trial_evaluator
    killed(3)
    assert [line["kind"] for line in lines(tmp_path)] == ["study", *["trial"] * 3]
    # A kill between the two writes: the last trial is in the folder but not in the store.
    text = (tmp_path / "studies.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "studies.jsonl").write_text("".join(text[:-1]))
    killed(5)
    monkeypatch.setattr(strategy_search, "trial_evaluator", real)
    found = tune_by_formula(trials=6, folder=tmp_path / "study", store=tmp_path)
    (study,) = StudyStore(tmp_path).studies()
    assert study.study_id == found.header["study_id"]
    assert study.trials == found.records
    assert len({line.get("trial_id") for line in lines(tmp_path)} - {None}) == 6
    assert sum(line["kind"] == "trial" for line in lines(tmp_path)) == 6
    assert len(by_formula) == 6
    tune_by_formula(trials=8, folder=tmp_path / "study", store=tmp_path)  # continues the same study
    (study,) = StudyStore(tmp_path).studies()
    assert len(study.trials) == 8


def test_a_store_that_cannot_be_written_does_not_stop_a_search(by_formula, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    found = tune_by_formula(trials=3, store=tmp_path / "file", folder=tmp_path / "study")
    assert len(found.trials) == 3
    assert "cannot be written" in caplog.text
    # With a working store, the same call adds what is missing.
    again = tune_by_formula(trials=3, store=tmp_path / "store", folder=tmp_path / "study")
    assert again == found
    (study,) = StudyStore(tmp_path / "store").studies()
    assert study.trials == found.records


@pytest.mark.slow
def test_the_valid_lines_of_a_damaged_store_are_read(by_formula, tmp_path, caplog):
    tune_by_formula(store=tmp_path)
    with open(tmp_path / "studies.jsonl", "ab") as file:
        file.write(b'{"kind": "trial", \xff')
    for kept in (tmp_path / "surrogates").glob("*"):
        kept.write_bytes(b"no network")
    found = tune_by_formula(trials=2, store=tmp_path, seed=1)
    assert found.trials[1]["suggested_by"] == "prior"
    assert "1 invalid line(s) left out" in caplog.text
    (tmp_path / "studies.jsonl").unlink()
    (tmp_path / "studies.jsonl").mkdir()
    assert len(tune_by_formula(trials=2, store=tmp_path).trials) == 2
    assert "cannot be read" in caplog.text


def test_a_search_writes_its_page_and_logs(by_formula, tmp_path):
    found = tune_by_formula(trials=4, folder=tmp_path / "study", store=tmp_path)
    page = (tmp_path / "study" / "report.html").read_text()
    assert "tm.Strategy.from_dict" in page
    assert (
        "&#39;history_length&#39;: 200" in page or "'history_length': 200" in page
    )  # the complete strategy
    assert len(list((tmp_path / "study" / "tensorboard").glob("trial-*"))) == 4
    assert found.report(tmp_path / "again.html").read_text().count("<svg") == page.count("<svg")
    tune_by_formula(trials=1, remember=False).report(tmp_path / "one.html")  # without a surrogate


def test_a_failing_page_does_not_lose_the_results(by_formula, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(strategy_search, "write_hparams", lambda *_: 1 / 0)
    assert len(tune_by_formula(trials=2, folder=tmp_path, remember=False).trials) == 2
    assert "report of the study" in caplog.text


def test_a_user_defined_space_is_searched(by_formula):
    own = StrategySpace(("ials",), {"ials/l2": 2.0}, declare={"ials": grid})
    found = tune_by_formula(trials=8, space=own, remember=False)
    assert len(found.trials) == 5  # the whole space
    assert found.best_strategy.model == type(found.best_strategy.model)(embedding_dim=8, l2=2.0)
    with pytest.raises(ValueError, match="which has `families` and `fixed` of its own"):
        tune_by_formula(space=own, families=("ials",))
    with pytest.raises(TypeError, match="`space` is a dict; use a StrategySpace or a function"):
        tune_by_formula(space={})
    with pytest.raises(ValueError, match="`oracle`='delphi'; use one of 'meta_bayesian', "):
        tune_by_formula(oracle="delphi")


def test_a_study_folder_of_version_0_1_is_refused_with_the_way_out(by_formula, tmp_path):
    tune_by_formula(trials=2, folder=tmp_path, remember=False)
    study = json.loads((tmp_path / "study.json").read_text())
    del study["format"]
    study["objective"] = "val_ndcg_at_10"
    (tmp_path / "study.json").write_text(json.dumps(study))
    with pytest.raises(ValueError, match=r"tfrec-meta 0\.1.*studies import.*another folder"):
        tune_by_formula(trials=2, folder=tmp_path, remember=False)
