"""tm.tune: a study of real trainings, from data to the best strategy."""

import dataclasses
import json
import math

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.data import split_leave_last_out, synthetic
from tfrec_meta.evaluation import Objective
from tfrec_meta.metalearning import recommender
from tfrec_meta.tuning import StrategySpace, StudyStore, TrialStopped
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.studies import shipped as prior_studies
from tfrec_meta.workflows import tune as strategy_search

learn = recommender.learn_to_adapt
DATA = synthetic(60, 40, 900, seed=3)
SPLIT = split_leave_last_out(DATA, validation=True)
QUICK = tm.Strategy(training=tm.TrainingConfig(epochs=2, batch_size=64))
SMALL = {"two_tower/embedding_dim": 8, "two_tower/encoder": "mean"}


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch):
    """Only what a test itself remembers."""
    monkeypatch.setattr(prior_studies, "shipped_studies", list)


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


def test_a_study_tries_families_and_scores_them_by_the_full_catalogue(study):
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


def test_the_best_strategy_trains_to_what_its_trial_reached(study):
    found, _ = study
    best = max(found.trials, key=lambda trial: trial[Objective.NDCG])
    chosen = QUICK.with_changes(best["strategy"])
    assert chosen == found.best_strategy
    assert chosen.training.epochs == 2
    reports = []
    found = evaluator()(best["strategy"], 2, None, lambda *told: reports.append(told))
    assert found[Objective.NDCG] == best[Objective.NDCG]
    values = [line["val_ndcg@10"] for line in found["curve"]]
    assert reports == list(enumerate(values, 1))
    assert best["reports"] == values


def test_meta_learned_models_are_searched_when_asked_for(monkeypatch):
    monkeypatch.setattr(recommender, "FEWEST_TASKS", 10)  # of 60 users
    taught = []
    monkeypatch.setattr(
        "tfrec_meta.workflows.train.learn_to_adapt", lambda *given: taught.append(learn(*given))
    )
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
    assert [len(losses) for losses in taught] == [2, 2, 2]  # each trial has its own episodes
    assert all(trial["error"] is None and 0 < trial[Objective.NDCG] < 1 for trial in found.trials)
    shapes = [trial["strategy"]["model"] for trial in found.trials]
    assert set(shapes[0]) == {"embedding_dim", "l2", "unseen_weight", "weights_l2"}
    assert len({shape["l2"] for shape in shapes}) == 3
    assert found.best_strategy.model.steps == 2  # what is not searched stays


def evaluator():
    features = tm.FeatureSpec.infer(SPLIT.train).fit(SPLIT.train)
    return strategy_search.trial_evaluator(SPLIT.train, SPLIT.validation, QUICK, features)


def test_what_a_report_raises_ends_a_training():
    told = []

    def stop(epoch, value):
        told.append((epoch, value))
        raise TrialStopped

    record = {"family": "two_tower", "model": {"embedding_dim": 8}, "training": {}}
    with pytest.raises(TrialStopped):
        evaluator()(record, 2, None, stop)
    ((epoch, value),) = told
    assert epoch == 1
    assert 0 < value < 1


def test_of_an_ensemble_the_epochs_of_its_members_are_told_without_their_figures():
    small = {"embedding_dim": 8, "encoder": "mean"}
    members = [{"family": "two_tower", "model": small}, {"family": "ease"}]
    record = {"family": "ensemble", "model": {"members": members}, "training": {}}
    told = []
    evaluator()(record, 2, None, lambda *report: told.append(report))
    assert told == [(1, None), (2, None)]


def test_a_trial_out_of_its_time_is_no_result():
    with pytest.raises(RuntimeError, match=r"All 1 trials failed.*`trial_seconds`=0\.001"):
        tm.tune(SPLIT, trials=1, strategy=tm.Strategy("ials"), trial_seconds=0.001, progress=False)


def test_a_chief_and_its_workers_need_a_folder(monkeypatch):
    for name, value in workers.environment("worker", 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="`folder`=None"):
        tm.tune(SPLIT, trials=1, progress=False)


def test_a_ranker_of_ratings_is_searched_by_their_error():
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


def test_the_same_call_again_only_reads(study, monkeypatch):
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


