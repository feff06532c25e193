"""Creates the studies that the package ships, from which a first search starts.

    python -m benchmarks.record_studies

For each data set below, generated or public, `TRIALS` strategies of the default space of four
families are trained and scored on validation: the default, then half of the others spread over the
space, and the rest where a surrogate without memory expects most. A trial that takes too long
counts as bad. The studies are written to tfrec_meta/tuning/studies/shipped_studies. A run that was
killed continues with the remaining trials; finished trials are in .runs/record_studies.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

import tfrec_meta as tm
from benchmarks.lecturers import lecturers
from tfrec_meta.data import ValidationProtocol
from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning import SPACE_VERSION, OutOfTime, StrategySpace, StudyStore
from tfrec_meta.tuning.oracles.meta_bayesian import MetaBayesianOracle
from tfrec_meta.tuning.studies.data_profile import data_profile
from tfrec_meta.tuning.studies.records import SCHEMA
from tfrec_meta.tuning.studies.shipped import FOLDER
from tfrec_meta.workflows import tune as strategy_search
from tfrec_meta.workflows.train import fitted_features

FAMILIES = ("two_tower", "ials", "low_rank_ease", "item_knn")
TRIALS, SPREAD, EPOCHS, SEED = 32, 16, 8, 42
SECONDS = 20.0  # of CPU time per trial; the default takes about 5
HOME = Path(__file__).parents[1] / ".runs" / "record_studies"


def made(users: int, items: int, interactions: int, **options: Any) -> Callable[[], Any]:
    """A synthetic data set, drawn when it is needed."""
    return lambda: tm.synthetic(users, items, interactions, **options)


# Few and many users, short and long histories, flat and steep popularity, with and without order;
# small, since some losses compare each event of a batch with every other.
DATA: Mapping[str, Callable[[], Any]] = {
    "synthetic-1": made(300, 250, 6_000, seed=1, zipf=1.0, drift=0.3, categories=8),
    "synthetic-2": made(900, 200, 6_000, seed=2, zipf=0.6, drift=0.0, categories=5),
    "synthetic-3": made(200, 700, 7_000, seed=3, zipf=1.2, drift=0.6, categories=20),
    "synthetic-4": made(1000, 500, 8_000, seed=4, zipf=1.4, drift=0.2, categories=12),
    "synthetic-5": made(150, 120, 5_000, seed=5, zipf=0.3, drift=0.1, categories=30),
    "synthetic-6": made(400, 400, 10_000, seed=6, zipf=0.9, drift=0.8, categories=16),
    "synthetic-7": made(1200, 900, 9_000, seed=7, zipf=1.0, drift=0.0, categories=40),
    "synthetic-8": made(250, 300, 9_000, seed=8, zipf=0.7, drift=0.4, categories=3),
    "lecturers": lambda: some_users(lecturers(), 500),
    "movielens-100k": lambda: some_users(tm.movielens("100k"), 150),
}


def some_users(data: tm.Interactions, count: int) -> tm.Interactions:
    """All events of a random part of the users."""
    chosen = np.random.default_rng(SEED).permutation(len(data.user_ids))[:count]
    return data.take(np.flatnonzero(np.isin(data.user_codes, chosen)))


def header(name: str, data: tm.Interactions, space: StrategySpace) -> dict[str, Any]:
    """Of the study of one data set."""
    return {
        "kind": "study",
        "study_id": f"shipped-{name}",
        "schema": SCHEMA,
        "space": space.hyperparameters().get_config()["space"],
        "space_version": SPACE_VERSION,
        "objective": Objective.NDCG.value,
        "direction": "max",
        "protocol": ValidationProtocol.RANDOM.value,
        "budget_unit": "epochs",
        "budget": EPOCHS,
        "oracle": "meta_bayesian",
        "seed": SEED,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": "tfrec-meta",
        "data": {
            "name": name,
            "fingerprint": data.digest(),
            "description": "",
        },
        "profile": data_profile(data),
        "text_embedding": None,
    }


def record(name: str, trials: int) -> None:
    """Tries strategies on one data set, and writes the study."""
    path = HOME / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if len(known) >= trials:
        return
    split = tm.split_by_user(DATA[name](), train=0.75, validation=0.1, seed=SEED)
    strategy = tm.Strategy(training=tm.TrainingConfig(epochs=EPOCHS, patience=2, seed=SEED))
    space = StrategySpace(FAMILIES)
    features = fitted_features(strategy, split.train)
    evaluate = strategy_search.trial_evaluator(
        strategy_search.SearchEvents(split.train, split.validation), strategy, features
    )
    oracle = MetaBayesianOracle(
        keras_tuner.Objective(Objective.NDCG.value, "max"),
        trials,
        space.hyperparameters(),
        initial=SPREAD,
        seed=SEED,
    )
    oracle.verbose = 0
    scratch = tempfile.TemporaryDirectory()  # what the oracle keeps is in the trials as well
    oracle._set_project_dir(scratch.name, name)
    for place in range(trials):
        trial = oracle.create_trial("tuner")
        if trial.status != "RUNNING":
            break
        values = dict(trial.hyperparameters.values)
        if place < len(known):  # the same suggestions come again
            found = known[place]
        else:
            found = tried(evaluate, space, values, seconds=SECONDS) | {"trial_id": f"{place:02d}"}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            told = f"{values['family']}: {found['value']}, {found['seconds']} s"
            print(f"{name} {place + 1}/{trials}, {told}", file=sys.stderr, flush=True)
        value = found["value"]
        oracle.update_trial(trial.trial_id, {Objective.NDCG: 0.0 if value is None else value})
        ended = oracle.get_trial(trial.trial_id)
        ended.status = "COMPLETED"
        ended.message = found["error"]
        oracle.end_trial(ended)
    (HOME / f"{name}.header.json").write_text(json.dumps(header(name, split.train, space)))


def tried(
    evaluate: Any,
    space: StrategySpace,
    values: Mapping[str, Any],
    epochs: int = EPOCHS,
    seconds: float = math.inf,
) -> dict[str, Any]:
    """A trial as the store takes it, but for its study and id."""
    curve: list[float] = []
    began, clock = datetime.now(UTC), time.process_time()

    def report(epoch: int, value: float | None) -> None:
        if value is not None:
            curve.append(round(value, 6))
        if time.process_time() - clock > seconds:
            raise OutOfTime(f"It took more than {seconds} s of CPU time.")

    value, error, status = None, None, "completed"
    try:
        value = round(
            float(evaluate(space.strategy_record(values), epochs, HOME, report)[Objective.NDCG]), 6
        )
    except OutOfTime as late:
        error, status = str(late), "timed_out"
    except Exception as fault:
        error, status = f"{type(fault).__name__}: {fault}", "failed"
    ended = datetime.now(UTC)
    return {
        "kind": "trial",
        "values": dict(values),
        "strategy": None,
        "value": value,
        "status": status,
        "error": error,
        "curve": curve,
        "budget": max(len(curve), 1),
        "seconds": round((ended - began).total_seconds(), 2),
        "seed": SEED,
        "ended": ended.isoformat(timespec="seconds"),
        "suggested_by": None,
        "expected": None,
    }


def write() -> None:
    """All recorded studies, in place of those that the package has."""
    (FOLDER / "studies.jsonl").unlink(missing_ok=True)
    store = StudyStore(FOLDER)
    for name in DATA:
        path = HOME / f"{name}.header.json"
        if path.exists():
            of_study = json.loads(path.read_text())
            lines = (HOME / f"{name}.jsonl").read_text().splitlines()
            trials = [{**json.loads(line), "study_id": of_study["study_id"]} for line in lines]
            store.append_study(of_study, trials)
    (FOLDER / "studies.lock").unlink(missing_ok=True)


def main() -> None:
    """Records what is missing, and writes the store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--data", nargs="*", choices=list(DATA), default=list(DATA))
    options = parser.parse_args()
    for name in options.data:
        record(name, options.trials)
    write()


if __name__ == "__main__":
    main()
