"""A mixture of two models of the new study, weighted by how well each ranks its trials.

The first Gaussian process is fitted to the new study's trials only. The prior mean of the second is
a linear combination of the prior studies' predictions, whose coefficients are fitted to the trials.
The weights follow RGPE: they are the frequencies with which, in draws from the leave-one-out
predictions, each model orders fewer pairs of trials incorrectly. So misleading prior studies lose
their weight after a few trials. The weight of the second model also fades with the number of
trials, since a search that goes on in the best region of other data sets may miss its own.

References:
    RGPE: "Practical Transfer Learning for Bayesian Optimization" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, feature_scales
from tfrec_meta.tuning.surrogates.gaussian_process import GaussianProcess, Scales
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate

_DRAWS = 64
_MOST_PAIRED = 64  # trials whose pairs are compared
_UNFADED = 5  # trials up to which the model with prior studies has all the weight that it earns
_REFIT = 1.1  # the scales are fitted again when the number of trials has grown by this factor


def warp(values: np.ndarray) -> np.ndarray:
    """Transforms objective values into the targets of the Gaussian processes.

    Values above the median keep their distances. Values below it keep only their ranks, so that
    failed or diverged trials do not compress the scale of the others.

    Args:
        values: float64 [N], higher is better, finite.

    Returns:
        float64 [N], with mean 0 and standard deviation 1.

    References:
        Half-rank warping, "The Vizier Gaussian Process Bandit Algorithm" (2024).
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
        gaps /= gaps.max()  # so that squares neither underflow nor overflow
        found[good] = gaps / np.sqrt((gaps**2).mean())
    return (found - found.mean()) / found.std()


