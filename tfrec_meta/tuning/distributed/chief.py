"""One oracle for many workers: gRPC between them, with leases, so that a worker may die.

KerasTuner has a chief and workers, too. Its messages round hyperparameters to float32, its chief
waits for ever for a worker that was killed, a worker for an hour for its chief, and anybody may
call. So what is kept of it are its roles, their environment variables, and the oracle; the messages
are JSON, and each carries a token that lies in the study's folder.
"""

from __future__ import annotations

import collections
import hmac
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import keras_tuner
from keras_tuner.engine import trial as kt_trial

LEASE_SECONDS = 60.0
DEATHS = 2  # workers that may die of a trial, before it counts as failed
_SERVICE = "tfrec_meta.Study"
_TOKEN = "study-token"  # of a call's metadata
_BEATS_A_LEASE = 6
_IDLE_SECONDS = 0.5
_PATIENCE_SECONDS = 600.0  # of a worker with a chief that does not answer
_THREADS = 64  # of the chief: one waits for each worker, in the time of a long suggestion
_log = logging.getLogger(__name__)
Status = kt_trial.TrialStatus


class ChiefFailed(RuntimeError):
    """The chief met an error, or does not answer."""


def study_token(folder: Path, *, begin: bool) -> str:
    """What only those know who may read the study's folder; the owner alone may read the file.

    Args:
        folder: of the study.
        begin: as the chief, which makes it; a worker waits for it.

    Raises:
        ChiefFailed: if no chief begins in that folder.
    """
    path = folder / "token"
    if begin and not path.exists():
        new = path.with_name(".token.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        os.replace(new, path)
    until = time.monotonic() + _PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            raise ChiefFailed(
                f"No chief began in {folder} for {_PATIENCE_SECONDS:g} s. Start it; chief and "
                "workers have to see the same folder."
            )
        time.sleep(_IDLE_SECONDS)
    return path.read_text(encoding="utf-8")


class Chief:
    """Answers workers for an oracle, one at a time, and takes trials back from dead workers.

    A worker that was not heard of for a lease is taken for dead, and its trial is given to the next
    one that asks. A trial of which `DEATHS` workers died is handed to `give_up` first.

    Args:
        oracle: of the study, reloaded if it goes on; nobody else may use it meanwhile.
        token: that workers have to know.
        give_up: records a failure of a trial, by its id, so that its next worker only reads it.
        lease_seconds: see above; also how long a chief that was started anew waits for the workers
            of its predecessor, before it gives away what they may be running.
    """

    def __init__(
        self,
        oracle: Any,
        token: str,
        give_up: Callable[[str], None],
        lease_seconds: float = LEASE_SECONDS,
    ):
        self._oracle = oracle
        self._token = token
        self._give_up = give_up
        self._lease = lease_seconds
        self._lock = threading.Lock()  # of the oracle
        self._error: Exception | None = None
        self._heard: dict[str, float] = {}  # worker -> when
        self._deaths: collections.Counter[str] = collections.Counter()
        self._ended = False
        self._handing_out_from = time.monotonic() + lease_seconds

    def serve(self, address: str, tick: Callable[[], None]) -> None:
        """Blocks until the search has ended, and all workers that are alive know of it.

        Args:
            address: to listen at, as "127.0.0.1:8000".
            tick: called a few times a second.

        Raises:
            ChiefFailed: if the oracle raised, or the address can't be listened at.
        """
        # By default a second chief could listen at the same address, and get half of the calls.
        options = [("grpc.so_reuseport", 0)]
        pool = futures.ThreadPoolExecutor(_THREADS)
        server = grpc.server(pool, options=options)
        calls = ("create_trial", "get_trial", "update_trial", "end_trial", "should_stop", "beat")
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    _SERVICE, {name: self._handler(getattr(self, name)) for name in calls}
                ),
            )
        )
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ChiefFailed(f"Can't listen at {address}: {error}") from error
        if not bound:
            raise ChiefFailed(f"Can't listen at {address}. Is another chief there?")
        server.start()
        try:
            while self._error is None and not self._is_done():
                time.sleep(_IDLE_SECONDS / 2)
                tick()
        finally:
            server.stop(grace=1.0).wait()
        if self._error is not None:
            raise ChiefFailed(f"The oracle failed: {self._error}") from self._error

    def _handler(self, call: Callable[..., Any]) -> grpc.RpcMethodHandler:
        def answer(request: Mapping[str, Any], context: grpc.ServicerContext) -> Any:
            token = str(dict(context.invocation_metadata()).get(_TOKEN, ""))
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "This is the chief of another study")
            try:
                if call == self.beat:  # must not wait for a suggestion: leases would run out
                    return {"answer": call(**request)}
                with self._lock:
                    if self._error is None:
                        return {"answer": call(**request)}
            except Exception as error:
                # KerasTuner does not release its lock: the oracle can't be used any more.
                self._error = error
            context.abort(grpc.StatusCode.INTERNAL, str(self._error))

        return grpc.unary_unary_rpc_method_handler(answer, json.loads, _bytes)

    def _is_done(self) -> bool:
        now = time.monotonic()
        return self._ended and all(now - at > self._lease for at in list(self._heard.values()))

    # What workers ask.

    def create_trial(self, worker: str) -> dict[str, Any]:
        self._heard[worker] = time.monotonic()
        self._take_back_from_the_dead()
        # Those of this chief's predecessor may be running what waits.
        if self._oracle.waiting and time.monotonic() < self._handing_out_from:
            return {"status": Status.IDLE}
        trial = self._oracle.create_trial(worker)
        if trial.status == Status.RUNNING:
            if self._deaths[trial.trial_id] >= DEATHS:
                self._give_up(trial.trial_id)
            return trial.get_state()
        if trial.status == Status.STOPPED and not self._oracle.ongoing_trials:
            self._ended = True
            self._heard.pop(worker, None)
            return {"status": Status.STOPPED}
        return {"status": Status.IDLE}  # a trial that another runs may come back

    def get_trial(self, trial_id: str) -> dict[str, Any]:
        return self._oracle.get_trial(trial_id).get_state()

    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int) -> dict[str, Any]:
        if trial_id in self._oracle.end_order:  # by another worker, meanwhile
            return self.get_trial(trial_id)
        return self._oracle.update_trial(trial_id, metrics, step=step).get_state()

    def end_trial(self, state: dict[str, Any]) -> None:
        trial = kt_trial.Trial.from_state(state)
        if trial.trial_id in self._oracle.end_order:
            return
        self._oracle.withdraw(trial.trial_id)  # it may wait for a new worker already
        self._oracle.end_trial(trial)

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        asks = getattr(self._oracle, "should_stop", None)
        return bool(asks is not None and asks(trial_id, tuple(curve)))

    def beat(self, worker: str, trial_id: str | None) -> None:
        """The worker is alive, and runs that trial."""
        if worker in self._heard:
            self._heard[worker] = time.monotonic()
        elif trial_id is not None:
            with self._lock:  # a worker of this chief's predecessor
                if self._oracle.withdraw(trial_id, worker):
                    self._heard[worker] = time.monotonic()

    def _take_back_from_the_dead(self) -> None:
        now = time.monotonic()
        for worker in [name for name, at in self._heard.items() if now - at > self._lease]:
            del self._heard[worker]
            trial_id = self._oracle.take_back(worker)
            if trial_id is not None:
                self._deaths[trial_id] += 1
                _log.warning(
                    "%s was not heard of for %g s; trial %s goes to another worker.",
                    *(worker, self._lease, trial_id),
                )


