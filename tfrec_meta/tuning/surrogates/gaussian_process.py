"""Gaussian process regression of a few hundred points in NumPy; a suggestion takes milliseconds.

The kernel is the sum of a Matérn-5/2 kernel, with one length scale per hyperparameter, and a linear
kernel of the prior studies' predictions. The scales maximise their posterior. The prior of a length
scale grows with the number of dimensions.

References:
    "Vanilla Bayesian Optimization Performs Great in High Dimensions" (ICML 2024).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import linalg, optimize

_ROOT_5 = math.sqrt(5.0)
_JITTERS = (1e-6, 1e-4, 1e-2, 1.0)
_MOST_FOR_FITTING = 128  # points; more points make the fit slower and hardly better


@dataclasses.dataclass(frozen=True)
class Scales:
    """Logarithms of the kernel's hyperparameters.

    Attributes:
        lengths: float64 [G], length scales of the dimensions.
        signal: standard deviation of the Matérn part.
        noise: standard deviation of the observations.
    """

    lengths: np.ndarray
    signal: float = 0.0
    noise: float = math.log(0.1)

    @classmethod
    def prior_mode(cls, dimensions: int) -> Scales:
        """Returns the mode of the prior."""
        return cls(np.full(dimensions, _length_prior(dimensions)))

    def vector(self) -> np.ndarray:
        """Returns all scales, float64 [G + 2]."""
        return np.append(self.lengths, [self.signal, self.noise])

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> Scales:
        """Reads the scales that `vector` returned."""
        return cls(vector[:-2], float(vector[-2]), float(vector[-1]))


class GaussianProcess:
    """The posterior of a Gaussian process.

    Args:
        points: float64 [N, D], features.
        targets: float64 [N], with a mean near 0 and a standard deviation near 1.
        groups: int [D], the dimension, and so the length scale, of each feature.
        basis: float64 [N, S], inputs of the linear kernel; None for no linear kernel.
        basis_deviation: float64 [S], prior standard deviations of the linear coefficients.
        scales: of an earlier fit; the mode of the prior by default.
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
        self._constant = 1.0 if basis is None else 0.25  # variance of the unknown mean
        count = int(groups.max()) + 1 if len(groups) else 0
        self.scales = scales or Scales.prior_mode(count)
        self._solve()

    def fit(self, iterations: int = 30) -> None:
        """Fits the scales to the maximum of their posterior, in at most `iterations` steps."""
        rows = self._fitting_rows()
        points, targets = self.points[rows], self.targets[rows]
        gaps = _square_gaps(points, points, self.groups)
        linear = self._linear(self.basis[rows])
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
            self.scales = Scales.from_vector(found.x)
        self._solve()

    def predict(
        self, points: np.ndarray, basis: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predicts the function without noise.

        Args:
            points: float64 [M, D].
            basis: float64 [M, S], inputs of the linear kernel.

        Returns:
            Mean and standard deviation, float64 [M] each.
        """
        basis = np.zeros((len(points), 0)) if basis is None else basis
        weighted = basis * self.basis_deviation**2
        cross = self._matern(points, self.points) + self._constant + weighted @ self.basis.T
        prior = math.exp(2 * self.scales.signal) + self._constant + (weighted * basis).sum(axis=1)
        mean = cross @ self._weights
        half = linalg.blas.dtrmm(1.0, self._inverse, cross.T, lower=1)  # a third of a solve's time
        variance = prior - np.einsum("nm,nm->m", half, half)
        return mean, np.sqrt(np.maximum(variance, 1e-10))

    def leave_one_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicts each target from all other targets.

        Returns:
            Mean and standard deviation, float64 [N] each.

        References:
            Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.2.
        """
        diagonal = (self._inverse**2).sum(axis=0)  # of the inverse kernel
        return self.targets - self._weights / diagonal, np.sqrt(1.0 / diagonal)

    def _fitting_rows(self) -> np.ndarray:
        """Returns the rows to fit the scales to: the best, and an even selection of the rest."""
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
    """Returns the lower Cholesky factor; adds more to the diagonal if rounding requires it."""
    diagonal, added = np.diag_indices_from(kernel), 0.0
    for jitter in _JITTERS:
        kernel[diagonal] += jitter - added
        added = jitter
        try:
            return linalg.cholesky(kernel, lower=True, check_finite=False)
        except linalg.LinAlgError:
            continue
    raise linalg.LinAlgError("The kernel matrix is far from positive definite.")


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns Euclidean distances, float64 [M, N]."""
    square = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return np.sqrt(np.maximum(square, 0.0, out=square), out=square)


def _matern(distance: np.ndarray, variance: float) -> np.ndarray:
    scaled = _ROOT_5 * distance
    return variance * (1.0 + scaled * (1.0 + scaled / 3.0)) * np.exp(-scaled)


def _square_gaps(left: np.ndarray, right: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns float64 [G, N, M]: squared distances for each dimension."""
    count = int(groups.max()) + 1 if len(groups) else 0
    found = np.zeros((count, len(left), len(right)))
    for column, group in enumerate(groups):
        found[group] += (left[:, column, None] - right[None, :, column]) ** 2
    return found


def _length_prior(dimensions: int) -> float:
    """Returns the prior mean of the logarithms of length scales."""
    return -0.5 + 0.5 * math.log(max(dimensions, 1))


_LENGTH_SPREAD, _SIGNAL_SPREAD, _NOISE_SPREAD = 1.0, 0.5, 1.0
_NOISE_CENTRE = math.log(0.1)


def _limits(size: int) -> list[tuple[float, float]]:
    return [(-3.0, 4.0)] * (size - 2) + [(-2.0, 1.5), (math.log(1e-3), 0.0)]


def _negative_log_posterior(
    vector: np.ndarray, gaps: np.ndarray, targets: np.ndarray, linear: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the negative log posterior of the scales, and its gradient."""
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
