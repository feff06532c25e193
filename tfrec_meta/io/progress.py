"""Progress of long work: a bar on a terminal, occasional plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, TextIO

from tfrec_meta.io.logs import printable

_QUIET_SECONDS = 10.0


class Progress:
    """Shows the progress of a task on standard error.

    Without a terminal, a task that ends within ten seconds prints nothing.

    Args:
        label: name of the task.
        total: total amount of work; None if unknown.
        unit: unit of `advance`; "B" is shown in powers of 1024.
        stream: output; standard error by default.

    Example:
        >>> from tfrec_meta.io.progress import Progress
        >>> with Progress("reading", total=2, unit="files") as progress:
        ...     for _ in range(2):
        ...         progress.advance(1)
    """

    def __init__(
        self, label: str, total: int | None = None, unit: str = "B", stream: TextIO | None = None
    ) -> None:
        label = printable(label, lines=False)
        self._label, self._total, self._unit = label, total, unit
        self._stream = stream or sys.stderr
        self._done = 0
        self._began = self._last_printed = time.monotonic()
        self._bar: Any = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=label,
                total=total,
                unit=unit,
                unit_scale=True,
                unit_divisor=1024 if unit == "B" else 1000,
                file=self._stream,
                leave=False,
            )

    def advance(self, amount: int) -> None:
        """Reports `amount` more units of completed work."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)
        elif time.monotonic() - self._last_printed >= _QUIET_SECONDS:
            self._last_printed = time.monotonic()
            print(f"{self._label}: {self._state()}", file=self._stream, flush=True)

    def _state(self) -> str:
        if self._total:
            share = min(self._done / self._total, 1.0)
            left = (time.monotonic() - self._began) * (1 / share - 1) if share > 0 else 0.0
            return f"{share:.0%} of {_amount(self._total, self._unit)}, about {left:.0f} s left"
        return _amount(self._done, self._unit)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _amount(number: int, unit: str) -> str:
    return f"{number / 2**20:,.1f} MiB" if unit == "B" else f"{number:,} {unit}"
