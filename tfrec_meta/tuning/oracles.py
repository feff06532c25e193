"""Oracles that remember: suggestions by a surrogate that earlier studies taught."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before KerasTuner is imported)
from tfrec_meta.tuning.encoding import SpaceEncoding, key, unseen
from tfrec_meta.tuning.learning_curves import is_hopeless
from tfrec_meta.tuning.meta_surrogate import MetaSurrogate
from tfrec_meta.tuning.mixed_surrogate import MixedSurrogate, diverse_best

import keras_tuner
import numpy as np

PRIOR_TRIALS = 4  # after the default, before the surrogate of the new study is asked
_ENUMERABLE = 2_000  # points of a space that are all looked at
_SAMPLES, _CENTRES, _ROUNDS = 300, 5, 2
_SHOWN_OF_PRIOR = 16


class _SurrogateOracle(keras_tuner.Oracle):
    """What the two oracles share: the surrogate, its suggestions and where each came from.

    Attributes:
        suggested: by trial id, `by` ("default", "prior", "random" or "surrogate") and `expected`
            ({"mean", "std"} in units of the objective, None before there is a surrogate).
    """

    def _begin(self, memory: MetaSurrogate | None, beliefs: Sequence[float] | None) -> None:
        self._encoding = SpaceEncoding(self.hyperparameters)
        size = self._encoding.size(_ENUMERABLE)
        self._everything = None if size is None else self._encoding.all()
        self._memory = memory
        self._beliefs = None if beliefs is None else np.asarray(beliefs)
        self._surrogate: MixedSurrogate | None = None
        self._prior: np.ndarray | None = None
        self._last: dict[str, Any] | None = None
        self.suggested: dict[str, dict[str, Any]] = {}

    # KerasTuner's.

    def get_state(self) -> dict[str, Any]:
        fitted = None if self._surrogate is None else self._surrogate.get_state()
        return {**super().get_state(), "suggested": self.suggested, "surrogate": fitted}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.suggested = dict(state.get("suggested", {}))
        if state.get("surrogate") is not None:
            self._surrogate = self._new_surrogate()
            self._surrogate.set_state(state["surrogate"])

    def _random_values(self) -> dict[str, Any] | None:
        """The next point that is worth a trial; None when there is none left."""
        if not self.start_order:
            return dict(self.hyperparameters.values)
        codes, by = self._suggestion()
        if codes is None:
            return None
        self._last = {"by": by, "expected": self._expected(codes) if by == "surrogate" else None}
        return self._encoding.values(codes)

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        """Whether a trial is hopeless, as its curve so far shows."""
        return False

    # What the surrogate says, for whoever looks at the study.

    def prior(self) -> list[dict[str, Any]]:
        """What the memory would try, the best first: `values` and, by rank, nothing else."""
        if self._memory is None:
            return []
        return [
            {"values": self._encoding.values(codes), "expected": None}
            for codes in self._prior_points()[:_SHOWN_OF_PRIOR]
        ]

    def predict(self, values: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the objective at points, float64 [N] each.

        Raises:
            RuntimeError: before two trials have ended.
        """
        self._fit(np.random.default_rng(0))
        if self._surrogate is None:
            raise RuntimeError("No two trials have ended yet, so there is nothing to predict by.")
        rows = [self._encoding.codes(point) for point in values]
        if any(row is None for row in rows):
            raise ValueError("A point lies outside of the space.")
        return self._in_units(*self._surrogate.predict(np.array(rows)))

    # Parts.

    def _generator(self) -> np.random.Generator:
        """The same after a kill, since it depends on how many trials began, and on no past draw."""
        return np.random.default_rng([self.seed or 0, len(self.start_order)])

    def _suggestion(self) -> tuple[np.ndarray | None, str]:
        generator = self._generator()
        tried = self._tried()
        if len(self.start_order) <= PRIOR_TRIALS:
            if self._memory is not None:
                left = unseen(self._prior_points(), tried)
                if len(left):
                    return left[0], "prior"
            candidates = self._candidates(generator, tried, None)
            return (self._farthest(candidates) if len(candidates) else None), "random"
        self._fit(generator)
        candidates = self._candidates(generator, tried, self._surrogate)
        if not len(candidates):
            return None, "random"
        if self._surrogate is None:
            return candidates[0], "random"
        surrogate = self._surrogate
        gain = surrogate.expected_improvement(candidates)
        if self._everything is None:
            for _ in range(_ROUNDS):
                best = candidates[np.argsort(-gain, kind="stable")[:_CENTRES]]
                near = unseen(self._encoding.neighbours(best, generator), tried)
                candidates = np.concatenate([best, near])
                gain = surrogate.expected_improvement(candidates)
        return candidates[int(np.argmax(gain))], "surrogate"

    def _candidates(
        self,
        generator: np.random.Generator,
        tried: set[bytes],
        surrogate: MixedSurrogate | None,
    ) -> np.ndarray:
        if self._everything is not None:
            left = unseen(self._everything, tried)
            return left if surrogate is not None else left[generator.permutation(len(left))[:64]]
        parts = [self._encoding.sample(_SAMPLES if surrogate is not None else 64, generator)]
        if surrogate is not None:
            values = self._values()
            order = np.argsort(-values, kind="stable")[:_CENTRES]
            parts.append(self._encoding.neighbours(self._finished_points()[order], generator))
            if self._memory is not None:
                parts.append(self._prior_points())
        for _ in range(20):  # a space of few points may have been nearly used up
            found = unseen(np.concatenate(parts), tried)
            if len(found):
                return found
            parts = [self._encoding.sample(10 * _SAMPLES, generator)]
        return found

    def _prior_points(self) -> np.ndarray:
        """float64 [M, P]: the memory's diverse best, best first."""
        if self._prior is None:
            assert self._memory is not None
            generator = np.random.default_rng(self.seed or 0)
            each = max(4, 512 // len(self._memory.studies))
            sample = self._encoding.sample(_SAMPLES, generator)
            pool = unseen(np.concatenate([self._memory.best_points(each), sample]), set())
            features = self._encoding.features(pool)
            scores = self._memory.known_or_predicted(pool, features)
            count = scores.shape[1]
            beliefs = np.full(count, 1 / count) if self._beliefs is None else self._beliefs
            first = diverse_best(scores, _SHOWN_OF_PRIOR, beliefs)
            # Behind them the best on average, as candidates for the surrogate.
            rest = np.setdiff1d(np.argsort(-(scores @ beliefs), kind="stable")[:200], first)
            self._prior = pool[np.append(first, rest).astype(int)]
        return self._prior

    def _fit(self, generator: np.random.Generator) -> None:
        if len(self._finished()) < 2:
            return
        if self._surrogate is None:
            self._surrogate = self._new_surrogate()
        points, values, budgets = self._finished_points(), self._values(), self._fractions()
        self._surrogate.fit(points, values, generator, budgets)
        running = [t for t in self.trials.values() if t.status == "RUNNING"]
        running_points = [p for p in map(self._codes, running) if p is not None]
        if running_points:
            # A trial that runs counts as if it came to what is expected of it: two workers are
            # not sent to one place ("Kriging is well-suited to parallelize optimization", 2010).
            expected, _ = self._surrogate.predict(np.array(running_points))
            believed, _ = self._in_units(expected, np.zeros(len(expected)))
            sign = self._sign()
            full = np.ones((len(running_points), self._budgets)) if self._budgets else None
            self._surrogate.fit(
                np.concatenate([points, running_points]),
                np.concatenate([values, sign * believed]),
                generator,
                None if full is None else np.concatenate([budgets, full]),
            )

    def _new_surrogate(self) -> MixedSurrogate:
        return MixedSurrogate(self._encoding, self._memory, self._beliefs, extra=self._budgets)

    _budgets = 0  # features of a trial's budget

    def _fractions(self) -> np.ndarray | None:
        return None

    def _sign(self) -> float:
        return 1.0 if self.objective.direction == "max" else -1.0

    def _codes(self, trial: Any) -> np.ndarray | None:
        return self._encoding.codes(trial.hyperparameters.values)

    def _tried(self) -> set[bytes]:
        return {key(codes) for codes in map(self._codes, self.trials.values()) if codes is not None}

    def _farthest(self, candidates: np.ndarray) -> np.ndarray:
        """The candidate whose nearest trial is farthest."""
        known = [codes for codes in map(self._codes, self.trials.values()) if codes is not None]
        if not known:
            return candidates[0]
        tried = self._encoding.features(np.array(known))
        gaps = (self._encoding.features(candidates)[:, None] - tried[None]) ** 2
        return candidates[int(np.argmax(gaps.sum(axis=2).min(axis=1)))]

    def _finished(self) -> list[Any]:
        ended = ("COMPLETED", "FAILED", "INVALID")
        trials = [self.trials[name] for name in self.start_order if name in self.trials]
        return [t for t in trials if t.status in ended and self._codes(t) is not None]

    def _finished_points(self) -> np.ndarray:
        return np.array([self._codes(trial) for trial in self._finished()])

    def _values(self) -> np.ndarray:
        """float64 [N], higher is better; of trials that failed the worst that there was."""
        found = [
            self._sign() * trial.score
            if trial.score is not None and math.isfinite(trial.score) and not trial.message
            else math.nan
            for trial in self._finished()
        ]
        values = np.array(found)
        worst = np.nanmin(values) if np.isfinite(values).any() else 0.0
        return np.where(np.isfinite(values), values, worst - 1e-9 * max(abs(worst), 1.0))

    def _expected(self, codes: np.ndarray) -> dict[str, float] | None:
        if self._surrogate is None:
            return None
        mean, deviation = self._in_units(*self._surrogate.predict(codes[None]))
        return {"mean": float(mean[0]), "std": float(deviation[0])}

    def _in_units(self, mean: np.ndarray, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of warped values, in those of the objective."""
        assert self._surrogate is not None
        return self._surrogate.unwarped(mean, deviation, self._sign())


class MetaBayesianOracle(_SurrogateOracle):
    """Bayesian optimisation by a surrogate that earlier studies taught.

    The first trial is the default; the next ones are the best of earlier studies, chosen so that
    each of these is done justice; then whatever promises most improvement by a surrogate that mixes
    memory and own trials (`mixed_surrogate`). Without a memory the second to fifth are spread over
    the space. No point is tried twice, and a finite space ends the search.

    Args:
        objective: `keras_tuner.Objective` or a name.
        max_trials: at most.
        hyperparameters: the space; nothing may be added to it later.
        memory: of earlier studies.
        beliefs: float [S], how much each of them is believed; alike by default.
        seed: of the suggestions.
        **options: of `keras_tuner.Oracle`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = None,
        hyperparameters: Any = None,
        *,
        memory: MetaSurrogate | None = None,
        beliefs: Sequence[float] | None = None,
        seed: int | None = None,
        **options: Any,
    ):
        options = {"allow_new_entries": False, "tune_new_entries": False, **options}
        super().__init__(
            objective=objective,
            max_trials=max_trials,
            hyperparameters=hyperparameters,
            seed=seed,
            **options,
        )
        self._begin(memory, beliefs)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See KerasTuner: the values of a new trial, or that there is none."""
        self._last = None
        values = self._random_values()
        if values is None:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
        self.suggested[trial_id] = self._last or {"by": "default", "expected": None}
        return {"status": "RUNNING", "values": values}


class MetaHyperbandOracle(_SurrogateOracle, keras_tuner.oracles.HyperbandOracle):
    """Hyperband whose brackets are filled by the surrogate, as BOHB's are by a density.

    The budget of a trial is a feature of the surrogate, which is asked about the full one. A trial
    whose learning curve shows that it can't reach the best is stopped (`learning_curves`).

    Args:
        objective: `keras_tuner.Objective` or a name.
        max_epochs: of a full trial.
        hyperparameters: the space; nothing may be added to it later.
        memory: of earlier studies.
        beliefs: float [S], how much each of them is believed; alike by default.
        stop_hopeless: whether trials are stopped by their curves.
        seed: of the suggestions.
        **options: of KerasTuner's `HyperbandOracle`.

    Source: "BOHB: Robust and Efficient Hyperparameter Optimization at Scale" (ICML 2018).
    """

    def __init__(
        self,
        objective: Any = None,
        max_epochs: int = 100,
        hyperparameters: Any = None,
        *,
        memory: MetaSurrogate | None = None,
        beliefs: Sequence[float] | None = None,
        stop_hopeless: bool = True,
        seed: int | None = None,
        **options: Any,
    ):
        options = {"allow_new_entries": False, "tune_new_entries": False, **options}
        super().__init__(
            objective=objective,
            max_epochs=max_epochs,
            hyperparameters=hyperparameters,
            seed=seed,
            **options,
        )
        self._stop_hopeless = stop_hopeless
        self._curves: dict[str, tuple[float, ...]] = {}
        self._begin(memory, beliefs)

    _budgets = 1

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "curves": self._curves}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._curves = {name: tuple(curve) for name, curve in state.get("curves", {}).items()}

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See KerasTuner: a new trial of a bracket, or a good one with more epochs."""
        self._last = None
        answer = super().populate_space(trial_id)
        if answer["status"] == "RUNNING":
            before = answer["values"].get("tuner/trial_id")
            told = self._last or {"by": "default", "expected": None}
            self.suggested[trial_id] = self.suggested.get(before, told) if before else told
        return answer

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        """Whether a trial is hopeless, as its curve so far shows."""
        self._curves[trial_id] = tuple(curve)
        scores = [t.score for t in self.trials.values() if t.score is not None and not t.message]
        if not self._stop_hopeless or not scores:
            return False
        best = max(scores) if self.objective.direction == "max" else min(scores)
        ended = {t.trial_id for t in self._finished() if not t.message} - {trial_id}
        finished = [self._curves[name] for name in ended if name in self._curves]
        return is_hopeless(curve, finished, best, self.objective.direction)

    def _fractions(self) -> np.ndarray:
        """float64 [N, 1]: logarithm of the epochs, 1 for a full trial."""
        epochs = [
            t.hyperparameters.values.get("tuner/epochs", self.max_epochs) for t in self._finished()
        ]
        whole = math.log(self.max_epochs) if self.max_epochs > 1 else 1.0
        return np.array([[min(math.log(max(e, 1)) / whole, 1.0)] for e in epochs])

    def _duplicate(self, values: Mapping[str, Any]) -> bool:
        return False  # `_suggestion` looks itself; a trial with more epochs has its values again
