"""Rules that the surrogate oracles follow, with and without prior studies.

The tests drive the oracles directly; no model is trained.
"""

import json
from functools import partial

import keras_tuner
import numpy as np
import pytest

from tests.tuning.oracles.oracle_driver import (
    BAYESIAN,
    HYPERBAND,
    Search,
    distinct,
    finite_space,
    values_of,
)
from tests.tuning.surrogate_samples import FormulaMetaSurrogate, objective, prior_study
from tfrec_meta.tuning.oracles.durable import DurableOracle
from tfrec_meta.tuning.oracles.surrogate_oracle import INITIAL_TRIALS
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding


@pytest.fixture(scope="module")
def surrogate():
    """A surrogate of two prior studies: of the same objective, and of a similar one."""
    studies = [prior_study("same", 1), prior_study("similar", 2, noise=0.2)]
    shifted = lambda values: objective({**values, "x": values["x"] - 0.2})  # noqa: E731
    return FormulaMetaSurrogate(objective, shifted, studies=studies)


@pytest.fixture(params=["bayesian", "hyperband"])
def make(request):
    return {"bayesian": BAYESIAN, "hyperband": HYPERBAND}[request.param]


@pytest.fixture(params=["prior studies", "no prior studies"])
def known(request, surrogate):
    return {"meta_surrogate": surrogate if request.param == "prior studies" else None}


# Rules of all oracles.


