"""A search as it goes: a live table with a bar on a terminal, a plain line a trial elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO

from tfrec_meta.tuning.studies.trial_records import (
    best_trial,
    default_values,
    differing,
    objective_of,
    parameters,
)

_ROWS = 8
_MOST_TOLD = 4  # hyperparameters of one trial in the table
_LONGEST_ERROR = 48
_SAYS = {"completed": "done", "stopped": "stopped", "timed_out": "timed out"}
_COLOURS = {"completed": "", "stopped": "cyan", "timed_out": "yellow"}


class SearchDisplay:
    """Shows the trials of a search as they end, and in the end the best one.

    It is told of trials by their records, and knows nothing of who makes them. Use it in a `with`,
    or call `begin` and `end`.

    Args:
        header: the study's record.
        total: how many trials there will be at most.
        done: records of the trials that ended before, as of a search that goes on.
        stream: to write to; standard error by default.
        terminal: whether the stream is one that can be redrawn; asked of the stream by default.
        width: of the terminal, in characters; asked of the terminal by default.
        clock: seconds, that only grow.
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
        self._began = clock()
        self._live: Any = None
        self._moved: list[logging.StreamHandler[Any]] = []

    def begin(self) -> None:
        """Starts the clock, and on a terminal draws the table."""
        self._began = self._clock()
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
            refresh_per_second=1,  # the clock; a trial that ends is shown at once
            # What others print goes above the table, as long as it would be on the terminal anyhow.
            redirect_stderr=ours,
            redirect_stdout=ours and sys.stdout.isatty(),
        )
        self._live.start()
        # Handlers of logs hold the stream itself, and would write into the middle of the table.
        self._moved = _handlers_on(self._stream) if ours else []
        for handler in self._moved:
            handler.setStream(sys.stderr)

    def trial_ended(self, trial: Mapping[str, Any]) -> None:
        """Takes in a trial's record; one with the number of an earlier one takes its place."""
        numbers = [str(known["trial_id"]) for known in self._trials]
        number = str(trial["trial_id"])
        if number in numbers:
            self._trials[numbers.index(number)] = trial
        else:
            self._trials.append(trial)
        if self._live is not None:
            self._live.refresh()
        elif not self._terminal:
            self._say(self._line(trial))

    def end(self) -> None:
        """Leaves the table as it is, and tells the best trial with its hyperparameters."""
        if self._live is not None:
            for handler in self._moved:
                handler.setStream(self._stream)
            self._live.stop()
            self._live = None
        if self._trials:
            for line in self._last_words():
                self._say(line)

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

    def _say(self, line: str) -> None:
        # A terminal that is gone must not end the search.
        with contextlib.suppress(BrokenPipeError):
            print(_encodable(line, self._stream), file=self._stream, flush=True)

    def _line(self, trial: Mapping[str, Any]) -> str:
        best = self._best()
        name = self._header["objective"]
        found = f"{name} {_number(objective_of(trial))}"
        so_far = f"best {_number(objective_of(best) if best else None)}"
        line = f"trial {len(self._trials)}/{self._total}: {found}, {so_far}, {_seconds(trial)} s"
        if objective_of(trial) is None:
            status = _SAYS.get(trial.get("status", ""), "failed")
            line += f" ({status}: {trial['error']})" if trial.get("error") else f" ({status})"
        elif trial.get("status") == "stopped":
            line += " (stopped early)"
        return _printable(line)

    def _last_words(self) -> list[str]:
        best = self._best()
        if best is None:
            return [f"None of {len(self._trials)} trials came to a value."]
        value = f"{self._header['objective']} {_number(objective_of(best))}"
        lines = [f"best of {len(self._trials)} trials: {best['trial_id']}, {value}"]
        defaults = default_values(self._header["space"])
        for name, setting in differing(self._header["space"], best["values"]).items():
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
        # The one column that may shrink; its cells are cut, not wrapped.
        table.add_column("what differs")
        best = self._best()
        shown = list(range(len(self._trials)))[-_ROWS:]
        places = [place for place, trial in enumerate(self._trials) if trial is best]
        if places and places[0] not in shown:
            self._add_row(table, places[0], best=True)
        for place in shown:
            self._add_row(table, place, best=place in places)
        return table

    def _add_row(self, table: Any, place: int, best: bool) -> None:
        trial = self._trials[place]
        status = trial.get("status") or "failed"
        so_far = best_trial(self._trials[: place + 1], self._header["direction"])
        style = "bold green" if best else _COLOURS.get(status, "red")
        told = self._told(trial)
        if objective_of(trial) is None and trial.get("error"):
            told = f"{_printable(str(trial['error']))[:_LONGEST_ERROR]}: {told}"
        table.add_row(
            _text(trial["trial_id"]),
            _text(trial.get("suggested_by") or ""),
            _text(_number(objective_of(trial))),
            _text(_number(objective_of(so_far) if so_far else None)),
            _text(_seconds(trial)),
            _text("best" if best else _SAYS.get(status, "failed")),
            _text(told),
            style=style,
        )

    def _told(self, trial: Mapping[str, Any]) -> str:
        found = differing(self._header["space"], trial["values"])
        told = [f"{self._known[name].short}={_setting(v)}" for name, v in found.items()]
        more = f" +{len(told) - _MOST_TOLD}" if len(told) > _MOST_TOLD else ""
        return " ".join(told[:_MOST_TOLD]) + more or "the default"

    def _bar(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        ended, elapsed = len(self._trials), self._clock() - self._began
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        left = _remaining(ended - self._before, self._total - ended, elapsed)
        row.add_row(
            _text(f"{self._header['objective']}, trial {ended}/{self._total}"),
            ProgressBar(total=max(self._total, 1), completed=min(ended, self._total)),
            f"{_clock_face(elapsed)} passed, {left}",
        )
        return row


def _handlers_on(stream: TextIO) -> list[logging.StreamHandler[Any]]:
    """The handlers of all loggers that write to this very stream."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    handlers = [h for logger in loggers for h in getattr(logger, "handlers", ())]
    return [h for h in handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]


def _remaining(ended: int, left: int, elapsed: float) -> str:
    """How long the rest will take, if it goes on as since it began."""
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
    """Without control characters, which could move the cursor or worse."""
    return "".join(c if c.isprintable() else " " for c in text).rstrip()


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _text(value: Any) -> Any:
    from rich.text import Text

    # No markup is read from records. Not encodable are lone surrogates only.
    text = _printable(str(value)).encode("utf-8", "replace").decode("utf-8")
    return Text(text, no_wrap=True, overflow="ellipsis")
