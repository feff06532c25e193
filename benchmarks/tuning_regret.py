"""The regret after few trials on recorded tables, with the other tables as memory.

    python -m benchmarks.recorded_tables .runs/tables/hpolib
    python -m benchmarks.tuning_regret --tables .runs/tables/hpolib

Each table of the folder (`benchmarks.recorded_tables` describes the format) is left out in turn: a
store of studies holds the others, and every method searches the table that is left out, from the
same default point. Normalised regret is 0 at the table's best value and 1 at its median. Results
are means over tables and seeds, with 95 % bootstrap intervals over seeds.

- `ours`: `MetaBayesianOracle` with the memory of the others; `no_memory`: without; `shuffled`: with
  a memory whose objectives are permuted among the points of each study; `reversed`: with one in
  which the worst points are the best.
- `optuna`: TPE with its defaults; ordered numbers are declared as such.
- `kerastuner`: KerasTuner's Bayesian oracle with its defaults. It takes seconds per suggestion and
  has `--kerastuner-seeds` seeds (3); its finished runs are stored in .runs/tuning_regret and
  reused.
- `random`; and `portfolio`: the best rows of the other tables in turn, without using results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from tqdm import tqdm

from benchmarks import searches
from benchmarks.arguments import environment
from benchmarks.recorded_tables import OBJECTIVE, RecordedTable, read_tables, write_package_tables
from tfrec_meta.tuning.oracles.meta_bayesian import MetaBayesianOracle
from tfrec_meta.tuning.studies.records import SCHEMA
from tfrec_meta.tuning.studies.store import StudyStore
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate, PriorStudy

BUDGETS = (5, 10, 20, 30, 50)
TRIALS = 50
HOME = Path(__file__).parents[1] / ".runs"
Run = Callable[[RecordedTable, int], list[float]]


def shuffled(objective: np.ndarray) -> np.ndarray:
    """The objective of other points."""
    return np.random.default_rng(0).permutation(objective)


def written_store(
    folder: Path,
    space: keras_tuner.HyperParameters,
    tables: Sequence[RecordedTable],
    change: Callable[[np.ndarray], np.ndarray],
) -> StudyStore:
    """A store with each table as a study, its objective changed by a function."""
    store = StudyStore(folder)
    declared = space.get_config()["space"]
    for table in tables:
        objective = change(table.objective)
        shared = {"kind": "trial", "study_id": table.name, "strategy": None, "curve": []}
        shared |= {"status": "completed", "error": None, "budget": 1, "seconds": 0.0, "seed": None}
        shared |= {"ended": "2026-01-01T00:00:00+00:00", "suggested_by": None, "expected": None}
        store.append_study(
            {
                "kind": "study",
                "study_id": table.name,
                "schema": SCHEMA,
                "space": declared,
                "space_version": 1,
                "objective": OBJECTIVE,
                "direction": table.direction,
                "protocol": "given",  # the tables hold validation results
                "budget_unit": "trial",
                "budget": 1,
                "oracle": "grid",
                "seed": None,
                "created": "2026-01-01T00:00:00+00:00",
                "source": "tfrec-meta",
                "data": {"name": table.name, "fingerprint": table.fingerprint, "description": ""},
                "profile": None,
                "text_embedding": None,
            },
            (
                {
                    **shared,
                    "trial_id": str(row),
                    "values": table.encoding.values(codes),
                    "value": float(value),
                }
                for row, (codes, value) in enumerate(zip(table.codes, objective, strict=True))
            ),
        )
    return store


def memories(
    space: keras_tuner.HyperParameters,
    tables: Sequence[RecordedTable],
    change: Callable[[np.ndarray], np.ndarray],
) -> dict[str, MetaSurrogate | None]:
    """By the table that is left out, what is known of the others."""
    encoding = tables[0].encoding
    with tempfile.TemporaryDirectory() as folder:
        store = written_store(Path(folder), space, tables, change)
        read = {s.study_id: PriorStudy.read(s, encoding) for s in store.studies()}
    found: dict[str, MetaSurrogate | None] = {}
    for table in tables:
        others = [study for name, study in read.items() if name != table.name and study is not None]
        found[table.name] = MetaSurrogate.train(others, encoding)
    return found


def filled(found: Sequence[float | None]) -> list[float]:
    """As many as there are trials, where a space was used up before."""
    values = [value for value in found if value is not None]
    return values + values[-1:] * (TRIALS - len(values))


def at_random(table: RecordedTable, seed: int) -> list[float]:
    """Random points after the default."""
    generator = np.random.default_rng(seed)
    points = table.encoding.sample(TRIALS - 1, generator)
    return [table.value(codes) for codes in [table.encoding.default(), *points]]


def portfolio(tables: Sequence[RecordedTable]) -> Run:
    """The other tables' best rows, in turn."""

    def run(table: RecordedTable, seed: int) -> list[float]:
        others = [other for other in tables if other is not table]
        orders = [other.codes[other.best_rows()[:TRIALS]] for other in others]
        points, tried = [table.encoding.default()], set()
        for place in range(TRIALS):
            for order in orders:
                if place < len(order) and order[place].tobytes() not in tried:
                    tried.add(order[place].tobytes())
                    points.append(order[place])
        found = [table.value(codes) for codes in points[:TRIALS]]
        return found + found[-1:] * (TRIALS - len(found))

    return run


