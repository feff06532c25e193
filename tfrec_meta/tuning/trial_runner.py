"""Runs one trial and turns whatever happens into an outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.distributed.chief import ChiefFailed
from tfrec_meta.tuning.options import SearchOptions
from tfrec_meta.tuning.space import StrategySpace
from tfrec_meta.tuning.studies.log import utc_now
from tfrec_meta.tuning.studies.records import TrialStatus
from tfrec_meta.tuning.trial_report import OutOfTime, Report, TrialReport, TrialStopped

EvaluateTrial = Callable[[dict[str, Any], int, Path, Report], Mapping[str, Any]]
"""evaluate_trial(strategy_record, epochs, folder, report): builds, trains and scores a strategy.

It returns a dict with the objective and any other results to save with the trial, ready for JSON.
`folder` belongs to the trial alone. A trial that trains calls `report(epoch, value)` after each
epoch, and lets its exceptions pass: they end a trial that is too slow or hopeless."""

_log = logger(__name__)


class TrialRunner:
    """Evaluates trials; errors, time limits and early stops become part of the outcome.

    Args:
        evaluate_trial: see `EvaluateTrial`.
        space: the search space.
        objective: of the search.
        options: of the search.
    """

    def __init__(
        self,
        evaluate_trial: EvaluateTrial,
        space: StrategySpace,
        objective: Objective,
        options: SearchOptions,
    ):
        self._evaluate_trial = evaluate_trial
        self._space = space
        self._objective = objective
        self._options = options

    def run(
        self,
        values: Mapping[str, Any],
        folder: Path,
        should_stop: Callable[[Sequence[float]], bool],
        seconds: float,
    ) -> dict[str, Any]:
        """Evaluates one trial.

        Args:
            values: its hyperparameters by name.
            folder: of the trial.
            should_stop: called after each epoch with the learning curve so far.
            seconds: its time limit.

        Returns:
            The outcome; see `StrategyTuner.trials`.

        Raises:
            ChiefFailed: if the chief of a distributed search failed.
        """
        outcome = self.failed(values, "")
        report = TrialReport(seconds, should_stop)
        try:
            found = self._evaluate(outcome, folder, report)
        except TrialStopped as stopped:
            found = {"error": f"{stopped}, before any value was reported"}
            if report.curve:
                best = max(report.curve, key=self._objective.score)
                found = {self._objective: best, "status": TrialStatus.STOPPED.value, "error": None}
        except OutOfTime as late:
            found = {"status": TrialStatus.TIMED_OUT.value, "error": str(late)}
        except ChiefFailed:
            raise
        except Exception as error:  # the search goes on: other strategies may succeed
            _log.warning("A trial failed: %s", outcome["strategy"], exc_info=True)
            found = {"error": f"{type(error).__name__}: {error}"}
        return {
            **outcome,
            **found,
            "reports": report.curve,
            "seconds": report.seconds,
            "ended": utc_now(),
        }

    def failed(self, values: Mapping[str, Any], error: str) -> dict[str, Any]:
        """Returns the outcome of a trial that failed with this error.

        Args:
            values: its hyperparameters by name.
            error: a message.
        """
        values = dict(values)
        return {
            "values": values,
            "strategy": self._space.strategy_record(values),
            # Hyperband's value is the budget of the trial's round.
            "epochs": int(values.get("tuner/epochs", self._options.epochs)),
            "seed": self._options.seed,
            self._objective: None,
            "status": TrialStatus.FAILED.value,
            "error": error,
            "reports": [],
            "seconds": 0.0,
            "ended": utc_now(),
        }

    def _evaluate(
        self, outcome: Mapping[str, Any], folder: Path, report: TrialReport
    ) -> dict[str, Any]:
        strategy, epochs = outcome["strategy"], outcome["epochs"]
        result = dict(self._evaluate_trial(strategy, epochs, folder, report))
        report.check_time()
        value = float(result[self._objective])
        if not math.isfinite(value):
            return {"error": f"its {self._objective} is {value}"}
        return {
            **result,
            self._objective: value,
            "status": TrialStatus.COMPLETED.value,
            "error": None,
        }


def best_outcome(trials: Sequence[Mapping[str, Any]], objective: str) -> Mapping[str, Any]:
    """Returns the trial with the best objective.

    Of equal trials, the first wins. If all trials failed, the first is returned.

    Args:
        trials: as `StrategyTuner.trials` returns them; at least one.
        objective: an `Objective` or its value.
    """
    successful = [trial for trial in trials if trial.get("error") is None]
    score = Objective(objective).score
    return max(successful, key=lambda trial: score(trial[objective]), default=trials[0])
