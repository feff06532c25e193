"""Memory and the new study's own trials, mixed by how well each ranks these trials.

Two Gaussian processes over the new study: one that knows its trials alone, and one whose prior mean
is what earlier studies predict, with coefficients that the trials move. They are weighted as in
RGPE ("Practical Transfer Learning for Bayesian Optimization", 2018): by how often, in draws from
the leave-one-out predictions, each puts fewer pairs of trials into the wrong order. A past that
misleads loses its weight after a few trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfrec_meta.tuning.encoding import SpaceEncoding, weights_of
from tfrec_meta.tuning.gaussian_process import GaussianProcess, Scales
from tfrec_meta.tuning.meta_surrogate import MetaSurrogate

import numpy as np
from scipy.stats import norm, rankdata

_DRAWS = 64
_MOST_PAIRED = 64  # trials whose pairs are looked at
_REFIT = 1.1  # the scales are fitted anew when there are this many times as many trials


def warped(values: np.ndarray) -> np.ndarray:
    """float64 [N], of mean 0 and standard deviation 1: what the surrogate is fitted to.

    Those above the median keep their distances; those below keep their ranks alone, so that what
    failed or diverged does not flatten all the rest.

    Args:
        values: float64 [N], higher is better, finite.

    Source: the half-rank warping of "The Vizier Gaussian Process Bandit Algorithm" (2024).
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return np.zeros(len(values))
    middle = np.median(values)
    good = values >= middle
    scores = norm.ppf((rankdata(values) - 0.5) / len(values))
    spread = np.sqrt(((values[good] - middle) ** 2).mean())
    if spread == 0:  # more than half are the best
        found = scores
    else:
        unit = np.sqrt((scores[good] ** 2).mean())
        found = np.where(good, (values - middle) / spread, scores / unit)
    return (found - found.mean()) / found.std()


