"""The tuner: KerasTuner's search over strategies, safe against kills and failing trials."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner

from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.reports.study_page import write_study_report
from tfrec_meta.training import write_whole
from tfrec_meta.tuning.display.live_table import SearchDisplay
from tfrec_meta.tuning.display.trial_report import OutOfTime, Report, TrialReport, TrialStopped
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.distributed.chief import (
    DEATHS,
    LEASE_SECONDS,
    Chief,
    ChiefFailed,
    OracleOfChief,
    study_token,
)
from tfrec_meta.tuning.oracles import MetaBayesianOracle, MetaHyperbandOracle
from tfrec_meta.tuning.space import StrategySpace
from tfrec_meta.tuning.studies.identity import check_same_study
from tfrec_meta.tuning.studies.log import (
    HEADER,
    StudyLog,
    kept_header,
    now,
    study_header,
    trial_record,
)
from tfrec_meta.tuning.studies.store import StudyStore
from tfrec_meta.tuning.surrogates.importance import Surrogate
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate

ORACLES: dict[str, type[keras_tuner.Oracle]] = {
    "meta_bayesian": MetaBayesianOracle,
    "meta_hyperband": MetaHyperbandOracle,
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    "hyperband": keras_tuner.oracles.HyperbandOracle,
    "random": keras_tuner.oracles.RandomSearchOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
}

REMEMBERING = ("meta_bayesian", "meta_hyperband")
"""The oracles that have a use for earlier studies; the others are KerasTuner's own."""

EvaluateTrial = Callable[[dict[str, Any], int, Path, Report], Mapping[str, Any]]
"""evaluate_trial(strategy_record, epochs, folder, report): builds, trains and scores one strategy.
Gives a dict with the objective, and whatever else is worth keeping of the trial, ready for JSON.
The folder is the trial's own. `report(epoch, value)` is to be called after each epoch, if there are
any; what it raises ends a trial that is late or hopeless, and is to pass."""

_WORST = {"max": 0.0, "min": 1e3}  # finite, since oracles reckon with it
_log = logging.getLogger(__name__)


class AllTrialsFailed(RuntimeError):
    """A search in which no trial came to a result."""


