"""KerasTuner's Bayesian oracle, which learns from failed trials too."""

from __future__ import annotations

import keras_tuner
import numpy as np

from tfrec_meta.tuning.oracles.base import has_ended, succeeded, worst_score


class BayesianOracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's Bayesian oracle, in which failed trials have the worst score so far.

    KerasTuner's own oracle ignores failed trials, and so suggests points near them again and again.
    """

    def _vectorize_trials(self) -> tuple[np.ndarray, np.ndarray]:
        failed = [t for t in self.trials.values() if has_ended(t) and not succeeded(t)]
        before = [(trial.status, trial.score) for trial in failed]
        worst = worst_score(self.trials.values(), self.objective.direction)
        try:
            for trial in failed:
                trial.status, trial.score = "COMPLETED", worst
            return super()._vectorize_trials()
        finally:
            for trial, (status, score) in zip(failed, before, strict=True):
                trial.status, trial.score = status, score
