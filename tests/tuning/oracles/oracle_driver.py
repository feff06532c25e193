"""Drives oracles without training a model, for the tests of oracles."""

import json
from functools import partial

import keras_tuner

from tests.tuning.surrogate_samples import objective, space
from tfrec_meta.tuning.oracles.meta_bayesian import MetaBayesianOracle
from tfrec_meta.tuning.oracles.meta_hyperband import MetaHyperbandOracle

BAYESIAN = partial(MetaBayesianOracle, max_trials=1000)
HYPERBAND = partial(MetaHyperbandOracle, max_epochs=9, hyperband_iterations=3)


class Search:
    """Drives an oracle."""

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
        """Returns a running trial; None if the search has ended or waits."""
        trial = self.oracle.create_trial(worker)
        if trial.status != "RUNNING":
            self.status = trial.status
            return None
        self.points.append(values_of(trial))
        return trial

    def tell(self, trial, score, *, status="COMPLETED", message=None):
        if score is not None:
            self.oracle.update_trial(trial.trial_id, {"score": score})
        trial = self.oracle.get_trial(trial.trial_id)
        trial.status, trial.message = status, message
        self.oracle.end_trial(trial)

    def run(self, count, function=objective):
        """Runs up to `count` trials and returns their scores."""
        found = []
        for _ in range(count):
            trial = self.ask()
            if trial is None:
                break
            found.append(function(values_of(trial)))
            self.tell(trial, found[-1])
        return found


def values_of(trial):
    """Returns a trial's values, without the entries of the oracle."""
    values = trial.hyperparameters.values
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def distinct(points):
    return {json.dumps(point, sort_keys=True) for point in points}


def finite_space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("a", ["one", "two", "three"])
    hp.Fixed("b", 7)
    with hp.conditional_scope("a", ["one"]):
        hp.Int("c", 1, 5)
    return hp