class MixedSurrogate:
    """Predicts the objective from the new study's trials and, optionally, from prior studies.

    Args:
        encoding: of the search space.
        meta_surrogate: of the prior studies; None for a model without them.
        study_weights: float64 [S], with sum 1, the weights of the prior studies; equal by default.
        extra: the number of features in addition to the space's, such as a trial's budget. Their
            values lie in [0, 1].

    Attributes:
        weights: float64 [2], with sum 1: of the model of the trials alone, and of the model with
            prior studies.
    """

    def __init__(
        self,
        encoding: SpaceEncoding,
        meta_surrogate: MetaSurrogate | None = None,
        study_weights: np.ndarray | None = None,
        extra: int = 0,
    ):
        self.encoding, self.meta_surrogate = encoding, meta_surrogate
        studies = 0 if meta_surrogate is None else len(meta_surrogate.studies)
        if study_weights is None:
            study_weights = np.full(studies, 1.0 / max(studies, 1))
        self.study_weights = study_weights
        self._extra = extra
        groups = np.append(encoding.groups, len(encoding.dimensions) + np.arange(extra))
        self._groups = np.unique(groups.astype(int), return_inverse=True)[1]
        self._stretch = np.append(feature_scales(encoding.groups), np.ones(extra))
        self._models: list[GaussianProcess] = []
        self._scales: list[Scales] = []
        self._trials_of_scales = 0
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
        """Fits both models and their weights.

        Args:
            codes: float64 [N, P], in the order in which the trials ended. The scales are fitted to
                the first trials only, and their number grows in steps. So the scales do not depend
                on earlier calls, and few calls need a new fit.
            values: float64 [N], higher is better and finite; failed trials have the worst value.
            generator: of the draws that weight the two models.
            extra: float64 [N, E], extra features of the trials; 1, the full budget, by default.
            running: float64 [R, P], running trials. They count as if they had their expected
                value, so that two workers do not get nearly the same point.
            running_extra: float64 [R, E].

        References:
            "Kriging is well-suited to parallelize optimization" (2010).
        """
        order = np.argsort(values, kind="stable")
        targets = warp(values)
        self._scale = (targets[order], values[order])
        points, predicted = self._inputs(codes, extra)
        self._best = self._best_of(points, targets)
        self._centre = predicted.mean(axis=0)
        basis = predicted - self._centre
        count = _count_of_scales(len(values))
        if count != self._trials_of_scales:
            first = slice(count)
            centred = predicted[first] - predicted[first].mean(axis=0)
            models = self._build(points[first], centred, warp(values[first]), [None, None])
            for model in models:
                model.fit()
            self._scales, self._trials_of_scales = [model.scales for model in models], count
        self._models = self._build(points, basis, targets, self._scales)
        self.weights = np.array([1.0, 0.0])
        if self.meta_surrogate is not None:
            means, deviations = zip(*(model.leave_one_out() for model in self._models), strict=True)
            held_out = np.stack([means[0], means[1] + basis @ self.study_weights])
            earned = ranking_weights(held_out, np.stack(deviations), targets, generator)
            transfer = earned[1] * min(1.0, _UNFADED / len(targets))
            self.weights = np.array([1.0 - transfer, transfer])
        if running is not None and len(running):
            more, predicted = self._inputs(running, running_extra)
            more_basis = predicted - self._centre
            expected, _ = self._mixture(more, more_basis)
            points, targets = np.concatenate([points, more]), np.append(targets, expected)
            basis = np.concatenate([basis, more_basis])
            self._models = self._build(points, basis, targets, self._scales)
            self._best = self._best_of(points, targets)

    def expected_improvement(self, codes: np.ndarray) -> np.ndarray:
        """Returns the expected improvement, float64 [M], of points [M, P] at the full budget."""
        found = np.zeros(len(codes))
        for weight, mean, deviation in self._predictions(*self._centred(codes)):
            gap = (mean - self._best) / deviation
            density = np.exp(-0.5 * gap**2) / math.sqrt(2 * math.pi)
            found += weight * deviation * (gap * ndtr(gap) + density)
        return found

    def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicts warped values of points [M, P] at the full budget.

        Returns:
            Mean and standard deviation, float64 [M] each.
        """
        return self._mixture(*self._centred(codes))

    def unwarp(
        self, mean: np.ndarray, deviation: np.ndarray, sign: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Converts predictions of warped values into units of the objective.

        Args:
            mean: float64 [M], warped.
            deviation: float64 [M], warped.
            sign: 1.0, or -1.0 for an objective to be minimised.
        """
        targets, values = self._scale
        if len(targets) < 2 or targets[0] == targets[-1]:
            return np.full(len(mean), sign * values[-1]), np.zeros(len(mean))
        # Beyond the best trial, extrapolate with the slope of the better half.
        middle = len(targets) // 2
        slope = (values[-1] - values[middle]) / max(targets[-1] - targets[middle], 1e-9)

        def original(warped_values: np.ndarray) -> np.ndarray:
            inside = np.interp(warped_values, targets, values)
            return inside + slope * np.maximum(warped_values - targets[-1], 0.0)

        low, high = original(mean - deviation), original(mean + deviation)
        return sign * original(mean), 0.5 * (high - low)

    def _inputs(self, codes: np.ndarray, extra: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the inputs of both kernels: float64 [M, D + E] and float64 [M, S]."""
        features = self.encoding.features(codes)
        if extra is None:
            extra = np.ones((len(codes), self._extra))
        points = np.concatenate([features, extra], axis=1) * self._stretch
        if self.meta_surrogate is None:
            return points, np.zeros((len(codes), 0))
        return points, self.meta_surrogate.predict(features)

    def _centred(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, predicted = self._inputs(codes, None)
        return points, predicted - self._centre

    def _best_of(self, points: np.ndarray, targets: np.ndarray) -> float:
        """Returns the best target of trials with the full budget, or of all trials without any."""
        full = (points[:, points.shape[1] - self._extra :] >= 1.0).all(axis=1)
        return float(targets[full].max() if full.any() else targets.max())

    def _build(
        self,
        points: np.ndarray,
        basis: np.ndarray,
        targets: np.ndarray,
        scales: Sequence[Scales | None],
    ) -> list[GaussianProcess]:
        found = [GaussianProcess(points, targets, self._groups, scales=scales[0])]
        if self.meta_surrogate is not None:
            found.append(
                GaussianProcess(
                    points,
                    targets - basis @ self.study_weights,
                    self._groups,
                    basis=basis,
                    basis_deviation=np.sqrt(self.study_weights),
                    scales=scales[1],
                )
            )
        return found

    def _predictions(
        self, points: np.ndarray, basis: np.ndarray
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """Yields weight, mean and standard deviation of each model with a positive weight."""
        own, transfer = self.weights
        if own > 0:
            yield own, *self._models[0].predict(points)
        if transfer > 0:
            mean, deviation = self._models[1].predict(points, basis)
            yield transfer, mean + basis @ self.study_weights, deviation

    def _mixture(self, points: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, square = np.zeros(len(points)), np.zeros(len(points))
        for weight, one, deviation in self._predictions(points, basis):
            mean += weight * one
            square += weight * (deviation**2 + one**2)
        return mean, np.sqrt(np.maximum(square - mean**2, 1e-12))


def _count_of_scales(count: int) -> int:
    """Returns the largest of 2, 3, ..., 10, 11, 13, 15, ... (steps of a tenth) up to `count`."""
    found = 2
    while (following := max(found + 1, math.ceil(found * _REFIT - 1e-9))) <= count:
        found = following
    return min(found, count)


def ranking_weights(
    means: np.ndarray, deviations: np.ndarray, targets: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Returns how often each model orders the trials best.

    Args:
        means: float64 [models, N], leave-one-out predictions of the trials.
        deviations: float64 [models, N], their standard deviations.
        targets: float64 [N].
        generator: of the draws.

    Returns:
        float64 [models], with sum 1.
    """
    count = len(targets)
    if count > _MOST_PAIRED:  # the newest and the best trials are the most informative
        order = np.argsort(-targets, kind="stable")[: _MOST_PAIRED // 2]
        rows = np.union1d(order, np.arange(count - _MOST_PAIRED // 2, count))
        means, deviations, targets = means[:, rows], deviations[:, rows], targets[rows]
        count = len(rows)
    lower, higher = np.nonzero(targets[:, None] < targets[None, :])
    drawn = means[:, None] + deviations[:, None] * generator.standard_normal((_DRAWS, count))
    losses = np.count_nonzero(drawn[..., lower] >= drawn[..., higher], axis=2)
    best = losses == losses.min(axis=0)
    return (best / best.sum(axis=0)).mean(axis=1)


def agreement(expected: np.ndarray, values: np.ndarray) -> float:
    """Returns the share of correctly ordered pairs minus that of wrongly ordered ones.

    Args:
        expected: float64 [N], predictions.
        values: float64 [N].

    Returns:
        A number from -1 to 1; 0 for fewer than two trials.
    """
    one, other = np.triu_indices(len(values), 1)
    found = np.sign(values[one] - values[other]) * np.sign(expected[one] - expected[other])
    return float(found.mean()) if len(found) else 0.0


def diverse_best(
    scores: np.ndarray, count: int, weights: Sequence[float] | np.ndarray
) -> list[int]:
    """Selects points that together do well in all studies, by a greedy portfolio.

    Each next point is the one that most improves the mean, over the studies, of the best score so
    far.

    Args:
        scores: float64 [N, S], of points in studies.
        count: the number of points, at most N.
        weights: float64 [S], of the studies, with sum 1.

    Returns:
        Rows of `scores`, best first.

    References:
        "Auto-sklearn 2.0" (JMLR 2022) selects a portfolio of algorithms in this way.
    """
    weights = np.asarray(weights)
    alone = scores @ weights
    best = np.full(scores.shape[1], -np.inf)
    chosen: list[int] = []
    for _ in range(min(count, len(scores))):
        # The mean breaks ties between points that no longer improve any study.
        gain = np.maximum(scores, best) @ weights + 0.05 * alone
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        best = np.maximum(best, scores[chosen[-1]])
    return chosen
