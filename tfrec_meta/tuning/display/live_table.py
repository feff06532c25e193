"""Shows a running search: a live table on a terminal, else one line per trial."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO

from tfrec_meta.tuning.studies.records import TrialStatus
from tfrec_meta.tuning.studies.trial_records import (
    best_trial,
    changed_values,
    default_values,
    objective_value,
    parameters,
)

_ROWS = 8
_MOST_SHOWN = 4  # hyperparameters of one trial in the table
_LONGEST_ERROR = 48
_STATUS_LABELS = {
    TrialStatus.COMPLETED: "done",
    TrialStatus.STOPPED: "stopped",
    TrialStatus.TIMED_OUT: "timed out",
}
_COLOURS = {
    TrialStatus.COMPLETED: "",
    TrialStatus.STOPPED: "cyan",
    TrialStatus.TIMED_OUT: "yellow",
}


class SearchDisplay:
    """Shows the trials of a search as they end, and finally the best one.

    It reads records only, so it works with any tuner. Use it as a context manager, or call `begin`
    and `end`.

    Args:
        header: the study's record.
        total: the maximum number of trials.
        done: records of trials that had ended before, of a continued search.
        stream: the output; standard error by default.
        terminal: whether the stream can be redrawn; detected by default.
        width: of the terminal, in characters; detected by default.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        total: int,
        *,
        done: Sequence[Mapping[str, Any]] = (),
        stream: TextIO | None = None,
        terminal: bool | None = None,
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._header = header
        self._total = total
        self._trials = list(done)
        self._before = len(self._trials)
        self._stream = sys.stderr if stream is None else stream
        if terminal is None:
            terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._terminal = terminal
        self._width = width
        self._clock = clock
        self._known = parameters(header["space"])
        self._start = clock()
        self._live: Any = None
        self._moved: list[logging.StreamHandler[Any]] = []

    def begin(self) -> None:
        """Starts the clock and, on a terminal, draws the table."""
        self._start = self._clock()
        if not self._terminal:
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(
            file=self._stream, force_terminal=True, width=self._width, highlight=False
        )
        ours = self._stream is sys.stderr
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=1,  # for the clock; an ended trial refreshes the table itself
            # Other output appears above the table if it goes to the terminal anyway.
            redirect_stderr=ours,
            redirect_stdout=ours and sys.stdout.isatty(),
        )
        self._live.start()
        # Log handlers hold the stream itself, and would write into the table.
        self._moved = _handlers_on(self._stream) if ours else []
        for handler in self._moved:
            handler.setStream(sys.stderr)

    def trial_ended(self, trial: Mapping[str, Any]) -> None:
        """Adds a trial's record, or replaces the one with the same id."""
        ids = [str(known["trial_id"]) for known in self._trials]
        trial_id = str(trial["trial_id"])
        if trial_id in ids:
            self._trials[ids.index(trial_id)] = trial
        else:
            self._trials.append(trial)
        if self._live is not None:
            self._live.refresh()
        elif not self._terminal:
            self._print(self._line(trial))

    def end(self) -> None:
        """Stops the table, and prints the best trial with its hyperparameters."""
        if self._live is not None:
            for handler in self._moved:
                handler.setStream(self._stream)
            self._live.stop()
            self._live = None
        if self._trials:
            for line in self._summary():
                self._print(line)

    def __enter__(self) -> SearchDisplay:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def _best(self) -> Mapping[str, Any] | None:
        return best_trial(self._trials, self._header["direction"])

    def _print(self, line: str) -> None:
        # A closed terminal must not end the search.
        with contextlib.suppress(BrokenPipeError):
            print(_encodable(line, self._stream), file=self._stream, flush=True)

    def _line(self, trial: Mapping[str, Any]) -> str:
        best = self._best()
        name = self._header["objective"]
        found = f"{name} {_number(objective_value(trial))}"
        so_far = f"best {_number(objective_value(best) if best else None)}"
        line = f"trial {len(self._trials)}/{self._total}: {found}, {so_far}, {_seconds(trial)} s"
        if objective_value(trial) is None:
            status = _STATUS_LABELS.get(trial.get("status", ""), "failed")
            line += f" ({status}: {trial['error']})" if trial.get("error") else f" ({status})"
        elif trial.get("status") == TrialStatus.STOPPED:
            line += " (stopped early)"
        return _printable(line)

    def _summary(self) -> list[str]:
        best = self._best()
        if best is None:
            return [f"None of {len(self._trials)} trials has a value."]
        value = f"{self._header['objective']} {_number(objective_value(best))}"
        lines = [f"best of {len(self._trials)} trials: trial {best['trial_id']}, {value}"]
        defaults = default_values(self._header["space"])
        for name, setting in changed_values(self._header["space"], best["values"]).items():
            default = defaults.get(name, self._known[name].default)
            lines.append(f"  {name} = {_setting(setting)} (default {_setting(default)})")
        if len(lines) == 1:
            lines.append("  the default hyperparameters")
        return [_printable(line) for line in lines]

    # The live table.

    def _drawn(self) -> Any:
        from rich.console import Group

        return Group(self._table(), self._bar())

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("trial", no_wrap=True)
        table.add_column("by", no_wrap=True)
        for name in ("value", "best", "seconds"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("status", no_wrap=True)
        # The only column that may shrink; its cells are truncated, not wrapped.
        table.add_column("changes from the default")
        best = self._best()
        shown = list(range(len(self._trials)))[-_ROWS:]
        best_rows = [row for row, trial in enumerate(self._trials) if trial is best]
        if best_rows and best_rows[0] not in shown:
            self._add_row(table, best_rows[0], best=True)
        for row in shown:
            self._add_row(table, row, best=row in best_rows)
        return table

    def _add_row(self, table: Any, row: int, best: bool) -> None:
        trial = self._trials[row]
        status = trial.get("status") or TrialStatus.FAILED
        so_far = best_trial(self._trials[: row + 1], self._header["direction"])
        style = "bold green" if best else _COLOURS.get(status, "red")
        changes = self._changes(trial)
        if objective_value(trial) is None and trial.get("error"):
            changes = f"{_printable(str(trial['error']))[:_LONGEST_ERROR]}: {changes}"
        table.add_row(
            _text(trial["trial_id"]),
            _text(trial.get("suggested_by") or ""),
            _text(_number(objective_value(trial))),
            _text(_number(objective_value(so_far) if so_far else None)),
            _text(_seconds(trial)),
            _text("best" if best else _STATUS_LABELS.get(status, "failed")),
            _text(changes),
            style=style,
        )

    def _changes(self, trial: Mapping[str, Any]) -> str:
        found = changed_values(self._header["space"], trial["values"])
        changes = [f"{self._known[name].short}={_setting(v)}" for name, v in found.items()]
        more = f" +{len(changes) - _MOST_SHOWN}" if len(changes) > _MOST_SHOWN else ""
        return " ".join(changes[:_MOST_SHOWN]) + more or "the default"

    def _bar(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        ended, elapsed = len(self._trials), self._clock() - self._start
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        left = _remaining(ended - self._before, self._total - ended, elapsed)
        row.add_row(
            _text(f"{self._header['objective']}, trial {ended}/{self._total}"),
            ProgressBar(total=max(self._total, 1), completed=min(ended, self._total)),
            f"{_clock_face(elapsed)} elapsed, {left}",
        )
        return row


def _handlers_on(stream: TextIO) -> list[logging.StreamHandler[Any]]:
    """Returns the handlers of all loggers that write to this stream."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    handlers = [h for logger in loggers for h in getattr(logger, "handlers", ())]
    return [h for h in handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]


def _remaining(ended: int, left: int, elapsed: float) -> str:
    """Returns an estimate of the remaining time, from the mean time per trial so far."""
    if left <= 0:
        return "done"
    return f"about {_clock_face(left * elapsed / ended)} left" if ended else "no estimate yet"


def _clock_face(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _seconds(trial: Mapping[str, Any]) -> str:
    return f"{trial.get('seconds') or 0:.1f}"


def _printable(text: str) -> str:
    """Replaces control characters, which could move the cursor."""
    return "".join(c if c.isprintable() else " " for c in text).rstrip()


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _text(value: Any) -> Any:
    from rich.text import Text

    # A Text object, so that records are not read as markup. Only lone surrogates are not encodable.
    text = _printable(str(value)).encode("utf-8", "replace").decode("utf-8")
    return Text(text, no_wrap=True, overflow="ellipsis")
