"""What every oracle of ours keeps to, with a memory and without, and how a memory helps.

Oracles are driven by hand; no model is trained.
"""

import json
from functools import partial

import keras_tuner
import numpy as np
import pytest

from tests.tuning.surrogate_toys import Told, earlier, objective, space
from tfrec_meta.tuning.oracles import INITIAL_TRIALS, MetaBayesianOracle, MetaHyperbandOracle
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.tuner import _Durable

BAYESIAN = partial(MetaBayesianOracle, max_trials=1000)
HYPERBAND = partial(MetaHyperbandOracle, max_epochs=9, hyperband_iterations=3)


class Search:
    """An oracle, driven by hand."""

    def __init__(self, make, folder, *, direction="max", hyperparameters=None, seed=1, **options):
        self.oracle = make(
            objective=keras_tuner.Objective("score", direction),
            hyperparameters=hyperparameters or space(),
            seed=seed,
            max_consecutive_failed_trials=None,
            **options,
        )
        self.oracle.verbose = 0
        self.oracle._set_project_dir(str(folder), "study")
        self.points = []

    def ask(self, worker="alone"):
        """A trial that runs; None when the search has ended or waits."""
        trial = self.oracle.create_trial(worker)
        if trial.status != "RUNNING":
            self.status = trial.status
            return None
        self.points.append(own(trial))
        return trial

    def tell(self, trial, score, *, status="COMPLETED", message=None):
        if score is not None:
            self.oracle.update_trial(trial.trial_id, {"score": score})
        trial = self.oracle.get_trial(trial.trial_id)
        trial.status, trial.message = status, message
        self.oracle.end_trial(trial)

    def run(self, count, function=objective):
        """The scores of so many trials, or of all that there are."""
        found = []
        for _ in range(count):
            trial = self.ask()
            if trial is None:
                break
            found.append(function(own(trial)))
            self.tell(trial, found[-1])
        return found


def own(trial):
    """A trial's values, without the notes of the oracle."""
    values = trial.hyperparameters.values
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def distinct(points):
    return {json.dumps(point, sort_keys=True) for point in points}


@pytest.fixture(scope="module")
def memory():
    """Knows the objective, and one that is like it."""
    studies = [earlier("same", 1), earlier("like it", 2, noise=0.2)]
    shifted = lambda values: objective({**values, "x": values["x"] - 0.2})  # noqa: E731
    return Told(objective, shifted, studies=studies)


@pytest.fixture(params=["bayesian", "hyperband"])
def make(request):
    return {"bayesian": BAYESIAN, "hyperband": HYPERBAND}[request.param]


@pytest.fixture(params=["memory", "no memory"])
def known(request, memory):
    return {"memory": memory if request.param == "memory" else None}


# What all keep to.


