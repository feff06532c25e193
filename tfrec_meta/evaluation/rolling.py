"""Rolling-origin evaluation: windows of time after several cut-offs, and results over them.

Source: Tashman, "Out-of-sample tests of forecasting accuracy", International Journal of
Forecasting 2000.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.checks import Interval, check, of_type, whole_number
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.results import Evaluations, aligned

_SHARE = Interval(0, 1, "a share between 0 and 1", open_low=True, open_high=True)


def cut_offs(times: NDArray[np.int64], cuts: int | Sequence[int], first: float) -> list[int]:
    """Returns the times at which the windows begin; each window ends where the next one begins.

    Args:
        times: int64 [n], Unix seconds of the events that are predicted.
        cuts: how many cut-offs, so that the windows have equal numbers of events; or the cut-offs
            themselves, in Unix seconds and ascending.
        first: with a number of cut-offs, the share of the events before the first one.

    Raises:
        ParameterError: if the cut-offs are not ascending, or a window, or the time before the first
            cut-off, has no event.
        ValueError: if there are no events.
    """
    if not len(times):
        raise ValueError("There are no events to predict. Check the target of the feedback.")
    ordered = np.sort(times)
    if isinstance(cuts, Sequence | np.ndarray) and not isinstance(cuts, str):
        for cut in cuts:
            check("cuts", cut, of_type(int))
        found = np.array(cuts, np.int64)
        if not len(found) or (found[1:] <= found[:-1]).any():
            raise ParameterError(
                f"`cuts`={list(cuts)}; use one or more ascending Unix seconds.", "cuts"
            )
    else:
        check("cuts", cuts, whole_number(1))
        check("first", first, _SHARE)
        shares = first + (1 - first) * np.arange(cuts) / cuts
        places = np.round(shares * len(ordered)).astype(np.int64)
        found = ordered[places.clip(0, len(ordered) - 1)]
    counts = np.diff(np.searchsorted(ordered, found), prepend=0, append=len(times))
    if not counts.all():
        where = "before the first cut-off"
        if counts[0]:
            where = f"in the window that begins at {text_of(int(found[counts[1:].argmin()]))}"
        raise ParameterError(
            f"`cuts`={cuts}: {where} there is no event, of {len(times):,} in all at "
            f"{len(np.unique(times)):,} distinct times. Use fewer or other cut-offs.",
            "cuts",
        )
    return found.tolist()


def text_of(time: int) -> str:
    """Returns a Unix second as a date and a time in UTC."""
    return str(np.datetime64(time, "s")).replace("T", " ")


@dataclasses.dataclass(frozen=True)
class Window:
    """The evaluation of one cut-off.

    Attributes:
        start: the cut-off in Unix seconds; the model learned from earlier events.
        stop: the end of the window, excluded; None for the last window, which has no end.
        train_events: number of earlier events.
        test_events: number of events of the window that were predicted.
        evaluations: the evaluation of the model and its baselines on the window.
    """

    start: int
    stop: int | None
    train_events: int
    test_events: int
    evaluations: Evaluations

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**plain, "evaluations": self.evaluations.as_dict()}


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and spread of a metric over the windows in which it has a value.

    Attributes:
        mean: the mean of the windows, each with the same weight.
        deviation: the sample standard deviation; NaN for fewer than two windows.
        low, high: the lowest and the highest value.
    """

    mean: float
    deviation: float
    low: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike) -> Spread:
        """Returns the spread of float [windows]; NaN values are left out."""
        array = np.asarray(values, np.float64)
        known = array[~np.isnan(array)]
        if not len(known):
            return cls(*[math.nan] * 4)
        deviation = float(known.std(ddof=1)) if len(known) > 1 else math.nan
        return cls(float(known.mean()), deviation, float(known.min()), float(known.max()))

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        deviation = "" if math.isnan(self.deviation) else f" (sd {self.deviation:.4f})"
        return f"{self.mean:.4f}{deviation}"


@dataclasses.dataclass(frozen=True)
class RollingEvaluation:
    """Evaluations after several cut-offs; prints as two tables, by cut-off and in summary.

    Attributes:
        windows: in the order of time.
    """

    windows: tuple[Window, ...]

    @property
    def metric(self) -> str:
        """The main metric, which the table of cut-offs shows: the first one, such as NDCG."""
        return self.windows[0].evaluations.metric

    @cached_property
    def summary(self) -> dict[str, dict[str, Spread]]:
        """The spread of each metric over the windows, by model and metric."""
        first = self.windows[0].evaluations
        return {
            name: {
                metric: Spread.of(
                    [window.evaluations[name].metrics[metric].value for window in self.windows]
                )
                for metric in evaluation.metrics
            }
            for name, evaluation in first.items()
        }

    def __str__(self) -> str:
        names = [*self.summary]
        rows = [["cut-off (UTC)", "train", "test", "users", *names]]
        for window in self.windows:
            found = window.evaluations
            counts = (window.train_events, window.test_events, found[names[0]].counts["queries"])
            values = (found[name].metrics[self.metric].value for name in names)
            rows.append(
                [text_of(window.start), *(f"{count:,}" for count in counts), *map(_cell, values)]
            )
        metrics = list(self.summary[names[0]])
        means = [["model", *metrics]]
        means += [[name, *map(str, self.summary[name].values())] for name in names]
        return (
            f"{self.metric} by cut-off\n{aligned(rows)}\n\n"
            f"mean and standard deviation of {len(self.windows)} cut-offs\n{aligned(means)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns windows and summary as plain values, ready for JSON: None for NaN."""
        return {
            "windows": [window.as_dict() for window in self.windows],
            "summary": {
                name: {metric: _plain(spread) for metric, spread in metrics.items()}
                for name, metrics in self.summary.items()
            },
        }


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _plain(spread: Spread) -> dict[str, float | None]:
    values = dataclasses.asdict(spread)
    return {name: None if math.isnan(value) else value for name, value in values.items()}
