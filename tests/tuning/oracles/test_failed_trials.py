"""Failed trials are the worst in each oracle, in both directions and in any unit."""

import itertools
import math
from functools import partial

import keras_tuner
import numpy as np
import pytest

from tests.tuning.oracles.oracle_driver import Search, finite_space, values_of
from tfrec_meta.tuning.oracles.base import worst_score
from tfrec_meta.tuning.oracles.registry import ORACLES, build_oracle

FAILURES = {
    "an exception": {"score": None, "status": "FAILED", "message": "ValueError: no"},
    "not a number": {"score": math.nan},
    "infinite": {"score": math.inf},
    "a score and a message": {"score": 0.0, "message": "the time limit"},
}
UNITS = [(1e-6, 0.0), (1e6, 0.0), (1.0, -1e3), (1e-6, 1.0)]  # score * factor + shift


def oracle(name, tmp_path, direction, space, *, trials=30, epochs=9, seed=1):
    hyperparameters = space() if callable(space) else space

    def make(objective, hyperparameters, seed, **_):
        return build_oracle(
            name, hyperparameters, objective, trials=trials, epochs=epochs, seed=seed, transfer={}
        )

    return Search(make, tmp_path, direction=direction, hyperparameters=hyperparameters, seed=seed)


def line():
    """Points above 0.5 fail; the best that succeeds is there at 0.5."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0, default=0.2)
    return hp


def run(search, failure, direction, factor, shift, trials=30):
    """Runs trials of `line`; returns the values, in the order of the trials."""
    sign = 1.0 if direction == "max" else -1.0
    found = []
    for _ in range(trials):
        trial = search.ask()
        if trial is None:
            break
        x = values_of(trial)["x"]
        found.append(x)
        if x > 0.5:
            search.tell(trial, **failure)
        else:
            search.tell(trial, sign * x * factor + shift)
    return found


@pytest.mark.parametrize(("failure", "unit"), list(zip(FAILURES, UNITS, strict=True)))
@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("name", [name for name in ORACLES if name != "bayesian"])
def test_failed_trials_are_neither_best_nor_promoted(name, direction, failure, unit, tmp_path):
    search = oracle(name, tmp_path, direction, line)
    run(search, FAILURES[failure], direction, *unit)
    trials = search.oracle.trials
    failed = {n for n, t in trials.items() if values_of(t)["x"] > 0.5}
    assert failed
    best = search.oracle.get_best_trials(1)[0].trial_id
    assert best not in failed
    promoted = [t.hyperparameters.values.get("tuner/trial_id") for t in trials.values()]
    assert not failed & set(promoted)


@pytest.mark.parametrize(("factor", "shift"), UNITS)
@pytest.mark.parametrize("direction", ["max", "min"])
def test_failed_trials_do_not_attract_the_surrogate(direction, factor, shift, tmp_path):
    found = run(
        oracle("meta_bayesian", tmp_path, direction, line, trials=14),
        FAILURES["an exception"],
        direction,
        factor,
        shift,
        trials=14,
    )
    late = np.array(found[7:])
    # The best points are next to those that fail, so that some failures are expected.
    assert (late > 0.75).mean() < 0.4
    assert max(x for x in found if x <= 0.5) > 0.4


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("direction", ["max", "min"])
def test_kerastuners_bayesian_oracle_learns_from_failed_trials(direction, failure, tmp_path):
    # Its search takes seconds for each suggestion; these are the data that it learns from.
    search = oracle("bayesian", tmp_path, direction, line)
    sign = 1.0 if direction == "max" else -1.0
    for score in (2e6, None, 1e6):
        trial = search.ask()
        search.tell(trial, **(failure if score is None else {"score": sign * score}))
    # It minimises; a failed trial is a tenth of the range worse than the worst.
    _, found = search.oracle._vectorize_trials()
    np.testing.assert_allclose(found, [-2e6, -0.9e6, -1e6])
    assert [t.score for t in search.oracle.trials.values()][::2] == [sign * 2e6, sign * 1e6]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", ORACLES)
def test_a_search_in_which_all_trials_fail_goes_on(name, failure, tmp_path):
    count = 4 if name == "bayesian" else 8  # it takes seconds for each suggestion
    search = oracle(name, tmp_path, "min", line, trials=count)
    for _ in range(count):
        search.tell(search.ask(), **FAILURES[failure])
    assert len(search.points) == count
    if hasattr(search.oracle, "suggested"):
        assert all(one["expected"] is None for one in search.oracle.suggested.values())


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("scores", [[1e-6, 3e-6], [-1e6, 1e6], [5.0, 5.0], [0.0], [1e308, -1e308]])
def test_the_score_of_failed_trials_is_worse_than_all_others(direction, scores):
    trials = []
    for score in [*scores, None]:
        trial = keras_tuner.engine.trial.Trial(line(), str(score), "COMPLETED")
        trial.score, trial.message = score, None
        trials.append(trial)
    trials[-1].status = "FAILED"
    found = worst_score(trials, direction)
    assert math.isfinite(found)
    assert found < min(scores) if direction == "max" else found > max(scores)
    assert worst_score(trials[-1:], direction) == 0.0


# Brackets of Hyperband.


def small(count):
    hp = keras_tuner.HyperParameters()
    hp.Choice("x", list(range(count)))
    return hp


def epochs_of(search):
    trials = search.oracle.trials.values()
    return [(values_of(t).get("x"), t.hyperparameters.values["tuner/epochs"]) for t in trials]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("name", ["hyperband", "meta_hyperband"])
def test_the_best_trial_of_a_small_space_has_all_epochs_and_the_search_ends(name, count, tmp_path):
    search = oracle(name, tmp_path, "max", partial(small, count), trials=200)
    search.run(200, lambda values: values["x"])
    assert search.status == "STOPPED"
    found = epochs_of(search)
    assert {x for x, _ in found} == set(range(count))
    assert (count - 1, 9) in found


@pytest.mark.parametrize(
    ("trials", "epochs"),
    [
        # A bracket of 9 epochs needs 9 + 3 + 1 trials, then 5 + 2, then 3.
        (1, [9]),
        (2, [9] * 2),
        (3, [3] * 2 + [9]),
        (4, [3] * 3 + [9]),
        (5, [3] * 3 + [9] + [9]),
        (6, [3] * 4 + [9] * 2),
        (7, [1] * 4 + [3] * 2 + [9]),
        (12, [1] * 8 + [3] * 3 + [9]),
        (13, [1] * 9 + [3] * 3 + [9]),
        (14, [1] * 9 + [3] * 3 + [9] + [9]),
        (20, [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] * 2),
    ],
)
@pytest.mark.parametrize("name", ["hyperband", "meta_hyperband"])
def test_fewer_trials_than_a_bracket_needs_still_train_the_best_to_all_epochs(
    name, trials, epochs, tmp_path
):
    search = oracle(name, tmp_path, "max", line, trials=trials)
    scores = search.run(50, lambda values: values["x"])
    assert search.status == "STOPPED"
    assert [
        t.hyperparameters.values["tuner/epochs"] for t in search.oracle.trials.values()
    ] == epochs
    first = epochs.count(epochs[0])
    best = max(range(first), key=scores.__getitem__)  # of the first bracket
    assert (search.points[best]["x"], 9) in epochs_of(search)


@pytest.mark.parametrize("name", ["hyperband", "meta_hyperband"])
def test_workers_leave_the_last_trials_to_promotions(name, tmp_path):
    search = oracle(name, tmp_path, "max", line, trials=4)
    trials = [search.ask(f"worker {n}") for n in range(3)]
    assert search.ask("another") is None
    assert search.status == "IDLE"
    for trial in trials:
        search.tell(trial, values_of(trial)["x"])
    search.run(9, lambda values: values["x"])
    assert [epochs for _, epochs in epochs_of(search)] == [3, 3, 3, 9]


@pytest.mark.parametrize("name", ["hyperband", "meta_hyperband"])
def test_trials_that_a_failed_bracket_leaves_go_to_the_next(name, tmp_path):
    search = oracle(name, tmp_path, "max", line, trials=6)
    for _ in range(4):
        search.tell(search.ask(), **FAILURES["an exception"])
    search.run(9, lambda values: values["x"])
    assert [epochs for _, epochs in epochs_of(search)] == [3] * 4 + [9] * 2
    assert search.status == "STOPPED"


@pytest.mark.parametrize("name", ["hyperband", "meta_hyperband"])
def test_brackets_with_failed_trials_train_the_others_to_all_epochs(name, tmp_path):
    search = oracle(name, tmp_path, "max", partial(small, 9), trials=200)
    while (trial := search.ask()) is not None:
        x = values_of(trial)["x"]
        search.tell(trial, **(FAILURES["an exception"] if x > 1 else {"score": x}))
    # 9 trials with 1 epoch, of which two succeed; both have 3 epochs, and the best has 9.
    found = epochs_of(search)
    assert sorted(found[:9]) == [(x, 1) for x in range(9)]
    assert found[9:] == [(1, 3), (0, 3), (1, 9)]
    assert search.status == "STOPPED"


@pytest.mark.parametrize("name", ["hyperband", "meta_hyperband"])
def test_workers_wait_for_running_trials_before_a_small_space_ends(name, tmp_path):
    search = oracle(name, tmp_path, "max", partial(small, 3), trials=200)
    trials = [search.ask(f"worker {n}") for n in range(3)]
    assert search.ask("another") is None
    assert search.status == "IDLE"
    for trial in trials:
        search.tell(trial, values_of(trial)["x"])
    search.run(50, lambda values: values["x"])
    assert [epochs for _, epochs in epochs_of(search)] == [1, 1, 1, 3, 9]


def test_the_grid_goes_on_after_failed_trials(tmp_path):
    search = oracle("grid", tmp_path, "max", finite_space)
    for failure in itertools.cycle(FAILURES.values()):
        if (trial := search.ask()) is None:
            break
        search.tell(trial, **failure)
    assert len(search.points) == 7
