"""A candidate is served and asked, in a process of its own, before it goes out.

The product's local server loads it as TF Serving would; the warm-up requests and sample requests go
over gRPC, and the answers are looked at. Whatever happens, the process is gone at the end.
"""

from __future__ import annotations

import contextlib
import math
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
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfrec_meta.export import signatures as names
from tfrec_meta.serving import Client
from tfrec_meta.serving.protocol import names as protocol
from tfrec_meta.serving.protocol import tensors
from tfrec_meta.serving.protocol.errors import ServingError

_NAME = "candidate"
_LOOK = 0.05  # seconds between two looks at memory and clock
# The server ends when its parent does, even by SIGKILL: its standard input is then closed.
_SERVE = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
from tfrec_meta.serving.server import serve
serve(sys.argv[1], port=0)
"""
COMMAND = (sys.executable, "-c", _SERVE)


class Refused(Exception):
    """Why the candidate must not go out."""


def try_out(
    model: Path | str,
    examples: Sequence[bytes],
    seconds: float,
    memory_mb: int,
    command: Sequence[str] = COMMAND,
) -> int:
    """Serves a SavedModel and asks it.

    Args:
        model: a folder with `saved_model.pb`.
        examples: serialised tf.Examples: the sample requests.
        seconds: for loading and answering together.
        memory_mb: of the server's process (its resident memory).
        command: that serves the base folder given as its last argument and prints
            `listening on HOST:PORT` once it answers.

    Returns:
        How many requests were answered well.

    Raises:
        Refused: in words, if it does not load, does not answer in time, needs too much memory, or
            answers nonsense.
    """
    deadline = time.monotonic() + seconds
    model = Path(model)
    if not (model / "saved_model.pb").is_file():
        raise Refused("it has no saved_model.pb")
    with tempfile.TemporaryDirectory(prefix="tfrec-meta-trial-") as folder:
        base = Path(folder) / _NAME
        # The server loads nothing from outside its base folder, so a link to it won't do.
        shutil.copytree(model, base / "1", copy_function=_link_or_copy)
        log = Path(folder) / "log"
        with _Server([*command, str(base)], log, seconds, deadline, memory_mb) as server:
            try:
                return _ask(server.address(), model, examples, deadline)
            except (ServingError, grpc.RpcError) as error:
                # The guard knows better why the line went dead.
                raise Refused(server.killed or f"it does not answer: {_said(error)}") from error
            except Refused:
                if server.killed:
                    raise Refused(server.killed) from None
                raise


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copyfile(source, target)


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "details", lambda: error)() or error).split())


class _Server:
    """A server's process, which a guard ends when time is up or memory runs out.

    Attributes:
        killed: why the guard ended it; "" if it didn't.
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
                start_new_session=True,  # a group of its own, to be ended as a whole
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
        """host:port, once it answers.

        Raises:
            Refused: if it ended, or was ended, before.
        """
        for line in self._process.stdout or ():
            if line.startswith("listening on "):
                self._listens = True
                return line.split()[-1]
        self._process.wait()
        raise Refused(self.killed or f"it does not load: {self._last_words()}")

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            if self._process.poll() is not None:
                return
            if time.monotonic() > self._deadline:
                late = "did not answer everything" if self._listens else "did not load"
                self.killed = f"it {late} within {self._seconds:g} seconds"
            elif (used := _resident_mb(self._process.pid)) > self._memory_mb:
                self.killed = f"its server needs {used:,} MB, more than {self._memory_mb:,}"
            if self.killed:
                self._kill()
                return

    def _kill(self) -> None:
        # Not waited for yet, so that its id can't be another's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else f"its server ended with status {self._process.returncode}"
        _, _, words = last.rpartition("ServerStartError: ")
        return words or last


def _resident_mb(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):  # it has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


# What is asked, and what is an answer.


def _ask(address: str, model: Path, examples: Sequence[bytes], deadline: float) -> int:
    """Replays warm-up and samples; the number of requests."""
    catalogue = _catalogue(model)
    with Client(address, model=_NAME, timeout=_left(deadline)) as client:
        known = client.metadata().signatures
        with _channel(address) as predict:
            asked = 0
            for request in _requests(model, examples, known):
                request.model_spec.name = _NAME
                signature = request.model_spec.signature_name
                if signature not in known:
                    raise Refused(f"it has no signature `{signature}`, which a request asks for")
                answer = predict(request, timeout=_left(deadline), wait_for_ready=True)
                try:
                    outputs = {name: tensors.decode(t) for name, t in answer.outputs.items()}
                except ValueError as error:
                    raise Refused(f"`{signature}` can't be understood: {error}") from error
                _check(signature, request, outputs, catalogue)
                asked += 1
    return asked


def _left(deadline: float) -> float:
    """Seconds that a call may take: a little more than is left, so that the guard comes first."""
    return max(deadline - time.monotonic(), 0) + 1


def _catalogue(model: Path) -> frozenset[bytes] | None:
    """All ids that may be answered; None where the model doesn't say.

    Raises:
        Refused: the file says it in a way that can't be read.
    """
    path = model / names.EXTRA_ASSETS / names.CATALOGUE
    if not path.is_file():
        return None
    try:
        items = pq.read_table(path, columns=[names.ITEM_ID])[names.ITEM_ID].cast(pa.string())
    except (pa.ArrowException, KeyError, OSError) as error:
        raise Refused(f"its {names.CATALOGUE} can't be read: {_said(error)}") from error
    return frozenset(item.encode() for item in items.drop_null().to_pylist())


