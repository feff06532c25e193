"""The oracles by name, and how `StrategyTuner` builds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras_tuner

from tfrec_meta.tuning.oracles.bayesian import BayesianOracle
from tfrec_meta.tuning.oracles.brackets import BracketOracle
from tfrec_meta.tuning.oracles.durable import DurableGridOracle, DurableOracle
from tfrec_meta.tuning.oracles.meta_bayesian import MetaBayesianOracle
from tfrec_meta.tuning.oracles.meta_hyperband import MetaHyperbandOracle

ORACLES: dict[str, type[keras_tuner.Oracle]] = {
    "meta_bayesian": MetaBayesianOracle,
    "meta_hyperband": MetaHyperbandOracle,
    "bayesian": BayesianOracle,
    "hyperband": BracketOracle,
    "random": keras_tuner.oracles.RandomSearchOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
}

TRANSFER_ORACLES = ("meta_bayesian", "meta_hyperband")
"""The oracles that learn from prior studies; the others are KerasTuner's."""


def build_oracle(
    name: str,
    hyperparameters: keras_tuner.HyperParameters,
    objective: keras_tuner.Objective,
    *,
    trials: int,
    epochs: int,
    seed: int,
    transfer: Mapping[str, Any],
) -> DurableOracle:
    """Builds a kill-safe oracle.

    Args:
        name: a key of `ORACLES`.
        hyperparameters: the search space.
        objective: name and direction.
        trials: the number of trials.
        epochs: the maximum for each trial; Hyperband oracles divide it into rounds.
        seed: of the suggestions.
        transfer: `meta_surrogate` and `study_weights`, for the oracles of `TRANSFER_ORACLES`.
    """
    bases = (DurableGridOracle if name == "grid" else DurableOracle, ORACLES[name])
    by_epochs = issubclass(ORACLES[name], BracketOracle)
    budget = {"max_epochs": epochs} if by_epochs else {"max_trials": trials}
    oracle = type(ORACLES[name].__name__, bases, {})(
        objective=objective,
        hyperparameters=hyperparameters,
        seed=seed + 1,  # KerasTuner treats 0 as no seed
        # A failed trial counts as the worst. KerasTuner would end the search at three in a row.
        max_consecutive_failed_trials=None,
        **budget,
        **(transfer if name in TRANSFER_ORACLES else {}),
    )
    oracle.max_trials = trials  # HyperbandOracle's constructor does not take it
    oracle.verbose = 0
    return oracle