class OracleOfChief:
    """The oracle as a worker has it: it asks the chief, and tells it that the worker is alive.

    Args:
        oracle: of the same study, which is not asked; its objective and number of trials are.
        token: of the study.
        address: of the chief, as "127.0.0.1:8000".
        worker: a name to begin its own with.
        has_ended: whether the study has come to its end, so that a chief may be gone.
        lease_seconds: as the chief has it.
    """

    def __init__(
        self,
        oracle: Any,
        token: str,
        address: str,
        worker: str,
        has_ended: Callable[[], bool],
        lease_seconds: float = LEASE_SECONDS,
    ):
        self.objective = oracle.objective
        self.max_trials = oracle.max_trials
        # Of its own, since KerasTuner gives the same trial to all of one name.
        self.worker = f"{worker}-{socket.gethostname()}-{os.getpid()}"
        self._space = oracle.get_space
        self._address = address
        self._metadata = ((_TOKEN, token),)
        self._has_ended = has_ended
        self._trial_id: str | None = None
        self._failed: ChiefFailed | None = None
        # A chief that was started anew is to hear of its workers before it hands out their trials.
        self._channel = grpc.insecure_channel(address, [("grpc.max_reconnect_backoff_ms", 2000)])
        self._closed = threading.Event()
        self._pause = lease_seconds / _BEATS_A_LEASE
        threading.Thread(target=self._beat, name="beats to the chief", daemon=True).start()

    def close(self) -> None:
        """Ends the signs of life."""
        self._closed.set()
        self._channel.close()

    def wait(self) -> None:
        """Until the chief is there, or the study has ended."""
        self._ask("beat", worker=self.worker, trial_id=None)

    def create_trial(self, _: str) -> kt_trial.Trial:
        state = self._ask("create_trial", worker=self.worker)
        if state is None or state["status"] in (Status.STOPPED, Status.IDLE):
            status = Status.STOPPED if state is None else state["status"]
            if status == Status.IDLE:
                time.sleep(_IDLE_SECONDS)  # KerasTuner asks again at once
            return kt_trial.Trial(keras_tuner.HyperParameters(), "", status)
        self._trial_id = state["trial_id"]
        return kt_trial.Trial.from_state(state)

    def get_trial(self, trial_id: str) -> kt_trial.Trial:
        state = self._ask("get_trial", trial_id=trial_id)
        if state is None:
            return kt_trial.Trial(keras_tuner.HyperParameters(), trial_id)
        return kt_trial.Trial.from_state(state)

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        self._ask("update_trial", trial_id=trial_id, metrics=dict(metrics), step=step)

    def end_trial(self, trial: kt_trial.Trial) -> None:
        self._ask("end_trial", state=trial.get_state())
        self._trial_id = None

    def get_space(self) -> keras_tuner.HyperParameters:
        return self._space()

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        return bool(self._ask("should_stop", trial_id=trial_id, curve=list(curve)))

    def _beat(self) -> None:
        while not self._closed.wait(self._pause):
            try:
                self._call("beat", self._pause, worker=self.worker, trial_id=self._trial_id)
            except (grpc.RpcError, ValueError):  # the latter of a channel that was closed
                pass

    def _ask(self, method: str, **request: Any) -> Any:
        """The chief's answer, for which a chief that is away is waited for; None once all is done.

        Raises:
            ChiefFailed: if it met an error, or does not come back.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        while self._failed is None:
            try:
                return self._call(method, _PATIENCE_SECONDS, **request)["answer"]
            except grpc.RpcError as error:
                code: Any = error
                if code.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                    self._failed = ChiefFailed(
                        f"The chief at {self._address} failed, or did not answer for "
                        f"{_PATIENCE_SECONDS:g} s: {code.details()} Start it and its workers anew."
                    )
                elif self._has_ended():
                    return None
                time.sleep(_IDLE_SECONDS)
        raise self._failed

    def _call(self, method: str, seconds: float, **request: Any) -> Any:
        call = self._channel.unary_unary(f"/{_SERVICE}/{method}", _bytes, json.loads)
        return call(request, timeout=seconds, metadata=self._metadata)


def _bytes(message: Any) -> bytes:
    return json.dumps(message).encode()
