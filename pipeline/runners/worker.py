"""The warm worker of one run: imports TFX once, then forks a process per node.

    python -m tfrec_meta.pipeline.runners.worker serve --run .runs/movies/runs/1

It listens on `worker.sock` in the run's folder, which only its user may open. The protocol is JSON
lines; `worker_client` is the other side. {"node": "Trainer"} runs a node; the replies are
{"started": process id}, one {"line": ...} per printed line, and {"exit": status}. {"stop": true}
ends the worker. If a client closes its connection, its node ends. The worker ends when its run has
finished, or after a time without requests.

Forking after the imports is safe as long as no import has executed a TensorFlow operation:
TensorFlow's runtime, gRPC and Beam start their threads with the first operation, channel or
pipeline, which happens in the child. The worker checks this, and ends if TensorFlow has started;
clients then run their nodes in processes of their own.
"""

import argparse
import atexit
import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.pipeline.runners.run_folder import NodeState, read_records
from tfrec_meta.pipeline.runners.worker_client import GRACE, PIPELINE, SOCKET

IDLE_MINUTES = 15.0
_PR_SET_PDEATHSIG = 1
_MAX_WAITING = 1 << 20  # bytes buffered for a client before its node has to wait


@dataclasses.dataclass(eq=False)
class _Client:
    """A connection, with its received data and the data waiting to be sent."""

    socket: socket.socket
    received: bytes = b""
    waiting: bytes = b""
    node: "_Node | None" = None
    last: bool = False  # close the connection when everything is sent


@dataclasses.dataclass(eq=False)
class _Node:
    """A node's process, which leads its process group."""

    name: str
    pid: int
    ended: int  # descriptor of the process, readable when it has ended
    output: int  # reading end of its standard output and error
    client: _Client | None
    text: bytes = b""
    silent: bool = False  # the process has closed its output
    kill_at: float | None = None


