"""Reading CSV and Parquet files beside pyarrow's bare readers on the same files.

10 million events (user_id and item_id as text, time, value; users and items by Zipf's law) are
written as CSV and Parquet files. `read_interactions` reads, checks, trims and types them;
`pyarrow.csv.read_csv` and `pyarrow.parquet.read_table` read the same file into a table. The readers
alternate, each run in a process of its own, and the figures are medians. CSV must need at most 4
times the CPU time of the bare reader, and its peak memory must not be above that of the bare one.
Other CSV files have a cell in each 101st row that is no number or no time, in the column of values,
of numeric times, or of times in ISO 8601: reading and dropping it must need at most twice the CPU
time of the file without such cells.

CPU seconds are those of the read call, in all threads. The peak is the largest resident set of the
whole process (VmHWM). With `--folder`, finished runs are kept there, and the same call resumes a
stopped benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from benchmarks.arguments import FOLDER, finish, parse, part

ROWS, QUICK_ROWS, RUNS = 10_000_000, 1_000_000, 3
USERS, ITEMS = 200_000, 50_000
CASES = {
    "csv": ("ours", "good.csv"),
    "pyarrow_csv": ("pyarrow", "good.csv"),
    "bad_csv": ("ours", "bad.csv"),
    "bad_times": ("ours", "bad_times.csv"),
    "iso": ("ours", "iso.csv"),
    "bad_iso": ("ours", "bad_iso.csv"),
    "parquet": ("ours", "good.parquet"),
    "pyarrow_parquet": ("pyarrow", "good.parquet"),
}
_BAD = 101  # each such row has the bad cell
_STRETCH = 1 << 20  # rows that are made at a time


def columns(rng: np.random.Generator, start: int, count: int) -> dict[str, Any]:
    """The columns of some rows, good and bad."""
    users = np.char.add("u", (rng.zipf(1.2, count) % USERS).astype(str))
    items = np.char.add("i", (rng.zipf(1.2, count) % ITEMS).astype(str))
    time = 1_600_000_000 + np.arange(start, start + count)
    value = rng.integers(1, 11, count) / 2
    iso = np.datetime_as_string(time.astype("datetime64[s]"))
    found = {"user_id": users, "item_id": items, "time": time, "value": value, "iso": iso}
    for name, word in (("time", "soon"), ("value", "many"), ("iso", "2020-13-13T10:00:00")):
        cells = found[name].astype(str).astype(object)
        cells[::_BAD] = word
        found[f"bad_{name}"] = cells
    return {name: pa.array(cells) for name, cells in found.items()}


def write_files(folder: Path, rows: int, seed: int) -> None:
    """Writes the files of `CASES`."""
    rng = np.random.default_rng(seed)
    files = {
        "good.csv": ("time", "value"),
        "bad.csv": ("time", "bad_value"),
        "bad_times.csv": ("bad_time", "value"),
        "iso.csv": ("iso", "value"),
        "bad_iso.csv": ("bad_iso", "value"),
        "good.parquet": ("time", "value"),
    }
    options = arrow_csv.WriteOptions(quoting_style="none")
    writers: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for start in range(0, rows, _STRETCH):
            made = columns(rng, start, min(_STRETCH, rows - start))
            for name, (time, value) in files.items():
                table = pa.table(
                    {
                        "user_id": made["user_id"],
                        "item_id": made["item_id"],
                        "time": made[time],
                        "value": made[value],
                    }
                )
                if name not in writers:
                    if name.endswith(".csv"):
                        writer = arrow_csv.CSVWriter(
                            folder / name, table.schema, write_options=options
                        )
                    else:
                        writer = pq.ParquetWriter(folder / name, table.schema)
                    writers[name] = stack.enter_context(writer)
                writers[name].write_table(table)


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


def run(options: argparse.Namespace, rows: int, runs: int) -> dict[str, float]:
    """The figures of all cases."""
    kept = None if options.folder is None else Path(options.folder)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        written = False
        for number in range(runs):
            for name, (reader, file) in CASES.items():

                def compute(reader: str, path: Path) -> dict[str, float]:
                    nonlocal written
                    if not written:
                        write_files(path.parent, rows, options.seed)
                        written = True
                    return measure(reader, path)

                label = f"{name}-{rows}-{options.seed}-{number}"
                once = functools.partial(compute, reader, Path(folder) / file)
                found[name].append(part(label, once, kept))
                print(f"{name:>16}: {found[name][-1]}", flush=True)
    result: dict[str, float] = {"rows": rows}
    for name, each in found.items():
        median = {key: statistics.median(one[key] for one in each) for key in each[0]}
        result[f"{name}_cpu_seconds"] = median["cpu"]
        result[f"{name}_wall_seconds"] = median["wall"]
        result[f"{name}_peak_mb"] = median["peak_mb"]
        result[f"{name}_rows_a_cpu_second"] = rows / median["cpu"]
    for name, one, other in (
        ("csv_ratio", "csv", "pyarrow_csv"),
        ("bad_ratio", "bad_csv", "csv"),
        ("bad_times_ratio", "bad_times", "csv"),
        ("bad_iso_ratio", "bad_iso", "iso"),
        ("parquet_ratio", "parquet", "pyarrow_parquet"),
    ):
        result[name] = result[f"{one}_cpu_seconds"] / result[f"{other}_cpu_seconds"]
    result["peak_ratio"] = result["csv_peak_mb"] / result["pyarrow_csv_peak_mb"]
    result["parquet_peak_ratio"] = result["parquet_peak_mb"] / result["pyarrow_parquet_peak_mb"]
    return result


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(__doc__ or "", argv, values=FOLDER)
    options.data = "synthetic"
    rows, runs = (QUICK_ROWS, 1) if options.quick else (ROWS, RUNS)
    finish(run(options, rows, runs), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
