"""The tuner: KerasTuner's search over strategies, safe against kills and failing trials."""

from __future__ import annotations

import functools
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before KerasTuner is imported)
from tfrec_meta.training import write_whole
from tfrec_meta.tuning.space import StrategySpace

import keras_tuner
from keras_tuner.engine import base_tuner
from tqdm import tqdm

OBJECTIVE = "val_ndcg_at_10"
DIRECTIONS = {OBJECTIVE: "max", "val_auc": "max", "val_rmse": "min"}
ORACLES: dict[str, type[keras_tuner.Oracle]] = {
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    "hyperband": keras_tuner.oracles.HyperbandOracle,
    "random": keras_tuner.oracles.RandomSearchOracle,
    "grid": keras_tuner.oracles.GridSearchOracle,
}

EvaluateTrial = Callable[[dict[str, Any], int, Path], Mapping[str, Any]]
"""evaluate_trial(strategy_record, epochs, folder): builds, trains and scores one strategy. Gives
a dict with the objective, and whatever else is worth keeping of the trial, ready for JSON. The
folder is the trial's own."""

_WORST = {"max": 0.0, "min": 1e3}  # finite, since oracles reckon with it
_log = logging.getLogger(__name__)


class AllTrialsFailed(RuntimeError):
    """A search in which no trial came to a result."""


class StrategyTuner(base_tuner.BaseTuner):
    """Searches a strategy space by one of KerasTuner's oracles.

    The first trial is the default strategy. A trial that raises, or whose objective is no number,
    counts as the worst possible, and the search goes on. After a kill at any moment the same call
    goes on: finished trials are neither lost nor repeated, and the one that ran is run again.

    Args:
        evaluate_trial: see `EvaluateTrial`.
        space: what is searched.
        folder: of the study; everything that is known of it is kept there.
        oracle: a key of `ORACLES`.
        trials: how many are tried at most, in the whole search.
        epochs: of one trial, at most; "hyperband" gives most trials fewer.
        seed: of the oracle.
        progress: whether to show it: a bar on a terminal, a line a trial elsewhere.
        objective: a key of `DIRECTIONS`, which a trial's result has.
        about: what else tells one study from another, ready for JSON, such as a digest of the data.

    Raises:
        ValueError: for an unknown oracle, or if `folder` holds a study of another space, oracle,
            budget, seed, or other data.
    """

    def __init__(
        self,
        evaluate_trial: EvaluateTrial,
        space: StrategySpace,
        folder: Path | str,
        *,
        oracle: str = "bayesian",
        trials: int = 30,
        epochs: int = 8,
        seed: int = 42,
        progress: bool = True,
        objective: str = OBJECTIVE,
        about: Mapping[str, Any] | None = None,
    ):
        if oracle not in ORACLES:
            raise ValueError(f"`oracle`={oracle!r}; use one of {', '.join(ORACLES)}.")
        if trials < 1 or epochs < 1:
            raise ValueError(f"`trials`={trials} and `epochs`={epochs}; use 1 or more of each.")
        self.space = space
        self.epochs = epochs
        self.objective = objective
        self._evaluate_trial = evaluate_trial
        self._shows_progress = progress
        self._bar = tqdm(disable=True)
        folder = Path(folder).absolute()
        study = {
            "objective": objective,
            "oracle": oracle,
            "epochs": epochs,
            "seed": seed,
            "space": space.hyperparameters().get_config()["space"],
            **(about or {}),
        }
        _check_same_study(folder, json.loads(json.dumps(study)))
        super().__init__(
            oracle=_made_oracle(oracle, space, trials, epochs, seed, objective),
            directory=str(folder.parent),
            project_name=folder.name,
        )

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluates one strategy, or reads what it came to before a kill."""
        folder = Path(self.get_trial_dir(trial.trial_id))
        values = dict(trial.hyperparameters.values)
        outcome = _read(folder / "outcome.json")
        if outcome is None or outcome["values"] != values:
            outcome = {"values": values, **self._outcome(values, folder)}
            write_whole(folder / "outcome.json", json.dumps(outcome))
        trial.message = outcome["error"]
        return {self.objective: outcome[self.objective]}

    def _outcome(self, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        epochs = int(values.get("tuner/epochs", self.epochs))  # a hyperband's, of this round
        record = self.space.strategy_record(values)
        outcome: dict[str, Any] = {"strategy": record, "epochs": epochs, "error": None}
        began = time.perf_counter()
        try:
            result = dict(self._evaluate_trial(record, epochs, folder))
            value = float(result[self.objective])
            if math.isfinite(value):
                outcome |= {**result, self.objective: value}
            else:
                outcome["error"] = f"its {self.objective} is {value}"
        except Exception as error:  # whatever it is, other strategies may do better
            _log.warning("A trial failed: %s", record, exc_info=True)
            outcome["error"] = f"{type(error).__name__}: {error}"
        if outcome["error"] is not None:
            outcome[self.objective] = _WORST[DIRECTIONS[self.objective]]
        outcome["seconds"] = time.perf_counter() - began
        return outcome

    def trials(self) -> list[dict[str, Any]]:
        """What the finished trials came to, in their order.

        Each has `trial_id`, the objective, `seconds`, `epochs` (the budget), `values` (by name in
        the space), `strategy` (the parts that were searched), `error` (None if all went well), and
        what else `evaluate_trial` gave.
        """
        found = []
        for trial_id in self.oracle.start_order:
            outcome = _read(Path(self.get_trial_dir(trial_id)) / "outcome.json")
            if outcome is not None:
                found.append({"trial_id": trial_id, **outcome})
        return found

    def best_strategy_record(self) -> dict[str, Any]:
        """The best trial's strategy, for `Strategy.from_dict`."""
        return best_of(self.trials(), self.objective)["strategy"]

    # KerasTuner's hooks.

    def on_search_begin(self) -> None:
        if self._shows_progress:
            done, total = len(self.oracle.end_order), self.oracle.max_trials
            self._bar = tqdm(total=total, initial=done, desc="trials", disable=None, unit="trial")

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        if self._shows_progress:
            self._show(trial.trial_id)

    def on_search_end(self) -> None:
        self._bar.close()
        done = self.trials()
        if done and all(trial["error"] for trial in done):
            raise AllTrialsFailed(
                f"All {len(done)} trials failed; the last one with: {done[-1]['error']} Mend the "
                f"cause, and remove {self.project_dir} to search anew."
            )

    def save(self) -> None:
        """As KerasTuner does, but no kill leaves half a file."""
        self.oracle.save()
        write_whole(Path(self._get_tuner_fname()), json.dumps(self.get_state()))

    def _show(self, trial_id: str) -> None:
        done = {trial["trial_id"]: trial for trial in self.trials()}
        name, best = self.objective, best_of(list(done.values()), self.objective)
        told = f"{name} {done[trial_id][name]:.4f}, best {best[name]:.4f}"
        self._bar.update(len(self.oracle.end_order) - self._bar.n)
        self._bar.set_postfix_str(told)
        if self._bar.disable:
            count = f"trial {len(self.oracle.end_order)}/{self.oracle.max_trials}"
            failed = f" (failed: {done[trial_id]['error']})" if done[trial_id]["error"] else ""
            seconds = done[trial_id]["seconds"]
            print(f"{count}: {told}, {seconds:.1f} s{failed}", file=sys.stderr, flush=True)