def asked(data, monkeypatch):
    """What a search trains on and chooses by."""
    seen = {}

    def stop(train, validation, *_):
        seen.update(train=train, validation=validation)
        raise KeyboardInterrupt

    monkeypatch.setattr(strategy_search, "trial_evaluator", stop)
    with pytest.raises(KeyboardInterrupt):
        tm.tune(data, trials=1, progress=False)
    return seen["train"], seen["validation"]


def pairs(data):
    return set(zip(*(data.events[n].to_pylist() for n in ("user_id", "item_id")), strict=True))


def test_a_split_is_chosen_by_its_validation_part(monkeypatch):
    train, validation = asked(SPLIT, monkeypatch)
    assert train.equals(SPLIT.train)
    assert validation.equals(SPLIT.validation)


def test_without_validation_each_users_last_training_event_is_held_out(monkeypatch):
    split = split_leave_last_out(DATA, validation=False)
    train, validation = asked(split, monkeypatch)
    assert len(train) + len(validation) == len(split.train)
    assert pairs(train) | pairs(validation) <= pairs(split.train)
    latest = {}
    for user, time in zip(
        split.train.events["user_id"].to_pylist(), split.train.times, strict=True
    ):
        latest[user] = max(time, latest.get(user, 0))
    for user, time in zip(validation.events["user_id"].to_pylist(), validation.times, strict=True):
        assert time == latest[user]


def test_of_a_random_part_a_random_tenth_is_held_out(monkeypatch):
    split = tm.split_by_item(DATA, train=0.75)
    train, validation = asked(split, monkeypatch)
    assert train.sampled
    assert 0.08 < len(validation) / len(split.train) < 0.12


def test_validation_that_nothing_can_be_found_in_is_refused():
    stranger = tm.Interactions.from_arrays(["u"], ["from elsewhere"])
    with pytest.raises(ValueError, match="nothing can be chosen by it"):
        tm.tune(SPLIT.train, trials=1, validation=stranger, progress=False)


def test_what_was_not_searched_stays():
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


# A teacher in the strategy.

TAUGHT = tm.Strategy(
    "two_tower",
    tm.TwoTowerConfig(embedding_dim=8, encoder="mean", negatives="full"),
    tm.TrainingConfig(epochs=1, batch_size=64),
    teacher="ease",
)


def test_a_strategys_teacher_is_fitted_first_and_teaches():
    model = tm.train(SPLIT.train, TAUGHT, progress=False)
    alone = dataclasses.replace(TAUGHT, teacher=None)
    teacher = tm.train(SPLIT.train, "ease", progress=False)
    by_hand = tm.train(SPLIT.train, alone, teacher=teacher, features=teacher.spec, progress=False)
    assert model.curve[-1]["loss"] == by_hand.curve[-1]["loss"]
    assert model.curve[-1]["loss"] != tm.train(SPLIT.train, alone, progress=False).curve[-1]["loss"]


def test_a_strategy_with_a_teacher_goes_through_json():
    record = json.loads(json.dumps(TAUGHT.as_dict()))
    assert record["teacher"] == "ease"
    assert tm.Strategy.from_dict(record) == TAUGHT
    assert "teacher" not in tm.Strategy().as_dict()


def test_a_teacher_that_makes_no_sense_is_refused():
    full = TAUGHT.model
    for arguments, message in (
        (("two_tower", full, "two_tower"), r"`teacher`='two_tower'; use one of ials, .*ease"),
        (("two_tower", full, "oracle_bones"), r"`teacher`='oracle_bones'"),
        (("two_tower", tm.TwoTowerConfig(), "ease"), r"`negatives`='in_batch'.*Use 'full'"),
        (("ials", None, "ease"), r"'ials' learns from no teacher"),
    ):
        family, model, teacher = arguments
        with pytest.raises(ValueError, match=message):
            tm.Strategy(family, model, teacher=teacher)
    with pytest.raises(ValueError, match="a teacher of its own, 'ease'"):
        tm.train(SPLIT.train, TAUGHT, teacher=object())


def test_what_a_search_says_of_a_teacher_takes_the_place_of_the_strategys():
    taught = {"family": "two_tower", "model": {}, "training": {}}
    assert TAUGHT.with_changes(taught).teacher == "ease"
    assert TAUGHT.with_changes({**taught, "teacher": None}).teacher is None
    assert TAUGHT.with_changes({**taught, "teacher": "ials"}).teacher == "ials"
    assert TAUGHT.with_changes({"family": "ials"}).teacher is None


