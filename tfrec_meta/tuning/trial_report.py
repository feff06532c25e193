"""Reports of a trial after each epoch, and how a slow or hopeless trial is ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

Report = Callable[[int, float | None], None]
"""report(epoch, value): a trial calls it after each epoch, counted from 1, with the current
objective, or None if there is none yet. It raises `OutOfTime` or `TrialStopped` to end the trial;
the trial must not catch them."""


class OutOfTime(Exception):
    """A trial has exceeded its time limit."""


class TrialStopped(Exception):
    """A trial was stopped because its learning curve is hopeless."""


class TrialReport:
    """The `Report` of one trial: it records the learning curve and checks the time limit.

    The time limit is checked when the trial reports; nothing can end a trial within an epoch.

    Args:
        seconds: the time limit of the trial; None for no limit.
        should_stop: called after each value with the curve so far; None stops no trial.

    Attributes:
        curve: the objective after each epoch, without values that are not finite.
    """

    def __init__(
        self,
        seconds: float | None = None,
        should_stop: Callable[[Sequence[float]], bool] | None = None,
    ):
        self.curve: list[float] = []
        self._limit = math.inf if seconds is None else seconds
        self._should_stop = should_stop
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The wall time since the trial started, in seconds."""
        return time.perf_counter() - self._start

    def __call__(self, epoch: int, value: float | None) -> None:
        # An epoch is reported again when a training restarts.
        del self.curve[max(epoch - 1, 0) :]
        if value is None or not math.isfinite(value):
            self.check_time()
            return
        self.curve.append(float(value))
        self.check_time()
        if self._should_stop is not None and self._should_stop(tuple(self.curve)):
            raise TrialStopped(f"stopped after epoch {epoch}")

    def check_time(self) -> None:
        """Checks the time limit.

        Raises:
            OutOfTime: if the trial has exceeded it.
        """
        if self.seconds > self._limit:
            raise OutOfTime(
                f"The trial took {self.seconds:.1f} s, but `trial_seconds`={self._limit:g}. Raise "
                "the limit, or search smaller models."
            )
