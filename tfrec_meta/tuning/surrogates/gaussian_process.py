"""Gaussian process regression of few points, in NumPy: a suggestion takes milliseconds.

Matérn-5/2 with a length scale a hyperparameter, beside it a linear part in what earlier studies
predict; fitted by the maximum of the posterior, under priors that let length scales grow with the
number of dimensions ("Vanilla Bayesian Optimization Performs Great in High Dimensions", ICML 2024).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import linalg, optimize

_ROOT_5 = math.sqrt(5.0)
_JITTERS = (1e-6, 1e-4, 1e-2, 1.0)
_MOST_FOR_FITTING = 128  # points; more would make a fit longer, and its scales hardly better


@dataclasses.dataclass(frozen=True)
class Scales:
    """Hyperparameters of the kernel, as logarithms.

    Attributes:
        lengths: float64 [G], of the dimensions.
        signal: of the Matérn part's standard deviation.
        noise: of the observations' standard deviation.
    """

    lengths: np.ndarray
    signal: float = 0.0
    noise: float = math.log(0.1)

    @classmethod
    def usual(cls, dimensions: int) -> Scales:
        """The mode of the prior."""
        return cls(np.full(dimensions, _length_prior(dimensions)))

    def vector(self) -> np.ndarray:
        """float64 [G + 2]."""
        return np.append(self.lengths, [self.signal, self.noise])

    @classmethod
    def of(cls, vector: np.ndarray) -> Scales:
        """Takes back what `vector` gave."""
        return cls(vector[:-2], float(vector[-2]), float(vector[-1]))


class GaussianProcess:
    """A posterior over functions.

    Args:
        points: float64 [N, D], features.
        targets: float64 [N], of about mean 0 and standard deviation 1.
        groups: int [D], the dimension of each feature, whose length scale it has.
        basis: float64 [N, S], of a linear part with coefficients of mean 0; None for no such part.
        basis_deviation: float64 [S], standard deviation of the coefficients.
        scales: of an earlier fit; the prior's by default.
    """

    def __init__(
        self,
        points: np.ndarray,
        targets: np.ndarray,
        groups: np.ndarray,
        *,
        basis: np.ndarray | None = None,
        basis_deviation: np.ndarray | None = None,
        scales: Scales | None = None,
    ):
        self.points, self.targets, self.groups = points, targets, groups
        self.basis = np.zeros((len(targets), 0)) if basis is None else basis
        self.basis_deviation = np.zeros(0) if basis_deviation is None else basis_deviation
        self._constant = 1.0 if basis is None else 0.25  # variance of the mean, which is not known
        count = int(groups.max()) + 1 if len(groups) else 0
        self.scales = scales or Scales.usual(count)
        self._solve()

    def fit(self, iterations: int = 30) -> None:
        """Moves the scales towards the maximum of their posterior."""
        few = self._few()
        points, targets = self.points[few], self.targets[few]
        gaps = _square_gaps(points, points, self.groups)
        linear = self._linear(self.basis[few])
        start = self.scales.vector()
        limits = _limits(len(start))
        found = optimize.minimize(
            _negative_log_posterior,
            np.clip(start, *np.transpose(limits)),
            args=(gaps, targets, linear),
            jac=True,
            method="L-BFGS-B",
            bounds=limits,
            options={"maxiter": iterations},
        )
        if np.isfinite(found.fun):
            self.scales = Scales.of(found.x)
        self._solve()

    def predict(
        self, points: np.ndarray, basis: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the function (noise left out), float64 [M] each."""
        basis = np.zeros((len(points), 0)) if basis is None else basis
        weighted = basis * self.basis_deviation**2
        cross = self._matern(points, self.points) + self._constant + weighted @ self.basis.T
        prior = math.exp(2 * self.scales.signal) + self._constant + (weighted * basis).sum(axis=1)
        mean = cross @ self._weights
        half = linalg.blas.dtrmm(1.0, self._inverse, cross.T, lower=1)  # a third of a solve's time
        variance = prior - np.einsum("nm,nm->m", half, half)
        return mean, np.sqrt(np.maximum(variance, 1e-10))

    def left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each point's target, given all the others; [N] each.

        Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.2.
        """
        diagonal = (self._inverse**2).sum(axis=0)  # of the kernel's inverse
        return self.targets - self._weights / diagonal, np.sqrt(1.0 / diagonal)

    # Parts.

    def _few(self) -> np.ndarray:
        """Rows to fit the scales by: the best and, evenly, of the rest."""
        count = len(self.targets)
        if count <= _MOST_FOR_FITTING:
            return np.arange(count)
        order = np.argsort(-self.targets, kind="stable")
        best, rest = order[: _MOST_FOR_FITTING // 2], order[_MOST_FOR_FITTING // 2 :]
        evenly = np.linspace(0, len(rest) - 1, _MOST_FOR_FITTING - len(best)).astype(int)
        return np.sort(np.append(best, rest[evenly]))

    def _linear(self, basis: np.ndarray) -> np.ndarray:
        return self._constant + (basis * self.basis_deviation**2) @ basis.T

    def _matern(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        stretch = np.exp(-self.scales.lengths)[self.groups]
        gaps = _distances(left * stretch, right * stretch)
        return _matern(gaps, math.exp(2 * self.scales.signal))

    def _solve(self) -> None:
        kernel = self._matern(self.points, self.points) + self._linear(self.basis)
        kernel[np.diag_indices_from(kernel)] += math.exp(2 * self.scales.noise)
        factor = _factor(kernel)
        self._weights = linalg.cho_solve((factor, True), self.targets, check_finite=False)
        self._inverse, _ = linalg.lapack.dtrtri(factor, lower=1)


def _factor(kernel: np.ndarray) -> np.ndarray:
    """The lower Cholesky factor; more is added to the diagonal where rounding asks for it."""
    diagonal, added = np.diag_indices_from(kernel), 0.0
    for jitter in _JITTERS:
        kernel[diagonal] += jitter - added
        added = jitter
        try:
            return linalg.cholesky(kernel, lower=True, check_finite=False)
        except linalg.LinAlgError:
            continue
    raise linalg.LinAlgError("The kernel is far from positive definite.")


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Euclidean, float64 [M, N]."""
    square = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(np.maximum(square, 0.0, out=square), out=square)


