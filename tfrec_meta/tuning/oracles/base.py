"""The interface that `StrategyTuner` uses beyond KerasTuner's `Oracle`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner

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

    def prior_suggestions(self) -> list[dict[str, Any]]:
        """Returns the suggestions of prior studies, best first: dicts with `values`."""
        return []

    def surrogate(self) -> Surrogate | None:
        """Returns a function that predicts the objective, or None if there is none (yet)."""
        return None
