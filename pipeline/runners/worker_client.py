"""Passes a node of a run to the run's warm worker, or runs it in a process of its own.

This file uses the standard library only, for any Python from 3.10 on: it runs in the Python of a
scheduler, which has neither TFX nor this package.

    python worker_client.py start --run .runs/movies/runs/1
    python worker_client.py run --run .runs/movies/runs/1 --node Trainer
    python worker_client.py stop --run .runs/movies/runs/1

When the client ends, for whatever reason, its node ends too: the worker notices the closed
connection, and a process of its own runs under a guard that notices a closed pipe. Only JSON lines
are sent through the socket.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SOCKET = "worker.sock"
PIPELINE = "pipeline.json"
DEPLOYMENT = "deployment.json"
CONFIG = "config.json"
GRACE = 3.0  # seconds from SIGTERM to SIGKILL
# Settings that one run may override: training and evaluation, but neither paths nor programs, since
# users who may trigger a run need not be trusted with those.
GROUPS = ("split", "tuner", "trainer", "evaluator", "data.drift", "data.split_drift")
PATHS = ("tuner.store",)  # exceptions within the groups
SINGLE = (
    "data.drift",
    "data.max_drift",
    "data.split_drift",
    "data.max_split_drift",
    "data.warn_new_ids",
    "infra_validator.seconds",
    "infra_validator.requests",
    "infra_validator.memory_mb",
    "cache",
    "seed",
)


def _print(line: str) -> None:
    print(line, flush=True)


def begin(deployed: Path | str, run_id: str, settings: Sequence[str] = ()) -> Path:
    """Creates the folder of a run from a deployed pipeline.

    A run that has begun keeps its pipeline, so that a retry continues with it.

    Args:
        deployed: the folder with `pipeline.json` and `deployment.json`.
        run_id: the run's id, which names the folder.
        settings: settings that override the config in this run, such as "tuner.trials=3"; see
            `GROUPS` and `SINGLE`. The pipeline is then compiled again, which imports TFX.

    Returns:
        `<the pipeline's folder>/runs/<run id>`.

    Raises:
        ValueError: if the run id is not a valid folder name, or the settings are invalid or not
            allowed for one run.
    """
    check_run_id(run_id)
    for setting in settings:
        _check_setting(setting)
    deployed = Path(deployed)
    deployment = _deployment(deployed)
    run = Path(deployment["folder"]) / "runs" / run_id
    run.mkdir(parents=True, exist_ok=True)
    if (run / PIPELINE).exists():
        return run
    if not settings:
        _copy(deployed, run)
        return run
    if not deployment.get("config"):
        raise ValueError(
            "This pipeline was deployed without its config, so a run can't override settings. "
            "Deploy it with its config."
        )
    with tempfile.TemporaryDirectory(prefix=".compiled.", dir=run) as compiled:
        command = [_python(deployed, None), "-m", "tfrec_meta.pipeline.runners.local_runner"]
        command += ["--config", deployment["config"], "--compile", compiled]
        for setting in (*deployment.get("settings", ()), *settings):
            command += ["--set", setting]
        done = subprocess.run(
            command,
            cwd=_directory(deployed),
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            message = next(
                (line for line in lines if line.startswith("error: ")), "\n".join(lines[-20:])
            )
            raise ValueError(f"The settings {list(settings)} are invalid: {message}")
        _copy(Path(compiled), run)
    return run


def check_run_id(run_id: str) -> None:
    """Checks that a run id is a valid folder name.

    Raises:
        ValueError: if it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.~:+-]*", run_id):
        raise ValueError(
            f"The run id {run_id!r} is not a valid folder name; use letters, digits and "
            "'_.~:+-', beginning with a letter or a digit."
        )


def _check_setting(setting: str) -> None:
    key = setting.partition("=")[0].strip()
    is_free = key in SINGLE or key.startswith(tuple(f"{group}." for group in GROUPS))
    if not is_free or any(key == path or key.startswith(f"{path}.") for path in PATHS):
        allowed = ", ".join((*(f"{group}.…" for group in GROUPS), *SINGLE))
        raise ValueError(
            f"A run may not set {key!r}; it may set {allowed}. "
            "Change the config and deploy the pipeline again."
        )


def _copy(deployed: Path, run: Path) -> None:
    """Copies the deployment; `pipeline.json` comes last, as it marks the run as begun.

    It writes as `tfrec_meta.io.files` does, which a scheduler's Python does not have.
    """
    for name in (DEPLOYMENT, CONFIG, PIPELINE):
        if (deployed / name).exists():
            temporary = run / f".{name}.{os.getpid()}"
            with open(temporary, "wb") as file:
                file.write((deployed / name).read_bytes())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, run / name)


