"""Tests a candidate in a server, in a process of its own, before it is pushed.

This package's local server loads the candidate as TF Serving would. Its warm-up requests and sample
requests are sent over gRPC, and the answers are checked. The process is always ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfrec_meta.export import signatures as names
from tfrec_meta.pipeline.components.answer_checks import (
    Refused,
    check_answer,
    error_text,
    read_catalogue,
)
from tfrec_meta.serving import Client
from tfrec_meta.serving.protocol import names as protocol
from tfrec_meta.serving.protocol import tensors
from tfrec_meta.serving.protocol.errors import ServingError

_NAME = "candidate"
_INTERVAL = 0.05  # seconds between two checks of memory and time
# The server ends with its parent, even after SIGKILL: its standard input closes.
_SERVE = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
from tfrec_meta.serving.server.server import serve
serve(sys.argv[1], port=0)
"""
COMMAND = (sys.executable, "-c", _SERVE)


def probe(
    model: Path | str,
    examples: Sequence[bytes],
    seconds: float,
    memory_mb: int,
    command: Sequence[str] = COMMAND,
) -> int:
    """Serves a SavedModel and sends requests.

    Args:
        model: a folder with `saved_model.pb`.
        examples: serialised tf.Examples for the sample requests.
        seconds: time limit for loading and answering together.
        memory_mb: limit of the resident memory of the server's process.
        command: command that serves the base folder given as its last argument, and prints
            `listening on HOST:PORT` when it accepts requests.

    Returns:
        The number of valid answers.

    Raises:
        Refused: if the model does not load, does not answer in time, needs too much memory, or
        returns
            an invalid answer.
    """
    deadline = time.monotonic() + seconds
    model = Path(model)
    if not (model / "saved_model.pb").is_file():
        raise Refused("it has no saved_model.pb")
    with tempfile.TemporaryDirectory(prefix="tfrec-meta-trial-") as folder:
        base = Path(folder) / _NAME
        # The server loads no files outside its base folder, so the folder itself can't be a link.
        shutil.copytree(model, base / "1", copy_function=_link_or_copy)
        log = Path(folder) / "log"
        with _Server([*command, str(base)], log, seconds, deadline, memory_mb) as server:
            try:
                return _send_requests(server.address(), model, examples, deadline)
            except (ServingError, grpc.RpcError) as error:
                # If the guard ended the server, its reason is the cause.
                raise Refused(
                    server.killed or f"it does not answer: {error_text(error)}"
                ) from error
            except Refused:
                if server.killed:
                    raise Refused(server.killed) from None
                raise


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copyfile(source, target)


class _Server:
    """The process of a server; a guard ends it when it exceeds its time or memory.

    Attributes:
        killed: why the guard ended it; "" if it did not.
    """

    def __init__(
        self, command: Sequence[str], log: Path, seconds: float, deadline: float, memory_mb: int
    ):
        self._command, self._log = command, log
        self._seconds, self._deadline, self._memory_mb = seconds, deadline, memory_mb
        self._over = threading.Event()
        self._listens = False
        self.killed = ""

    def __enter__(self) -> _Server:
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,  # a process group, to be ended together
            )
        self._guard = threading.Thread(target=self._watch, daemon=True)
        self._guard.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._guard.join()
        self._kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def address(self) -> str:
        """Returns host:port when the server accepts requests.

        Raises:
            Refused: if the server ended before.
        """
        for line in self._process.stdout or ():
            if line.startswith("listening on "):
                self._listens = True
                return line.split()[-1]
        self._process.wait()
        raise Refused(self.killed or f"it does not load: {self._last_line()}")

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL):
            if self._process.poll() is not None:
                return
            if time.monotonic() > self._deadline:
                late = "did not answer all requests" if self._listens else "did not load"
                self.killed = f"it {late} within {self._seconds:g} seconds"
            elif (used := _resident_mb(self._process.pid)) > self._memory_mb:
                self.killed = f"its server needs {used:,} MB, more than {self._memory_mb:,}"
            if self.killed:
                self._kill()
                return

    def _kill(self) -> None:
        # The process was not waited for yet, so its id is not reused.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _last_line(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else f"its server ended with status {self._process.returncode}"
        _, _, words = last.rpartition("ServerStartError: ")
        return words or last


def _resident_mb(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):  # the process has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def _send_requests(address: str, model: Path, examples: Sequence[bytes], deadline: float) -> int:
    """Sends warm-up and sample requests, checks the answers, and returns their number."""
    catalogue = read_catalogue(model)
    with Client(address, model=_NAME, timeout=_left(deadline)) as client:
        known = client.metadata().signatures
        with _channel(address) as predict:
            answered = 0
            for request in _requests(model, examples, known):
                request.model_spec.name = _NAME
                signature = request.model_spec.signature_name
                if signature not in known:
                    raise Refused(f"it has no signature `{signature}`, which a request needs")
                answer = predict(request, timeout=_left(deadline), wait_for_ready=True)
                try:
                    outputs = {name: tensors.decode(t) for name, t in answer.outputs.items()}
                except ValueError as error:
                    raise Refused(
                        f"the answer of `{signature}` can't be decoded: {error}"
                    ) from error
                check_answer(signature, request, outputs, catalogue)
                answered += 1
    return answered


def _left(deadline: float) -> float:
    """Returns the remaining seconds and one more, so that the guard acts before the timeout."""
    return max(deadline - time.monotonic(), 0) + 1


@contextlib.contextmanager
def _channel(address: str) -> Iterator[Any]:
    options = [
        *protocol.channel_options(protocol.MAX_MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0),  # proxies are not for this machine
    ]
    with grpc.insecure_channel(address, options) as channel:
        yield channel.unary_unary(
            f"/{protocol.PREDICTION_SERVICE}/Predict",
            request_serializer=predict_pb2.PredictRequest.SerializeToString,
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )


def _requests(
    model: Path, examples: Sequence[bytes], known: Mapping[str, Any]
) -> Iterator[predict_pb2.PredictRequest]:
    """Yields the warm-up requests; then the samples for each signature, together and one by one."""
    path = model / names.EXTRA_ASSETS / names.WARM_UP_REQUESTS
    if path.is_file():
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                entry = prediction_log_pb2.PredictionLog.FromString(record)
                if entry.WhichOneof("log_type") == "predict_log":
                    yield entry.predict_log.request
        except (DecodeError, tf.errors.OpError) as error:
            raise Refused(f"its warm-up requests can't be read: {error_text(error)}") from error
    for signature in (names.SERVING_DEFAULT, names.RANK_EXAMPLES):
        if not examples or signature not in known:
            continue
        for batch in (examples, *([one] for one in examples)):
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            request.inputs[names.EXAMPLES].CopyFrom(tf.make_tensor_proto(list(batch)))
            yield request
