"""The chief of a distributed search: one oracle serves many workers over gRPC.

KerasTuner has a chief and workers, too. But its messages round hyperparameters to float32, its
chief waits forever for a worker that was killed, its workers wait an hour for their chief, and
anybody may call the chief. So only its roles, their environment variables and its oracles are used
here. Messages are JSON, workers hold leases, and each call carries a token from the study's folder.
"""

from __future__ import annotations

import collections
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from keras_tuner.engine import trial as kt_trial

from tfrec_meta.io.files import write_text
from tfrec_meta.io.logs import logger

LEASE_SECONDS = 60.0
MAX_WORKER_DEATHS = 2  # workers that may die while they run a trial, before it counts as failed
SERVICE = "tfrec_meta.Study"
TOKEN = "study-token"  # the key of the token in a call's metadata
IDLE_SECONDS = 0.5
PATIENCE_SECONDS = 600.0  # how long a worker waits for a chief that does not respond
_THREADS = 64  # of the chief; a long suggestion blocks one thread for each waiting worker
_log = logger(__name__)
Status = kt_trial.TrialStatus


class ChiefFailed(RuntimeError):
    """The chief failed, or it does not respond."""


def study_token(folder: Path, *, create: bool) -> str:
    """Returns the secret that authenticates the workers of a study.

    It is stored in the study's folder, in a file that only its owner can read.

    Args:
        folder: of the study.
        create: whether this process, the chief, creates the token; a worker waits for it.

    Raises:
        ChiefFailed: if no chief creates the token in time.
    """
    path = folder / "token"
    if create and not (path.exists() and path.stat().st_size):
        write_text(path, secrets.token_hex(32), mode=0o600)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise ChiefFailed(
                f"No chief started in {folder} within {PATIENCE_SECONDS:g} s. Start it; chief and "
                "workers must see the same folder."
            )
        time.sleep(IDLE_SECONDS)
    return path.read_text(encoding="utf-8")