def test_default_is_first(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    search.run(1)
    assert search.points == [{"x": -0.5, "rate": 1e-3, "family": "flat"}]
    assert search.oracle.suggested["0" * len(next(iter(search.oracle.trials)))]["by"] == "default"


def test_bounds_and_conditions_are_kept(make, known, tmp_path):
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


def test_seed_decides(make, known, tmp_path):
    runs = [Search(make, tmp_path / str(n), seed=seed, **known) for n, seed in enumerate([1, 1, 2])]
    for search in runs:
        search.run(12)
    assert runs[0].points == runs[1].points
    assert runs[0].points != runs[2].points


def test_search_goes_on_after_a_kill_as_if_there_had_been_none(make, known, tmp_path):
    # As the tuner makes them: KerasTuner's own reload tries the last trial again.
    durable = type("Durable", (_Durable, make.func), {})
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


def test_state_is_ready_for_json(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    search.run(8)
    state = json.loads(json.dumps(search.oracle.get_state()))
    other = Search(make, tmp_path, seed=99, **known)
    other.oracle.trials = dict(search.oracle.trials)
    other.oracle.set_state(state)
    assert other.oracle.suggested == search.oracle.suggested
    assert own(other.ask()) == own(search.ask())


def test_nothing_that_was_asked_of_the_surrogate_changes_what_follows(make, known, tmp_path):
    asked, silent = Search(make, tmp_path / "a", **known), Search(make, tmp_path / "b", **known)
    for _ in range(14):
        asked.run(1)
        silent.run(1)
        if len(asked.points) > 1:
            asked.oracle.predict(asked.points)
        asked.oracle.prior()
    assert asked.points == silent.points


def test_points_are_not_tried_again(known, tmp_path):
    search = Search(BAYESIAN, tmp_path, **known)
    search.run(60)
    assert len(distinct(search.points)) == 60


def test_workers_are_sent_to_different_points(known, tmp_path):
    search = Search(BAYESIAN, tmp_path, **known)
    search.run(6)
    trials = [search.ask(f"worker {n}") for n in range(8)]
    assert len(distinct(search.points)) == 14
    best = [own(trial) for trial in trials]
    # Nor to nearly the same one.
    assert len({round(point["x"], 2) for point in best}) > 2
    for trial in trials:
        search.tell(trial, objective(own(trial)))
    search.run(3)
    assert len(distinct(search.points)) == 17


def test_many_workers_begin_before_any_trial_has_ended(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    for worker in range(9):
        assert search.ask(f"worker {worker}") is not None
    assert len(distinct(search.points)) == 9
    assert {told["by"] for told in search.oracle.suggested.values()} <= {
        "default",
        "prior",
        "random",
    }


def finite_space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("a", ["one", "two", "three"])
    hp.Fixed("b", 7)
    with hp.conditional_scope("a", ["one"]):
        hp.Int("c", 1, 5)
    return hp


def test_finite_space_ends_the_search(make, tmp_path):
    search = Search(make, tmp_path, hyperparameters=finite_space())
    search.run(500, lambda values: values.get("c", 0))
    assert search.status == "STOPPED"
    assert len(distinct(search.points)) == 7
    assert SpaceEncoding(finite_space()).size() == 7
    assert search.ask() is None


def test_while_a_trial_runs_a_used_up_space_is_not_the_end(make, tmp_path):
    search = Search(make, tmp_path, hyperparameters=finite_space())
    trials = [search.ask(f"worker {n}") for n in range(7)]
    assert search.ask("another") is None
    assert search.status == "IDLE"
    for trial in trials:
        search.tell(trial, 1.0)
    search.run(500, lambda values: 1.0)
    assert search.status == "STOPPED"


def test_space_of_one_point_ends_after_it(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("a", 1)
    search = Search(BAYESIAN, tmp_path, hyperparameters=hp)
    assert len(search.run(5, lambda values: 0.5)) == 1
    assert search.status == "STOPPED"


def test_last_points_of_a_space_too_large_to_look_at_are_found(tmp_path):
    hp = keras_tuner.HyperParameters()
    for name in "abc":
        hp.Int(name, 1, 13)
    search = Search(BAYESIAN, tmp_path, hyperparameters=hp)
    oracle, encoding = search.oracle, SpaceEncoding(hp)
    everything = encoding.all()
    assert len(everything) == 2197  # more than are all looked at
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
    "told",
    [
        {"score": 1e3, "message": "it broke"},  # as our tuner tells it
        {"score": None, "status": "FAILED"},
        {"score": float("nan")},
        {"score": float("inf")},
    ],
)
def test_trials_that_failed_count_as_bad(make, told, tmp_path):
    search = Search(make, tmp_path, direction="max")
    for _ in range(30):
        trial = search.ask()
        if own(trial)["family"] == "deep":
            search.tell(trial, **told)
        else:
            search.tell(trial, objective(own(trial)))
    late = [point["family"] for point in search.points[15:]]
    assert late.count("deep") < 6
    mean, _ = search.oracle.predict(
        [{"family": "deep", "x": 0.4, "layers": 3}, {"family": "flat", "x": 0.4}]
    )
    assert mean[0] < mean[1]


def test_all_trials_may_fail(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    for _ in range(10):
        search.tell(search.ask(), None, status="FAILED")
    assert len(distinct(search.points)) == 10


def test_constant_objective_is_borne(make, known, tmp_path):
    search = Search(make, tmp_path, **known)
    assert len(search.run(12, lambda values: 0.5)) == 12


def test_errors_are_made_small(make, known, tmp_path):
    search = Search(make, tmp_path, direction="min", **known)
    found = search.run(25, lambda values: 1.0 - objective(values))
    assert min(found) < 0.05
    told = [t["expected"] for t in search.oracle.suggested.values() if t["by"] == "surrogate"]
    assert told
    assert all(expected["std"] >= 0 for expected in told)


def test_predictions_are_in_units_of_the_objective(make, known, tmp_path):
    search = Search(make, tmp_path, direction="min", **known)
    for count in (0, 1):
        with pytest.raises(RuntimeError, match="No two trials"):
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


def test_nothing_may_be_added_to_the_space(make):
    with pytest.raises(ValueError, match="hyperparameters"):
        make(objective=keras_tuner.Objective("score", "max"))


@pytest.mark.parametrize("beliefs", [[1.0], [0.2, 0.3, 0.5]])
def test_beliefs_that_do_not_fit_the_memory_are_refused(make, memory, beliefs, tmp_path):
    with pytest.raises(ValueError, match=f"`beliefs` has {len(beliefs)}, but `memory` 2"):
        Search(make, tmp_path, memory=memory, beliefs=beliefs)
    with pytest.raises(ValueError, match="`memory` 0"):
        Search(make, tmp_path, beliefs=beliefs)


# What a memory is good for.


def test_with_a_memory_of_the_function_the_best_is_found_at_once(make, memory, tmp_path):
    found = Search(make, tmp_path, memory=memory).run(6)
    assert max(found) > 0.9


def test_memory_that_misleads_does_no_harm(tmp_path):
    misled = Told(lambda values: float(np.sin(37 * values["x"])))
    runs = {"misled": misled, "alone": None}
    best = {name: [] for name in runs}
    for seed in (1, 2, 3):
        for name, known in runs.items():
            search = Search(BAYESIAN, tmp_path / f"{name}{seed}", memory=known, seed=seed)
            best[name].append(max(search.run(25)))
    assert np.mean(best["misled"]) > np.mean(best["alone"]) - 0.02


def test_prior_is_shown_and_tried_in_its_order(memory, tmp_path):
    search = Search(BAYESIAN, tmp_path, memory=memory)
    prior = search.oracle.prior()
    assert len(prior) == 16
    assert all(shown["expected"] is None for shown in prior)
    search.run(INITIAL_TRIALS + 2)
    assert search.points[1 : INITIAL_TRIALS + 1] == [
        shown["values"] for shown in prior[:INITIAL_TRIALS]
    ]
    by = [told["by"] for told in search.oracle.suggested.values()]
    assert by == ["default"] + ["prior"] * INITIAL_TRIALS + ["surrogate"]


def test_without_a_memory_there_is_no_prior(make, tmp_path):
    search = Search(make, tmp_path)
    assert search.oracle.prior() == []
    search.run(7)
    by = [told["by"] for told in search.oracle.suggested.values()]
    assert by == ["default"] + ["random"] * INITIAL_TRIALS + ["surrogate"] * 2


def test_study_that_is_believed_comes_first(tmp_path):
    left, right = (lambda values: -values["x"]), (lambda values: values["x"])
    known = Told(left, right)
    for beliefs, sign in (([1.0, 0.0], -1), ([0.0, 1.0], 1)):
        search = Search(BAYESIAN, tmp_path / str(sign), memory=known, beliefs=beliefs)
        assert sign * search.oracle.prior()[0]["values"]["x"] > 0.9


# Hyperband.


def epochs(trial):
    return trial.hyperparameters.values["tuner/epochs"]


def test_brackets_have_their_epochs_and_promote_their_best(memory, tmp_path):
    search = Search(HYPERBAND, tmp_path, memory=memory)
    trials, scores = [], {}
    for _ in range(14):
        trial = search.ask()
        trials.append(trial)
        scores[trial.trial_id] = objective(own(trial)) + 0.01 * epochs(trial)
        search.tell(trial, scores[trial.trial_id])
    # 9 epochs in thirds: 9 trials of 1, their best 3 of 3, the best of these with 9.
    counts = [epochs(trial) for trial in trials]
    assert counts[:13] == [1] * 9 + [3] * 3 + [9]
    first = sorted((trial.trial_id for trial in trials[:9]), key=scores.get)[::-1]
    promoted = [trial.hyperparameters.values["tuner/trial_id"] for trial in trials[9:12]]
    assert promoted == first[:3]
    assert own(trials[9]) == own(next(t for t in trials if t.trial_id == promoted[0]))
    told = search.oracle.suggested
    assert told[trials[9].trial_id] == told[promoted[0]]


def test_small_space_is_halved_as_a_whole(tmp_path):
    search = Search(HYPERBAND, tmp_path, hyperparameters=finite_space())
    trials = []
    while (trial := search.ask()) is not None:
        trials.append(trial)
        search.tell(trial, own(trial).get("c", 0))
    # 7 points with 1 epoch, a third of them with 3, and of these one with 9, which is the best.
    assert [epochs(trial) for trial in trials] == [1] * 7 + [3] * 3 + [9]
    assert own(trials[-1]) == {"a": "one", "b": 7, "c": 5}
    assert search.status == "STOPPED"


def curves_of(search, count, gain, start=0.0):
    """Runs trials whose objective grows evenly by `gain` in all."""
    for _ in range(count):
        trial = search.ask()
        for epoch in range(epochs(trial)):
            curve = [start + gain * (e + 1) / epochs(trial) for e in range(epoch + 1)]
            assert not search.oracle.should_stop(trial.trial_id, curve)
        search.tell(trial, start + gain)


FULL = partial(MetaHyperbandOracle, max_epochs=3, factor=4, hyperband_iterations=20)


def test_hopeless_trial_is_stopped(tmp_path):
    # One bracket only, so that all trials have 3 epochs.
    search = Search(FULL, tmp_path)
    curves_of(search, 5, gain=0.3, start=0.5)
    trial = search.ask()
    # The others gain 0.2 more from here; the best has 0.8.
    assert not search.oracle.should_stop(trial.trial_id, [0.61])
    assert search.oracle.should_stop(trial.trial_id, [0.59])


def test_stopping_can_be_left_out(tmp_path):
    search = Search(FULL, tmp_path, stop_hopeless=False)
    curves_of(search, 5, gain=0.3, start=0.5)
    assert not search.oracle.should_stop(search.ask().trial_id, [0.0])


def test_curves_outlast_a_kill(tmp_path):
    search = Search(FULL, tmp_path)
    curves_of(search, 5, gain=0.3, start=0.5)
    trial = search.ask()
    again = Search(FULL, tmp_path)
    again.oracle.reload()
    assert again.oracle.should_stop(trial.trial_id, [0.0])


def test_curve_that_was_cut_short_does_not_show_what_can_be_gained(tmp_path):
    search = Search(FULL, tmp_path)
    curves_of(search, 4, gain=0.3, start=0.5)
    trial = search.ask()
    assert search.oracle.should_stop(trial.trial_id, [0.1])
    search.tell(trial, 0.1)
    assert trial.trial_id not in search.oracle._curves


def test_trial_of_few_epochs_is_not_measured_by_those_of_many(tmp_path):
    search = Search(partial(MetaHyperbandOracle, max_epochs=9, hyperband_iterations=9), tmp_path)
    few = []
    for _ in range(13):  # the whole first bracket, of which the best had 9 epochs
        trial = search.ask()
        curve = [0.1 * (epoch + 1) for epoch in range(epochs(trial))]
        search.oracle._curves[trial.trial_id] = tuple(curve)
        search.tell(trial, curve[-1])
        few.append(epochs(trial))
    assert max(few) == 9
    trial = search.ask()
    assert epochs(trial) == 3
    # The best of 9 epochs has 0.9, which is out of reach; that of 3 epochs has 0.3.
    assert not search.oracle.should_stop(trial.trial_id, [0.2])
