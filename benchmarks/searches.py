"""Several search methods over the same space, each of which suggests points and gets results.

All start from the default. KerasTuner's oracles and ours are called step by step. Optuna's TPE gets
the same space, with ordered numbers declared as such and inactive hyperparameters omitted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner
import numpy as np
import optuna

from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding

OBJECTIVE = "objective"
Ask = Callable[[Mapping[str, Any]], float | None]
"""ask(values): what a point comes to; None for a trial that failed."""


class DefaultFirst(keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's, but for the first point, which all methods share."""

    def _random_values(self) -> Any:
        if not self.start_order:
            return dict(self.hyperparameters.values)
        return super()._random_values()


class HyperbandDefaultFirst(keras_tuner.oracles.HyperbandOracle):
    """KerasTuner's, but for the first point, which all methods share."""

    def _random_values(self) -> Any:
        if not self.start_order:
            return dict(self.hyperparameters.values)
        return super()._random_values()


def options(
    space: keras_tuner.HyperParameters, direction: str, trials: int, seed: int
) -> dict[str, Any]:
    """What KerasTuner's oracles take.

    It takes a seed of 0 for none, and counts on from the seed at each random point, so that
    searches of neighbouring seeds would try the same ones: they are a thousand apart.
    """
    return {
        "objective": keras_tuner.Objective(OBJECTIVE, direction),
        "max_trials": trials,
        "hyperparameters": space.copy(),
        "seed": 1000 * seed + 1,
    }


def by_oracle(oracle: keras_tuner.Oracle, ask: Ask, trials: int) -> list[float | None]:
    """What the points of an oracle came to; fewer than `trials` if the space was used up."""
    found: list[float | None] = []
    oracle.verbose = 0
    with tempfile.TemporaryDirectory() as folder:
        oracle._set_project_dir(folder, "study")
        for _ in range(trials):
            trial = oracle.create_trial("tuner")
            if trial.status != "RUNNING":
                break
            found.append(ask(trial.hyperparameters.values))
            if found[-1] is not None:
                oracle.update_trial(trial.trial_id, {OBJECTIVE: found[-1]})
            ended = oracle.get_trial(trial.trial_id)
            ended.status = "FAILED" if found[-1] is None else "COMPLETED"
            oracle.end_trial(ended)
    return found


def by_optuna(
    encoding: SpaceEncoding, direction: str, ask: Ask, trials: int, seed: int
) -> list[float | None]:
    """Optuna's TPE as it comes."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        direction="maximize" if direction == "max" else "minimize",
    )
    first = {}
    for d in encoding.dimensions:
        first[d.name] = d.values.index(d.default) if d.values and d.ordered else d.default
    study.enqueue_trial(first)
    found: list[float | None] = []

    def objective(trial: optuna.Trial) -> float:
        codes = np.zeros((1, len(encoding.dimensions)))
        for d in encoding.dimensions:
            if not encoding.active(codes)[0, d.index]:
                continue
            value: Any
            if d.values is None:
                low, high = d.bounds
                value = trial.suggest_float(d.name, low, high, log=d.sampling == "log")
            elif d.ordered:
                value = d.values[trial.suggest_int(d.name, 0, len(d.values) - 1)]
            else:
                value = trial.suggest_categorical(d.name, d.values)
            codes[0, d.index] = d.code(value) or 0.0
        found.append(ask(encoding.values(codes[0])))
        if found[-1] is None:
            return 0.0 if direction == "max" else 1e3
        return found[-1]

    study.optimize(objective, n_trials=trials)
    return found
