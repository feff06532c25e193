"""Starts Airflow 3 on this machine: scheduler, DAG processor, API server and UI, on loopback.

    python -m tfrec_meta.pipeline.runners.airflow_server --config films.yaml

It compiles the pipeline, installs its DAG and serves until Ctrl-C, which ends every process that
was started, including running nodes. Airflow's files are below `--home`. It is meant for
development; docs/airflow.md describes what a production Airflow needs.

This file uses the standard library only: Airflow has an environment of its own, which
`make airflow` creates.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
PORT = 8080
USER = "admin"
PARTS = {
    # Only the API server opens a port: it reads the tasks' logs from the disk.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "api-server": ("api-server", "--host", HOST),
}
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class ServerError(Exception):
    """Airflow can't run. The message names the reason and how to fix it."""


class Server:
    """One Airflow, on loopback.

    Args:
        airflow: the virtual environment with Airflow.
        home: folder of its database, logs and DAG file; only this user may read it.
        pipelines: folders that `compilation.deploy` wrote, or folders of such folders.
        port: port of API and UI.
    """

    def __init__(
        self, airflow: Path, home: Path, pipelines: Sequence[Path], port: int = PORT
    ) -> None:
        self.command = airflow.absolute() / "bin" / "airflow"
        self.home = home.absolute()
        self.pipelines = [path.absolute() for path in pipelines]
        self.port = port
        self.address = f"http://{HOST}:{port}"
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._is_started = False
        self._other_children: frozenset[int] = frozenset()  # the caller's, which are left alone

    def start(self, seconds: float = 480.0) -> None:
        """Starts all parts, and returns when they report that they are healthy.

        Raises:
            ServerError: if a part ends, or the parts are not healthy in time.
        """
        if not self.command.exists():
            raise ServerError(f"{self.command} does not exist; `make airflow` sets it up.")
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, self.port))
            except OSError:
                raise ServerError(
                    f"Port {self.port} is in use; choose another: --port {self.port + 1}"
                ) from None
        self._write_files()
        self._other_children = frozenset(_children())
        self._is_started = True
        # Orphaned processes become children of this process, which ends them.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._run("db", "migrate")
        for name, arguments in PARTS.items():
            further = ["--port", str(self.port)] if name == "api-server" else []
            self._parts[name] = self._popen(name, [*arguments, *further])
        deadline = time.monotonic() + seconds
        while not self._is_healthy():
            for name, part in self._parts.items():
                if part.poll() is not None:
                    raise ServerError(f"Airflow's {name} ended:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"Airflow was not healthy after {seconds:.0f} s; see {self.home / 'logs'}."
                )
            time.sleep(0.5)

    def wait(self) -> None:
        """Waits until one of the parts ends.

        Raises:
            ServerError: names the part that ended.
        """
        while True:
            for name, part in self._parts.items():
                if part.poll() is not None:
                    raise ServerError(f"Airflow's {name} ended:\n{self._tail(name)}")
            _reap(self._other_children.union(part.pid for part in self._parts.values()))
            time.sleep(0.5)

    def stop(self, seconds: float = 10.0) -> None:
        """Ends the parts, their tasks, the workers of runs and their nodes.

        Processes that the caller had started before `start` keep running.
        """
        if not self._is_started:
            return
        for number, wait in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
            deadline = time.monotonic() + wait
            for pid in list(_descendants(os.getpid(), self._other_children)):
                _kill(pid, number)
            while time.monotonic() < deadline:
                remaining = list(_descendants(os.getpid(), self._other_children))
                for part in self._parts.values():
                    part.poll()
                _reap(self._other_children)
                if not remaining:
                    return
                if number == signal.SIGKILL:
                    for pid in remaining:
                        _kill(pid, number)
                time.sleep(0.1)

    @property
    def password(self) -> str:
        """The password of the user `admin`."""
        return str(json.loads(self._passwords.read_text(encoding="utf-8"))[USER])

    @property
    def _passwords(self) -> Path:
        return self.home / "passwords.json"

    def environment(self) -> dict[str, str]:
        """Returns the parts' environment, without the Airflow settings of this process."""
        removed = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("AIRFLOW") and key not in removed
        }
        local = f"{HOST},localhost"
        proxies = {
            name: ",".join(filter(None, [os.environ.get(name), local]))
            for name in ("no_proxy", "NO_PROXY")
        }
        return {
            **inherited,
            **proxies,
            "PATH": f"{self.command.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords),
            # The tasks call the API server; their default is port 8080.
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "SCARF_ANALYTICS": "false",
            "DO_NOT_TRACK": "1",
            "TFREC_META_PIPELINES": os.pathsep.join(map(str, self.pipelines)),
        }

    def _write_files(self) -> None:
        for folder in (self.home, self.home / "dags", self.home / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        file = self.home / "dags" / "tfrec_meta_pipelines.py"
        shutil.copyfile(Path(__file__).with_name("airflow_dag.py"), file)
        if not self._passwords.exists():
            handle = os.open(self._passwords, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "w", encoding="utf-8") as out:
                json.dump({USER: secrets.token_urlsafe(12)}, out)

    def _run(self, *arguments: str) -> None:
        name = "-".join(arguments)
        if self._popen(name, arguments).wait():
            raise ServerError(f"`airflow {' '.join(arguments)}` failed:\n{self._tail(name)}")

    def _popen(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        with open(self.home / "logs" / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [str(self.command), *arguments],
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only this process, which ends them
                preexec_fn=_end_with_parent,
            )

    def _tail(self, name: str) -> str:
        text = (self.home / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(f"  | {line}" for line in text.splitlines()[-20:])

    def _is_healthy(self) -> bool:
        try:
            found = call(f"{self.address}/api/v2/monitor/health")
        except (OSError, ValueError):
            return False
        return all(
            (found.get(part) or {}).get("status") == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )


def call(
    address: str, token: str | None = None, record: Any = None, method: str | None = None
) -> Any:
    """Calls a JSON API on this machine, without a proxy, and returns the decoded response.

    Raises:
        urllib.error.URLError: if the server does not respond, or responds with an error.
    """
    request = urllib.request.Request(address, method=method)
    request.add_header("Accept", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if record is not None:
        request.data = json.dumps(record).encode()
        request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _descendants(pid: int, except_for: Set[int] = frozenset()) -> Iterator[int]:
    """Yields all processes below `pid`, without zombies and without the trees of `except_for`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue  # the process has just ended
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in except_for:
                yield child
                waiting.append(child)


def _children() -> list[int]:
    """Returns this process's children, ended ones that nobody collected included."""
    return [
        int(entry) for entry in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    ]


def _reap(except_for: Set[int]) -> None:
    """Collects ended orphans; the processes in `except_for` are collected by who started them."""
    for child in _children():
        if child not in except_for:
            try:
                os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                continue


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _compiled(config: Path, settings: Sequence[str], schedule: str | None, home: Path) -> Path:
    """Compiles the pipeline of a config, with the local runner, into a folder of its own."""
    folder = home.absolute() / "pipelines" / config.stem
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tfrec_meta.pipeline.runners.local_runner"]
    command += ["--config", str(config), "--compile", str(folder)]
    command += [part for setting in settings for part in ("--set", setting)]
    command += ["--schedule", schedule] if schedule else []
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    if compiled.returncode:
        lines = [line for line in compiled.stderr.splitlines() if line.strip()]
        raise ServerError("The pipeline could not be compiled:\n" + "\n".join(lines[-20:]))
    return folder


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C and returns 0; returns 1 if Airflow did not start or ended by itself."""
    parser = argparse.ArgumentParser(
        prog="python -m tfrec_meta.pipeline.runners.airflow_server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="the pipeline's YAML file")
    what.add_argument(
        "--pipelines", type=Path, nargs="+", metavar="FOLDER", help="compiled pipelines"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--schedule", help="a cron expression, or @daily; on demand by default")
    parser.add_argument("--home", type=Path, default=Path(".runs/airflow"))
    parser.add_argument("--airflow", type=Path, default=Path(".venv-airflow"))
    parser.add_argument("--port", type=int, default=PORT)
    options = parser.parse_args(arguments)
    # Ctrl-C too: a shell ignores it for processes that it starts in the background.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    server = None
    try:
        if options.config:
            print("Compiling the pipeline ...", flush=True)
            compiled = _compiled(options.config, options.set, options.schedule, options.home)
            options.pipelines = [compiled]
        print("Starting Airflow ...", flush=True)
        server = Server(options.airflow, options.home, options.pipelines, options.port)
        server.start()
        print(
            f"Airflow: {server.address}  user: {USER}  password: {server.password}\n"
            "Ctrl-C stops it, and everything that it runs.",
            flush=True,
        )
        server.wait()
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopping ...", flush=True)
        return 0
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        if server is not None:
            server.stop()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    return 0


if __name__ == "__main__":
    sys.exit(main())
