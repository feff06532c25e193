"""The time of the pipeline, compared with TFX's own components.

Three runs, each in a process of its own, one after the other:

- ours: the pipeline of `tfrec_meta.pipeline` over three tables (interactions, users, items), with
  gates, histories, six trials, ranking gate, infra validation and push, in an empty folder;
- stock: TFX's components, connected as in its tutorials (`benchmarks.stock_pipeline`), on the same
  rows joined into one CSV. Its tuner trains TFRS's two-tower tutorial model with the settings of
  our six trials (embedding dimension, learning rate, batch size, epochs, patience), and validates
  every epoch by FactorizedTopK, as the tutorials of TFX and TFRS do;
- stock once: the same, but with as many epochs as ours ran, and validated only after the last;
- cached: ours again, on the same input.

Importing TFX is timed separately (`import_seconds`, the median of all) and excluded. With more than
one of `ROUNDS`, medians are shown. The benchmark checks that the cached run pushes nothing.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.arguments import finish, load, parse
from tfrec_meta.data import Interactions

ROUNDS = 1  # of 8 minutes each; more where the machine is noisy


def main() -> None:
    arguments = parse(__doc__)
    data = load(arguments.data)
    sides = ("ours", "stock", "stock-once", "cached")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    imports = []
    for round_ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_tables(data, folder)
            config = our_config(folder, arguments.seed, arguments.quick)
            (folder / "config.json").write_text(json.dumps(config))
            for side in sides:
                done = child(side, folder)
                seconds[side].append(done["seconds"])
                imports.append(done["import_seconds"])
                print(f"round {round_ + 1}: {side} {done}", file=sys.stderr, flush=True)
                if side == "cached" and done["new_version"]:
                    raise SystemExit("error: the same input pushed a new version.")
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    finish(
        {
            "seconds": medians["ours"],
            "seconds_cached": medians["cached"],
            "import_seconds": statistics.median(imports),
            "seconds_stock": medians["stock"],
            "seconds_stock_once": medians["stock-once"],
            "ratio": ratio(seconds["ours"], seconds["stock"]),
            "ratio_once": ratio(seconds["ours"], seconds["stock-once"]),
            "rounds": len(seconds["ours"]),
        },
        arguments,
    )


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def our_config(folder: Path, seed: int, quick: bool) -> dict[str, Any]:
    """The pipeline's config.

    It names the data, the protocol and what counts as positive, fixes encoder, embeddings' size
    and start, negatives, loss and batch size, and limits trials and their epochs; everything else
    is as by default.
    """
    paths = {name: folder / f"{name}.parquet" for name in ("interactions", "users", "items")}
    return {
        "name": "benchmark",
        "root": str(folder / "runs"),
        "serving": str(folder / "serving" / "movies"),
        "seed": seed,
        "data": {name: {"path": str(path)} for name, path in paths.items() if path.exists()},
        "split": {"protocol": "leave-last-out"},
        "tuner": {
            "trials": 2 if quick else 6,
            "epochs": 2 if quick else 8,
            # As the stock model has it, and of one size: what is searched is the rest.
            "fixed": {
                "two_tower/encoder": "mean",
                "two_tower/item_initializer": "random",
                "two_tower/negatives": "in_batch",
                "two_tower/loss": "softmax",
                "two_tower/embedding_dim": 64,
                "two_tower/training/batch_size": 512,
            },
        },
        "evaluator": {"positive": 4},
    }


def write_tables(data: Interactions, folder: Path) -> None:
    """The three tables for us, and one CSV of the rows joined for the stock components."""
    tables = {"interactions": data.events, "users": data.users, "items": data.items}
    for name, table in tables.items():
        if table is not None:
            pq.write_table(table, folder / f"{name}.parquet")
    joined = data.events
    for key, table in (("user_id", data.users), ("item_id", data.items)):
        if table is None:
            continue
        for place, field in enumerate(table.schema):
            if pa.types.is_list(field.type):  # a CSV has no lists
                text = pc.binary_join(table[field.name].combine_chunks(), "|")
                table = table.set_column(place, field.name, text)
        joined = joined.join(table, key)
    (folder / "rows").mkdir()
    joined.to_pandas().to_csv(folder / "rows" / "rows.csv", index=False)


def child(side: str, folder: Path) -> dict[str, Any]:
    """Runs one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.pipeline", "--side", side, str(folder)]
    log = folder / f"{side}.log"
    with open(log, "w") as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode:
        sys.stderr.write(log.read_text()[-5000:])
        raise SystemExit(f"error: {side} ended with status {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])


def run_side(side: str, folder: Path) -> None:
    """What a child does: imports, runs, and prints its times as JSON."""
    began = time.monotonic()
    if side.startswith("stock"):
        result = run_stock(folder, began, "once" if side == "stock-once" else "each")
    else:
        result = run_ours(folder, began)
    print(json.dumps(result), flush=True)


def run_ours(folder: Path, began: float) -> dict[str, Any]:
    from tfrec_meta.pipeline import pipeline  # noqa: F401  (its import time is part of the start)
    from tfrec_meta.pipeline.config import PipelineConfig
    from tfrec_meta.pipeline.runners import local_runner

    imported = time.monotonic()
    config = PipelineConfig.from_dict(json.loads((folder / "config.json").read_text()))
    before = served(config.serving)
    done = local_runner.run(config)
    seconds = time.monotonic() - imported
    shutil.copy(done.folder / "nodes.jsonl", folder / "nodes.jsonl")
    return {
        "import_seconds": imported - began,
        "seconds": seconds,
        "new_version": served(config.serving) != before,
        "pushed": str(done.pushed),
    }


def served(folder: str) -> list[str]:
    """The versions that TF Serving would find."""
    path = Path(folder)
    return sorted(p.name for p in path.iterdir() if p.name.isdigit()) if path.is_dir() else []


def our_trials(folder: Path, validate: str) -> list[dict[str, Any]]:
    """The settings of our trials, as the stock model takes them."""
    from tfrec_meta.models import TwoTowerConfig
    from tfrec_meta.training import TrainingConfig

    records = map(json.loads, (folder / "nodes.jsonl").read_text().splitlines())
    (tuner,) = (record for record in records if record["node"] == "Tuner")
    (results,) = tuner["outputs"]["tuner_results"]
    trials = json.loads((Path(results["uri"]) / "trials.json").read_text())
    settings = []
    for trial in trials:
        model, training = trial["strategy"].get("model", {}), trial["strategy"].get("training", {})
        settings.append(
            {
                "embedding_dim": model.get("embedding_dim", TwoTowerConfig().embedding_dim),
                "learning_rate": training.get("learning_rate", TrainingConfig().learning_rate),
                "batch_size": training.get("batch_size", TrainingConfig().batch_size),
                # Patience may have stopped ours: without validation it is told when.
                "epochs": trial["epochs"] if validate == "each" else len(trial["curve"]),
                "patience": training.get("patience", TrainingConfig().patience),
            }
        )
    return settings


def run_stock(folder: Path, began: float, validate: str) -> dict[str, Any]:
    import tfx.v1 as tfx

    from benchmarks import stock_pipeline

    imported = time.monotonic()
    trials = our_trials(folder, validate)
    started = time.monotonic()
    home = folder / f"stock-{validate}"
    pipeline = stock_pipeline.create(home, folder / "rows", trials, validate)
    tfx.orchestration.LocalDagRunner().run(pipeline)
    return {"import_seconds": imported - began, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        run_side(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
