"""Reading CSV and Parquet files beside pyarrow's bare readers on the same files.

10 million events (user_id and item_id as text, time, value; users and items by Zipf's law) are
written as one CSV and one Parquet file. `read_interactions` reads, checks, trims and types them;
`pyarrow.csv.read_csv` and `pyarrow.parquet.read_table` read the same file into a table. The readers
alternate, each run in a process of its own, and the figures are medians. CSV must need at most 4
times the CPU time of the bare reader, and its peak memory must not be above that of the bare one.
A third CSV file has a cell in each hundredth row that is no number: reading and dropping it must
need at most twice the CPU time of the good file.

CPU seconds are those of the read call, in all threads. The peak is the largest resident set of the
whole process (VmHWM).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from benchmarks.arguments import finish, parse

ROWS, QUICK_ROWS, RUNS = 10_000_000, 1_000_000, 3
USERS, ITEMS = 200_000, 50_000
_STRETCH = 1 << 20  # rows that are made at a time


def write_files(folder: Path, rows: int, seed: int) -> None:
    """Writes good.csv, bad.csv and good.parquet."""
    rng = np.random.default_rng(seed)
    users = pa.array([f"u{number}" for number in range(USERS)])
    items = pa.array([f"i{number}" for number in range(ITEMS)])
    schema = pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("time", pa.int64()),
            ("value", pa.float64()),
        ]
    )
    bad_schema = schema.set(3, pa.field("value", pa.string()))
    options = arrow_csv.WriteOptions(quoting_style="none")
    with (
        arrow_csv.CSVWriter(folder / "good.csv", schema, write_options=options) as good,
        arrow_csv.CSVWriter(folder / "bad.csv", bad_schema, write_options=options) as bad,
        pq.ParquetWriter(folder / "good.parquet", schema) as parquet,
    ):
        for start in range(0, rows, _STRETCH):
            count = min(_STRETCH, rows - start)
            user = rng.zipf(1.2, count) % USERS
            item = rng.zipf(1.2, count) % ITEMS
            time = 1_600_000_000 + np.arange(start, start + count)
            value = rng.integers(1, 11, count) / 2
            columns = [users.take(pa.array(user)), items.take(pa.array(item)), time]
            table = pa.table([*columns, value], schema=schema)
            good.write_table(table)
            parquet.write_table(table)
            words = value.astype(str).astype(object)
            words[::101] = "many"
            bad.write_table(pa.table([*columns, words], schema=bad_schema))


def read_and_report(reader: str, path: str) -> None:
    """Reads a file, and prints CPU seconds, wall seconds, rows and the peak as JSON."""
    import resource
    import time

    if reader == "ours":
        from tfrec_meta.data import read_interactions
    elif path.endswith(".csv"):
        import pyarrow.csv as bare_csv
    else:
        import pyarrow.parquet as bare_parquet
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    if reader == "ours":
        rows = len(read_interactions(path, bad_rows="drop"))
    elif path.endswith(".csv"):
        rows = bare_csv.read_csv(path).num_rows
    else:
        rows = bare_parquet.read_table(path).num_rows
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    status = Path("/proc/self/status").read_text()
    # Not getrusage's ru_maxrss, which begins with that of the process that started this one.
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    wall = time.perf_counter() - start
    print(json.dumps({"cpu": cpu, "wall": wall, "rows": rows, "peak_mb": int(peak) / 1024}))


def measure(reader: str, path: Path) -> dict[str, float]:
    """Reads a file in a process of its own."""
    call = f"read_and_report({reader!r}, {str(path)!r})"
    code = f"from benchmarks.reading import read_and_report; {call}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(__doc__ or "", argv)
    arguments.data = "synthetic"
    rows = QUICK_ROWS if arguments.quick else ROWS
    cases = {
        "csv": ("ours", "good.csv"),
        "pyarrow_csv": ("pyarrow", "good.csv"),
        "bad_csv": ("ours", "bad.csv"),
        "parquet": ("ours", "good.parquet"),
        "pyarrow_parquet": ("pyarrow", "good.parquet"),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), rows, arguments.seed)
        for _ in range(1 if arguments.quick else RUNS):
            for name, (reader, file) in cases.items():
                found[name].append(measure(reader, Path(folder) / file))
                print(f"{name:>16}: {found[name][-1]}", flush=True)
    result: dict[str, float] = {"rows": rows}
    for name, runs in found.items():
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        result[f"{name}_cpu_seconds"] = median["cpu"]
        result[f"{name}_wall_seconds"] = median["wall"]
        result[f"{name}_peak_mb"] = median["peak_mb"]
        result[f"{name}_rows_a_cpu_second"] = rows / median["cpu"]
    result["csv_ratio"] = result["csv_cpu_seconds"] / result["pyarrow_csv_cpu_seconds"]
    result["bad_ratio"] = result["bad_csv_cpu_seconds"] / result["csv_cpu_seconds"]
    result["peak_ratio"] = result["csv_peak_mb"] / result["pyarrow_csv_peak_mb"]
    result["parquet_ratio"] = result["parquet_cpu_seconds"] / result["pyarrow_parquet_cpu_seconds"]
    result["parquet_peak_ratio"] = result["parquet_peak_mb"] / result["pyarrow_parquet_peak_mb"]
    finish(result, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