# What is remembered. Trials are scored by a formula: nothing of this is about training.


def grid(hp):
    """Twenty points of iALS."""
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
    """Best at BEST; what it was asked for."""
    asked = []

    def evaluator(*_):
        def evaluate(record, epochs, folder, report):
            asked.append(record)
            model = record["model"]
            away = abs(math.log2(model["embedding_dim"] / 8)) + abs(math.log2(model["l2"] / 2))
            return {Objective.NDCG: 0.4 - away / 20}

        return evaluate

    monkeypatch.setattr(strategy_search, "trial_evaluator", evaluator)
    return asked


def formula(data=SPLIT, trials=20, **options):
    options = {"strategy": IALS, "space": grid, "progress": False, **options}
    return tm.tune(data, trials, **options)


def lines(store):
    return [json.loads(line) for line in (store / "studies.jsonl").read_text().splitlines()]


def test_a_second_study_begins_with_what_did_best_in_the_first(by_formula, tmp_path, capsys):
    first = formula(store=tmp_path, description="films of one cinema", folder=tmp_path / "first")
    assert first.trials[0]["suggested_by"] == "default"
    similar = split_leave_last_out(synthetic(70, 45, 1000, seed=4), validation=True)
    second = formula(similar, 2, store=tmp_path, progress=True)
    assert second.trials[1]["values"] == BEST
    assert second.trials[1]["suggested_by"] == "prior"
    assert second.prior[0]["values"] == BEST
    assert capsys.readouterr().err.startswith("1 earlier study, 20 trials; the search begins with")
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


def test_earlier_studies_are_weighed_by_nearness_if_asked(by_formula, tmp_path, monkeypatch):
    asked, given = [], []
    monkeypatch.setattr(
        strategy_search, "data_embedding", lambda *told: asked.append(told) or [1.0, 2.0]
    )
    weigh = strategy_search.affinities
    monkeypatch.setattr(
        strategy_search, "affinities", lambda *told: given.append(told) or weigh(*told)
    )
    formula(store=tmp_path, description="films", nearness=("texts",))
    assert asked == [(SPLIT.train, "films")]
    assert StudyStore(tmp_path).studies()[0].text_embedding == [1.0, 2.0]
    assert not given  # there was nothing to weigh
    similar = split_leave_last_out(synthetic(70, 45, 1000, seed=4), validation=True)
    formula(similar, 2, store=tmp_path, nearness=("profile", "texts"))
    (told,) = given
    assert told[1]["log_users"] == pytest.approx(math.log1p(70))
    assert told[2] == [1.0, 2.0]
    with pytest.raises(ValueError, match="`nearness` has colour; use any of profile, texts"):
        formula(similar, 2, nearness=("colour",))


def test_a_study_of_another_kind_is_not_learned_from(by_formula, tmp_path, capsys):
    formula(store=tmp_path)
    for data, options in (
        (SPLIT.train, {"validation": SPLIT.validation}),  # nobody knows how that was held out
        (tm.split_by_item(DATA, train=0.6, validation=0.2), {}),
        (SPLIT, {"space": None}),  # its names mean other things
    ):
        found = formula(data, 2, store=tmp_path, progress=True, **options)
        assert found.trials[1]["suggested_by"] == "random"
        assert "no earlier studies of this kind" in capsys.readouterr().err
        assert found.prior == ()
    assert [study.protocol for study in StudyStore(tmp_path).studies()] == [
        *("leave-last-out", "given", "random", "leave-last-out")
    ]


def test_the_store_is_where_the_environment_says(by_formula, tmp_path, monkeypatch):
    monkeypatch.setenv("TFREC_META_STUDIES", str(tmp_path))
    formula(trials=1, oracle="random")
    assert [line["kind"] for line in lines(tmp_path)] == ["study", "trial"]


def test_without_remembering_no_store_is_read_or_written(by_formula, tmp_path, monkeypatch):
    formula(store=tmp_path)
    monkeypatch.setenv("TFREC_META_STUDIES", str(tmp_path))
    before = (tmp_path / "studies.jsonl").read_bytes()
    found = formula(trials=2, remember=False)
    assert found.trials[1]["suggested_by"] == "random"
    assert (tmp_path / "studies.jsonl").read_bytes() == before


