"""The quality of the best strategy after few trials of real models.

    python -m benchmarks.tuning_towers

Models of four families on MovieLens-100K and on 500 students' ratings of lecturers (`benchmarks.
lecturers`): 75 % of each user's events for training, 10 % for validation, 15 % for test; validation
NDCG@10 over the full catalogue. Our search has a memory of the shipped studies of generated data
only, without either of the two data sets. It has 10 trials; KerasTuner's Bayesian oracle, its
Hyperband and Optuna's TPE have 30, in the same space, all from the default. A trial that takes half
a minute of CPU time counts as bad, for all of them. Results are means over seeds and data sets; the
winner of each search is trained again on the training rows, and tested. A strategy that two methods
try is trained once. It takes hours, so finished trials are stored in tuning_towers.jsonl next to
this file, and a run continues with the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tfrec_meta as tm
from benchmarks import record_studies, searches
from benchmarks.arguments import environment
from benchmarks.record_studies import EPOCHS, FAMILIES, SEED
from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning import StrategySpace
from tfrec_meta.tuning.oracles.meta_bayesian import MetaBayesianOracle
from tfrec_meta.tuning.studies.shipped import shipped_studies
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate, PriorStudy
from tfrec_meta.workflows import tune as strategy_search
from tfrec_meta.workflows.train import fitted_features

RECORD = Path(__file__).with_suffix(".jsonl")
DATA: dict[str, Callable[[], tm.Interactions]] = {
    "movielens-100k": lambda: tm.movielens("100k"),
    "lecturers": record_studies.DATA["lecturers"],
    "quick": record_studies.DATA["synthetic-5"],
}
SOURCES = ("movielens-100k", "lecturers")
OURS, THEIRS = 10, 30
SECONDS = 30.0  # of CPU time per trial


class Trainer:
    """Trains strategies on one data set, each once."""

    def __init__(self, name: str, space: StrategySpace):
        data = DATA[name]()
        self.split = tm.split_by_user(data, train=0.75, validation=0.1, seed=SEED)
        self.space = space
        self.strategy = tm.Strategy(
            training=tm.TrainingConfig(epochs=EPOCHS, patience=2, seed=SEED)
        )
        self.features = fitted_features(self.strategy, self.split.train)
        self._evaluate = strategy_search.trial_evaluator(
            strategy_search.SearchEvents(self.split.train, self.split.validation),
            self.strategy,
            self.features,
        )
        self._name = name
        lines = RECORD.read_text("utf-8").splitlines() if RECORD.exists() else []
        records = [record for record in map(json.loads, lines) if record["data"] == name]
        self._known = {json.dumps(r["asked"]): r["value"] for r in records}
        self.best: tuple[float, dict[str, Any]] = (-1.0, {})

    def __call__(self, values: Mapping[str, Any]) -> float | None:
        """Validation NDCG@10 of a strategy."""
        epochs = int(values.get("tuner/epochs", EPOCHS))
        own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
        strategy = self.space.strategy_record(own)
        asked = {"strategy": strategy, "epochs": epochs}
        name = json.dumps(asked)
        if name not in self._known:
            found = record_studies.tried(self._evaluate, self.space, own, epochs, SECONDS)
            record = {"data": self._name, "asked": asked, "value": found["value"]}
            with RECORD.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            self._known[name] = found["value"]
        value = self._known[name]
        if value is not None and value > self.best[0]:
            self.best = (value, strategy)
        return value

    def test(self, record: dict[str, Any]) -> float:
        """NDCG@10 on test rows of a strategy, as the search trained it."""
        model = tm.train(
            self.split,
            self.strategy.with_changes(record),
            features=self.features,
            progress=False,
        )
        return tm.evaluate(model, self.split, baselines=())[model.family]["ndcg@10"].value


def main() -> None:
    """Runs all searches, prints the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--data",
        nargs="+",
        choices=SOURCES,
        default=SOURCES,
        help="only these; several runs may "
        "go on side by side, and what one has kept is there for the next",
    )
    parser.add_argument("--quick", action="store_true", help="a seed, 3 trials, a made data set")
    chosen = parser.parse_args()
    space = StrategySpace(FAMILIES)
    hp = space.hyperparameters()
    encoding = SpaceEncoding(hp)
    shipped = shipped_studies()
    earlier = [
        study
        for record in shipped
        if record.data["name"] not in SOURCES
        if (study := PriorStudy.read(record, encoding)) is not None
    ]
    memory = MetaSurrogate.train(earlier, encoding)
    ours, theirs, seeds = (3, 3, 1) if chosen.quick else (OURS, THEIRS, chosen.seeds)
    names = ("quick",) if chosen.quick else tuple(chosen.data)
    validation: dict[str, list[float]] = {}
    tested: dict[str, list[float]] = {}
    for name in names:
        for seed in range(seeds):
            told = searches.options(hp, "max", theirs, seed)
            band = {key: value for key, value in told.items() if key != "max_trials"}

            def hyperband(ask: searches.Ask, band: dict[str, Any] = band) -> Any:
                oracle = searches.HyperbandDefaultFirst(**band, max_epochs=EPOCHS)
                return searches.by_oracle(oracle, ask, theirs)

            methods = {
                f"ours_{ours}": lambda ask, told=told: searches.by_oracle(
                    MetaBayesianOracle(**told, meta_surrogate=memory), ask, ours
                ),
                f"no_memory_{ours}": lambda ask, told=told: searches.by_oracle(
                    MetaBayesianOracle(**told), ask, ours
                ),
                f"kerastuner_{theirs}": lambda ask, told=told: searches.by_oracle(
                    searches.DefaultFirst(**told), ask, theirs
                ),
                f"hyperband_{theirs}": hyperband,
                f"optuna_{theirs}": lambda ask, seed=seed: searches.by_optuna(
                    encoding, "max", ask, theirs, seed
                ),
            }
            for method, search in methods.items():
                trainer = Trainer(name, space)
                search(trainer)
                value, record = trainer.best
                validation.setdefault(method, []).append(value)
                tested.setdefault(method, []).append(trainer.test(record))
                line = f"{name}, seed {seed}, {method}: {value:.4f} ({record['family']})"
                print(line, file=sys.stderr, flush=True)
    result: dict[str, Any] = {name: float(np.mean(found)) for name, found in validation.items()}
    result |= {f"{name}_test": float(np.mean(found)) for name, found in tested.items()}
    result |= {f"{name}_each": found for name, found in validation.items()}
    result |= {
        "data": names,
        "seeds": seeds,
        "objective": Objective.NDCG.value,
        "quick": chosen.quick,
        "environment": environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
