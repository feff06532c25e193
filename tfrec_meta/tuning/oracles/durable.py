"""Oracles that survive a kill at any moment."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.io.damage import DamagedFile, read_json, reading
from tfrec_meta.io.files import write_text
from tfrec_meta.tuning.oracles.base import StudyOracle, has_ended


class DurableOracle(StudyOracle):
    """A mixin that makes a KerasTuner oracle safe against kills; it does not change suggestions.

    KerasTuner's own `reload` reads files that a kill may have truncated. It also retries a trial
    that had just ended, and counts a trial that had not started.
    """

    trials: dict[str, Any]
    _retry_queue: list[str]

    def _random_values(self) -> Any:
        """Returns the default values for the first trial, where the oracle would start randomly."""
        if not self.start_order:
            return dict(self.hyperparameters.values)
        return super()._random_values()

    def save(self) -> None:
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial: Any) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        write_text(path, json.dumps(trial.get_state()))

    def reload(self) -> None:
        """Restores the state of the search.

        Raises:
            DamagedFile: if the state or a trial is cut or empty, or a started trial is missing.
        """
        state = Path(self._get_oracle_fname())
        way_out = (
            f"Use another folder, or remove {state.parent} to search again; the store keeps the "
            "finished trials as a prior study"
        )
        read_json(state, way_out, ("start_order", "end_order", "ongoing_trials"))
        for path in sorted(state.parent.glob("trial_*/trial.json")):
            read_json(path, way_out, ("trial_id", "hyperparameters", "status", "metrics"))
        with reading(f"{state} or a trial.json beside it", way_out):
            super().reload()
        for name in self.start_order:
            if name not in self.trials:
                path = Path(self._get_trial_dir(name)) / "trial.json"
                raise DamagedFile(path, "it is missing", way_out)
        # A trial whose file was written before the oracle recorded its start has never run.
        self.trials = {name: self.trials[name] for name in self.start_order}
        ended = [name for name, trial in self.trials.items() if has_ended(trial)]
        self.end_order += [name for name in ended if name not in self.end_order]
        self._retry_queue = []
        # In reverse order, because the queue is read from its end.
        for name in [name for name in self.trials if name not in ended][::-1]:
            self._requeue(name)

    def _requeue(self, trial_id: str) -> None:
        trial = self.trials[trial_id]
        # Otherwise the metrics of the interrupted run would count, not those of the new run.
        trial.metrics = type(trial.metrics)()
        self._retry_queue.append(trial_id)

    # Methods for the chief of a distributed search.

    @property
    def waiting(self) -> Sequence[str]:
        """Ids of trials that have started and that no worker runs."""
        return tuple(self._retry_queue)

    def reclaim(self, worker: str) -> str | None:
        """Returns a dead worker's trial to the queue.

        Returns:
            The id of the trial, or None if the worker had none.
        """
        self.tuner_ids.discard(worker)
        trial = self.ongoing_trials.pop(worker, None)
        if trial is None:
            return None
        self._requeue(trial.trial_id)
        return trial.trial_id

    def dequeue(self, trial_id: str, worker: str | None = None) -> bool:
        """Removes a trial from the queue of waiting trials.

        Args:
            trial_id: of the trial.
            worker: the worker that runs the trial, if there is one.

        Returns:
            False if the trial was not in the queue.
        """
        if trial_id not in self._retry_queue:
            return False
        self._retry_queue.remove(trial_id)
        if worker is not None:
            self.tuner_ids.add(worker)
            self.ongoing_trials[worker] = self.trials[trial_id]
        return True


class DurableGridOracle(DurableOracle):
    """Restores the position in the grid, which KerasTuner does not save."""

    _ordered_ids: Any

    def reload(self) -> None:
        super().reload()

        def compare(one: str, other: str) -> int:
            pair = (self.trials[name].hyperparameters.values for name in (one, other))
            return self._compare(*pair)

        self._ordered_ids = type(self._ordered_ids)()
        for name in sorted(self.trials, key=functools.cmp_to_key(compare)):
            self._ordered_ids.insert(name)
        # All trials: the oracle skips those whose next combination was already tried.
        self._populate_next = list(self.trials)
