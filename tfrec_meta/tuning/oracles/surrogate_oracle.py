"""The base of the oracles that suggest by a surrogate, which prior studies may have trained."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from tfrec_meta.tuning.oracles.base import StudyOracle, has_ended, succeeded, worst_score
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, point_keys, untried
from tfrec_meta.tuning.surrogates.importance import Surrogate
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate
from tfrec_meta.tuning.surrogates.mixed_surrogate import MixedSurrogate, agreement, diverse_best

INITIAL_TRIALS = 4
"""Trials between the default and the first suggestion by the surrogate of the new study."""
DEFAULT_SUGGESTION: Mapping[str, Any] = {"by": "default", "expected": None}
_ENUMERABLE = 2_000  # up to this size, all points of a space are candidates
_SAMPLES, _CENTRES, _ROUNDS = 300, 5, 2
_SHOWN_OF_PRIOR, _CANDIDATES_OF_PRIOR = 16, 200


class SurrogateOracle(StudyOracle):
    """Suggests by a surrogate, and records the source of each suggestion.

    Args:
        meta_surrogate: trained on prior studies; None for a search without them.
        study_weights: float [S], the weight of each prior study; equal by default.
        initial: see `INITIAL_TRIALS`.

    Attributes:
        suggested: by trial id, `by` ("default", "prior", "random" or "surrogate") and `expected`
            ({"mean", "std"} in units of the objective; None for other sources).
    """

    _budget_features = 0  # features that describe a trial's budget

    def __init__(
        self,
        *arguments: Any,
        meta_surrogate: MetaSurrogate | None = None,
        study_weights: Sequence[float] | None = None,
        initial: int = INITIAL_TRIALS,
        **options: Any,
    ):
        closed = {"allow_new_entries": False, "tune_new_entries": False}
        super().__init__(*arguments, **{**closed, **options})
        self._initial = initial
        self._encoding = SpaceEncoding(self.hyperparameters)
        self._all_points = self._encoding.all(_ENUMERABLE)
        self._meta_surrogate = meta_surrogate
        self._study_weights = (
            None if study_weights is None else np.asarray(study_weights, np.float64)
        )
        studies = 0 if meta_surrogate is None else len(meta_surrogate.studies)
        if self._study_weights is not None and len(self._study_weights) != studies:
            raise ValueError(
                f"`study_weights` has {len(self._study_weights)} values, but `meta_surrogate` has "
                f"{studies} studies. Use one weight for each study; see `similarity_weights`."
            )
        self.suggested: dict[str, dict[str, Any]] = {}
        self._last: dict[str, Any] | None = None
        self._clear_caches()

    def _clear_caches(self) -> None:
        """Drops everything that follows from the trials or the seed."""
        self._mixed_surrogate: MixedSurrogate | None = None
        self._prior: np.ndarray | None = None
        self._codes_of_trials: dict[str, np.ndarray | None] = {}

    # KerasTuner's API.

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "suggested": self.suggested}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.suggested = dict(state.get("suggested", {}))
        self._clear_caches()

    def _random_values(self) -> dict[str, Any] | None:
        """Returns the values of the next trial; None if no untried point is left."""
        if not self.start_order:
            return dict(self.hyperparameters.values)
        with _one_thread():
            codes, by = self._suggest()
            if codes is None:
                return None
            expected = self._expected(codes) if by == "surrogate" else None
        self._last = {"by": by, "expected": expected}
        return self._encoding.values(codes)

    # The interface of `StudyOracle`.

    def suggestion(self, trial_id: str) -> Mapping[str, Any]:
        """Returns the source of a trial's hyperparameters; see `StudyOracle.suggestion`."""
        return self.suggested.get(trial_id) or super().suggestion(trial_id)

    def prior_suggestions(self) -> list[dict[str, Any]]:
        """Returns the suggestions of prior studies, best first.

        Returns:
            Dicts with `values`; `expected` is None, since only ranks are known.
        """
        if self._meta_surrogate is None:
            return []
        return [
            {"values": self._encoding.values(codes), "expected": None}
            for codes in self._prior_points()[:_SHOWN_OF_PRIOR]
        ]

    def surrogate(self) -> Surrogate | None:
        """Returns `predict`, or None before two trials have ended."""
        return self.predict if len(self.end_order) > 1 else None

    def predict(self, values: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """Predicts the objective.

        Args:
            values: N points, as values by hyperparameter name.

        Returns:
            Mean and standard deviation, float64 [N] each.

        Raises:
            RuntimeError: if fewer than two trials have ended.
            ValueError: for a point outside the space.
        """
        rows = np.zeros((len(values), len(self._encoding.dimensions)))
        for row, point in enumerate(values):
            codes = self._encoding.codes(point)
            if codes is None:
                raise ValueError(
                    f"{dict(point)} is outside the search space; use values that the space has."
                )
            rows[row] = codes
        with _one_thread():
            surrogate = self._fitted(np.random.default_rng(0))
            if surrogate is None:
                raise RuntimeError(
                    "Fewer than two trials have ended; run more trials before predictions."
                )
            return surrogate.unwarp(*surrogate.predict(rows), self._sign())

    # How a point is chosen.

    def _generator(self) -> np.random.Generator:
        """Returns a generator that depends on the number of started trials and on no earlier draw.

        So a search that was killed continues with the same suggestions.
        """
        return np.random.default_rng([self.seed or 0, len(self.start_order)])

    def _suggest(self) -> tuple[np.ndarray | None, str]:
        """Returns the codes of the next point, and the source of the suggestion."""
        generator, tried = self._generator(), self._tried()
        is_past_initial = len(self.start_order) > self._initial
        surrogate = self._fitted(generator) if is_past_initial else None
        if surrogate is None and self._prior_agrees():
            left = untried(self._prior_points(), tried)
            if len(left):
                return left[0], "prior"
        candidates = self._candidates(generator, tried, surrogate)
        if not len(candidates):
            return None, "random"
        if surrogate is None:
            return candidates[0], "random"
        gain = surrogate.expected_improvement(candidates)
        if self._all_points is None:
            for _ in range(_ROUNDS):
                best = candidates[np.argsort(-gain, kind="stable")[:_CENTRES]]
                near = untried(self._encoding.neighbours(best, generator), tried)
                candidates = np.concatenate([best, near])
                gain = surrogate.expected_improvement(candidates)
        return candidates[int(np.argmax(gain))], "surrogate"

    def _prior_agrees(self) -> bool:
        """Whether there are prior studies that order at least half of the pairs of trials rightly.

        So misleading studies cost one trial, not all of the initial ones.
        """
        if self._meta_surrogate is None:
            return False
        if len(self._ended()) < 2:
            return True
        points = self._ended_points()
        features = self._encoding.features(points)
        known = self._meta_surrogate.observed_or_predicted(points, features)
        expected = np.average(known, axis=1, weights=self._study_weights)
        return agreement(expected, self._scores()) >= 0

    def _candidates(
        self,
        generator: np.random.Generator,
        tried: set[bytes],
        surrogate: MixedSurrogate | None,
    ) -> np.ndarray:
        if self._all_points is not None:
            left = untried(self._all_points, tried)
            return left if surrogate is not None else generator.permutation(left)
        parts = [self._encoding.sample(_SAMPLES if surrogate is not None else 64, generator)]
        if surrogate is not None:
            best = np.argsort(-self._scores(), kind="stable")[:_CENTRES]
            parts.append(self._encoding.neighbours(self._ended_points()[best], generator))
            if self._meta_surrogate is not None:
                parts.append(self._prior_points())
        found = untried(np.concatenate(parts), tried)
        if not len(found):  # nearly exhausted: enumerate the points that are left
            points = self._encoding.all()
            found = found if points is None else untried(points, tried)
        return found

    def _prior_points(self) -> np.ndarray:
        """Returns float64 [M, P]: a diverse selection of the prior studies' best points."""
        if self._prior is None:
            assert self._meta_surrogate is not None
            each = max(4, 512 // len(self._meta_surrogate.studies))
            observed = untried(self._meta_surrogate.best_points(each), set())
            sample = self._encoding.sample(_SAMPLES, np.random.default_rng(self.seed or 0))
            pool = untried(np.concatenate([observed, sample]), set())
            features = self._encoding.features(pool)
            scores = self._meta_surrogate.observed_or_predicted(pool, features)
            count = scores.shape[1]
            weights = self._study_weights
            if weights is None:
                weights = np.full(count, 1 / count)
            # Points that were observed come first: a prediction alone may be too optimistic.
            first = diverse_best(scores[: len(observed)], _SHOWN_OF_PRIOR, weights)
            # The best on average follow, as candidates for the surrogate.
            average = np.argsort(-(scores @ weights), kind="stable")[:_CANDIDATES_OF_PRIOR]
            self._prior = pool[list(dict.fromkeys([*first, *average.tolist()]))]
        return self._prior

    def _fitted(self, generator: np.random.Generator) -> MixedSurrogate | None:
        """Returns the surrogate, fitted to all trials; None until two trials have ended."""
        ended = self._ended()
        if len(ended) < 2:
            return None
        if self._mixed_surrogate is None:
            self._mixed_surrogate = MixedSurrogate(
                self._encoding, self._meta_surrogate, self._study_weights, self._budget_features
            )
        done = set(ended)
        running = [name for name in self.start_order if name not in done and self._is_inside(name)]
        self._mixed_surrogate.fit(
            self._ended_points(),
            self._scores(),
            generator,
            self._budget_columns(ended),
            np.array([self._codes(name) for name in running]),
            self._budget_columns(running),
        )
        return self._mixed_surrogate

    def _budget_columns(self, trial_ids: Sequence[str]) -> np.ndarray | None:
        """Returns float64 [N, budget features]: the trials' shares of the full budget."""
        return None

    def _sign(self) -> float:
        return 1.0 if self.objective.direction == "max" else -1.0

    def _codes(self, trial_id: str) -> np.ndarray | None:
        if trial_id not in self._codes_of_trials:
            values = self.trials[trial_id].hyperparameters.values
            self._codes_of_trials[trial_id] = self._encoding.codes(values)
        return self._codes_of_trials[trial_id]

    def _is_inside(self, trial_id: str) -> bool:
        """Whether a trial is known and lies inside the space."""
        return trial_id in self.trials and self._codes(trial_id) is not None

    def _tried(self) -> set[bytes]:
        found = [self._codes(name) for name in self.trials if self._is_inside(name)]
        return set(point_keys(np.array(found))) if found else set()

    def _ended(self) -> list[str]:
        """Returns the ids of the trials that have ended, in that order."""
        names = [name for name in dict.fromkeys(self.end_order) if self._is_inside(name)]
        return [name for name in names if has_ended(self.trials[name])]

    def _ended_points(self) -> np.ndarray:
        return np.array([self._codes(name) for name in self._ended()])

    def _scores(self) -> np.ndarray:
        """Returns float64 [N], higher is better; failed trials are worse than all others."""
        trials = [self.trials[name] for name in self._ended()]
        failed = worst_score(trials, self.objective.direction)
        return self._sign() * np.array([t.score if succeeded(t) else failed for t in trials])

    def _expected(self, codes: np.ndarray) -> dict[str, float] | None:
        """Returns the prediction for a point; None if all trials failed, which have no scores."""
        surrogate = self._mixed_surrogate
        assert surrogate is not None
        if not any(succeeded(self.trials[name]) for name in self._ended()):
            return None
        mean, std = surrogate.unwarp(*surrogate.predict(codes[None]), self._sign())
        return {"mean": float(mean[0]), "std": float(std[0])}


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread() -> Any:
    """Returns a context in which BLAS uses one thread; more would spend their time waiting."""
    return _libraries().limit(limits=1, user_api="blas")
