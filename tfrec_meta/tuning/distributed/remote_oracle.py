"""The oracle of a worker: it calls the chief and sends heartbeats."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import keras_tuner
from keras_tuner.engine import trial as kt_trial

from tfrec_meta.tuning.distributed import chief
from tfrec_meta.tuning.distributed.chief import LEASE_SECONDS, ChiefFailed, Status

_HEARTBEATS_PER_LEASE = 6


class RemoteOracle:
    """Calls the oracle of the chief, and sends heartbeats in a thread of its own.

    Args:
        oracle: of the same study; only its objective, number of trials and space are used.
        token: of the study.
        address: of the chief, such as "127.0.0.1:8000".
        worker: the start of the worker's name.
        has_ended: returns whether the study has ended, so that the chief may be gone.
        lease_seconds: as in the chief.
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
        # Unique, because KerasTuner gives the same trial to all workers of one name.
        self.worker = f"{worker}-{socket.gethostname()}-{os.getpid()}"
        self._space = oracle.get_space
        self._address = address
        self._metadata = ((chief.TOKEN, token),)
        self._has_ended = has_ended
        self._trial_id: str | None = None
        self._failure: ChiefFailed | None = None
        # Workers must reconnect to a restarted chief before it hands out their trials.
        self._channel = grpc.insecure_channel(address, [("grpc.max_reconnect_backoff_ms", 2000)])
        self._closed = threading.Event()
        self._pause = lease_seconds / _HEARTBEATS_PER_LEASE
        threading.Thread(target=self._send_heartbeats, name="heartbeats", daemon=True).start()

    def close(self) -> None:
        """Ends the heartbeats and closes the channel."""
        self._closed.set()
        self._channel.close()

    def wait(self) -> None:
        """Waits until the chief responds or the study has ended."""
        self._call_chief("heartbeat", worker=self.worker, trial_id=None)

    def create_trial(self, _: str) -> kt_trial.Trial:
        state = self._call_chief("create_trial", worker=self.worker)
        if state is None or state["status"] in (Status.STOPPED, Status.IDLE):
            status = Status.STOPPED if state is None else state["status"]
            if status == Status.IDLE:
                time.sleep(chief.IDLE_SECONDS)  # KerasTuner calls again without a pause
            return kt_trial.Trial(keras_tuner.HyperParameters(), "", status)
        self._trial_id = state["trial_id"]
        return kt_trial.Trial.from_state(state)

    def get_trial(self, trial_id: str) -> kt_trial.Trial:
        state = self._call_chief("get_trial", trial_id=trial_id)
        if state is None:
            return kt_trial.Trial(keras_tuner.HyperParameters(), trial_id)
        return kt_trial.Trial.from_state(state)

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        self._call_chief("update_trial", trial_id=trial_id, metrics=dict(metrics), step=step)

    def end_trial(self, trial: kt_trial.Trial) -> None:
        self._call_chief("end_trial", state=trial.get_state())
        self._trial_id = None

    def get_space(self) -> keras_tuner.HyperParameters:
        return self._space()

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        return bool(self._call_chief("should_stop", trial_id=trial_id, curve=list(curve)))

    def _send_heartbeats(self) -> None:
        while not self._closed.wait(self._pause):
            message = {"worker": self.worker, "trial_id": self._trial_id}
            try:
                self._call("heartbeat", self._pause, **message)
            except (grpc.RpcError, ValueError):  # the latter is raised by a closed channel
                pass

    def _call_chief(self, method: str, **request: Any) -> Any:
        """Returns the chief's answer, waiting for an absent chief; None if the study has ended.

        Raises:
            ChiefFailed: if the chief failed or does not come back in time.
        """
        deadline = time.monotonic() + chief.PATIENCE_SECONDS
        while self._failure is None:
            try:
                return self._call(method, chief.PATIENCE_SECONDS, **request)["answer"]
            except grpc.RpcError as error:
                code: Any = error
                is_away = code.code() == grpc.StatusCode.UNAVAILABLE
                if not is_away or time.monotonic() > deadline:
                    self._failure = ChiefFailed(
                        f"The chief at {self._address} failed, or did not respond within "
                        f"{chief.PATIENCE_SECONDS:g} s: {code.details()} Restart the chief and its "
                        "workers."
                    )
                elif self._has_ended():
                    return None
                time.sleep(chief.IDLE_SECONDS)
        raise self._failure

    def _call(self, method: str, seconds: float, **request: Any) -> Any:
        call = self._channel.unary_unary(f"/{chief.SERVICE}/{method}", chief.as_bytes, json.loads)
        return call(request, timeout=seconds, metadata=self._metadata)