class Worker:
    """Serves one run until it is stopped, idle, or finished.

    Args:
        run: the run's folder, which `nodes.begin_run` created.
        idle: seconds without a request after which it ends.
        prepare: takes the run's folder, imports modules, and returns the function that runs a node.
            That function takes the arguments of `nodes.main` and returns the exit status.
    """

    def __init__(
        self,
        run: Path | str,
        idle: float = IDLE_MINUTES * 60,
        prepare: Callable[[Path], Callable[[Sequence[str]], int]] | None = None,
    ) -> None:
        self.run = Path(run).absolute()
        self.idle = idle
        self._prepare = prepare or _import_nodes
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._nodes: set[_Node] = set()
        self._stopping = False
        self._runner: Callable[[Sequence[str]], int] | None = None

    def serve(self) -> int:
        """Returns 0 when the worker has ended, also if another one serves this run already."""
        with open(self.run / "worker.lock", "w") as self._lock:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                _log("another worker serves this run")
                return 0
            # Listens before the imports, so that clients wait instead of starting processes.
            with self._listen() as self._listener:
                try:
                    self._runner = self._prepare(self.run)
                    signal.signal(signal.SIGTERM, self._stop)
                    signal.signal(signal.SIGINT, self._stop)
                    self._loop()
                finally:
                    self._end()
                    (self.run / SOCKET).unlink(missing_ok=True)
        return 0

    def _stop(self, *_: Any) -> None:
        self._stopping = True

    def _listen(self) -> socket.socket:
        # This worker has the lock, so no other one listens there.
        (self.run / SOCKET).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        folder = os.open(self.run, os.O_RDONLY | os.O_DIRECTORY)
        # Before `bind`, so that nobody else can ever connect; it does not touch the umask.
        os.fchmod(listener.fileno(), 0o600)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)
        listener.listen(128)
        return listener

    def _loop(self) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        quiet_since = time.monotonic()
        while not self._stopping:
            for key, events in self._selector.select(0.5):
                key.data(events)
            now = time.monotonic()
            for node in self._nodes:
                if node.kill_at is not None and now > node.kill_at:
                    _kill(node, signal.SIGKILL)
            if not (self.run / SOCKET).exists():
                _log("the run's folder was removed")
                return
            if self._nodes or self._clients:
                quiet_since = now
            elif now - quiet_since > self.idle:
                _log(f"no request for {self.idle:.0f} s")
                return

    def _end(self) -> None:
        """Ends all nodes, and closes all connections."""
        for node in self._nodes:
            _kill(node, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for node in list(self._nodes):
            while time.monotonic() < deadline and not os.waitpid(node.pid, os.WNOHANG)[0]:
                time.sleep(0.02)
            _kill(node, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(node.pid, 0)
        for client in self._clients:
            client.socket.close()
        self._selector.close()

    # --- Connections ---------------------------------------------------------------------------

    def _accept(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _address = self._listener.accept()
            connection.setblocking(False)
            client = _Client(connection)
            self._clients.add(client)
            self._watch(client)

    def _watch(self, client: _Client) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.waiting else 0)

        def ready(found: int) -> None:
            if found & selectors.EVENT_WRITE and client in self._clients:
                self._flush(client)
            if found & selectors.EVENT_READ and client in self._clients:
                self._receive(client)

        try:
            self._selector.modify(client.socket, events, ready)
        except KeyError:
            self._selector.register(client.socket, events, ready)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(client)
            return
        client.received += data
        *lines, client.received = client.received.split(b"\n")
        if len(client.received) > 65536:
            self._forget(client)
            return
        for line in lines:
            self._answer(client, line)

    def _answer(self, client: _Client, line: bytes) -> None:
        try:
            request = json.loads(line)
            node = request.get("node")
            if request.get("stop"):
                self._stopping = True
            elif isinstance(node, str) and client.node is None:
                self._start(client, node)
            else:
                raise ValueError("send a node or a stop")
        except (ValueError, AttributeError) as error:
            self._send(client, {"line": f"invalid request: {error}"})
            self._send(client, {"exit": 2}, last=True)

    def _send(self, client: _Client | None, message: dict[str, Any], last: bool = False) -> None:
        if client in self._clients and client is not None:
            client.waiting += json.dumps(message).encode() + b"\n"
            client.last = client.last or last
            self._flush(client)

    def _flush(self, client: _Client) -> None:
        try:
            sent = client.socket.send(client.waiting)
            client.waiting = client.waiting[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._forget(client)
            return
        if client.last and not client.waiting:
            self._forget(client)
            return
        self._watch(client)
        if client.node is not None:
            self._listen_to(client.node, len(client.waiting) < _MAX_WAITING)

    def _forget(self, client: _Client) -> None:
        """Closes a connection, and ends the node that still runs for it."""
        self._clients.discard(client)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.socket)
        client.socket.close()
        node = client.node
        if node in self._nodes and node is not None:
            node.client = None
            node.kill_at = time.monotonic() + GRACE
            self._listen_to(node, True)
            _log(f"{node.name}: its client closed the connection")
            _kill(node, signal.SIGTERM)

    # --- Nodes ---------------------------------------------------------------------------------

    def _start(self, client: _Client, name: str) -> None:
        output, its_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._run_in_child(name, its_end, parent)  # does not return
        os.close(its_end)
        os.set_blocking(output, False)
        node = _Node(name, pid, os.pidfd_open(pid), output, client)
        client.node = node
        self._nodes.add(node)
        self._selector.register(node.ended, selectors.EVENT_READ, lambda _: self._ended(node))
        self._listen_to(node, True)
        self._send(client, {"started": pid})

    def _run_in_child(self, name: str, output: int, parent: int) -> None:
        """Runs the node in the forked child, and ends the process."""
        status = 1
        try:
            os.setsid()
            # If the worker is killed, its nodes are killed too.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            # Closes the worker's descriptors: an open copy would keep others waiting.
            self._selector.close()
            self._listener.close()
            os.close(self._lock.fileno())
            for client in self._clients:
                client.socket.close()
            for node in self._nodes:
                os.close(node.output)
                os.close(node.ended)
            for stream in (sys.stdout, sys.stderr):
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
            assert self._runner is not None
            status = self._runner(["run", "--run", str(self.run), "--node", name])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                atexit._run_exitfuncs()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _listen_to(self, node: _Node, wanted: bool) -> None:
        listening = node.output in self._selector.get_map()
        if wanted and not listening and not node.silent:
            self._selector.register(node.output, selectors.EVENT_READ, lambda _: self._read(node))
        elif listening and not wanted:
            self._selector.unregister(node.output)

    def _read(self, node: _Node) -> bool:
        """Sends the node's output to its client; returns whether there may be more."""
        if node not in self._nodes:  # ended in the same batch of events
            return False
        try:
            data = os.read(node.output, 65536)
        except BlockingIOError:
            return False
        if not data:
            node.silent = True  # the process may still run
            self._listen_to(node, False)
            return False
        *lines, node.text = (node.text + data).split(b"\n")
        if len(node.text) > 65536:
            lines.append(node.text)
            node.text = b""
        for line in lines:
            self._send(node.client, {"line": line.decode("utf-8", "replace")})
        return True

    def _ended(self, node: _Node) -> None:
        _, code = os.waitpid(node.pid, 0)
        status = os.waitstatus_to_exitcode(code)
        _kill(node, signal.SIGKILL)  # processes that the node left running
        while self._read(node):
            pass
        self._nodes.discard(node)
        node.silent = True
        self._listen_to(node, False)
        self._selector.unregister(node.ended)
        os.close(node.ended)
        os.close(node.output)
        if node.text:
            self._send(node.client, {"line": node.text.decode("utf-8", "replace")})
        if status < 0:
            self._send(node.client, {"line": f"{node.name} was killed by signal {-status}"})
        self._send(node.client, {"exit": status if status >= 0 else 128 - status}, last=True)
        _log(f"{node.name}: exit status {status}")
        if not status and not self._nodes and _has_finished(self.run):
            _log("the run has finished")
            self._flush_all()
            self._stopping = True

    def _flush_all(self) -> None:
        for client in list(self._clients):
            client.socket.settimeout(GRACE)
            with contextlib.suppress(OSError):
                client.socket.sendall(client.waiting)


def _import_nodes(run: Path) -> Any:
    """Imports TFX and the executors of the run's nodes; returns the function that runs a node.

    Raises:
        RuntimeError: if TensorFlow has executed an operation, after which forking is unsafe.
    """
    started = time.monotonic()
    from tensorflow.python.eager import context
    from tfx.orchestration.local import runner_utils

    from tfrec_meta.pipeline.runners import nodes
    from tfrec_meta.pipeline.runners.compilation import read_pipeline

    deployment = runner_utils.extract_local_deployment_config(read_pipeline(run / PIPELINE))
    for spec in (*deployment.executor_specs.values(), *deployment.custom_driver_specs.values()):
        kind = spec.WhichOneof("spec")
        inner = getattr(spec, kind)
        if kind == "beam_executable_spec":
            inner = inner.python_executor_spec
        path = getattr(inner, "class_path", "")
        if path:
            importlib.import_module(path.rpartition(".")[0])
    if context._context is not None and context._context._context_handle is not None:
        raise RuntimeError(
            "TensorFlow executed an operation during the imports, so the worker can't fork. "
            "Move the operation out of the module's import."
        )
    gc.collect()
    gc.freeze()  # otherwise the children's garbage collection copies the shared memory
    _log(f"ready after {time.monotonic() - started:.1f} s")
    return nodes.main


def _has_finished(run: Path) -> bool:
    """Returns whether every node of the run has finished successfully."""
    with contextlib.suppress(OSError, ValueError):
        pipeline = json.loads((run / PIPELINE).read_text(encoding="utf-8"))
        open_nodes = {node["pipeline_node"]["node_info"]["id"] for node in pipeline["nodes"]}
        finished = (one.node for one in read_records(run) if one.state != NodeState.FAILED)
        return open_nodes <= set(finished)
    return False


def _kill(node: _Node, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(node.pid, number)


def _log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} worker {os.getpid()}: {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: `serve` serves a run."""
    parser = argparse.ArgumentParser(prog="python -m tfrec_meta.pipeline.runners.worker")
    parser.add_argument("action", choices=("serve",))
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--idle-minutes", type=float, default=IDLE_MINUTES)
    options = parser.parse_args(arguments)
    return Worker(options.run, options.idle_minutes * 60).serve()


if __name__ == "__main__":
    sys.exit(main())