def best_of(trials: Sequence[Mapping[str, Any]], objective: str) -> Mapping[str, Any]:
    """The trial with the best objective, the first of equals; of those that failed, if all did."""
    trials = [trial for trial in trials if trial.get("error") is None] or trials
    choose = max if DIRECTIONS[objective] == "max" else min
    return choose(trials, key=lambda trial: trial[objective])


class _Durable(keras_tuner.Oracle):
    """What KerasTuner's oracles lack to survive a kill at any moment; how they suggest is theirs.

    Their own reload trusts files that a kill may have cut off, sends a trial that had just ended
    for a retry, and counts one that had not quite begun.
    """

    trials: dict[str, Any]

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
        left = [name for name in self.trials if name not in ended]
        self._retry_queue = left[::-1]  # taken from the end
        for name in left:  # what it may have reported would count in place of the new result
            self.trials[name].metrics = type(self.trials[name].metrics)()


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
    name: str, space: StrategySpace, trials: int, epochs: int, seed: int, objective: str
) -> keras_tuner.Oracle:
    bases = (_DurableGrid if name == "grid" else _Durable, ORACLES[name])
    budget = {"max_epochs": epochs} if name == "hyperband" else {"max_trials": trials}
    oracle = type(ORACLES[name].__name__, bases, {})(
        objective=keras_tuner.Objective(objective, DIRECTIONS[objective]),
        hyperparameters=space.hyperparameters(),
        seed=seed + 1,  # KerasTuner takes 0 for none
        # A trial that fails counts as bad; KerasTuner would end the search at the third.
        max_consecutive_failed_trials=None,
        **budget,
    )
    oracle.max_trials = trials  # which the hyperband's constructor doesn't take
    oracle.verbose = 0
    return oracle


def _check_same_study(folder: Path, study: dict[str, Any]) -> None:
    path = folder / "study.json"
    before = _read(path)
    if before is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(study, indent=1))
        return
    changed = [key for key in {**before, **study} if before.get(key) != study.get(key)]
    if changed:
        raise ValueError(
            f"{folder} holds a study with another {', another '.join(changed)}. Use another "
            "folder, or remove that one to search anew."
        )


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