def test_the_default_is_first(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    search.run(1)
    assert search.points == [{"x": -0.5, "rate": 1e-3, "family": "flat"}]
    assert search.oracle.suggested["0" * len(next(iter(search.oracle.trials)))]["by"] == "default"


def test_bounds_and_conditions_are_respected(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    search.run(25)
    assert len(search.points) == 25
    for point in search.points:
        assert -1.0 <= point["x"] <= 1.0
        assert 1e-4 <= point["rate"] <= 1.0
        assert ("layers" in point) is (point["family"] == "deep")
        assert point.get("layers", 1) in (1, 2, 3, 4)
        assert all(isinstance(value, int | float | str) for value in point.values())
        assert not any(isinstance(value, np.generic) for value in point.values())


def test_the_seed_determines_the_points(make, known, tmp_path):
    runs = [Search(make, tmp_path / str(n), seed=seed, **known) for n, seed in enumerate([1, 1, 2])]
    for search in runs:
        search.run(12)
    assert runs[0].points == runs[1].points
    assert runs[0].points != runs[2].points


def test_a_killed_search_continues_with_the_same_points(make, known, tmp_path):
    # As the tuner builds them; KerasTuner's own reload retries the last trial.
    durable = type("Durable", (DurableOracle, make.func), {})
    make = partial(durable, **make.keywords)
    whole = Search(make, tmp_path / "whole", **known)
    whole.run(18)
    for count in (3, 14):
        first = Search(make, tmp_path / str(count), **known)
        first.run(count)
        second = Search(make, tmp_path / str(count), seed=99, **known)
        second.oracle.reload()
        second.run(18 - count)
        assert first.points + second.points == whole.points


def test_the_state_round_trips_through_json(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    search.run(8)
    state = json.loads(json.dumps(search.oracle.get_state()))
    other = Search(make, tmp_path, seed=99, **known)
    other.oracle.trials = dict(search.oracle.trials)
    other.oracle.set_state(state)
    assert other.oracle.suggested == search.oracle.suggested
    assert values_of(other.ask()) == values_of(search.ask())


def test_predictions_do_not_change_later_suggestions(make, known, tmp_path):
    predicting, silent = (
        Search(make, tmp_path / "a", **known),
        Search(make, tmp_path / "b", **known),
    )
    for _ in range(14):
        predicting.run(1)
        silent.run(1)
        if len(predicting.points) > 1:
            predicting.oracle.predict(predicting.points)
        predicting.oracle.prior_suggestions()
    assert predicting.points == silent.points


def test_no_point_is_tried_twice(known, tmp_path):
    search = Search(BAYESIAN, tmp_path, **known)
    search.run(60)
    assert len(distinct(search.points)) == 60


def test_workers_get_different_points(known, tmp_path):
    search = Search(BAYESIAN, tmp_path, **known)
    search.run(6)
    trials = [search.ask(f"worker {n}") for n in range(8)]
    assert len(distinct(search.points)) == 14
    best = [values_of(trial) for trial in trials]
    # They are not nearly the same either.
    assert len({round(point["x"], 2) for point in best}) > 2
    for trial in trials:
        search.tell(trial, objective(values_of(trial)))
    search.run(3)
    assert len(distinct(search.points)) == 17


def test_many_workers_start_before_any_trial_has_ended(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    for worker in range(9):
        assert search.ask(f"worker {worker}") is not None
    assert len(distinct(search.points)) == 9
    assert {source["by"] for source in search.oracle.suggested.values()} <= {
        "default",
        "prior",
        "random",
    }


def test_a_finite_space_ends_the_search(make, tmp_path):
    search = Search(make, tmp_path, hyperparameters=finite_space())
    search.run(500, lambda values: values.get("c", 0))
    assert search.status == "STOPPED"
    assert len(distinct(search.points)) == 7
    assert SpaceEncoding(finite_space()).size() == 7
    assert search.ask() is None


def test_an_exhausted_space_does_not_end_the_search_while_trials_run(make, tmp_path):
    search = Search(make, tmp_path, hyperparameters=finite_space())
    trials = [search.ask(f"worker {n}") for n in range(7)]
    assert search.ask("another") is None
    assert search.status == "IDLE"
    for trial in trials:
        search.tell(trial, 1.0)
    search.run(500, lambda values: 1.0)
    assert search.status == "STOPPED"


def test_a_space_of_one_point_ends_after_it(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("a", 1)
    search = Search(BAYESIAN, tmp_path, hyperparameters=hp)
    assert len(search.run(5, lambda values: 0.5)) == 1
    assert search.status == "STOPPED"


def test_the_last_points_of_a_large_space_are_found(tmp_path):
    hp = keras_tuner.HyperParameters()
    for name in "abc":
        hp.Int(name, 1, 13)
    search = Search(BAYESIAN, tmp_path, hyperparameters=hp)
    oracle, encoding = search.oracle, SpaceEncoding(hp)
    everything = encoding.all()
    assert len(everything) == 2197  # too many to be candidates all at once
    left = [encoding.values(everything[row]) for row in (1, 1100, 2195)]
    search.run(6, lambda values: values["a"])
    taken = keras_tuner.engine.trial.Trial(hp.copy(), "taken", status="COMPLETED")
    oracle.trials["taken"] = taken
    tried = oracle._tried

    def nearly_all():
        keep = [row for row in everything if encoding.values(row) not in left]
        return tried() | {row.tobytes() for row in np.round(keep, 9) + 0.0}

    oracle._tried = nearly_all
    search.run(500, lambda values: values["a"])
    assert search.status == "STOPPED"
    assert distinct(search.points[6:]) == distinct(left)


@pytest.mark.parametrize(
    "result",
    [
        {"score": 1e3, "message": "it broke"},  # as StrategyTuner reports it
        {"score": None, "status": "FAILED"},
        {"score": float("nan")},
        {"score": float("inf")},
    ],
)
def test_failed_trials_count_as_bad(make, result, tmp_path):
    search = Search(make, tmp_path, direction="max")
    for _ in range(30):
        trial = search.ask()
        if values_of(trial)["family"] == "deep":
            search.tell(trial, **result)
        else:
            search.tell(trial, objective(values_of(trial)))
    late = [point["family"] for point in search.points[15:]]
    assert late.count("deep") < 6
    mean, _ = search.oracle.predict(
        [
            {"family": "deep", "x": 0.4, "rate": 0.1, "layers": 3},
            {"family": "flat", "x": 0.4, "rate": 0.1},
        ]
    )
    assert mean[0] < mean[1]


def test_all_trials_may_fail(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    for _ in range(10):
        search.tell(search.ask(), None, status="FAILED")
    assert len(distinct(search.points)) == 10


def test_a_constant_objective_is_supported(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    assert len(search.run(12, lambda values: 0.5)) == 12


def test_errors_are_minimised(make, known, tmp_path):
    search = Search(make, tmp_path, direction="min", **known)
    found = search.run(25, lambda values: 1.0 - objective(values))
    assert min(found) < 0.05
    sources = search.oracle.suggested.values()
    predictions = [one["expected"] for one in sources if one["by"] == "surrogate"]
    assert predictions
    assert all(prediction["std"] >= 0 for prediction in predictions)


def test_predictions_are_in_units_of_the_objective(make, known, tmp_path):
    search = Search(make, tmp_path, direction="min", **known)
    for count in (0, 1):
        with pytest.raises(RuntimeError, match="Fewer than two trials"):
            search.oracle.predict([{"family": "flat"}])
        search.run(1, lambda values: 100.0 * (1.0 - objective(values)))
        assert len(search.points) == count + 1
    search.run(24, lambda values: 100.0 * (1.0 - objective(values)))
    mean, deviation = search.oracle.predict(search.points)
    truth = [100.0 * (1.0 - objective(point)) for point in search.points]
    assert np.corrcoef(mean, truth)[0, 1] > 0.7
    assert (deviation >= 0).all()
    assert [len(found) for found in search.oracle.predict([])] == [0, 0]
    with pytest.raises(ValueError, match="'family': 'unknown'"):
        search.oracle.predict([{"family": "unknown"}])


def test_the_space_must_be_given(make):
    with pytest.raises(ValueError, match="hyperparameters"):
        make(objective=keras_tuner.Objective("score", "max"))


@pytest.mark.parametrize("weights", [[1.0], [0.2, 0.3, 0.5]])
def test_study_weights_of_another_length_are_refused(make, surrogate, weights, tmp_path):
    message = f"`study_weights` has {len(weights)} values, but `meta_surrogate` has "
    with pytest.raises(ValueError, match=f"{message}2 studies"):
        Search(make, tmp_path, meta_surrogate=surrogate, study_weights=weights)
    with pytest.raises(ValueError, match=f"{message}0 studies"):
        Search(make, tmp_path, study_weights=weights)


# The use of prior studies.


def test_prior_studies_of_the_objective_lead_to_the_best_at_once(make, surrogate, tmp_path):
    found = Search(make, tmp_path, meta_surrogate=surrogate).run(6)
    assert max(found) > 0.9


def test_misleading_prior_studies_do_no_harm(tmp_path):
    misled = FormulaMetaSurrogate(lambda values: float(np.sin(37 * values["x"])))
    runs = {"misled": misled, "alone": None}
    best = {name: [] for name in runs}
    for seed in (1, 2, 3):
        for name, known in runs.items():
            search = Search(BAYESIAN, tmp_path / f"{name}{seed}", meta_surrogate=known, seed=seed)
            best[name].append(max(search.run(25)))
    assert np.mean(best["misled"]) > np.mean(best["alone"]) - 0.02


def test_a_misleading_prior_study_costs_one_trial_of_the_initial_ones(tmp_path):
    misled = FormulaMetaSurrogate(lambda values: -objective(values))
    search = Search(BAYESIAN, tmp_path, meta_surrogate=misled)
    search.run(INITIAL_TRIALS + 1)
    by = [source["by"] for source in search.oracle.suggested.values()]
    assert by == ["default", "prior", "random", "random", "random"]


def test_prior_suggestions_are_tried_in_their_order(surrogate, tmp_path):
    search = Search(BAYESIAN, tmp_path, meta_surrogate=surrogate)
    prior = search.oracle.prior_suggestions()
    assert len(prior) == 16
    assert all(shown["expected"] is None for shown in prior)
    search.run(INITIAL_TRIALS + 2)
    assert search.points[1 : INITIAL_TRIALS + 1] == [
        shown["values"] for shown in prior[:INITIAL_TRIALS]
    ]
    by = [source["by"] for source in search.oracle.suggested.values()]
    assert by == ["default"] + ["prior"] * INITIAL_TRIALS + ["surrogate"]


def test_without_prior_studies_there_are_no_prior_suggestions(make, tmp_path):
    search = Search(make, tmp_path)
    assert search.oracle.prior_suggestions() == []
    search.run(7)
    by = [source["by"] for source in search.oracle.suggested.values()]
    assert by == ["default"] + ["random"] * INITIAL_TRIALS + ["surrogate"] * 2


def test_prior_suggestions_follow_the_study_weights(tmp_path):
    left, right = (lambda values: -values["x"]), (lambda values: values["x"])
    known = FormulaMetaSurrogate(left, right)
    for weights, sign in (([1.0, 0.0], -1), ([0.0, 1.0], 1)):
        search = Search(BAYESIAN, tmp_path / str(sign), meta_surrogate=known, study_weights=weights)
        assert sign * search.oracle.prior_suggestions()[0]["values"]["x"] > 0.9
