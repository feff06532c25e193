"""Oracles that remember: suggestions by a surrogate that earlier studies taught."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np
from threadpoolctl import ThreadpoolController

from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, keys, unseen
from tfrec_meta.tuning.surrogates.learning_curves import is_hopeless
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate
from tfrec_meta.tuning.surrogates.mixed_surrogate import MixedSurrogate, diverse_best

INITIAL_TRIALS = 4  # after the default, before the surrogate of the new study is asked
_ENUMERABLE = 2_000  # points of a space that are all looked at
_SAMPLES, _CENTRES, _ROUNDS = 300, 5, 2
_SHOWN_OF_PRIOR, _CANDIDATES_OF_PRIOR = 16, 200


class _SurrogateOracle(keras_tuner.Oracle):
    """What the two oracles share: the surrogate, its suggestions and where each came from.

    Attributes:
        suggested: by trial id, `by` ("default", "prior", "random" or "surrogate") and `expected`
            ({"mean", "std"} in units of the objective, None before there is a surrogate).
    """

    _budgets = 0  # features of a trial's budget

    def __init__(
        self,
        *arguments: Any,
        memory: MetaSurrogate | None = None,
        beliefs: Sequence[float] | None = None,
        initial: int = INITIAL_TRIALS,
        **options: Any,
    ):
        closed = {"allow_new_entries": False, "tune_new_entries": False}
        super().__init__(*arguments, **{**closed, **options})
        self._initial = initial
        self._encoding = SpaceEncoding(self.hyperparameters)
        self._everything = self._encoding.all(_ENUMERABLE)
        self._memory = memory
        self._beliefs = None if beliefs is None else np.asarray(beliefs, np.float64)
        known = 0 if memory is None else len(memory.studies)
        if self._beliefs is not None and len(self._beliefs) != known:
            raise ValueError(
                f"`beliefs` has {len(self._beliefs)}, but `memory` {known} studies. "
                "Give one each, as `affinities(memory)` does."
            )
        self.suggested: dict[str, dict[str, Any]] = {}
        self._last: dict[str, Any] | None = None
        self._forget()

    def _forget(self) -> None:
        """Whatever follows from the trials, or from the seed."""
        self._surrogate: MixedSurrogate | None = None
        self._prior: np.ndarray | None = None
        self._points: dict[str, np.ndarray | None] = {}

    # KerasTuner's.

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "suggested": self.suggested}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.suggested = dict(state.get("suggested", {}))
        self._forget()

    def _random_values(self) -> dict[str, Any] | None:
        """The next point that is worth a trial; None when there is none left."""
        if not self.start_order:
            return dict(self.hyperparameters.values)
        with _one_thread():
            codes, by = self._suggestion()
            if codes is None:
                return None
            expected = self._expected(codes) if by == "surrogate" else None
        self._last = {"by": by, "expected": expected}
        return self._encoding.values(codes)

    def should_stop(self, trial_id: str, curve: Sequence[float]) -> bool:
        """Whether a trial is hopeless, as its curve so far shows."""
        return False

    # What the surrogate says, for whoever looks at the study.

    def prior(self) -> list[dict[str, Any]]:
        """What the memory would try, the best first: `values`, and no more is `expected` of it."""
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
            ValueError: for a point that lies outside of the space.
        """
        rows = np.zeros((len(values), len(self._encoding.dimensions)))
        for row, point in enumerate(values):
            codes = self._encoding.codes(point)
            if codes is None:
                raise ValueError(f"{dict(point)} lies outside of the space that is searched.")
            rows[row] = codes
        with _one_thread():
            surrogate = self._fitted(np.random.default_rng(0))
            if surrogate is None:
                raise RuntimeError("No two trials have ended yet, so nothing can be predicted.")
            return surrogate.unwarped(*surrogate.predict(rows), self._sign())

    # Parts.

    def _generator(self) -> np.random.Generator:
        """The same after a kill, since it depends on how many trials began, and on no past draw."""
        return np.random.default_rng([self.seed or 0, len(self.start_order)])

    def _suggestion(self) -> tuple[np.ndarray | None, str]:
        generator, tried = self._generator(), self._tried()
        begun = len(self.start_order) > self._initial
        surrogate = self._fitted(generator) if begun else None
        if surrogate is None and self._memory is not None:
            left = unseen(self._prior_points(), tried)
            if len(left):
                return left[0], "prior"
        candidates = self._candidates(generator, tried, surrogate)
        if not len(candidates):
            return None, "random"
        if surrogate is None:
            return candidates[0], "random"
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
            return left if surrogate is not None else generator.permutation(left)
        parts = [self._encoding.sample(_SAMPLES if surrogate is not None else 64, generator)]
        if surrogate is not None:
            best = np.argsort(-self._values(), kind="stable")[:_CENTRES]
            parts.append(self._encoding.neighbours(self._ended_points()[best], generator))
            if self._memory is not None:
                parts.append(self._prior_points())
        found = unseen(np.concatenate(parts), tried)
        if not len(found):  # nearly used up, so what is left is looked for one by one
            everything = self._encoding.all()
            found = found if everything is None else unseen(everything, tried)
        return found

    def _prior_points(self) -> np.ndarray:
        """float64 [M, P]: the memory's diverse best, best first."""
        if self._prior is None:
            assert self._memory is not None
            each = max(4, 512 // len(self._memory.studies))
            tried = unseen(self._memory.best_points(each), set())
            sample = self._encoding.sample(_SAMPLES, np.random.default_rng(self.seed or 0))
            pool = unseen(np.concatenate([tried, sample]), set())
            scores = self._memory.known_or_predicted(pool, self._encoding.features(pool))
            count = scores.shape[1]
            beliefs = np.full(count, 1 / count) if self._beliefs is None else self._beliefs
            # The first ones were tried: what is only predicted may be too good to be true.
            first = diverse_best(scores[: len(tried)], _SHOWN_OF_PRIOR, beliefs)
            # Behind them the best on average, as candidates for the surrogate.
            average = np.argsort(-(scores @ beliefs), kind="stable")[:_CANDIDATES_OF_PRIOR]
            self._prior = pool[list(dict.fromkeys([*first, *average.tolist()]))]
        return self._prior

    def _fitted(self, generator: np.random.Generator) -> MixedSurrogate | None:
        """The surrogate, which knows all trials; None until two of them have ended."""
        ended = self._ended()
        known = set(ended)
        if len(ended) < 2:
            return None
        if self._surrogate is None:
            self._surrogate = MixedSurrogate(
                self._encoding, self._memory, self._beliefs, extra=self._budgets
            )
        running = [name for name in self.start_order if name not in known and self._lies_in(name)]
        self._surrogate.fit(
            self._ended_points(),
            self._values(),
            generator,
            self._fractions(ended),
            np.array([self._codes(name) for name in running]),
            self._fractions(running),
        )
        return self._surrogate

    def _fractions(self, trial_ids: Sequence[str]) -> np.ndarray | None:
        """float64 [N, budgets]: how much of the full budget trials had."""
        return None

    def _sign(self) -> float:
        return 1.0 if self.objective.direction == "max" else -1.0

    def _codes(self, trial_id: str) -> np.ndarray | None:
        if trial_id not in self._points:
            values = self.trials[trial_id].hyperparameters.values
            self._points[trial_id] = self._encoding.codes(values)
        return self._points[trial_id]

    def _lies_in(self, trial_id: str) -> bool:
        return trial_id in self.trials and self._codes(trial_id) is not None

    def _tried(self) -> set[bytes]:
        found = [self._codes(name) for name in self.trials if self._lies_in(name)]
        return set(keys(np.array(found))) if found else set()

    def _ended(self) -> list[str]:
        """Trials that came to an end, in the order in which they did."""
        names = [name for name in dict.fromkeys(self.end_order) if self._lies_in(name)]
        return [name for name in names if self.trials[name].status in ("COMPLETED", "FAILED")]

    def _ended_points(self) -> np.ndarray:
        return np.array([self._codes(name) for name in self._ended()])

    def _values(self) -> np.ndarray:
        """float64 [N], higher is better; of trials that failed the worst, and a little less."""
        trials = [self.trials[name] for name in self._ended()]
        found = [self._sign() * t.score if _succeeded(t) else math.nan for t in trials]
        values = np.array(found)
        worst = np.nanmin(values) if np.isfinite(values).any() else 0.0
        return np.where(np.isfinite(values), values, worst - 1e-9 * max(abs(worst), 1.0))

    def _expected(self, codes: np.ndarray) -> dict[str, float]:
        assert self._surrogate is not None
        mean, std = self._surrogate.unwarped(*self._surrogate.predict(codes[None]), self._sign())
        return {"mean": float(mean[0]), "std": float(std[0])}


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread() -> Any:
    """A context in which BLAS has one thread: others would wait longer than they work."""
    return _libraries().limit(limits=1, user_api="blas")


def _succeeded(trial: Any) -> bool:
    # A trial that failed may be told as completed, with the worst objective and a message.
    return trial.score is not None and math.isfinite(trial.score) and not trial.message


class MetaBayesianOracle(_SurrogateOracle):
    """Bayesian optimisation by a surrogate that earlier studies taught.

    The first trial is the default; the next ones are the best of earlier studies, chosen so that
    each of these is done justice; then whatever promises most improvement by a surrogate that mixes
    memory and own trials (`mixed_surrogate`). Without a memory the second to fifth are drawn at
    random. No point is tried twice, and a finite space ends the search.

    Args:
        objective: `keras_tuner.Objective` or a name.
        max_trials: at most.
        hyperparameters: the space; nothing may be added to it later.
        memory: of earlier studies.
        beliefs: float [S], how much each of them is believed; alike by default.
        initial: trials after the default, of the memory or random, before the surrogate is asked.
        seed: of the suggestions.
        **options: of `keras_tuner.Oracle`.
    """

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
        initial: trials after the default, of the memory or random, before the surrogate is asked.
        stop_hopeless: whether trials are stopped by their curves.
        seed: of the suggestions.
        **options: of KerasTuner's `HyperbandOracle`.

    Source: "BOHB: Robust and Efficient Hyperparameter Optimization at Scale" (ICML 2018).
    """

    _budgets = 1

    def __init__(self, *arguments: Any, stop_hopeless: bool = True, **options: Any):
        super().__init__(*arguments, **options)
        self._stop_hopeless = stop_hopeless
        self._curves: dict[str, tuple[float, ...]] = {}

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
        if not self._stop_hopeless:
            return False
        # Trials with fewer epochs don't show what can still be gained, and the best of those with
        # more need not be reached: whether this one gets more is for the brackets to say.
        epochs = self._epochs(trial_id)
        ended = [n for n in self._ended() if n != trial_id and _succeeded(self.trials[n])]
        scores = [self.trials[name].score for name in ended if self._epochs(name) <= epochs]
        longer = [n for n in ended if n in self._curves and self._epochs(n) >= epochs]
        if not scores:
            return False
        direction = self.objective.direction
        best = max(scores) if direction == "max" else min(scores)
        hopeless = is_hopeless(curve, [self._curves[name] for name in longer], best, direction)
        if hopeless:
            del self._curves[trial_id]  # it did not go to its end
        return hopeless

    def _epochs(self, trial_id: str) -> int:
        values = self.trials[trial_id].hyperparameters.values
        return int(values.get("tuner/epochs", self.max_epochs))

    def _fractions(self, trial_ids: Sequence[str]) -> np.ndarray:
        """Logarithms of the epochs, 1 for a full trial."""
        whole = math.log(max(self.max_epochs, 2))
        epochs = np.array([self._epochs(name) for name in trial_ids], float)
        fractions = np.log(np.maximum(epochs, 1.0)) / whole
        return np.where(epochs >= self.max_epochs, 1.0, fractions)[:, None]

    def _get_size(self, bracket_num: int, round_num: int) -> int:
        """KerasTuner's, but a bracket needs no more trials than there are points."""
        size = super()._get_size(bracket_num, round_num)
        if self._everything is None:
            return size
        return min(size, math.ceil(len(self._everything) / self.factor**round_num))