class MixedSurrogate:
    """Predicts how good points of the space are, from trials and, if there is one, a memory.

    Args:
        encoding: of the space.
        memory: of earlier studies; None without any.
        beliefs: float64 [S], of sum 1: how much each of them is believed; alike by default.
        extra: features beside those of the space, such as the budget of a trial.
    """

    def __init__(
        self,
        encoding: SpaceEncoding,
        memory: MetaSurrogate | None = None,
        beliefs: np.ndarray | None = None,
        extra: int = 0,
    ):
        self.encoding, self.memory = encoding, memory
        if memory is not None and beliefs is None:
            beliefs = np.full(len(memory.studies), 1.0 / len(memory.studies))
        self.beliefs = beliefs
        self._extra = extra
        last = len(encoding.dimensions)
        self._groups = np.append(encoding.groups, last + np.arange(extra)).astype(int)
        _, self._groups = np.unique(self._groups, return_inverse=True)
        self._stretch = np.append(weights_of(encoding.groups), np.ones(extra))
        self._scales: list[Scales | None] = [None, None]
        self._fitted_at = 0
        self.weights = np.array([1.0, 0.0])
        self._models: list[GaussianProcess] = []

    def fit(
        self,
        codes: np.ndarray,
        values: np.ndarray,
        generator: np.random.Generator,
        extra: np.ndarray | None = None,
    ) -> None:
        """Takes in all trials.

        Args:
            codes: float64 [N, P].
            values: float64 [N], higher is better; finite, of trials that failed the worst.
            generator: of the draws by which the two are weighed.
            extra: float64 [N, E], of the trials.
        """
        features = self.encoding.features(codes)
        points = self._points(features, extra)
        targets = warped(values)
        refit = len(values) < 2 or len(values) >= self._fitted_at * _REFIT
        own = GaussianProcess(points, targets, self._groups, scales=self._scales[0])
        self._models = [own]
        order = np.argsort(values, kind="stable")
        self._scale = (targets[order], values[order])
        if self.memory is not None:
            predicted = self.memory.predict(features)
            self._centre = predicted.mean(axis=0)
            assert self.beliefs is not None
            basis = predicted - self._centre
            self._models.append(
                GaussianProcess(
                    points,
                    targets - basis @ self.beliefs,
                    self._groups,
                    basis=basis,
                    basis_deviation=np.sqrt(self.beliefs),
                    scales=self._scales[1],
                )
            )
        if refit:
            for model in self._models:
                model.fit()
            self._fitted_at = len(values)
        for place, model in enumerate(self._models):
            self._scales[place] = model.scales
        self._best = self._best_predicted(targets, extra)
        self.weights = np.array([1.0, 0.0])
        if self.memory is not None:
            means, deviations = zip(*(model.left_out() for model in self._models), strict=True)
            left_out = np.stack([means[0], means[1] + basis @ self.beliefs])
            self.weights = ranking_weights(left_out, np.stack(deviations), targets, generator)

    def expected_improvement(self, codes: np.ndarray) -> np.ndarray:
        """float64 [M]: of points [M, P] over the best trial, at the full budget."""
        found = np.zeros(len(codes))
        for weight, (mean, deviation) in zip(self.weights, self._predictions(codes), strict=False):
            if weight > 0:
                gap = (mean - self._best) / deviation
                found += weight * deviation * (gap * norm.cdf(gap) + norm.pdf(gap))
        return found

    def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of warped values, float64 [M] each."""
        pairs = zip(self.weights, self._predictions(codes), strict=False)
        parts = [(weight, mean, deviation) for weight, (mean, deviation) in pairs]
        mean = sum(weight * m for weight, m, _ in parts)
        square = sum(weight * (d**2 + m**2) for weight, m, d in parts)
        return np.asarray(mean), np.sqrt(np.maximum(square - mean**2, 1e-12))

    def unwarped(
        self, mean: np.ndarray, deviation: np.ndarray, sign: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Warped values in units of the objective, by the trials' own; `sign` is -1 of errors."""
        targets, values = self._scale
        if len(targets) < 2 or targets[0] == targets[-1]:
            return np.full(len(mean), sign * values[-1]), np.zeros(len(mean))
        # Beyond the best trial as steeply as among the better half.
        middle = len(targets) // 2
        slope = (values[-1] - values[middle]) / max(targets[-1] - targets[middle], 1e-9)

        def original(warped_values: np.ndarray) -> np.ndarray:
            inside = np.interp(warped_values, targets, values)
            return inside + slope * np.maximum(warped_values - targets[-1], 0.0)

        low, high = original(mean - deviation), original(mean + deviation)
        return sign * original(mean), 0.5 * (high - low)

    def get_state(self) -> dict[str, Any]:
        """What earlier fits left for the next one, ready for JSON: trials alone don't tell it."""
        scales = [None if one is None else one.vector().tolist() for one in self._scales]
        return {"scales": scales, "fitted_at": self._fitted_at}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `get_state` gave; what a space of other features left is passed over."""
        size = len(Scales.usual(len(np.unique(self._groups))).vector())
        if all(one is None or len(one) == size for one in state["scales"]):
            self._scales = [
                None if one is None else Scales.of(np.array(one)) for one in state["scales"]
            ]
            self._fitted_at = state["fitted_at"]

    # Parts.

    def _points(self, features: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        if self._extra:
            beside = np.ones((len(features), self._extra)) if extra is None else extra
            features = np.concatenate([features, beside], axis=1)
        return features * self._stretch

    def _predictions(self, codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        features = self.encoding.features(codes)
        points = self._points(features, None)
        found = [self._models[0].predict(points)]
        if len(self._models) > 1 and self.weights[1] > 0:
            assert self.memory is not None
            assert self.beliefs is not None
            basis = self.memory.predict(features) - self._centre
            mean, deviation = self._models[1].predict(points, basis)
            found.append((mean + basis @ self.beliefs, deviation))
        elif len(self._models) > 1:
            found.append(found[0])
        return found

    def _best_predicted(self, targets: np.ndarray, extra: np.ndarray | None) -> float:
        if extra is not None:
            full = (extra >= 1.0).all(axis=1)
            targets = targets[full] if full.any() else targets
        return float(targets.max())


def ranking_weights(
    means: np.ndarray, deviations: np.ndarray, targets: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """float64 [models], of sum 1: how often each orders the trials best.

    Args:
        means: float64 [models, N], predictions of each trial that do not know it.
        deviations: float64 [models, N].
        targets: float64 [N].
        generator: of the draws.
    """
    count = len(targets)
    if count > _MOST_PAIRED:  # the newest and the best tell most
        order = np.argsort(-targets, kind="stable")[: _MOST_PAIRED // 2]
        rows = np.union1d(order, np.arange(count - _MOST_PAIRED // 2, count))
        means, deviations, targets = means[:, rows], deviations[:, rows], targets[rows]
        count = len(rows)
    below = targets[:, None] < targets[None, :]
    drawn = means[:, None] + deviations[:, None] * generator.standard_normal((_DRAWS, count))
    wrong = (drawn[..., :, None] < drawn[..., None, :]) != below
    losses = wrong.sum(axis=(2, 3))
    best = losses == losses.min(axis=0)
    return (best / best.sum(axis=0)).mean(axis=1)


def diverse_best(
    scores: np.ndarray, count: int, beliefs: Sequence[float] | np.ndarray
) -> list[int]:
    """Rows that together do well in all studies, the best first.

    Each next row is that which most improves the mean, over the studies, of the best score so far:
    a greedy portfolio, as for algorithm selection in "Auto-sklearn 2.0" (JMLR 2022).

    Args:
        scores: float64 [N, S], of points in studies.
        count: of rows, at most N.
        beliefs: float64 [S], of sum 1.
    """
    beliefs = np.asarray(beliefs)
    alone = scores @ beliefs
    best = np.full(scores.shape[1], -np.inf)
    chosen: list[int] = []
    for _ in range(min(count, len(scores))):
        # A little for the mean alone, or what no longer improves any study would be any row.
        gain = np.maximum(scores, best) @ beliefs + 0.05 * alone
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        best = np.maximum(best, scores[chosen[-1]])
    return chosen
