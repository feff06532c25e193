"""Hyperband whose brackets are filled by a surrogate that starts from prior studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrec_meta.tuning.oracles.base import succeeded
from tfrec_meta.tuning.oracles.brackets import BracketOracle
from tfrec_meta.tuning.oracles.surrogate_oracle import DEFAULT_SUGGESTION, SurrogateOracle
from tfrec_meta.tuning.surrogates.learning_curves import is_hopeless


class MetaHyperbandOracle(SurrogateOracle, BracketOracle):
    """Hyperband whose brackets are filled by the surrogate, as BOHB fills them by a density model.

    The budget of a trial is a feature of the surrogate; suggestions maximise the prediction at the
    full budget. A trial is stopped if its learning curve shows that it cannot reach the best value
    (`learning_curves`).

    Args:
        objective: `keras_tuner.Objective` or a name.
        max_epochs: of a full trial.
        hyperparameters: the search space; nothing can be added to it later.
        meta_surrogate: trained on prior studies; None for a search without them.
        study_weights: float [S], the weight of each prior study; equal by default.
        initial: the number of trials from prior studies, or of random trials, between the default
            and the first suggestion by the surrogate.
        stop_hopeless: whether trials are stopped by their learning curves.
        seed: of the suggestions.
        **options: further arguments of KerasTuner's `HyperbandOracle`.

    References:
        "BOHB: Robust and Efficient Hyperparameter Optimization at Scale" (ICML 2018).
    """

    _budget_features = 1

    def __init__(self, *arguments: Any, stop_hopeless: bool = True, **options: Any):
        super().__init__(*arguments, **options)
        self._stop_hopeless = stop_hopeless
        self._curves: dict[str, tuple[float, ...]] = {}

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "curves": self._curves}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._curves = {name: tuple(curve) for name, curve in state.get("curves", {}).items()}

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns a new trial of a bracket, or a promoted trial with more epochs."""
        self._last = None
        answer = super().populate_space(trial_id)
        if answer["status"] == "RUNNING":
            promoted = answer["values"].get("tuner/trial_id")
            new = self._last or dict(DEFAULT_SUGGESTION)
            self.suggested[trial_id] = self.suggested.get(promoted, new) if promoted else new
        return answer

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        """Returns whether a trial is hopeless, judged by its learning curve so far."""
        self._curves[trial_id] = tuple(curve)
        if not self._stop_hopeless:
            return False
        # The best value of shorter or equally long trials is the target. A longer trial's best
        # value need not be reached: the brackets decide which trials get more epochs. Gains are
        # measured on trials that ran at least as long, since shorter ones do not show them.
        epochs = self._epochs(trial_id)
        ended = [n for n in self._ended() if n != trial_id and succeeded(self.trials[n])]
        scores = [self.trials[name].score for name in ended if self._epochs(name) <= epochs]
        longer = [n for n in ended if n in self._curves and self._epochs(n) >= epochs]
        if not scores:
            return False
        direction = self.objective.direction
        best = max(scores) if direction == "max" else min(scores)
        hopeless = is_hopeless(curve, [self._curves[name] for name in longer], best, direction)
        if hopeless:
            del self._curves[trial_id]  # a curve that was cut short is no measure of gains
        return hopeless

    def _epochs(self, trial_id: str) -> int:
        values = self.trials[trial_id].hyperparameters.values
        return int(values.get("tuner/epochs", self.max_epochs))

    def _budget_columns(self, trial_ids: Sequence[str]) -> np.ndarray:
        """Returns the logarithms of the epochs, scaled so that a full trial has 1."""
        full = math.log(max(self.max_epochs, 2))
        epochs = np.array([self._epochs(name) for name in trial_ids], float)
        fractions = np.log(np.maximum(epochs, 1.0)) / full
        return np.where(epochs >= self.max_epochs, 1.0, fractions)[:, None]
