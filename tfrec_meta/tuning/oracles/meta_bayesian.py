"""Bayesian optimisation that starts from prior studies."""

from __future__ import annotations

from typing import Any

from tfrec_meta.tuning.oracles.surrogate_oracle import DEFAULT_SUGGESTION, SurrogateOracle


class MetaBayesianOracle(SurrogateOracle):
    """Bayesian optimisation with a surrogate that prior studies have trained.

    The first trial has the default values. The next trials are the best points of the prior
    studies, chosen so that each study is represented, or random ones while the prior studies order
    most pairs of the trials wrongly. After them, the oracle maximises expected improvement under a
    surrogate that combines prior studies and own trials (`mixed_surrogate`). Without prior studies,
    the second to fifth trials are random. No point is tried twice, and the search ends when a
    finite space is exhausted.

    Args:
        objective: `keras_tuner.Objective` or a name.
        max_trials: the maximum number of trials.
        hyperparameters: the search space; nothing can be added to it later.
        meta_surrogate: trained on prior studies; None for a search without them.
        study_weights: float [S], the weight of each prior study; equal by default.
        initial: the number of trials from prior studies, or of random trials, between the default
            and the first suggestion by the surrogate.
        seed: of the suggestions.
        **options: further arguments of `keras_tuner.Oracle`.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the values of a new trial, or a status that there is none (KerasTuner's API)."""
        self._last = None
        values = self._random_values()
        if values is None:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
        self.suggested[trial_id] = self._last or dict(DEFAULT_SUGGESTION)
        return {"status": "RUNNING", "values": values}