def start(run: Path | str, python: str | None = None, *options: str) -> int:
    """Starts the run's worker in a session of its own, and returns its process id.

    The worker accepts nodes immediately, and runs them when it has imported TFX. Its own messages
    are in `worker.log` in the run's folder. If the run has a worker already, the new one ends by
    itself.
    """
    run = Path(run)
    command = [_python(run, python), "-m", "tfrec_meta.pipeline.runners.worker", "serve"]
    command += ["--run", str(run.absolute()), *options]
    with open(run / "worker.log", "ab") as log:
        process = subprocess.Popen(
            command,
            cwd=_directory(run),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Waits until the worker listens, which it does before its imports; otherwise the first nodes
    # would find no worker.
    deadline = time.monotonic() + 15
    while process.poll() is None and time.monotonic() < deadline:
        connection = _connect(run)
        if connection is not None:
            connection.close()
            break
        time.sleep(0.05)
    return process.pid


def stop(run: Path | str, seconds: float = 20.0) -> bool:
    """Ends the run's worker and its nodes; returns whether there was a worker."""
    connection = _connect(Path(run))
    if connection is None:
        return False
    with connection:
        pid = struct.unpack(
            "3i",
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")),
        )[0]
        with contextlib.suppress(OSError):
            connection.sendall(b'{"stop": true}\n')
        if not _closed(connection, seconds / 2):
            # The worker is still importing. The kernel reported its process id, so it is right.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            _closed(connection, seconds / 2)
    return True


def run(
    run: Path | str, node: str, show: Callable[[str], None] = _print, python: str | None = None
) -> int:
    """Runs a node, and returns its exit status, which is 0 on success.

    Args:
        run: the run's folder.
        node: the node's id.
        show: receives each line that the node prints.
        python: Python of the environment with TFX; None uses the run's deployment.

    Raises:
        ConnectionError: if the worker died while the node ran.
    """
    run = Path(run)
    for status in _in_worker(run, node, show):
        return status
    return _in_own_process(run, node, show, python)


def _in_worker(run: Path, node: str, show: Callable[[str], None]) -> Iterator[int]:
    """Yields the exit status, or nothing if no worker accepted the node."""
    connection = _connect(run)
    if connection is None:
        show(f"{node}: no worker; it runs in a process of its own")
        return
    with connection, connection.makefile("r", encoding="utf-8") as answers:
        started = False
        try:
            connection.sendall(json.dumps({"node": node}).encode() + b"\n")
            for text in answers:
                answer = json.loads(text)
                if "line" in answer:
                    show(answer["line"])
                elif "started" in answer:
                    started = True
                elif "exit" in answer:
                    yield int(answer["exit"])
                    return
        except (OSError, ValueError) as error:
            if started:
                raise ConnectionError(
                    f"{node}: lost the connection to the worker: {error}"
                ) from error
        if started:
            raise ConnectionError(f"{node}: the worker died while the node ran; see worker.log")
    show(f"{node}: the worker ended before the node started; it runs in a process of its own")


def _in_own_process(run: Path, node: str, show: Callable[[str], None], python: str | None) -> int:
    command = [_python(run, python), "-u", "-m", "tfrec_meta.pipeline.runners.nodes", "run"]
    command += ["--run", str(run.absolute()), "--node", node]
    guard = subprocess.Popen(
        [sys.executable, "-I", os.path.abspath(__file__), "guard", *command],
        cwd=_directory(run),
        env=_environment(),
        stdin=subprocess.PIPE,  # never written to; the guard ends when it closes
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        for line in guard.stdout:
            show(line.decode("utf-8", "replace").rstrip("\n"))
        return guard.wait()
    finally:
        guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(GRACE + 2)
        _kill_group(guard.pid, signal.SIGKILL)
        guard.wait()
        guard.stdout.close()


def guard(command: Sequence[str]) -> int:
    """Runs a command that ends, with its process group, when standard input closes.

    PR_SET_PDEATHSIG would end the command, but not the processes that it started.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it sends SIGTERM to its own group
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_default_signals)
    ended = os.pidfd_open(child.pid)
    ready, _, _ = select.select([sys.stdin, ended], [], [])
    if ended not in ready:
        _kill_group(os.getpgid(0), signal.SIGTERM)
        select.select([ended], [], [], GRACE)
        _kill_group(os.getpgid(0), signal.SIGKILL)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _connect(run: Path) -> socket.socket | None:
    """Returns a connection to the run's worker, or None if none listens on this machine."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        # Through the folder's descriptor: the address of a socket has at most 107 bytes.
        folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)
    except OSError:
        connection.close()
        return None
    return connection


def _closed(connection: socket.socket, seconds: float) -> bool:
    """Returns whether the other side closes the connection within the time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def _deployment(run: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((run / DEPLOYMENT).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _python(run: Path, python: str | None) -> str:
    return python or _deployment(run).get("python") or sys.executable


def _directory(run: Path) -> str | None:
    return _deployment(run).get("directory")


def _environment() -> dict[str, str]:
    """Returns the environment without variables that would misdirect another Python."""
    removed = ("PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {key: value for key, value in os.environ.items() if key not in removed}


def _kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _interrupted(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: `run`, `start` or `stop`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["guard"]:
        return guard(given[1:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "start", "stop"))
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--node", help="with `run`: the node's id")
    parser.add_argument("--python", help="Python with TFX; the deployment's by default")
    options = parser.parse_args(given)
    if options.action == "start":
        start(options.run, options.python)
        return 0
    if options.action == "stop":
        stop(options.run)
        return 0
    if not options.node:
        parser.error("`run` needs --node; name a node of the pipeline")
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return run(options.run, options.node, python=options.python)
    except ConnectionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
