"""The memory of training as a function of the number of events.

Events of 100,000 users and 20,000 items (Zipf) are stored in Parquet files of a million rows each.
They are streamed, and a two-tower model of dimension 32 is trained on all of them once, in batches
of 512 with histories of 20. 20 million events must need at most 1.5 GB, and at most 10 % more than
2 million events.

The figure is the largest resident set of the whole process (VmHWM, which includes Python,
TensorFlow and Arrow); each size has a process of its own. The process that starts them writes the
files before, one row group at a time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arguments import finish, parse

USERS, ITEMS = 100_000, 20_000
SIZES = {"2m": 2_000_000, "20m": 20_000_000}
QUICK_SIZES = {"200k": 200_000, "2m": 2_000_000}
ROWS_OF_FILE, ROWS_OF_GROUP = 1_000_000, 1 << 17
_SPAN = 365 * 86_400


def write_events(folder: Path, size: int, seed: int) -> None:
    """Writes `size` events in order of time."""
    rng = np.random.default_rng(seed)
    popularity = np.cumsum(1.0 / np.arange(1, ITEMS + 1))
    popularity /= popularity[-1]
    users = pa.array([f"u{number}" for number in range(USERS)])
    items = pa.array([f"i{number}" for number in range(ITEMS)])
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("time", pa.int64())])
    for begin in range(0, size, ROWS_OF_FILE):
        end = min(begin + ROWS_OF_FILE, size)
        with pq.ParquetWriter(folder / f"{begin // ROWS_OF_FILE:05d}.parquet", schema) as writer:
            for start in range(begin, end, ROWS_OF_GROUP):
                rows = np.arange(start, min(start + ROWS_OF_GROUP, end))
                chosen = np.searchsorted(popularity, rng.random(len(rows)))
                user = pa.array(rng.integers(0, USERS, len(rows)))
                columns = [users.take(user), items.take(pa.array(chosen)), rows * _SPAN // size]
                writer.write_table(pa.table(columns, schema=schema))


def train_and_report(folder: str, work: str, seed: int) -> None:
    """Trains on the events of a folder, and prints what that took as JSON."""
    import tfrec_meta as tm

    start = time.perf_counter()
    data = tm.stream_interactions(folder, folder=work)
    read = time.perf_counter() - start
    strategy = tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(embedding_dim=32),
        tm.TrainingConfig(epochs=1, batch_size=512, history_length=20, seed=seed),
        history_length=20,
    )
    model = tm.train(data, strategy, progress=False)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    # Not getrusage's ru_maxrss, which begins with that of the process that started this one.
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    report = {"peak_mb": int(peak) / 1024, "seconds": seconds, "read_seconds": read}
    report |= {"epoch_seconds": model.curve[0]["seconds"], "loss": model.curve[0]["loss"]}
    print(json.dumps(report))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(__doc__ or "", argv)
    arguments.data = "synthetic"
    result: dict[str, float] = {"users": USERS, "items": ITEMS}
    for label, size in (QUICK_SIZES if arguments.quick else SIZES).items():
        with tempfile.TemporaryDirectory() as folder:
            events = Path(folder) / "events"
            events.mkdir()
            write_events(events, size, arguments.seed)
            call = f"train_and_report({str(events)!r}, {folder + '/work'!r}, {arguments.seed})"
            code = f"from benchmarks.memory import train_and_report; {call}"
            root = Path(__file__).parents[1]
            done = subprocess.run(
                [sys.executable, "-c", code], check=True, cwd=root, stdout=subprocess.PIPE
            )
        report = json.loads(done.stdout.splitlines()[-1])
        print(f"{size:>11,} events: {report}", flush=True)
        result |= {f"{name}_{label}": value for name, value in report.items()}
        result[f"events_a_second_{label}"] = size / report["seconds"]
    finish(result, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
