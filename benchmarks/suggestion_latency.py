"""The time of one suggestion as a function of the number of trials.

Eight dimensions (four continuous, two whole numbers, two choices) and a smooth function with noise.
The benchmark measures `populate_space` of `MetaBayesianOracle` without a memory and with three
studies, and of KerasTuner's Bayesian oracle: medians of the suggestions around 25, 100 and 400
trials. KerasTuner's oracle takes seconds, so its trials are given, and it is measured three times
at each number. `duplicates` counts points that our oracle suggested twice in 400 trials.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from typing import Any

import keras_tuner
import numpy as np
from tqdm import tqdm

from benchmarks.arguments import environment
from tfrec_meta.tuning.oracles.meta_bayesian import MetaBayesianOracle
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, point_key
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate, PriorStudy, normal_scores

PLACES = (25, 100, 400)
AROUND = 5  # suggestions on either side of a place
OBJECTIVE = "score"


def space() -> keras_tuner.HyperParameters:
    """Eight dimensions."""
    hp = keras_tuner.HyperParameters()
    for name in ("a", "b"):
        hp.Float(name, 0.0, 1.0)
        hp.Float(f"log_{name}", 1e-4, 1.0, sampling="log")
        hp.Int(f"int_{name}", 1, 64)
        hp.Choice(f"choice_{name}", ["one", "two", "three", "four"])
    return hp


def score(features: np.ndarray, generator: np.random.Generator) -> float:
    """Best in the middle of the features, with a little noise."""
    return float(-((features - 0.4) ** 2).sum() + 0.01 * generator.normal())


def finished(oracle: keras_tuner.Oracle, trial: Any, value: float) -> None:
    """Tells an oracle what a trial came to."""
    oracle.update_trial(trial.trial_id, {OBJECTIVE: value})
    trial = oracle.get_trial(trial.trial_id)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def options(trials: int) -> dict[str, Any]:
    """What KerasTuner's oracles take."""
    objective = keras_tuner.Objective(OBJECTIVE, "max")
    return {"objective": objective, "max_trials": trials, "hyperparameters": space(), "seed": 1}


def ours(memory: MetaSurrogate | None, trials: int) -> tuple[list[float], int]:
    """Seconds of each suggestion, and how many points came twice."""
    oracle = MetaBayesianOracle(**options(trials), meta_surrogate=memory)
    oracle.verbose = 0
    encoding, generator = SpaceEncoding(space()), np.random.default_rng(0)
    seconds: list[float] = []
    seen: list[bytes] = []
    populate = oracle.populate_space

    def timed(trial_id: str) -> Any:
        began = time.perf_counter()
        found = populate(trial_id)
        seconds.append(time.perf_counter() - began)
        return found

    oracle.populate_space = timed
    with tempfile.TemporaryDirectory() as folder:
        oracle._set_project_dir(folder, "study")
        for _ in tqdm(range(trials), disable=None, unit="trial"):
            trial = oracle.create_trial("tuner")
            codes = encoding.codes(trial.hyperparameters.values)
            assert codes is not None
            seen.append(point_key(codes))
            value = score(encoding.features(codes[None])[0], generator)
            finished(oracle, trial, value)
    return seconds, len(seen) - len(set(seen))


def stock(places: tuple[int, ...]) -> dict[int, float]:
    """Median seconds of KerasTuner's Bayesian oracle, by how many trials it knows."""
    encoding, generator = SpaceEncoding(space()), np.random.default_rng(0)
    found = {}
    for place in places:
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(**options(place + 10))
        oracle.verbose = 0
        oracle_random = oracle._random_populate_space
        with tempfile.TemporaryDirectory() as folder:
            oracle._set_project_dir(folder, "study")
            populate = oracle.populate_space
            oracle.populate_space = lambda _, draw=oracle_random: draw()
            for _ in range(place):
                trial = oracle.create_trial("tuner")
                codes = encoding.codes(trial.hyperparameters.values)
                assert codes is not None
                finished(oracle, trial, score(encoding.features(codes[None])[0], generator))
            seconds = []
            for _ in range(3):
                began = time.perf_counter()
                populate("asked")
                seconds.append(time.perf_counter() - began)
        found[place] = statistics.median(seconds)
    return found


def memory_of(studies: int) -> MetaSurrogate | None:
    """Three studies of 200 random points of the same function."""
    encoding, generator = SpaceEncoding(space()), np.random.default_rng(0)
    earlier = []
    for place in range(studies):
        codes = encoding.sample(200, generator)
        values = np.array([score(row, generator) for row in encoding.features(codes)])
        earlier.append(PriorStudy(str(place), codes, normal_scores(values)))
    return MetaSurrogate.train(earlier, encoding)


def main() -> None:
    """Times all, prints the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="25 trials, without KerasTuner")
    chosen = parser.parse_args()
    places = PLACES[:1] if chosen.quick else PLACES
    result: dict[str, Any] = {}
    for name, memory in (("ours", None), ("memory", memory_of(3))):
        seconds, twice = ours(memory, places[-1])
        for place in places:
            near = seconds[max(place - AROUND, 0) : place + AROUND]
            result[f"{name}_ms_{place}"] = 1000 * statistics.median(near)
            result[f"{name}_slowest_ms_{place}"] = 1000 * max(near)
        result[f"{name}_mean_ms"] = 1000 * statistics.mean(seconds)
        result["duplicates"] = result.get("duplicates", 0) + twice
    if not chosen.quick:
        for place, median in stock(PLACES).items():
            result[f"kerastuner_ms_{place}"] = 1000 * median
    result |= {"quick": chosen.quick, "environment": environment()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
