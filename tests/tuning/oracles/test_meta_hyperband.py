"""The brackets of the surrogate Hyperband, and trials stopped by their learning curves."""

from functools import partial

import pytest

from tests.tuning.oracles.oracle_driver import HYPERBAND, Search, finite_space, values_of
from tests.tuning.surrogate_samples import FormulaMetaSurrogate, objective
from tfrec_meta.tuning.oracles.meta_hyperband import MetaHyperbandOracle


@pytest.fixture(scope="module")
def surrogate():
    """A surrogate of one prior study of the same objective."""
    return FormulaMetaSurrogate(objective)


def epochs(trial):
    return trial.hyperparameters.values["tuner/epochs"]


def test_brackets_have_their_epochs_and_promote_their_best(surrogate, tmp_path):
    search = Search(HYPERBAND, tmp_path, meta_surrogate=surrogate)
    trials, scores = [], {}
    for _ in range(14):
        trial = search.ask()
        trials.append(trial)
        scores[trial.trial_id] = objective(values_of(trial)) + 0.01 * epochs(trial)
        search.tell(trial, scores[trial.trial_id])
    # 9 epochs in thirds: 9 trials with 1 epoch, the best 3 with 3, and the best with 9.
    counts = [epochs(trial) for trial in trials]
    assert counts[:13] == [1] * 9 + [3] * 3 + [9]
    first = sorted((trial.trial_id for trial in trials[:9]), key=scores.get)[::-1]
    promoted = [trial.hyperparameters.values["tuner/trial_id"] for trial in trials[9:12]]
    assert promoted == first[:3]
    assert values_of(trials[9]) == values_of(next(t for t in trials if t.trial_id == promoted[0]))
    sources = search.oracle.suggested
    assert sources[trials[9].trial_id] == sources[promoted[0]]


def test_a_small_space_fills_one_bracket(tmp_path):
    search = Search(HYPERBAND, tmp_path, hyperparameters=finite_space())
    trials = []
    while (trial := search.ask()) is not None:
        trials.append(trial)
        search.tell(trial, values_of(trial).get("c", 0))
    # 7 points with 1 epoch, a third of them with 3, and the best of these with 9.
    assert [epochs(trial) for trial in trials] == [1] * 7 + [3] * 3 + [9]
    assert values_of(trials[-1]) == {"a": "one", "b": 7, "c": 5}
    assert search.status == "STOPPED"


def run_with_curves(search, count, gain, start=0.0):
    """Runs trials whose objective grows linearly by `gain`."""
    for _ in range(count):
        trial = search.ask()
        for epoch in range(epochs(trial)):
            curve = [start + gain * (e + 1) / epochs(trial) for e in range(epoch + 1)]
            assert not search.oracle.should_stop(trial.trial_id, curve)
        search.tell(trial, start + gain)


FULL = partial(MetaHyperbandOracle, max_epochs=3, factor=4, hyperband_iterations=20)


def test_a_hopeless_trial_is_stopped(tmp_path):
    # With one bracket, all trials have 3 epochs.
    search = Search(FULL, tmp_path)
    run_with_curves(search, 5, gain=0.3, start=0.5)
    trial = search.ask()
    # The other trials gain another 0.2 from here; the best has 0.8.
    assert not search.oracle.should_stop(trial.trial_id, [0.61])
    assert search.oracle.should_stop(trial.trial_id, [0.59])


def test_stopping_can_be_disabled(tmp_path):
    search = Search(FULL, tmp_path, stop_hopeless=False)
    run_with_curves(search, 5, gain=0.3, start=0.5)
    assert not search.oracle.should_stop(search.ask().trial_id, [0.0])


def test_curves_survive_a_kill(tmp_path):
    search = Search(FULL, tmp_path)
    run_with_curves(search, 5, gain=0.3, start=0.5)
    trial = search.ask()
    again = Search(FULL, tmp_path)
    again.oracle.reload()
    assert again.oracle.should_stop(trial.trial_id, [0.0])


def test_the_curve_of_a_stopped_trial_is_no_measure_of_gains(tmp_path):
    search = Search(FULL, tmp_path)
    run_with_curves(search, 4, gain=0.3, start=0.5)
    trial = search.ask()
    assert search.oracle.should_stop(trial.trial_id, [0.1])
    search.tell(trial, 0.1)
    assert trial.trial_id not in search.oracle._curves


def test_a_short_trial_is_not_compared_with_longer_ones(tmp_path):
    search = Search(partial(MetaHyperbandOracle, max_epochs=9, hyperband_iterations=9), tmp_path)
    few = []
    for _ in range(13):  # the first bracket, whose best trial has 9 epochs
        trial = search.ask()
        curve = [0.1 * (epoch + 1) for epoch in range(epochs(trial))]
        search.oracle._curves[trial.trial_id] = tuple(curve)
        search.tell(trial, curve[-1])
        few.append(epochs(trial))
    assert max(few) == 9
    trial = search.ask()
    assert epochs(trial) == 3
    # The best trial with 9 epochs has 0.9, out of reach; the best with 3 epochs has 0.3.
    assert not search.oracle.should_stop(trial.trial_id, [0.2])