class Chief:
    """Serves an oracle to workers, one call at a time, and reclaims the trials of dead workers.

    A worker that sends no heartbeat for the time of a lease counts as dead, and another worker gets
    its trial. A trial that killed `MAX_WORKER_DEATHS` workers is passed to `fail_trial` first.

    Args:
        oracle: of the study, reloaded if the study continues; nothing else may use it meanwhile.
        token: of the study; calls without it are refused.
        fail_trial: saves a failure of the trial with this id; the next worker only reads it.
        lease_seconds: of a worker. A restarted chief waits as long for the workers of the previous
            chief, before it hands out the trials that they may be running.
    """

    def __init__(
        self,
        oracle: Any,
        token: str,
        fail_trial: Callable[[str], None],
        lease_seconds: float = LEASE_SECONDS,
    ):
        self._oracle = oracle
        self._token = token
        self._fail_trial = fail_trial
        self._lease = lease_seconds
        self._lock = threading.Lock()  # guards the oracle
        self._error: Exception | None = None
        self._last_heartbeat: dict[str, float] = {}  # by worker
        self._deaths: collections.Counter[str] = collections.Counter()  # by trial
        self._ended = False
        self._requeued_trials_from = time.monotonic() + lease_seconds

    def serve(self, address: str, on_poll: Callable[[], None]) -> None:
        """Blocks until the search has ended and all live workers have been informed.

        Args:
            address: to listen at, such as "127.0.0.1:8000".
            on_poll: called a few times per second.

        Raises:
            ChiefFailed: if the oracle raised, or if the address is not available.
        """
        # Otherwise a second chief could listen at the same address and get half of the calls.
        options = [("grpc.so_reuseport", 0)]
        pool = futures.ThreadPoolExecutor(_THREADS)
        server = grpc.server(pool, options=options)
        calls = ("create_trial", "get_trial", "update_trial", "end_trial", "should_stop")
        handlers = {name: self._handler(getattr(self, name)) for name in (*calls, "heartbeat")}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ChiefFailed(f"The chief cannot listen at {address}: {error}") from error
        if not bound:
            raise ChiefFailed(f"The chief cannot listen at {address}. Is another chief running?")
        server.start()
        try:
            while self._error is None and not self._is_done():
                time.sleep(IDLE_SECONDS / 2)
                on_poll()
        finally:
            server.stop(grace=1.0).wait()
        if self._error is not None:
            raise ChiefFailed(f"The oracle failed: {self._error}") from self._error

    def _handler(self, call: Callable[..., Any]) -> grpc.RpcMethodHandler:
        def answer(request: Mapping[str, Any], context: grpc.ServicerContext) -> Any:
            token = str(dict(context.invocation_metadata()).get(TOKEN, ""))
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "This is the chief of another study")
            try:
                if call == self.heartbeat:  # without the lock, or leases would expire meanwhile
                    return {"answer": call(**request)}
                with self._lock:
                    if self._error is None:
                        return {"answer": call(**request)}
            except Exception as error:
                # KerasTuner does not release its lock, so the oracle cannot be used any more.
                self._error = error
            context.abort(grpc.StatusCode.INTERNAL, str(self._error))

        return grpc.unary_unary_rpc_method_handler(answer, json.loads, as_bytes)

    def _is_done(self) -> bool:
        now = time.monotonic()
        return self._ended and all(
            now - at > self._lease for at in list(self._last_heartbeat.values())
        )

    # The calls of workers.

    def create_trial(self, worker: str) -> dict[str, Any]:
        """Returns the state of a new trial, or a status: idle or stopped."""
        self._last_heartbeat[worker] = time.monotonic()
        self._reclaim_from_dead_workers()
        # Workers of the previous chief may be running the waiting trials.
        if self._oracle.waiting and time.monotonic() < self._requeued_trials_from:
            return {"status": Status.IDLE}
        trial = self._oracle.create_trial(worker)
        if trial.status == Status.RUNNING:
            if self._deaths[trial.trial_id] >= MAX_WORKER_DEATHS:
                self._fail_trial(trial.trial_id)
            return trial.get_state()
        if trial.status == Status.STOPPED and not self._oracle.ongoing_trials:
            self._ended = True
            self._last_heartbeat.pop(worker, None)
            return {"status": Status.STOPPED}
        return {"status": Status.IDLE}  # a trial of another worker may be requeued

    def get_trial(self, trial_id: str) -> dict[str, Any]:
        """Returns the state of a trial."""
        return self._oracle.get_trial(trial_id).get_state()

    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int) -> dict[str, Any]:
        """Records metrics of a trial, unless another worker has finished it."""
        if trial_id in self._oracle.end_order:
            return self.get_trial(trial_id)
        return self._oracle.update_trial(trial_id, metrics, step=step).get_state()

    def end_trial(self, state: dict[str, Any]) -> None:
        """Finishes a trial, unless another worker has finished it."""
        trial = kt_trial.Trial.from_state(state)
        if trial.trial_id in self._oracle.end_order:
            return
        self._oracle.dequeue(trial.trial_id)  # it may already wait for a new worker
        self._oracle.end_trial(trial)

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        """Returns whether the oracle stops a running trial."""
        return bool(self._oracle.should_stop(trial_id, tuple(curve)))

    def heartbeat(self, worker: str, trial_id: str | None) -> None:
        """Records that a worker is alive and runs this trial."""
        if worker in self._last_heartbeat:
            self._last_heartbeat[worker] = time.monotonic()
        elif trial_id is not None:
            with self._lock:  # a worker of the previous chief
                if self._oracle.dequeue(trial_id, worker):
                    self._last_heartbeat[worker] = time.monotonic()

    def _reclaim_from_dead_workers(self) -> None:
        now = time.monotonic()
        last = self._last_heartbeat.items()
        for worker in [name for name, at in last if now - at > self._lease]:
            del self._last_heartbeat[worker]
            trial_id = self._oracle.reclaim(worker)
            if trial_id is not None:
                self._deaths[trial_id] += 1
                _log.warning(
                    "%s sent no heartbeat for %g s; another worker gets trial %s.",
                    *(worker, self._lease, trial_id),
                )


def as_bytes(message: Any) -> bytes:
    """Serialises a message as JSON."""
    return json.dumps(message).encode()