def kept(run: Run, name: str) -> Run:
    """A slow run, which is looked up where it was made before."""
    path = HOME / "tuning_regret" / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = {(r["table"], r["seed"]): r["found"] for r in map(json.loads, lines)}

    def looked_up(table: RecordedTable, seed: int) -> list[float]:
        if (table.fingerprint, seed) not in known:
            found = run(table, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                line = {"table": table.fingerprint, "seed": seed, "found": found}
                file.write(json.dumps(line) + "\n")
            known[table.fingerprint, seed] = found
        return known[table.fingerprint, seed]

    return looked_up


def interval(of_seeds: np.ndarray) -> list[float]:
    """95 % of bootstrap means of [seeds]."""
    generator = np.random.default_rng(0)
    drawn = of_seeds[generator.integers(len(of_seeds), size=(2000, len(of_seeds)))].mean(axis=1)
    return [float(value) for value in np.quantile(drawn, [0.025, 0.975])]


def main() -> None:
    """Reads the tables, runs all methods, prints a table and the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, help="a folder; by default HPOlib's, made if needed")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--kerastuner-seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, without KerasTuner")
    options = parser.parse_args()
    seeds, slow_seeds = options.seeds, options.kerastuner_seeds
    if options.quick:
        seeds, slow_seeds = 1, 0
    folder = options.tables
    if folder is None:
        folder = HOME / "tables" / "hpolib"
        if not folder.exists():
            write_package_tables(folder)
    space, tables = read_tables(folder)
    began = time.perf_counter()
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "ours": np.array,
        "shuffled": shuffled,
        "reversed": np.negative,
    }
    memory = {name: memories(space, tables, change) for name, change in changes.items()}
    memory_seconds = (time.perf_counter() - began) / (len(changes) * len(tables))

    def ours(known: dict[str, MetaSurrogate | None] | None) -> Run:
        def run(table: RecordedTable, seed: int) -> list[float]:
            told = searches.options(space, table.direction, TRIALS, seed)
            remembered = known[table.name] if known else None
            oracle = MetaBayesianOracle(**told, meta_surrogate=remembered)
            return filled(searches.by_oracle(oracle, table.of_values, TRIALS))

        return run

    def stock(table: RecordedTable, seed: int) -> list[float]:
        oracle = searches.DefaultFirst(**searches.options(space, table.direction, TRIALS, seed))
        return filled(searches.by_oracle(oracle, table.of_values, TRIALS))

    def by_optuna(table: RecordedTable, seed: int) -> list[float]:
        given = (table.encoding, table.direction, table.of_values, TRIALS, seed)
        return filled(searches.by_optuna(*given))

    methods: dict[str, tuple[Run, int]] = {
        "no_memory": (ours(None), seeds),
        **{name: (ours(known), seeds) for name, known in memory.items()},
        "optuna": (by_optuna, seeds),
        "kerastuner": (kept(stock, f"keras_tuner-{keras_tuner.__version__}"), slow_seeds),
        "random": (at_random, seeds),
        "portfolio": (portfolio(tables), 1),
    }
    result: dict[str, Any] = {}
    total = sum(count for _, count in methods.values()) * len(tables)
    progress = tqdm(total=total, unit="run", disable=None)
    for name, (run, count) in methods.items():
        if not count:
            continue
        regrets = np.empty((count, len(tables), TRIALS))
        for seed in range(count):
            for place, table in enumerate(tables):
                regrets[seed, place] = table.regrets(run(table, seed))
                progress.update()
        for budget in BUDGETS:
            of_seeds = regrets[:, :, budget - 1].mean(axis=1)
            result[f"{name}_{budget}"] = float(of_seeds.mean())
            result[f"{name}_{budget}_interval"] = interval(of_seeds)
        told = "  ".join(f"{b}: {result[f'{name}_{b}']:.4f}" for b in BUDGETS)
        print(f"{name:12} {told}", file=sys.stderr, flush=True)
    progress.close()
    result |= {
        "tables": [table.name for table in tables],
        "seeds": seeds,
        "kerastuner_seeds": slow_seeds,
        "memory_seconds": memory_seconds,
        "quick": options.quick,
        "environment": environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
