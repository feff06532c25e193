"""The tuner: KerasTuner's search over strategies, safe against kills and failed trials."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner

from tfrec_meta.io.damage import read_json
from tfrec_meta.io.files import write_text
from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.display.live_table import SearchDisplay
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.distributed.chief import MAX_WORKER_DEATHS, Chief, study_token
from tfrec_meta.tuning.distributed.remote_oracle import RemoteOracle
from tfrec_meta.tuning.options import SearchOptions, TransferOptions
from tfrec_meta.tuning.oracles.registry import TRANSFER_ORACLES, build_oracle
from tfrec_meta.tuning.prior_studies import load_prior_studies
from tfrec_meta.tuning.space import StrategySpace
from tfrec_meta.tuning.studies.description import StudyDescription
from tfrec_meta.tuning.studies.identity import check_study_identity
from tfrec_meta.tuning.studies.log import (
    HEADER,
    StudyLog,
    saved_header,
    study_header,
    trial_record,
)
from tfrec_meta.tuning.studies.records import TrialStatus
from tfrec_meta.tuning.surrogates.importance import Surrogate
from tfrec_meta.tuning.surrogates.similarity import Similarity, similarity_weights
from tfrec_meta.tuning.trial_runner import EvaluateTrial, TrialRunner, best_outcome

_log = logger(__name__)

# The usual time limit of a trial: a multiple of the longest completed trial, and not less than some
# seconds, since small models take very different times.
_SLOWEST, _LEAST_SECONDS = 10, 600.0


class AllTrialsFailed(RuntimeError):
    """A search in which every trial failed."""


class StrategyTuner(base_tuner.BaseTuner):
    """Searches a strategy space with an oracle of this package or of KerasTuner.

    The first trial is the default strategy. A trial that raises, that has no finite objective or
    that exceeds its time limit counts as the worst possible, and the search goes on. The oracle may
    stop a hopeless trial after an epoch; its score is its best value so far. After a kill at any
    moment, the same call continues the search: finished trials are neither lost nor repeated, and
    an interrupted trial runs again.

    With the environment variables of `workers.environment`, the process is the chief, whose oracle
    serves all workers, or a worker, which runs trials. They share `folder`, and `search` ends in
    all of them together.

    Args:
        evaluate_trial: see `EvaluateTrial`.
        space: the search space.
        folder: of the study; all its state is saved there.
        options: how the search runs.
        study: the objective and the data.
        transfer: the use of prior studies; by default none are read, and nothing is recorded.
        complete_strategy: returns a strategy record with its fixed parts added, for the records of
            trials.

    Raises:
        ValueError: if `folder` holds a study with another space, objective, oracle, budget or
            seed, or with other data. The message names what differs.

    Example:
        >>> import tempfile
        >>> from tfrec_meta.tuning import SearchOptions, StrategySpace, StrategyTuner
        >>> def evaluate_trial(strategy, epochs, folder, report):
        ...     return {"val_ndcg@10": strategy["model"]["embedding_dim"] / 1000}
        >>> options = SearchOptions(oracle="random", trials=2, progress=False)
        >>> space = StrategySpace(("ials",))
        >>> tuner = StrategyTuner(evaluate_trial, space, tempfile.mkdtemp(), options)
        >>> tuner.search()
        >>> [trial["status"] for trial in tuner.trials()]
        ['completed', 'completed']
    """

    def __init__(
        self,
        evaluate_trial: EvaluateTrial,
        space: StrategySpace,
        folder: Path | str,
        options: SearchOptions = SearchOptions(),
        study: StudyDescription = StudyDescription(),
        transfer: TransferOptions = TransferOptions(),
        complete_strategy: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    ):
        self.role = workers.role()
        self.space = space
        self.objective = study.objective
        self.options = options
        self._complete_strategy = complete_strategy
        self._given_seconds = options.trial_seconds
        self._runner = TrialRunner(evaluate_trial, space, study.objective, options)
        folder = Path(folder).absolute()
        hyperparameters = space.hyperparameters()
        declared = hyperparameters.get_config()["space"]
        identity = {
            "objective": study.objective.value,
            "oracle": options.oracle,
            "epochs": options.epochs,
            "seed": options.seed,
            "space": declared,
            **study.identity,
        }
        # A worker joins a study that its chief has started, and checks it when the chief responds.
        self._check_identity = partial(check_study_identity, folder, identity)
        if self.role != "worker":
            self._check_identity()
        self.header = study_header(
            folder,
            declared,
            study,
            space_version=space.version,
            oracle=options.oracle,
            epochs=options.epochs,
            seed=options.seed,
        )
        self._study_log = StudyLog(transfer.store, self.header)
        self._display: SearchDisplay | None = None
        oracle = build_oracle(
            options.oracle,
            hyperparameters,
            keras_tuner.Objective(study.objective.value, study.objective.direction),
            trials=options.trials,
            epochs=options.epochs,
            seed=options.seed,
            transfer=self._transfer(folder, hyperparameters, study, transfer),
        )
        super().__init__(oracle=oracle, directory=str(folder.parent), project_name=folder.name)
        # In a worker, KerasTuner would replace the oracle by its own client.
        self.oracle: Any = oracle

    def _transfer(
        self,
        folder: Path,
        hyperparameters: keras_tuner.HyperParameters,
        study: StudyDescription,
        transfer: TransferOptions,
    ) -> dict[str, Any]:
        """Returns what an oracle of `TRANSFER_ORACLES` receives from prior studies."""
        # In a worker, the chief's oracle makes all suggestions.
        if (
            not transfer.use_prior_studies
            or self.options.oracle not in TRANSFER_ORACLES
            or self.role == "worker"
        ):
            return {}
        parent = folder if transfer.store is None else transfer.store.folder
        prior = load_prior_studies(
            self.header, hyperparameters, transfer.store, parent / "surrogates"
        )
        if self.options.progress:
            print(prior, file=sys.stderr, flush=True)
        weights = None
        if transfer.similarity and prior.surrogate is not None:
            weights = similarity_weights(
                prior.surrogate,
                study.profile if Similarity.PROFILE in transfer.similarity else None,
                study.text_embedding if Similarity.TEXTS in transfer.similarity else None,
            )
        return {"meta_surrogate": prior.surrogate, "study_weights": weights}

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Searches until all trials have ended: alone, as the chief, or as a worker.

        Raises:
            AllTrialsFailed: if every trial failed.
            ChiefFailed: if the oracle raised, or if a worker's chief does not respond.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._end_display)  # however the search ends, it frees the terminal
            if self.role == "alone":
                super().search(*fit_args, **fit_kwargs)
            elif self._has_ended():
                self.oracle.reload()
                self._check_identity()
                self._raise_if_all_failed()
            elif self.role == "chief":
                self._serve()
            else:
                self._work(*fit_args, **fit_kwargs)

    def _serve(self) -> None:
        self.save()
        address = workers.address_of_chief()
        if self.options.progress:
            print(f"The chief serves trials at {address}.", file=sys.stderr, flush=True)
        self.on_search_begin()
        recorded = set(self.oracle.end_order)

        def record_ended_trials() -> None:
            for trial_id in [name for name in self.oracle.end_order if name not in recorded]:
                recorded.add(trial_id)
                self._record_ended(trial_id)

        token = study_token(Path(self.project_dir), create=True)
        chief = Chief(self.oracle, token, self._fail_trial, self.options.lease_seconds)
        chief.serve(address, record_ended_trials)
        record_ended_trials()
        self.on_search_end()

    def _work(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        own = self.oracle
        token = study_token(Path(self.project_dir), create=False)
        self.oracle = RemoteOracle(
            own,
            token,
            address=workers.address_of_chief(),
            worker=os.environ[workers.ID],
            has_ended=self._has_ended,
            lease_seconds=self.options.lease_seconds,
        )
        try:
            self.oracle.wait()
            self._check_identity(create=False)
            super().search(*fit_args, **fit_kwargs)
        finally:
            self.oracle.close()
            self.oracle = own
        self.oracle.reload()
        self.header = saved_header(self.project_dir) or self.header  # the chief's header
        self._raise_if_all_failed()

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluates one strategy, or reads its outcome if the trial has already run.

        Raises:
            keras_tuner.errors.FailedTrialError: if the trial failed; KerasTuner marks it so.
        """
        values = trial.hyperparameters.values
        outcome = self._saved_outcome(trial)
        if outcome is None:
            folder = Path(self.get_trial_dir(trial.trial_id))
            should_stop = partial(self.oracle.should_stop, trial.trial_id)
            found = self._runner.run(values, folder, should_stop, self._trial_seconds())
            outcome = self._save_outcome(trial, found)
        if outcome["error"] is not None:
            raise keras_tuner.errors.FailedTrialError(outcome["error"])
        return {self.objective.value: outcome[self.objective]}

    def _trial_seconds(self) -> float:
        """The time limit of the next trial; see `SearchOptions`.

        It is computed from the outcomes in the folder, since the oracle of a worker does not know
        the trials of other workers.
        """
        if self._given_seconds is not None:
            return self._given_seconds
        files = Path(self.project_dir).glob("trial_*/outcome.json")
        outcomes = [self._read_outcome(file.parent.name.removeprefix("trial_")) for file in files]
        completed = [
            outcome["seconds"]
            for outcome in outcomes
            if outcome is not None and outcome["status"] == TrialStatus.COMPLETED
        ]
        return max(_LEAST_SECONDS, _SLOWEST * max(completed)) if completed else math.inf

    def _try_run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        """Runs a trial; KerasTuner would print the traceback of a failure, which is logged."""
        try:
            self._run_and_update_trial(trial, *args, **kwargs)
        except keras_tuner.errors.FatalError:
            raise
        except keras_tuner.errors.FailedTrialError as error:
            trial.status, trial.message = "FAILED", str(error)
        except Exception as error:  # such as an outcome that cannot be written
            _log.warning("Trial %s has no outcome.", trial.trial_id, exc_info=True)
            trial.status, trial.message = "FAILED", f"{type(error).__name__}: {error}"
        else:
            trial.status = "COMPLETED"

    def _outcome_path(self, trial_id: str) -> Path:
        return Path(self.get_trial_dir(trial_id)) / "outcome.json"

    def _read_outcome(self, trial_id: str) -> dict[str, Any] | None:
        path = self._outcome_path(trial_id)
        keys = ("values", "status", "error", "reports", "strategy", self.objective.value)
        way_out = "Remove the file to go on without this trial, or run it again if it had not ended"
        return read_json(path, way_out, keys) if path.exists() else None

    def _saved_outcome(self, trial: Any) -> dict[str, Any] | None:
        outcome = self._read_outcome(trial.trial_id)
        same = outcome is not None and outcome["values"] == dict(trial.hyperparameters.values)
        return outcome if same else None

    def _save_outcome(self, trial: Any, outcome: dict[str, Any]) -> dict[str, Any]:
        """Saves a trial's outcome, unless another worker has saved one; returns the saved one."""
        before = self._saved_outcome(trial)
        if before is None:
            write_text(self._outcome_path(trial.trial_id), json.dumps(outcome))
        return before or outcome

    def _fail_trial(self, trial_id: str) -> None:
        """Saves a failure of a trial that killed its workers; the next worker only reads it."""
        trial = self.oracle.get_trial(trial_id)
        error = f"{MAX_WORKER_DEATHS} workers died while they ran it"
        self._save_outcome(trial, self._runner.failed(trial.hyperparameters.values, error))

    def trials(self) -> list[dict[str, Any]]:
        """Returns the outcomes of the finished trials, in the order in which they started.

        Returns:
            One dict per trial: `trial_id`; the objective, None for a failed trial; `status`,
            "completed", "failed", "timed_out" or "stopped" (the best value of the learning curve is
            its objective); `error`, None for a successful trial; `reports`, the reported objective
            after each epoch; `seconds`; `ended`, ISO 8601 in UTC; `epochs`, the budget; `seed`, of
            the search; `values`, by hyperparameter; `strategy`, the searched parts; `suggested_by`,
            "default", "prior" (prior studies), "surrogate", "random", or None for KerasTuner's
            oracles; `expected`, the predicted `mean` and `std` of the objective, or None; and all
            other results of `evaluate_trial`.
        """
        found = [self._trial(trial_id) for trial_id in list(self.oracle.start_order)]
        return [trial for trial in found if trial is not None]

    def _trial(self, trial_id: str) -> dict[str, Any] | None:
        outcome = self._read_outcome(trial_id)
        if outcome is None:
            return None
        suggestion = self.oracle.suggestion(trial_id)
        source = {"suggested_by": suggestion["by"], "expected": suggestion["expected"]}
        return {"trial_id": trial_id, **source, **outcome}

    def records(self) -> list[dict[str, Any]]:
        """Returns the records of the finished trials for a store, in the order of their ends."""
        trials = {trial["trial_id"]: trial for trial in self.trials()}
        order = [name for name in [*self.oracle.end_order, *trials] if name in trials]
        return [self._trial_record(trials[name]) for name in dict.fromkeys(order)]

    def _trial_record(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        return trial_record(self.header, trial, self._complete_strategy)

    def prior_suggestions(self) -> list[dict[str, Any]]:
        """Returns the suggestions of prior studies, best first: dicts with `values`."""
        return self.oracle.prior_suggestions()

    @property
    def surrogate(self) -> Surrogate | None:
        """The oracle's model of the objective; None for KerasTuner's oracles and at the start."""
        return self.oracle.surrogate()

    def best_strategy_record(self) -> dict[str, Any]:
        """Returns the best trial's strategy, for `Strategy.from_dict`."""
        return best_outcome(self.trials(), self.objective)["strategy"]

    # KerasTuner's hooks.

    def on_search_begin(self) -> None:
        if self.role == "worker":
            return
        if saved_header(self.project_dir) != self.header:
            write_text(Path(self.project_dir) / HEADER, json.dumps(self.header, indent=1))
        records = self.records()
        self._study_log.begin(records)
        if self.options.progress:
            self._display = SearchDisplay(self.header, self.oracle.max_trials, done=records)
            self._display.begin()

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        if self.role == "alone":
            self._record_ended(trial.trial_id)

    def _record_ended(self, trial_id: str) -> None:
        """Writes an ended trial to the store and shows it."""
        trial = self._trial(trial_id)
        if trial is None:  # its worker could not save the outcome
            return
        record = self._trial_record(trial)
        self._study_log.add(record)
        if self._display is not None:
            self._display.trial_ended(record)

    def _end_display(self) -> None:
        if self._display is not None:
            self._display.end()
            self._display = None

    def on_search_end(self) -> None:
        if self.role != "worker":
            write_text(self._end_file, json.dumps({"trials": self.oracle.max_trials}))
            self._raise_if_all_failed()

    @property
    def _end_file(self) -> Path:
        return Path(self.project_dir) / "ended.json"

    def _has_ended(self) -> bool:
        """Whether the search has ended with at least the requested number of trials."""
        if not self._end_file.exists():
            return False
        ended = read_json(self._end_file, "Remove the file and search again", ("trials",))
        return ended["trials"] >= self.options.trials

    def _raise_if_all_failed(self) -> None:
        done = self.trials()
        if done and all(trial["error"] for trial in done):
            raise AllTrialsFailed(
                f"All {len(done)} trials failed; the last one with: {done[-1]['error']} Fix the "
                f"cause, then remove {self.project_dir} and search again."
            )

    def save(self) -> None:
        """Saves the state as KerasTuner does, with atomic writes."""
        if self.role != "worker":
            self.oracle.save()
            write_text(Path(self._get_tuner_fname()), json.dumps(self.get_state()))

    def reload(self) -> None:
        if self.role != "worker":
            self.oracle.reload()

    def _get_tuner_fname(self) -> str:
        """Returns one name for both roles, so that either continues the other's study."""
        return str(Path(self.project_dir) / "tuner0.json")
