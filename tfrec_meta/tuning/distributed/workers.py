"""Roles of the processes of a distributed search, and a launcher for one machine.

`python -m tfrec_meta.tuning.distributed.workers --workers 4 search.py` runs a script as one chief,
which has the oracle, and four workers, which run the trials. For several hosts that share the
study's folder, set KerasTuner's environment variables by hand; see `environment`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

LOOPBACK = "127.0.0.1"
ID, ADDRESS, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
_GRACE_SECONDS = 30.0  # for workers to end after the chief has ended
_POLL_SECONDS = 0.2


def role(variables: Mapping[str, str] = os.environ) -> Literal["alone", "chief", "worker"]:
    """Returns the role of this process in its searches.

    Args:
        variables: of the environment. Without those of `environment`, the process searches alone.

    Raises:
        ValueError: if only some of the variables are set.
    """
    if ADDRESS not in variables and PORT not in variables:
        return "alone"
    missing = [name for name in (ID, ADDRESS, PORT) if not variables.get(name)]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} not set; a chief or a worker needs {ID}, {ADDRESS} "
            f"({LOOPBACK} for one machine) and {PORT}. Set all three or none."
        )
    return "chief" if "chief" in variables[ID] else "worker"  # KerasTuner's rule


def environment(name: str, port: int, address: str = LOOPBACK) -> dict[str, str]:
    """Returns the environment variables that make a process a chief or a worker.

    Args:
        name: "chief" for one process; any other name for the workers.
        port: of the chief.
        address: of the chief. The chief serves all who can read the study's folder, but nothing is
            encrypted. So any address other than the loopback address needs a protected network.

    Example:
        >>> from tfrec_meta.tuning.distributed import workers
        >>> workers.role(workers.environment("worker-0", 8000))
        'worker'
    """
    return {ID: name, ADDRESS: address, PORT: str(port)}


def address_of_chief(variables: Mapping[str, str] = os.environ) -> str:
    """Returns the address and port of the chief, such as "127.0.0.1:8000"."""
    host = variables[ADDRESS]
    return f"[{host}]:{variables[PORT]}" if ":" in host else f"{host}:{variables[PORT]}"


def launch(command: Sequence[str], workers: int, port: int | None = None) -> int:
    """Runs a command as a chief and workers on this machine, until the chief has ended.

    Workers that die are replaced, in total at most three times per worker.

    Args:
        command: such as [sys.executable, "search.py"]; its search must have a folder.
        workers: the number of workers.
        port: of the chief; a free one by default.

    Returns:
        The chief's exit status; 1 if all workers died.

    Raises:
        ValueError: if `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"`workers`={workers}; use 1 or more.")
    port = port or _free_port()

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env={**os.environ, **environment(name, port)})

    chief, names = start("chief"), iter(f"worker-{n}" for n in range(4 * workers))
    running = [start(next(names)) for _ in range(workers)]
    try:
        while chief.poll() is None:
            for dead in [child for child in running if child.poll()]:
                running.remove(dead)
                name = next(names, None)
                print(
                    f"A worker ended with exit status {dead.returncode}; "
                    + (f"{name} replaces it." if name else "too many workers have ended."),
                    file=sys.stderr,
                    flush=True,
                )
                if name is not None:
                    running.append(start(name))
                elif not running:
                    return 1
            time.sleep(_POLL_SECONDS)
        _wait(running, _GRACE_SECONDS)
        return chief.returncode
    finally:
        alive = [child for child in (chief, *running) if child.poll() is None]
        for child in alive:
            child.terminate()
        _wait(alive, _GRACE_SECONDS)
        for child in alive:
            child.kill()  # no effect on a process that has ended


def _wait(children: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m tfrec_meta.tuning.distributed.workers",
        description="Run the search of a script with one chief and several workers.",
    )
    parser.add_argument("--workers", type=int, default=2, help="number of workers (default: 2)")
    parser.add_argument("--port", type=int, help="port of the chief (default: a free port)")
    parser.add_argument("script", help="Python file whose search has a folder")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    given = parser.parse_args(arguments)

    def end(*_: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)  # so that `launch` ends its children

    signal.signal(signal.SIGTERM, end)
    return launch([sys.executable, given.script, *given.arguments], given.workers, given.port)


if __name__ == "__main__":
    raise SystemExit(main())
