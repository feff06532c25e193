"""Shared by all benchmarks: arguments, data, and the JSON object in the last line of output."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.data import Interactions, movielens, read_interactions
from tfrec_meta.io.files import write_text

FOLDER = {"folder": "a folder for finished parts; the same call resumes a stopped run"}
_MOVIELENS = ("100k", "1m", "20m", "25m", "32m", "latest-small")


def parse(
    description: str,
    argv: Sequence[str] | None = None,
    switches: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
) -> argparse.Namespace:
    """The namespace (data, seed, quick) of a benchmark.

    Args:
        description: its docstring.
        argv: by default the command line's.
        switches: what else it can be told to do, by name, and what that does.
        values: further options with a value, which is None by default, by name, and what they do.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="100k",
        metavar="NAME|PATH",
        help="a MovieLens name (default 100k), a folder or a file of interactions",
    )
    parser.add_argument("--seed", type=int, default=42, help="of every random draw (default 42)")
    parser.add_argument("--quick", action="store_true", help="a short run, for CI")
    for name, meaning in (switches or {}).items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    for name, meaning in (values or {}).items():
        parser.add_argument(f"--{name}", help=meaning)
    return parser.parse_args(argv)


def load(source: str) -> Interactions:
    """Interactions from a MovieLens name, a MovieLens folder, a written one, or data files.

    Raises:
        FileNotFoundError: `source` is neither a name nor a path that exists.
    """
    if source in _MOVIELENS:
        return movielens(source)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"`--data`={source} is not a path that exists, nor one of "
            f"{', '.join(_MOVIELENS)}; give one of these."
        )
    if path.is_dir() and (path / "events.parquet").is_file():
        return Interactions.read(path)
    if path.is_dir() and (any(path.glob("*.inter")) or (path / "u.data").is_file()):
        return movielens("100k", folder=path)
    if path.is_dir() and (path / "ratings.dat").is_file():
        return movielens("1m", folder=path)
    return read_interactions([path])


def part(name: str, compute: Callable[[], Any], folder: Path | None) -> Any:
    """The result of a part of a benchmark, from the folder if it is finished there.

    Args:
        name: names the part among those of the benchmark.
        compute: returns the result, which can be written as JSON.
        folder: where finished parts are kept; None keeps none.
    """
    path = None if folder is None else folder / f"{name}.json"
    if path is not None and path.is_file():
        return json.loads(path.read_text())
    began = time.monotonic()
    result = compute()
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(result))
    return result


def environment() -> dict[str, Any]:
    """Where and when the figures were made: cores, processor, Python, date (UTC), commit."""
    commit = None
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            check=True,
            timeout=10,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
        commit = asked.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # a source archive has no history
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def finish(result: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Prints the result as one JSON object on a line of its own, which must be the last."""
    print(
        json.dumps(
            {
                **result,
                "data": arguments.data,
                "seed": arguments.seed,
                "quick": arguments.quick,
                "environment": environment(),
            }
        ),
        flush=True,
    )