class StrategyTuner(base_tuner.BaseTuner):
    """Searches a strategy space by one of our oracles or KerasTuner's.

    The first trial is the default strategy. A trial that raises, whose objective is no number, or
    that takes too long counts as the worst possible, and the search goes on. An oracle that has
    `should_stop(trial_id, curve)` is asked after each epoch whether a trial is hopeless; of one
    that it stops the best value so far counts. After a kill at any moment the same call goes on:
    finished trials are neither lost nor repeated, and the one that ran is run again.

    In an environment as `workers.environment` gives, this is the chief, whose oracle serves all, or
    a worker, which runs trials; they share `folder`, and `search` ends in all of them together.

    Args:
        evaluate_trial: see `EvaluateTrial`.
        space: what is searched.
        folder: of the study; everything that is known of it is kept there.
        oracle: a key of `ORACLES`.
        trials: how many are tried at most, in the whole search.
        epochs: of one trial, at most; "hyperband" and "meta_hyperband" give most trials fewer.
        seed: of the oracle.
        progress: whether to show it: a table on a terminal, a line a trial elsewhere.
        objective: an `Objective` or its value; the result of each trial contains it.
        about: what else tells one study from another, ready for JSON, such as a digest of the data.
        trial_seconds: that a trial may take; None for any. A trial that trains is ended after the
            epoch in which its time runs out, and one that reports no epochs is judged when it has
            ended: one that hangs has to be killed from outside.
        lease_seconds: after which a worker that gives no sign of life is taken for dead, and its
            trial given to another.
        memory: of earlier studies, for the oracles of `REMEMBERING`.
        beliefs: float [S], how much each of its studies is believed; alike by default.
        header: of the study (see `study_header`); by default one that says nothing of the data.
        store: where the study is written, header and trials as they end; None for nowhere.
        whole_strategy: gives a strategy record with all that was not searched, for trials' records.

    Raises:
        ValueError: for an unknown oracle, a limit that is not above 0, or if `folder` holds a study
            of another space, objective, oracle, budget, seed, or other data, with what differs.
    """

    def __init__(
        self,
        evaluate_trial: EvaluateTrial,
        space: StrategySpace,
        folder: Path | str,
        *,
        oracle: str = "meta_bayesian",
        trials: int = 30,
        epochs: int = 8,
        seed: int = 42,
        progress: bool = True,
        objective: Objective | str = Objective.NDCG,
        about: Mapping[str, Any] | None = None,
        trial_seconds: float | None = None,
        lease_seconds: float = LEASE_SECONDS,
        memory: MetaSurrogate | None = None,
        beliefs: Sequence[float] | None = None,
        header: Mapping[str, Any] | None = None,
        store: StudyStore | None = None,
        whole_strategy: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ):
        if oracle not in ORACLES:
            raise ValueError(f"`oracle`={oracle!r}; use one of {', '.join(ORACLES)}.")
        if trials < 1 or epochs < 1:
            raise ValueError(f"`trials`={trials} and `epochs`={epochs}; use 1 or more of each.")
        if trial_seconds is not None and not trial_seconds > 0:
            raise ValueError(f"`trial_seconds`={trial_seconds}; use a number above 0, or None.")
        if not lease_seconds > 0:
            raise ValueError(f"`lease_seconds`={lease_seconds}; use a number above 0.")
        self.role = workers.role()
        self.space = space
        self.epochs = epochs
        self.objective = objective = Objective(objective)
        self.seed = seed
        self.trial_seconds = trial_seconds
        self.lease_seconds = lease_seconds
        self._evaluate_trial = evaluate_trial
        self._shows_progress = progress
        self._trials = trials
        self._whole_strategy = whole_strategy
        folder = Path(folder).absolute()
        declared = space.hyperparameters().get_config()["space"]
        study = {
            "objective": objective,
            "oracle": oracle,
            "epochs": epochs,
            "seed": seed,
            "space": declared,
            **(about or {}),
        }
        # A worker joins a study that its chief began, and compares when that answers.
        self._check_study = partial(check_same_study, folder, study)
        if self.role != "worker":
            self._check_study()
        self.header = dict(header or {}) or study_header(
            folder,
            declared,
            space_version=space.version,
            objective=objective,
            direction=objective.direction,
            oracle=oracle,
            epochs=epochs,
            seed=seed,
        )
        self._study_log = StudyLog(store, self.header)
        self._display: SearchDisplay | None = None
        remembered = {"memory": memory, "beliefs": beliefs} if oracle in REMEMBERING else {}
        made = _made_oracle(oracle, space, trials, epochs, seed, objective, remembered)
        super().__init__(oracle=made, directory=str(folder.parent), project_name=folder.name)
        self.oracle = made  # a worker's would be KerasTuner's client

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Searches until all trials have ended: alone, as the chief, or as one of its workers.

        Raises:
            AllTrialsFailed: if none came to a result.
            ChiefFailed: if the oracle raised, or a worker's chief does not answer.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._end_display)  # whatever ends the search: it may have a terminal
            if self.role == "alone":
                super().search(*fit_args, **fit_kwargs)
            elif self._has_ended():
                self.oracle.reload()
                self._check_study()
                self._conclude()
            elif self.role == "chief":
                self._serve()
            else:
                self._work(*fit_args, **fit_kwargs)

    def _serve(self) -> None:
        self.save()
        address = workers.address_of_chief()
        if self._shows_progress:
            print(f"Trials are handed out at {address}.", file=sys.stderr, flush=True)
        self.on_search_begin()
        known = set(self.oracle.end_order)

        def take_in() -> None:
            for trial_id in [name for name in self.oracle.end_order if name not in known]:
                known.add(trial_id)
                self._take_in(trial_id)

        token = study_token(Path(self.project_dir), begin=True)
        Chief(self.oracle, token, self._give_up, self.lease_seconds).serve(address, take_in)
        take_in()
        self.on_search_end()

    def _work(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        own = self.oracle
        name, address = os.environ[workers.ID], workers.address_of_chief()
        token = study_token(Path(self.project_dir), begin=False)
        self.oracle = OracleOfChief(own, token, address, name, self._has_ended, self.lease_seconds)
        try:
            self.oracle.wait()
            self._check_study(begin=False)
            super().search(*fit_args, **fit_kwargs)
        finally:
            self.oracle.close()
            self.oracle = own
        self.oracle.reload()
        self.header = kept_header(self.project_dir) or self.header  # its chief's
        self._conclude()

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluates one strategy, or reads what it came to before a kill or elsewhere."""
        path = Path(self.get_trial_dir(trial.trial_id)) / "outcome.json"
        outcome = self._recorded(trial) or self._record(trial, self._outcome(trial, path.parent))
        trial.message = outcome["error"]
        return {self.objective: outcome[self.objective]}

    def _recorded(self, trial: Any) -> dict[str, Any] | None:
        outcome = _read(Path(self.get_trial_dir(trial.trial_id)) / "outcome.json")
        same = outcome is not None and outcome["values"] == dict(trial.hyperparameters.values)
        return outcome if same else None

    def _record(self, trial: Any, outcome: dict[str, Any]) -> dict[str, Any]:
        """Keeps what a trial came to, unless another worker was first."""
        path = Path(self.get_trial_dir(trial.trial_id)) / "outcome.json"
        before = self._recorded(trial)
        if before is None:
            write_whole(path, json.dumps(outcome))
        return before or outcome

    def _outcome(self, trial: Any, folder: Path) -> dict[str, Any]:
        blank = self._blank_outcome(trial)
        asks = getattr(self.oracle, "should_stop", None)
        should_stop = None if asks is None else partial(asks, trial.trial_id)
        report = TrialReport(self.trial_seconds, should_stop)
        try:
            result = dict(self._evaluate_trial(blank["strategy"], blank["epochs"], folder, report))
            report.check_clock()
            value = float(result[self.objective])
            if math.isfinite(value):
                found = {**result, self.objective: value, "status": "completed", "error": None}
            else:
                found = {"error": f"its {self.objective} is {value}"}
        except TrialStopped as stopped:
            found = {"error": f"{stopped}, without a value"}
            if report.curve:
                best = max(report.curve, key=self.objective.score)
                found = {self.objective: best, "status": "stopped", "error": None}
        except OutOfTime as late:
            found = {"status": "timed_out", "error": str(late)}
        except ChiefFailed:
            raise
        except Exception as error:  # whatever it is, other strategies may do better
            _log.warning("A trial failed: %s", blank["strategy"], exc_info=True)
            found = {"error": f"{type(error).__name__}: {error}"}
        return {
            **blank,
            **found,
            "reports": report.curve,
            "seconds": report.seconds,
            "ended": now(),
        }

    def _blank_outcome(self, trial: Any) -> dict[str, Any]:
        """Of a trial of which no more is known than that it failed."""
        values = dict(trial.hyperparameters.values)
        return {
            "values": values,
            "strategy": self.space.strategy_record(values),
            "epochs": int(values.get("tuner/epochs", self.epochs)),  # a hyperband's, of this round
            "seed": self.seed,
            self.objective: _WORST[self.objective.direction],
            "status": "failed",
            "error": "",
            "reports": [],
            "seconds": 0.0,
            "ended": now(),
        }

    def _give_up(self, trial_id: str) -> None:
        """Records that a trial kills its workers, so that the next one only reads it."""
        trial = self.oracle.get_trial(trial_id)
        error = f"{DEATHS} workers died while they ran it"
        self._record(trial, {**self._blank_outcome(trial), "error": error})

    def trials(self) -> list[dict[str, Any]]:
        """What the finished trials came to, in their order.

        Each has `trial_id`; the objective, which is the worst possible of one that came to nothing;
        `status`: "completed", "failed", "timed_out" or "stopped" (by its curve; its objective is
        the best of that); `error`, None if all went well; `reports`, the objective after each
        epoch, as far as it was reported; `seconds`; `ended`, ISO 8601 in UTC; `epochs`, the budget;
        `seed`, of the search; `values`, by name in the space; `strategy`, the parts that were
        searched; `suggested_by`: "default", "prior" (the memory), "surrogate", "random", or None of
        KerasTuner's oracles; `expected`, the mean and standard deviation of the objective that a
        surrogate expected, else None; and what else `evaluate_trial` gave.
        """
        found = [self._trial(trial_id) for trial_id in list(self.oracle.start_order)]
        return [trial for trial in found if trial is not None]

    def _trial(self, trial_id: str) -> dict[str, Any] | None:
        outcome = _read(Path(self.get_trial_dir(trial_id)) / "outcome.json")
        if outcome is None:
            return None
        first = trial_id == self.oracle.start_order[0]
        unknown = {"by": "default" if first else None, "expected": None}
        told = getattr(self.oracle, "suggested", {}).get(trial_id, unknown)
        whence = {"suggested_by": told["by"], "expected": told["expected"]}
        return {"trial_id": trial_id, **whence, **outcome}

    def records(self) -> list[dict[str, Any]]:
        """The finished trials as the store has them, in the order in which they ended."""
        trials = {trial["trial_id"]: trial for trial in self.trials()}
        order = [name for name in [*self.oracle.end_order, *trials] if name in trials]
        return [self._recorded_trial(trials[name]) for name in dict.fromkeys(order)]

    def _recorded_trial(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        return trial_record(self.header, trial, self._whole_strategy)

    def prior(self) -> list[dict[str, Any]]:
        """What the memory would try, the best first: dicts with `values` and `expected`, or []."""
        asked = getattr(self.oracle, "prior", None)
        return [] if asked is None else asked()

    @property
    def surrogate(self) -> Surrogate | None:
        """What the oracle knows of the objective; None of KerasTuner's, and before two trials."""
        return getattr(self.oracle, "predict", None) if len(self.oracle.end_order) > 1 else None

    def report(self, path: Path | str) -> Path:
        """Writes the study's HTML page, at any time."""
        return write_study_report(path, self.header, self.records(), self.surrogate, self.prior())

    def best_strategy_record(self) -> dict[str, Any]:
        """The best trial's strategy, for `Strategy.from_dict`."""
        return best_of(self.trials(), self.objective)["strategy"]

    # KerasTuner's hooks.

    def on_search_begin(self) -> None:
        if self.role == "worker":
            return
        if kept_header(self.project_dir) != self.header:
            write_whole(Path(self.project_dir) / HEADER, json.dumps(self.header, indent=1))
        records = self.records()
        self._study_log.begin(records)
        if self._shows_progress:
            self._display = SearchDisplay(self.header, self.oracle.max_trials, done=records)
            self._display.begin()

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        if self.role == "alone":
            self._take_in(trial.trial_id)

    def _take_in(self, trial_id: str) -> None:
        """Remembers and shows a trial that has ended."""
        trial = self._trial(trial_id)
        if trial is None:  # its worker could not write it down
            return
        record = self._recorded_trial(trial)
        self._study_log.add(record)
        if self._display is not None:
            self._display.trial_ended(record)

    def _end_display(self) -> None:
        if self._display is not None:
            self._display.end()
            self._display = None

    def on_search_end(self) -> None:
        if self.role != "worker":
            write_whole(self._end_file, json.dumps({"trials": self.oracle.max_trials}))
            self._conclude()

    @property
    def _end_file(self) -> Path:
        return Path(self.project_dir) / "ended.json"

    def _has_ended(self) -> bool:
        """Whether that many trials were tried, or all that there are."""
        ended = _read(self._end_file)
        return ended is not None and ended["trials"] >= self._trials

    def _conclude(self) -> None:
        done = self.trials()
        if done and all(trial["error"] for trial in done):
            raise AllTrialsFailed(
                f"All {len(done)} trials failed; the last one with: {done[-1]['error']} Mend the "
                f"cause, and remove {self.project_dir} to search anew."
            )

    def save(self) -> None:
        """As KerasTuner does, but no kill leaves half a file."""
        if self.role != "worker":
            self.oracle.save()
            write_whole(Path(self._get_tuner_fname()), json.dumps(self.get_state()))

    def reload(self) -> None:
        if self.role != "worker":
            self.oracle.reload()

    def _get_tuner_fname(self) -> str:
        """The same alone and as the chief, who may go on with one another's study."""
        return str(Path(self.project_dir) / "tuner0.json")


def best_of(trials: Sequence[Mapping[str, Any]], objective: str) -> Mapping[str, Any]:
    """The trial with the best objective, the first of equals; of those that failed, if all did."""
    trials = [trial for trial in trials if trial.get("error") is None] or trials
    score = Objective(objective).score
    return max(trials, key=lambda trial: score(trial[objective]))


class _Durable(keras_tuner.Oracle):
    """What KerasTuner's oracles lack to survive a kill at any moment; how they suggest is theirs.

    Their own reload trusts files that a kill may have cut off, sends a trial that had just ended
    for a retry, and counts one that had not quite begun.
    """

    trials: dict[str, Any]
    _retry_queue: list[str]

    def _random_values(self) -> Any:
        """The default strategy first, where the oracle would begin at random."""
        if not self.start_order:
            return dict(self.hyperparameters.values)
        return super()._random_values()

    def save(self) -> None:
        write_whole(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial: Any) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        write_whole(path, json.dumps(trial.get_state()))

    def reload(self) -> None:
        super().reload()
        # A trial whose file was written, but of which the oracle knows nothing yet, never ran.
        self.trials = {name: self.trials[name] for name in self.start_order}
        ended = [n for n, trial in self.trials.items() if trial.status in ("COMPLETED", "FAILED")]
        self.end_order += [name for name in ended if name not in self.end_order]
        self._retry_queue = []
        for name in [name for name in self.trials if name not in ended][::-1]:  # taken from the end
            self._run_again(name)

    def _run_again(self, trial_id: str) -> None:
        trial = self.trials[trial_id]
        trial.metrics = type(trial.metrics)()  # or what it reported would count, not its new result
        self._retry_queue.append(trial_id)

    # What a chief asks of it.

    @property
    def waiting(self) -> Sequence[str]:
        """Trials that began, and that nobody runs."""
        return tuple(self._retry_queue)

    def take_back(self, worker: str) -> str | None:
        """Lets the trial of a worker that died wait for another one; its id, if there is one."""
        self.tuner_ids.discard(worker)
        trial = self.ongoing_trials.pop(worker, None)
        if trial is None:
            return None
        self._run_again(trial.trial_id)
        return trial.trial_id

    def withdraw(self, trial_id: str, worker: str | None = None) -> bool:
        """Lets a trial wait no longer, since that worker runs it; False if it did not wait."""
        if trial_id not in self._retry_queue:
            return False
        self._retry_queue.remove(trial_id)
        if worker is not None:
            self.tuner_ids.add(worker)
            self.ongoing_trials[worker] = self.trials[trial_id]
        return True


class _DurableGrid(_Durable):
    """The grid's place in the space, which KerasTuner doesn't save at all."""

    _ordered_ids: Any

    def reload(self) -> None:
        super().reload()

        def compare(one: str, other: str) -> int:
            pair = (self.trials[name].hyperparameters.values for name in (one, other))
            return self._compare(*pair)

        self._ordered_ids = type(self._ordered_ids)()
        for name in sorted(self.trials, key=functools.cmp_to_key(compare)):
            self._ordered_ids.insert(name)
        # All of them: it passes over those whose next combination has been tried.
        self._populate_next = list(self.trials)


def _made_oracle(
    name: str,
    space: StrategySpace,
    trials: int,
    epochs: int,
    seed: int,
    objective: Objective,
    remembered: Mapping[str, Any],
) -> keras_tuner.Oracle:
    bases = (_DurableGrid if name == "grid" else _Durable, ORACLES[name])
    by_epochs = issubclass(ORACLES[name], keras_tuner.oracles.HyperbandOracle)
    budget = {"max_epochs": epochs} if by_epochs else {"max_trials": trials}
    oracle = type(ORACLES[name].__name__, bases, {})(
        objective=keras_tuner.Objective(objective.value, objective.direction),
        hyperparameters=space.hyperparameters(),
        seed=seed + 1,  # KerasTuner takes 0 for none
        # A trial that fails counts as bad; KerasTuner would end the search at the third.
        max_consecutive_failed_trials=None,
        **budget,
        **remembered,
    )
    oracle.max_trials = trials  # which the hyperband's constructor doesn't take
    oracle.verbose = 0
    return oracle


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