@contextlib.contextmanager
def _channel(address: str) -> Iterator[Any]:
    options = [
        *protocol.channel_options(protocol.MAX_MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0),  # not meant for this machine
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
    """The warm-up; then all samples at once, and one by one, of each signature that takes them."""
    path = model / names.EXTRA_ASSETS / names.WARM_UP_REQUESTS
    if path.is_file():
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                entry = prediction_log_pb2.PredictionLog.FromString(record)
                if entry.WhichOneof("log_type") == "predict_log":
                    yield entry.predict_log.request
        except (DecodeError, tf.errors.OpError) as error:
            raise Refused(f"its warm-up requests can't be read: {_said(error)}") from error
    for signature in (names.SERVING_DEFAULT, names.RANK_EXAMPLES):
        if not examples or signature not in known:
            continue
        for batch in (examples, *([one] for one in examples)):
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            request.inputs[names.EXAMPLES].CopyFrom(tf.make_tensor_proto(list(batch)))
            yield request


def _check(
    signature: str,
    request: predict_pb2.PredictRequest,
    outputs: Mapping[str, np.ndarray],
    catalogue: frozenset[bytes] | None,
) -> None:
    """Raises Refused for an answer that no client could use."""
    rows = _row_count(signature, request)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise Refused(
                f"`{signature}` answers {rows} rows with `{name}` of shape {list(array.shape)}"
            )
    if names.SCORE in outputs:
        score = outputs[names.SCORE]
        if score.dtype.kind != "f":
            raise Refused(f"`{signature}` answers with scores of type {score.dtype}")
        blank = _blanks(signature, request, outputs, score)
        # Past a row's own `k`, and for blank candidates, the contract has -inf.
        if not np.isfinite(score[~blank]).all():
            bad = score[~blank][~np.isfinite(score[~blank])][0]
            raise Refused(f"`{signature}` answers with a score that is no number: {bad}")
    if names.ITEM_ID in outputs:
        _check_lists(signature, request, outputs[names.ITEM_ID], catalogue)


def _row_count(signature: str, request: predict_pb2.PredictRequest) -> int:
    """Rows that the request asks for.

    Raises:
        Refused: its inputs have none, so that no client could have sent it.
    """
    shapes = [tensor.tensor_shape.dim for tensor in request.inputs.values()]
    if not shapes or not all(shapes):
        lack = "inputs without rows" if shapes else "no inputs"
        raise Refused(f"a warm-up request for `{signature}` has {lack}")
    return max(shape[0].size for shape in shapes)


def _blanks(
    signature: str,
    request: predict_pb2.PredictRequest,
    outputs: Mapping[str, np.ndarray],
    score: np.ndarray,
) -> np.ndarray:
    """Bool, shaped as the scores: places where there is no item to score."""
    items = outputs.get(names.ITEM_ID)
    if items is None and signature == names.RANK and names.ITEM_ID in request.inputs:
        items = _input(request, names.ITEM_ID)
    if items is None:
        return np.zeros(score.shape, bool)
    if items.shape != score.shape:
        raise Refused(
            f"`{signature}` answers with scores of shape {list(score.shape)} for items of shape "
            f"{list(items.shape)}"
        )
    return items == names.PADDING.encode()


def _check_lists(
    signature: str,
    request: predict_pb2.PredictRequest,
    lists: np.ndarray,
    catalogue: frozenset[bytes] | None,
) -> None:
    padding = names.PADDING.encode()
    if lists.dtype != np.object_:
        raise Refused(f"`{signature}` answers with items of type {lists.dtype}")
    # Nothing is left to recommend to a user who met everything.
    met = _met(request, len(lists))
    open_rows = [not catalogue or not catalogue <= items for items in met]
    if any(open_rows) and not (lists[open_rows] != padding).any():
        raise Refused(f"`{signature}` recommends nothing to anyone")
    for row in _by_row(lists):
        items = [item for item in row if item != padding]
        if len(set(items)) < len(items):
            raise Refused(f"`{signature}` recommends an item twice in one list")
        strangers = [] if catalogue is None else [i for i in items if i not in catalogue]
        if strangers:
            shown = strangers[0].decode("utf-8", "replace")
            raise Refused(f"`{signature}` recommends {shown!r}, which its catalogue lacks")


def _met(request: predict_pb2.PredictRequest, rows: int) -> list[frozenset[bytes]]:
    """The items that each row of a request says to have been met already."""
    met: list[set[bytes]] = [set() for _ in range(rows)]
    own = [names.HISTORY, names.EXCLUDE]
    if request.model_spec.signature_name == names.ADAPT:
        own.append(names.ITEM_ID)  # the support set
    for name in own:
        if name in request.inputs:
            array = _input(request, name)
            for items, row in zip(met, _by_row(array), strict=False):
                items.update(row)
    if names.EXAMPLES in request.inputs:
        for items, record in zip(met, _input(request, names.EXAMPLES), strict=False):
            try:
                features = tf.train.Example.FromString(record).features.feature
            except DecodeError as error:
                raise Refused(f"a request's `{names.EXAMPLES}` are no tf.Examples") from error
            for name in (names.HISTORY, names.EXCLUDE):
                if name in features:
                    items.update(features[name].bytes_list.value)
    return [frozenset(items) for items in met]


def _by_row(array: np.ndarray) -> np.ndarray:
    # By hand, since -1 can't be found for an array without elements.
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _input(request: predict_pb2.PredictRequest, name: str) -> np.ndarray:
    try:
        return tensors.decode(request.inputs[name])
    except ValueError as error:
        raise Refused(f"a request's `{name}` can't be understood: {error}") from error