def _matern(distance: np.ndarray, variance: float) -> np.ndarray:
    scaled = _ROOT_5 * distance
    return variance * (1.0 + scaled * (1.0 + scaled / 3.0)) * np.exp(-scaled)


def _square_gaps(left: np.ndarray, right: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """float64 [G, N, M]: squared distances, a dimension a layer."""
    count = int(groups.max()) + 1 if len(groups) else 0
    found = np.zeros((count, len(left), len(right)))
    for column, group in enumerate(groups):
        found[group] += (left[:, column, None] - right[None, :, column]) ** 2
    return found


def _length_prior(dimensions: int) -> float:
    """The logarithm around which length scales lie."""
    return -0.5 + 0.5 * math.log(max(dimensions, 1))


_LENGTH_SPREAD, _SIGNAL_SPREAD, _NOISE_SPREAD = 1.0, 0.5, 1.0
_NOISE_CENTRE = math.log(0.1)


def _limits(size: int) -> list[tuple[float, float]]:
    return [(-3.0, 4.0)] * (size - 2) + [(-2.0, 1.5), (math.log(1e-3), 0.0)]


def _negative_log_posterior(
    vector: np.ndarray, gaps: np.ndarray, targets: np.ndarray, linear: np.ndarray
) -> tuple[float, np.ndarray]:
    """And its gradient."""
    lengths, signal, noise = vector[:-2], vector[-2], vector[-1]
    inverse_squares = np.exp(-2 * lengths)
    distance = np.sqrt(np.tensordot(inverse_squares, gaps, axes=1))
    variance, noise_variance = math.exp(2 * signal), math.exp(2 * noise)
    matern = _matern(distance, variance)
    kernel = matern + linear
    kernel[np.diag_indices_from(kernel)] += noise_variance
    factor = _factor(kernel)
    inverse = linalg.cho_solve((factor, True), np.eye(len(targets)), check_finite=False)
    weights = inverse @ targets
    value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum()
    outer = 0.5 * (inverse - np.outer(weights, weights))
    # d k / d log length = variance * 5 / 3 * (1 + sqrt(5) r) * exp(-sqrt(5) r) * gap / length ** 2
    slope = variance * 5.0 / 3.0 * (1.0 + _ROOT_5 * distance) * np.exp(-_ROOT_5 * distance)
    gradient = np.empty_like(vector)
    gradient[:-2] = np.tensordot(gaps, outer * slope, axes=2) * inverse_squares
    gradient[-2] = 2 * (outer * matern).sum()
    gradient[-1] = 2 * noise_variance * np.trace(outer)
    for part, centre, spread in (
        (slice(0, -2), _length_prior(len(lengths)), _LENGTH_SPREAD),
        (slice(-2, -1), 0.0, _SIGNAL_SPREAD),
        (slice(-1, None), _NOISE_CENTRE, _NOISE_SPREAD),
    ):
        away = (vector[part] - centre) / spread
        value += 0.5 * (away**2).sum()
        gradient[part] += away / spread
    return float(value), gradient
