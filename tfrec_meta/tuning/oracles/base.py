"""The interface that `StrategyTuner` uses beyond KerasTuner's `Oracle`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np

from tfrec_meta.tuning.surrogates.importance import Surrogate


class StudyOracle(keras_tuner.Oracle):
    """An oracle that reports the source of its suggestions and may stop trials early.

    The defaults suit KerasTuner's own oracles, which have no surrogate to report.
    """

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        """Returns whether a running trial is hopeless.

        Args:
            trial_id: of the trial.
            curve: the objective after each epoch so far.
        """
        return False

    def suggestion(self, trial_id: str) -> Mapping[str, Any]:
        """Returns the source of a trial's hyperparameters.

        Returns:
            `by`: "default", "prior", "surrogate" or "random", or None if it is not recorded;
            `expected`: the predicted `mean` and `std` of the objective, or None.
        """
        is_first = trial_id == self.start_order[0]
        return {"by": "default" if is_first else None, "expected": None}

    def get_best_trials(self, num_trials: int = 1) -> list[Any]:
        """Returns the best trials; failed trials come last, whatever score they reported."""
        sign = -1.0 if self.objective.direction == "max" else 1.0
        trials = self.trials.values()
        best = sorted(filter(succeeded, trials), key=lambda trial: sign * trial.score)
        return [*best, *(trial for trial in trials if not succeeded(trial))][:num_trials]

    def prior_suggestions(self) -> list[dict[str, Any]]:
        """Returns the suggestions of prior studies, best first: dicts with `values`."""
        return []

    def surrogate(self) -> Surrogate | None:
        """Returns a function that predicts the objective, or None if there is none (yet)."""
        return None


def has_ended(trial: Any) -> bool:
    """Returns whether a KerasTuner trial has ended, successfully or not."""
    return trial.status in ("COMPLETED", "FAILED")


def succeeded(trial: Any) -> bool:
    """Returns whether a KerasTuner trial has ended with a score that counts."""
    has_score = trial.score is not None and math.isfinite(trial.score)
    return trial.status == "COMPLETED" and has_score and not trial.message


def worst_score(trials: Iterable[Any], direction: str) -> float:
    """Returns a score for failed trials, in the unit of the objective.

    It is worse than that of each successful trial, by a tenth of the range of their scores.

    Args:
        trials: KerasTuner trials.
        direction: "max" or "min".

    Returns:
        A finite number; 0 without any successful trial.
    """
    scores = np.array([trial.score for trial in trials if succeeded(trial)], np.float64)
    if not len(scores):
        return 0.0
    sign = 1.0 if direction == "max" else -1.0
    worst, best = float((sign * scores).min()), float((sign * scores).max())
    with np.errstate(over="ignore"):
        further = worst - 0.1 * (best - worst)
    return sign * max(min(further, float(np.nextafter(worst, -np.inf))), -np.finfo(float).max)
