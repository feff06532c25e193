"""What a trial reports after each epoch, and how one that is late or hopeless is ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

Report = Callable[[int, float | None], None]
"""report(epoch, value): called by a trial after each epoch, counted from 1, with the objective so
far, or None where there is none yet; raises `OutOfTime` or `TrialStopped`, which are to pass."""


class OutOfTime(Exception):
    """A trial took longer than it may."""


class TrialStopped(Exception):
    """A trial's curve shows that it leads nowhere."""


class TrialReport:
    """The reports of one trial: its curve so far, and its clock. It is a `Report`.

    The clock is looked at when the trial reports: nothing can end it within an epoch.

    Args:
        seconds: that the trial may take; None for any.
        should_stop: asked after each value with the curve so far; None stops no trial.

    Attributes:
        curve: the objective after each epoch, without those that are no number.
    """

    def __init__(
        self,
        seconds: float | None = None,
        should_stop: Callable[[Sequence[float]], bool] | None = None,
    ):
        self.curve: list[float] = []
        self._limit = math.inf if seconds is None else seconds
        self._should_stop = should_stop
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the trial has been running."""
        return time.perf_counter() - self._began

    def __call__(self, epoch: int, value: float | None) -> None:
        del self.curve[max(epoch - 1, 0) :]  # told again, as by a training that began anew
        if value is None or not math.isfinite(value):
            self.check_clock()
            return
        self.curve.append(float(value))
        self.check_clock()
        if self._should_stop is not None and self._should_stop(tuple(self.curve)):
            raise TrialStopped(f"stopped after epoch {epoch}")

    def check_clock(self) -> None:
        """Raises:
        OutOfTime: if the trial has taken longer than it may.
        """
        if self.seconds > self._limit:
            raise OutOfTime(
                f"It took {self.seconds:.1f} s, and `trial_seconds`={self._limit:g}. Raise that, "
                "or search smaller models."
            )
