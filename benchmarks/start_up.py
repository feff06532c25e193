"""How long do the package, the command and a server take to start?

Seconds of wall time, each the median of 5 new processes with compiled bytecode: `import
tfrec_meta`, `tfrec-meta --help`, `tfrec-meta recommend` against a server on this machine,
`tfrec-meta doctor`, and `tfrec-meta serve` until it listens. `client_seconds` is the time that a
Python program with the client's library alone takes for the same request as `recommend`, and
`tensorflow_seconds` the time of `import tensorflow`, which `serve` and `doctor` include.

The served model is a small one that the benchmark trains, or that of `--model`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from benchmarks import arguments

COMMAND = (sys.executable, "-m", "tfrec_meta.commands.main")
ROUNDS = 5
_CLIENT = """
import sys
from tfrec_meta.serving import Client
with Client(sys.argv[1], sys.argv[2]) as client:
    assert client.recommend("", history=[], k=10)
"""


def seconds(command: Sequence[str]) -> float:
    """Runs a command to its end, and returns the wall time."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


@contextmanager
def served(model: Path) -> Iterator[tuple[str, float]]:
    """Serves a model in a new process. Yields the address, and the seconds until it listened."""
    began = time.perf_counter()
    server = subprocess.Popen(
        [*COMMAND, "serve", str(model), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        taken = time.perf_counter() - began
        if not line.startswith("listening on "):
            raise RuntimeError(f"{model} is not served; run `tfrec-meta serve {model}` to see why.")
        yield line.split()[-1], taken
    finally:
        server.terminate()
        server.wait(timeout=60)


def until_listening(model: Path) -> float:
    """Starts and stops a server. Returns the seconds until it listened."""
    with served(model) as (_, taken):
        return taken


def export_small_model(folder: Path, seed: int) -> Path:
    """Trains a model of MovieLens size in one epoch, and exports it. Returns its folder."""
    run, model = str(folder / "runs" / "first"), folder / "models" / "first"
    data = ["--data", "synthetic-900x1700x100000", "--epochs", "1", "--seed", str(seed)]
    for command in (["train", "--run", run, *data], ["export", "--run", run, "--to", str(model)]):
        subprocess.run([*COMMAND, *command], check=True, stdout=sys.stderr)
    return model


def median(measure: Callable[[], float], name: str, rounds: int) -> float:
    """Measures once without counting, to fill caches, then returns the median of `rounds`."""
    measure()
    times = [measure() for _ in tqdm(range(rounds), desc=name, disable=None)]
    print(f"{name}: {', '.join(f'{one:.2f}' for one in times)} s", file=sys.stderr)
    return statistics.median(times)


def main() -> None:
    """Trains a model unless one is given, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="an exported model to serve")
    parser.add_argument("--seed", type=int, default=42, help="of the trained model (default 42)")
    parser.add_argument("--quick", action="store_true", help="one round instead of 5")
    chosen = parser.parse_args()
    rounds = 1 if chosen.quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        chosen.data = "synthetic" if chosen.model is None else str(chosen.model)
        model = chosen.model or export_small_model(Path(folder), chosen.seed)

        def timed(name: str, *command: str) -> float:
            return median(lambda: seconds(command), name, rounds)

        result = {
            "import_seconds": timed("import", sys.executable, "-c", "import tfrec_meta"),
            "help_seconds": timed("--help", *COMMAND, "--help"),
        }
        with served(model) as (address, _):
            request = ("--server", address, "--model", model.name, "--titles", str(model))
            result["recommend_seconds"] = timed("recommend", *COMMAND, "recommend", *request)
            client = (sys.executable, "-c", _CLIENT, address, model.name)
            result["client_seconds"] = timed("client", *client)
        result["doctor_seconds"] = timed("doctor", *COMMAND, "doctor")
        result["serve_seconds"] = median(lambda: until_listening(model), "serve", rounds)
        result["tensorflow_seconds"] = timed(
            "import tensorflow", sys.executable, "-c", "import tensorflow"
        )
    arguments.finish(result, chosen)


if __name__ == "__main__":
    main()
