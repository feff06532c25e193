"""Memory and the new study's own trials, mixed by how well each ranks these trials.

Two Gaussian processes over the new study: one that knows its trials alone, and one whose prior mean
is what earlier studies predict, with coefficients that the trials move. They are weighted as in
RGPE ("Practical Transfer Learning for Bayesian Optimization", 2018): by how often, in draws from
the leave-one-out predictions, each puts fewer pairs of trials into the wrong order. A past that
misleads loses its weight after a few trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, weights_of
from tfrec_meta.tuning.surrogates.gaussian_process import GaussianProcess, Scales
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate

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
    scores = ndtri((rankdata(values) - 0.5) / len(values))
    gaps = values[good] - middle
    if gaps.max() == 0:  # more than half are the best
        found = scores
    else:
        found = scores / np.sqrt((scores[good] ** 2).mean())
        gaps /= gaps.max()  # whose squares neither vanish nor overflow
        found[good] = gaps / np.sqrt((gaps**2).mean())
    return (found - found.mean()) / found.std()


class MixedSurrogate:
    """Predicts how good points of the space are, from trials and, if there is one, a memory.

    Args:
        encoding: of the space.
        memory: of earlier studies; None without any.
        beliefs: float64 [S], of sum 1: how much each of them is believed; alike by default.
        extra: features beside those of the space, such as the budget of a trial, in [0, 1].

    Attributes:
        weights: float64 [2], of the trials' own model and of that with the memory; of sum 1.
    """

    def __init__(
        self,
        encoding: SpaceEncoding,
        memory: MetaSurrogate | None = None,
        beliefs: np.ndarray | None = None,
        extra: int = 0,
    ):
        self.encoding, self.memory = encoding, memory
        known = 0 if memory is None else len(memory.studies)
        self.beliefs = np.full(known, 1.0 / max(known, 1)) if beliefs is None else beliefs
        self._extra = extra
        groups = np.append(encoding.groups, len(encoding.dimensions) + np.arange(extra))
        self._groups = np.unique(groups.astype(int), return_inverse=True)[1]
        self._stretch = np.append(weights_of(encoding.groups), np.ones(extra))
        self._models: list[GaussianProcess] = []
        self._scales: list[Scales] = []
        self._scaled_by = 0  # trials
        self.weights = np.array([1.0, 0.0])

    def fit(
        self,
        codes: np.ndarray,
        values: np.ndarray,
        generator: np.random.Generator,
        extra: np.ndarray | None = None,
        running: np.ndarray | None = None,
        running_extra: np.ndarray | None = None,
    ) -> None:
        """Takes in all trials.

        Args:
            codes: float64 [N, P], in the order in which the trials ended. Scales are fitted by the
                first of them, whose number grows by steps: so they depend on no call before, and
                hardly any call takes the time.
            values: float64 [N], higher is better; finite, of trials that failed the worst.
            generator: of the draws by which the two are weighed.
            extra: float64 [N, E], of the trials; as of the full budget by default.
            running: float64 [R, P], of trials that run. They count as if they came to what is
                expected of them: two workers are not sent to one place ("Kriging is well-suited to
                parallelize optimization", 2010).
            running_extra: float64 [R, E].
        """
        order = np.argsort(values, kind="stable")
        targets = warped(values)
        self._scale = (targets[order], values[order])
        points, predicted = self._inputs(codes, extra)
        self._best = self._best_of(points, targets)
        self._centre = predicted.mean(axis=0)
        basis = predicted - self._centre
        count = _count_of_scales(len(values))
        if count != self._scaled_by:
            few = slice(count)
            first = predicted[few] - predicted[few].mean(axis=0)
            models = self._made(points[few], first, warped(values[few]), [None, None])
            for model in models:
                model.fit()
            self._scales, self._scaled_by = [model.scales for model in models], count
        self._models = self._made(points, basis, targets, self._scales)
        self.weights = np.array([1.0, 0.0])
        if self.memory is not None:
            means, deviations = zip(*(model.left_out() for model in self._models), strict=True)
            left_out = np.stack([means[0], means[1] + basis @ self.beliefs])
            self.weights = ranking_weights(left_out, np.stack(deviations), targets, generator)
        if running is not None and len(running):
            more, predicted = self._inputs(running, running_extra)
            more_basis = predicted - self._centre
            expected, _ = self._mixture(more, more_basis)
            points, targets = np.concatenate([points, more]), np.append(targets, expected)
            basis = np.concatenate([basis, more_basis])
            self._models = self._made(points, basis, targets, self._scales)
            self._best = self._best_of(points, targets)

    def expected_improvement(self, codes: np.ndarray) -> np.ndarray:
        """float64 [M]: of points [M, P] over the best trial, at the full budget."""
        found = np.zeros(len(codes))
        for weight, mean, deviation in self._predictions(*self._centred(codes)):
            gap = (mean - self._best) / deviation
            density = np.exp(-0.5 * gap**2) / math.sqrt(2 * math.pi)
            found += weight * deviation * (gap * ndtr(gap) + density)
        return found

    def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of warped values at the full budget, float64 [M] each."""
        return self._mixture(*self._centred(codes))

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

    # Parts.

    def _inputs(self, codes: np.ndarray, extra: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """What the kernel sees of points, float64 [M, D + E], and what earlier studies say of them,
        float64 [M, S]."""
        features = self.encoding.features(codes)
        beside = np.ones((len(codes), self._extra)) if extra is None else extra
        points = np.concatenate([features, beside], axis=1) * self._stretch
        if self.memory is None:
            return points, np.zeros((len(codes), 0))
        return points, self.memory.predict(features)

    def _centred(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, predicted = self._inputs(codes, None)
        return points, predicted - self._centre

    def _best_of(self, points: np.ndarray, targets: np.ndarray) -> float:
        """The best target of trials with the full budget, or of all if none had it."""
        full = (points[:, points.shape[1] - self._extra :] >= 1.0).all(axis=1)
        return float(targets[full].max() if full.any() else targets.max())

    def _made(
        self,
        points: np.ndarray,
        basis: np.ndarray,
        targets: np.ndarray,
        scales: Sequence[Scales | None],
    ) -> list[GaussianProcess]:
        found = [GaussianProcess(points, targets, self._groups, scales=scales[0])]
        if self.memory is not None:
            found.append(
                GaussianProcess(
                    points,
                    targets - basis @ self.beliefs,
                    self._groups,
                    basis=basis,
                    basis_deviation=np.sqrt(self.beliefs),
                    scales=scales[1],
                )
            )
        return found

    def _predictions(
        self, points: np.ndarray, basis: np.ndarray
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """Of the models that have any: weight, mean and standard deviation."""
        own, memory = self.weights
        if own > 0:
            yield own, *self._models[0].predict(points)
        if memory > 0:
            mean, deviation = self._models[1].predict(points, basis)
            yield memory, mean + basis @ self.beliefs, deviation

    def _mixture(self, points: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, square = np.zeros(len(points)), np.zeros(len(points))
        for weight, one, deviation in self._predictions(points, basis):
            mean += weight * one
            square += weight * (deviation**2 + one**2)
        return mean, np.sqrt(np.maximum(square - mean**2, 1e-12))


def _count_of_scales(count: int) -> int:
    """The last of 2, 3, ..., 10, 11, 13, 15, ...: each a tenth more than the one before."""
    found = 2
    while (following := max(found + 1, math.ceil(found * _REFIT - 1e-9))) <= count:
        found = following
    return min(found, count)


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
    lower, higher = np.nonzero(targets[:, None] < targets[None, :])
    drawn = means[:, None] + deviations[:, None] * generator.standard_normal((_DRAWS, count))
    losses = np.count_nonzero(drawn[..., lower] >= drawn[..., higher], axis=2)
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