def test_killed_and_run_again_no_trial_is_in_the_store_twice(by_formula, tmp_path, monkeypatch):
    def killed(at):
        def evaluate(*given):
            if len(by_formula) == at:
                raise KeyboardInterrupt
            return whole(*given)

        whole = real()
        monkeypatch.setattr(strategy_search, "trial_evaluator", lambda *_: evaluate)
        with pytest.raises(KeyboardInterrupt):
            formula(trials=6, folder=tmp_path / "study", store=tmp_path)

    real = strategy_search.trial_evaluator
    killed(3)
    assert [line["kind"] for line in lines(tmp_path)] == ["study", *["trial"] * 3]
    # A trial that had just ended: in the folder, but not yet in the store.
    text = (tmp_path / "studies.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "studies.jsonl").write_text("".join(text[:-1]))
    killed(5)
    monkeypatch.setattr(strategy_search, "trial_evaluator", real)
    found = formula(trials=6, folder=tmp_path / "study", store=tmp_path)
    (study,) = StudyStore(tmp_path).studies()
    assert study.study_id == found.header["study_id"]
    assert study.trials == found.records
    assert len({line.get("trial_id") for line in lines(tmp_path)} - {None}) == 6
    assert sum(line["kind"] == "trial" for line in lines(tmp_path)) == 6
    assert len(by_formula) == 6
    formula(trials=8, folder=tmp_path / "study", store=tmp_path)  # goes on, as the same study
    (study,) = StudyStore(tmp_path).studies()
    assert len(study.trials) == 8


def test_a_store_that_cannot_be_written_stops_no_search(by_formula, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    found = formula(trials=3, store=tmp_path / "file", folder=tmp_path / "study")
    assert len(found.trials) == 3
    assert "can't be written" in caplog.text
    # Where it can be, the same call adds what is missing.
    again = formula(trials=3, store=tmp_path / "store", folder=tmp_path / "study")
    assert again == found
    (study,) = StudyStore(tmp_path / "store").studies()
    assert study.trials == found.records


def test_a_damaged_store_is_read_as_far_as_it_can_be(by_formula, tmp_path, caplog):
    formula(store=tmp_path)
    with open(tmp_path / "studies.jsonl", "ab") as file:
        file.write(b'{"kind": "trial", \xff')
    for kept in (tmp_path / "surrogates").glob("*"):
        kept.write_bytes(b"no network")
    found = formula(trials=2, store=tmp_path, seed=1)
    assert found.trials[1]["suggested_by"] == "prior"
    assert "1 damaged line(s) left out" in caplog.text
    (tmp_path / "studies.jsonl").unlink()
    (tmp_path / "studies.jsonl").mkdir()
    assert len(formula(trials=2, store=tmp_path).trials) == 2
    assert "can't be read" in caplog.text


def test_a_search_leaves_its_page_and_logs(by_formula, tmp_path):
    found = formula(trials=4, folder=tmp_path / "study", store=tmp_path)
    page = (tmp_path / "study" / "report.html").read_text()
    assert "tm.Strategy.from_dict" in page
    assert "&#39;history_length&#39;: 200" in page or "'history_length': 200" in page  # all of it
    assert len(list((tmp_path / "study" / "tensorboard").glob("trial-*"))) == 4
    assert found.report(tmp_path / "again.html").read_text().count("<svg") == page.count("<svg")
    formula(trials=1, remember=False).report(tmp_path / "one.html")  # before there is a surrogate


def test_a_page_that_fails_costs_no_result(by_formula, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(strategy_search, "write_hparams", lambda *_: 1 / 0)
    assert len(formula(trials=2, folder=tmp_path, remember=False).trials) == 2
    assert "pages of the study" in caplog.text


def test_a_space_of_ones_own(by_formula):
    own = StrategySpace(("ials",), {"ials/l2": 2.0}, declare={"ials": grid})
    found = formula(trials=8, space=own, remember=False)
    assert len(found.trials) == 5  # all that there are
    assert found.best_strategy.model == type(found.best_strategy.model)(embedding_dim=8, l2=2.0)
    with pytest.raises(ValueError, match="`space` has `families` and `fixed` of its own"):
        formula(space=own, families=("ials",))
    with pytest.raises(TypeError, match="`space` is a dict; give a StrategySpace or a function"):
        formula(space={})
    with pytest.raises(ValueError, match="`oracle`='delphi'; use one of meta_bayesian, "):
        formula(oracle="delphi")
