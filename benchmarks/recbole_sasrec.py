"""RecBole's SASRec on our leave-last-out split, run once in an environment of its own.

RecBole (MIT licence) needs PyTorch and older versions of NumPy and pandas than this library. The
script creates a virtual environment in `.runs/recbole`, writes the events as RecBole's atomic
files, runs `benchmarks/stock_sasrec.py` there, and evaluates the scores of the whole catalogue with
our protocol: train and validation rows as input, seen items removed. Each event's time is its rank
among its user's events, with ties by row, so that RecBole's own leave-one-out gives the same rows;
otherwise the run stops. All other settings are RecBole's defaults for SASRec (2 layers, 2 heads,
dropout 0.5, Adam at 0.001, batches of 2,048), with hidden size 64, length 50, cross-entropy over
the catalogue and early stopping on validation NDCG@10 after ten epochs without improvement.

RecBole trains every prefix of a history as a separate sample, which takes minutes per epoch. A run
that was killed resumes. The result is in `benchmarks/recbole_sasrec.json`, which
`benchmarks.sequential_quality` reads. Delete `.runs/recbole/run` to start from scratch. `--quick`
runs one epoch and does not change the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.evaluation import Evaluation, full_catalogue
from tfrec_meta.features.held_out import held_out

HERE = Path(__file__).parent
HOME = HERE.parent / ".runs" / "recbole"
RESULT = HERE / "recbole_sasrec.json"
# RecBole 1.2.1 asks NumPy for names that 2.0 removed, and its Ray asks setuptools for
# pkg_resources, which 81 removed.
REQUIREMENTS = (
    "recbole==1.2.1",
    "torch==2.13.0",
    "numpy==1.26.4",
    "pandas==2.2.3",
    "scipy==1.11.4",
    "setuptools==80.9.0",
)
DATASET = "movielens"
THREADS = 2
MINUTES = 55.0  # of the clock that counts: more epochs than its validation needed to level off


def environment(home: Path) -> Path:
    """The interpreter of RecBole's environment, which is made when it isn't there."""
    python, made = home / "venv" / "bin" / "python", home / "venv" / "made"
    if not made.exists():
        venv.create(home / "venv", clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        made.touch()
    return python


def settings(split: tm.Split, seed: int, minutes: float) -> dict[str, Any]:
    """What `stock_sasrec` reads: RecBole's config, and the rows that its split must have."""

    def asked(part: tm.Interactions) -> dict[str, str]:
        users, items = (part.events[name].to_pylist() for name in ("user_id", "item_id"))
        return dict(zip(users, items, strict=True))

    return {
        "dataset": DATASET,
        "threads": THREADS,
        "minutes": minutes,
        "validation": asked(split.validation),
        "test": asked(split.test),
        # Every event of a user's train rows but the first, which has no history.
        "samples": len(split.train) - len(split.train.user_ids),
        "config": {
            # Where it runs.
            "data_path": ".",
            "checkpoint_dir": "saved",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "hidden_size": 64,
            "MAX_ITEM_LIST_LENGTH": 50,
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "train_batch_size": 2048,
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
            "metrics": ["NDCG", "Hit"],
            "topk": [10],
            "valid_metric": "NDCG@10",
            "stopping_step": 10,
            "metric_decimal_place": 8,
            "show_progress": False,
            "use_gpu": False,
            "seed": seed,
        },
    }


def write_rows(data: tm.Interactions, folder: Path) -> None:
    """The events as RecBole's atomic file, each with its rank among its user's as its time."""
    order = np.lexsort((data.times, data.user_codes))
    users = data.user_codes[order]
    first = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    count = np.diff(np.append(first, len(users)))
    rank = np.arange(len(users)) - np.repeat(first, count)
    rows = data.events.take(order)
    folder = folder / DATASET
    folder.mkdir(exist_ok=True)
    with (folder / f"{DATASET}.inter").open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, item, place in zip(
            rows["user_id"].to_pylist(), rows["item_id"].to_pylist(), rank, strict=True
        ):
            file.write(f"{user}\t{item}\t{place}\n")


def judged(split: tm.Split, scores_file: Path) -> Evaluation:
    """RecBole's scores by our protocol; the catalogue is that of our models, the train items."""
    with np.load(scores_file) as kept:
        users, items, scores = kept["users"], kept["items"], kept["scores"]
    spec = tm.FeatureSpec().fit(split.train)
    asked = held_out(spec, split.past, split.test)
    column = spec.items.encode(items.astype(object))
    known = column > 0
    of_user = {user: row for row, user in enumerate(users.tolist())}
    table = np.empty(asked.relevant.shape, np.float32)
    table[:, column[known] - 1] = scores[[of_user[user] for user in asked.users]][:, known]
    return full_catalogue(
        lambda rows: table[rows],
        asked.relevant,
        asked.seen,
        metrics=("ndcg", "hr"),
        extra_relevant=asked.outside,
    )


def main() -> None:
    """Makes the environment, runs RecBole, judges, writes."""
    chosen = arguments.parse(__doc__)
    split = tm.split_leave_last_out(arguments.load(chosen.data))
    print(split, file=sys.stderr)
    folder = HOME / ("quick" if chosen.quick else "run")
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(split.data, folder)
    # Time is looked at after each epoch, so that no minutes are one epoch.
    given = settings(split, chosen.seed, 0.0 if chosen.quick else MINUTES)
    (folder / "settings.json").write_text(json.dumps(given), encoding="utf-8")
    sparing = {
        "OMP_NUM_THREADS": str(THREADS),
        # Threads that wait for work sleep: spinning would count as seconds of training.
        "OMP_WAIT_POLICY": "PASSIVE",
        # Freed memory is kept: fresh pages for every tensor took a quarter of its time.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    }
    subprocess.run(
        [environment(HOME), "-W", "ignore", HERE / "stock_sasrec.py", "."],
        check=True,
        cwd=folder,
        env={**os.environ, **sparing},
    )
    run = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    found = judged(split, folder / "scores.npz")
    epochs = run.pop("epochs_run")
    curve = [epoch["validation_ndcg_at_10"] for epoch in epochs]
    wall, cpu = (sum(epoch[f"{clock}_seconds"] for epoch in epochs) for clock in ("wall", "cpu"))
    result = {
        "command": "python -m benchmarks.recbole_sasrec",
        "ndcg_at_10": found["ndcg@10"].value,
        "ndcg_at_10_interval": [found["ndcg@10"].low, found["ndcg@10"].high],
        "hr_at_10": found["hr@10"].value,
        "hr_at_10_interval": [found["hr@10"].low, found["hr@10"].high],
        # The machine had other work too: what training needs is the lesser of the two clocks.
        "train_seconds": min(wall, cpu / THREADS),
        "train_wall_seconds": wall,
        "train_cpu_seconds": cpu,
        "epochs": len(epochs),
        "best_epoch": int(np.argmax(curve)) + 1,
        **run,
        "threads": THREADS,
        "config": given["config"],
        "data": chosen.data,
        "seed": chosen.seed,
        "environment": arguments.environment(),
        "curve": epochs,
        # In the order of the test rows' users, so that other models can be paired with it.
        "ndcg_at_10_of_users": found.per_query["ndcg@10"].round(6).tolist(),
    }
    print(f"NDCG@10 {found['ndcg@10']}, HR@10 {found['hr@10']}")
    if not chosen.quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
