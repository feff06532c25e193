"""Hands a node of a run to the run's warm worker, or runs it in a process of its own.

The standard library only, on any Python from 3.10 on, as one file: a scheduler's Python runs it,
which has neither TFX nor this package.

    python worker_client.py start --run .runs/movies/runs/1
    python worker_client.py run --run .runs/movies/runs/1 --node Trainer
    python worker_client.py stop --run .runs/movies/runs/1

However the client ends, its node ends with it: the worker sees the connection close; a process of
its own stands under a guard that sees a pipe close. Nothing but JSON lines goes over the socket.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import shutil
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
# What one run may set: how it learns and judges, never where it reads or writes, nor what it
# executes. Whoever may trigger a run may do no more than that.
GROUPS = ("split", "tuner", "trainer", "evaluator", "data.drift", "data.split_drift")
PLACES = ("tuner.store",)  # of these groups, where something is read or written
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


def _say(line: str) -> None:
    print(line, flush=True)


def begin(deployed: Path | str, run_id: str, settings: Sequence[str] = ()) -> Path:
    """Makes a run's folder from what `nodes.deploy` laid out.

    A run that has begun already keeps the pipeline that it has, so that a retry goes on with it.

    Args:
        deployed: the folder with `pipeline.json` and `deployment.json`.
        run_id: of the run; it names the folder.
        settings: what goes over the config in this run, as "tuner.trials=3", of what `GROUPS` and
            `SINGLE` name: the pipeline is then compiled anew, which takes an import of TFX.

    Returns:
        `<the pipeline's folder>/runs/<run id>`.

    Raises:
        ValueError: if the run id can't name a folder, or the settings make no sense or may not be
            set by one run.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.~:+-]*", run_id):
        raise ValueError(
            f"The run id {run_id!r} can't name a folder; use letters, digits and '_.~:+-', "
            "beginning with a letter or a digit."
        )
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
        raise ValueError("This pipeline was deployed without its config: it takes no settings.")
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
            said = next(
                (line for line in lines if line.startswith("error: ")), "\n".join(lines[-20:])
            )
            raise ValueError(f"The settings {list(settings)} do not do: {said}")
        _copy(Path(compiled), run)
    return run


def _check_setting(setting: str) -> None:
    key = setting.partition("=")[0].strip()
    is_free = key in SINGLE or key.startswith(tuple(f"{group}." for group in GROUPS))
    if not is_free or any(key == place or key.startswith(f"{place}.") for place in PLACES):
        allowed = ", ".join((*(f"{group}.…" for group in GROUPS), *SINGLE))
        raise ValueError(
            f"One run may not set {key!r}; it may set {allowed}. "
            "Change the config and deploy the pipeline anew."
        )


def _copy(deployed: Path, run: Path) -> None:
    """The pipeline last: with it the run has begun."""
    for name in (DEPLOYMENT, CONFIG, PIPELINE):
        if (deployed / name).exists():
            temporary = run / f".{name}.{os.getpid()}"
            shutil.copyfile(deployed / name, temporary)
            os.replace(temporary, run / name)


def start(run: Path | str, python: str | None = None, *options: str) -> int:
    """Starts the run's worker, in a session of its own; returns its process id.

    It takes nodes at once, and runs them as soon as it has imported TFX. What it says itself is in
    `worker.log` in the run's folder. Where there is a worker already, the new one ends by itself.
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
    # Or the first nodes would find no worker yet. It listens before it imports.
    deadline = time.monotonic() + 15
    while process.poll() is None and time.monotonic() < deadline:
        connection = _connect(run)
        if connection is not None:
            connection.close()
            break
        time.sleep(0.05)
    return process.pid


def stop(run: Path | str, seconds: float = 20.0) -> bool:
    """Ends the run's worker and whatever it runs; returns whether there was one."""
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
            # Still importing. As it comes from the kernel, this is the worker's own process id.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            _closed(connection, seconds / 2)
    return True


def run(
    run: Path | str, node: str, say: Callable[[str], None] = _say, python: str | None = None
) -> int:
    """Runs a node, and returns its exit status, 0 if all is well.

    Args:
        run: the run's folder.
        node: its id.
        say: gets each line that the node prints.
        python: of the environment with TFX; what the run's deployment names if None.

    Raises:
        ConnectionError: the worker died while the node ran.
    """
    run = Path(run)
    for status in _by_worker(run, node, say):
        return status
    return _by_itself(run, node, say, python)


def _by_worker(run: Path, node: str, say: Callable[[str], None]) -> Iterator[int]:
    """Yields the exit status, or nothing where no worker took the node."""
    connection = _connect(run)
    if connection is None:
        say(f"{node}: no worker; a process of its own")
        return
    with connection, connection.makefile("r", encoding="utf-8") as answers:
        started = False
        try:
            connection.sendall(json.dumps({"node": node}).encode() + b"\n")
            for text in answers:
                answer = json.loads(text)
                if "line" in answer:
                    say(answer["line"])
                elif "started" in answer:
                    started = True
                elif "exit" in answer:
                    yield int(answer["exit"])
                    return
        except (OSError, ValueError) as error:
            if started:
                raise ConnectionError(f"{node}: lost the worker: {error}") from error
        if started:
            raise ConnectionError(f"{node}: the worker died while the node ran; see worker.log")
    say(f"{node}: the worker ended before it began; a process of its own")


def _by_itself(run: Path, node: str, say: Callable[[str], None], python: str | None) -> int:
    command = [_python(run, python), "-u", "-m", "tfrec_meta.pipeline.runners.nodes", "run"]
    command += ["--run", str(run.absolute()), "--node", node]
    guard = subprocess.Popen(
        [sys.executable, "-I", os.path.abspath(__file__), "guard", *command],
        cwd=_directory(run),
        env=_environment(),
        stdin=subprocess.PIPE,  # never written to: its end is ours
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        for line in guard.stdout:
            say(line.decode("utf-8", "replace").rstrip("\n"))
        return guard.wait()
    finally:
        guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(GRACE + 2)
        _kill_group(guard.pid, signal.SIGKILL)
        guard.wait()
        guard.stdout.close()


def guard(command: Sequence[str]) -> int:
    """Runs a command that ends, with all of its group, when standard input closes.

    Not with PR_SET_PDEATHSIG: that would end the command, but not what it has started.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it sends that to its own group
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
    """A connection to the run's worker, if one listens on this machine."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        # Through the folder's descriptor: an address holds 107 bytes, and paths are longer.
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
    """Whether the other side closes the connection within the time."""
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
    """Nothing that would bend another interpreter, as a scheduler's settings may."""
    bends = ("PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {key: value for key, value in os.environ.items() if key not in bends}


def _kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _interrupted(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """`run`, `start` or `stop`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["guard"]:
        return guard(given[1:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "start", "stop"))
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--node", help="of `run`")
    parser.add_argument("--python", help="of the environment with TFX; the deployment's if absent")
    options = parser.parse_args(given)
    if options.action == "start":
        start(options.run, options.python)
        return 0
    if options.action == "stop":
        stop(options.run)
        return 0
    if not options.node:
        parser.error("`run` needs --node")
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
