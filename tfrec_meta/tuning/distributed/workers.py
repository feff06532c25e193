"""Chief and workers of one search: who this process is, and how all of them are started.

`python -m tfrec_meta.tuning.distributed.workers --workers 4 search.py` runs a script as one chief,
which has the oracle, and four workers, which run its trials. On several hosts that share the
study's folder, the same is done by hand with KerasTuner's own environment variables: see
`environment`.
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
_PARTING_SECONDS = 30.0  # that workers have to end in when the chief has
_POLL_SECONDS = 0.2


def role(variables: Mapping[str, str] = os.environ) -> Literal["alone", "chief", "worker"]:
    """What this process is to its searches.

    Args:
        variables: of the environment. Without the three of `environment` a process searches alone.

    Raises:
        ValueError: if some are set and others not.
    """
    if ADDRESS not in variables and PORT not in variables:
        return "alone"
    missing = [name for name in (ID, ADDRESS, PORT) if not variables.get(name)]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} are not set, and a chief or a worker has all of {ID}, "
            f"{ADDRESS} ({LOOPBACK} for one machine) and {PORT}. Set or unset all three."
        )
    return "chief" if "chief" in variables[ID] else "worker"  # as KerasTuner tells them


def environment(name: str, port: int, address: str = LOOPBACK) -> dict[str, str]:
    """The variables that make a process a chief or a worker, for its searches to find.

    Args:
        name: "chief" of one process; any other of the rest.
        port: where the chief is asked.
        address: of the chief. It answers those who can read the study's folder, but nothing is
            encrypted: any other address than this machine's own needs a network that others are
            kept out of.
    """
    return {ID: name, ADDRESS: address, PORT: str(port)}


def address_of_chief(variables: Mapping[str, str] = os.environ) -> str:
    """As "127.0.0.1:8000"."""
    host = variables[ADDRESS]
    return f"[{host}]:{variables[PORT]}" if ":" in host else f"{host}:{variables[PORT]}"


def launch(command: Sequence[str], workers: int, port: int | None = None) -> int:
    """Runs a command as a chief and workers on this machine, until the chief has ended.

    A worker that dies is replaced, up to three times as many as there are workers.

    Args:
        command: such as [sys.executable, "search.py"]; its search has a folder.
        workers: how many.
        port: of the chief; a free one by default.

    Returns:
        The chief's exit status; 1 if all workers died.

    Raises:
        ValueError: if there is to be no worker.
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
                    f"A worker ended with {dead.returncode}; "
                    + (
                        f"{name} takes its place." if name else "there have been too many of these."
                    ),
                    file=sys.stderr,
                    flush=True,
                )
                if name is not None:
                    running.append(start(name))
                elif not running:
                    return 1
            time.sleep(_POLL_SECONDS)
        _wait(running, _PARTING_SECONDS)
        return chief.returncode
    finally:
        left = [child for child in (chief, *running) if child.poll() is None]
        for child in left:
            child.terminate()
        _wait(left, _PARTING_SECONDS)
        for child in left:
            child.kill()  # of one that has ended this does nothing


def _wait(children: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m tfrec_meta.tuning.distributed.workers",
        description="Run a script that searches as one chief and several workers.",
    )
    parser.add_argument("--workers", type=int, default=2, help="how many (default 2)")
    parser.add_argument("--port", type=int, help="of the chief (default: a free one)")
    parser.add_argument("script", help="a Python file whose search has a folder")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    given = parser.parse_args(arguments)

    def end(*_: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)  # by way of `launch`, which ends its children

    signal.signal(signal.SIGTERM, end)
    return launch([sys.executable, given.script, *given.arguments], given.workers, given.port)


if __name__ == "__main__":
    raise SystemExit(main())
