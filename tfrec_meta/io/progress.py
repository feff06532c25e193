"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, TextIO

_QUIET_SECONDS = 10.0


class Progress:
    """Shows how far a piece of work is, on standard error.

    Work that ends within a few seconds prints nothing where there is no terminal.

    Args:
        label: what is being done.
        total: how much there is to do, None if unknown.
        unit: what `advance` counts; "B" is shown in powers of 1024.
    """

    def __init__(
        self, label: str, total: int | None = None, unit: str = "B", stream: TextIO | None = None
    ) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._stream = stream or sys.stderr
        self._done = 0
        self._spoke = time.monotonic()
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
        """Adds `amount` of work done."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)
        elif time.monotonic() - self._spoke >= _QUIET_SECONDS:
            self._spoke = time.monotonic()
            print(f"{self._label}: {self._state()}", file=self._stream, flush=True)

    def _state(self) -> str:
        if self._total:
            return f"{100 * self._done / self._total:.0f}% of {_amount(self._total, self._unit)}"
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
