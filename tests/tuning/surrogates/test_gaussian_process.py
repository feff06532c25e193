"""The Gaussian process against values worked by hand and plain dense formulas."""

import math

import numpy as np
import pytest
from scipy import optimize

from tfrec_meta.tuning.surrogates.gaussian_process import (
    GaussianProcess,
    Scales,
    _factor,
    _negative_log_posterior,
    _square_gaps,
)

JITTER = 1e-6


def matern(left, right, lengths, variance=1.0):
    """The textbook formula, one pair at a time."""
    found = np.empty((len(left), len(right)))
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            r = math.sqrt((((one - other) / lengths) ** 2).sum())
            s = math.sqrt(5) * r
            found[i, j] = variance * (1 + s + s * s / 3) * math.exp(-s)
    return found


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def gaussian_process(generator, count=12, basis=False, scales=None):
    points, groups = generator.random((count, 3)), np.array([0, 1, 1])
    targets = generator.normal(size=count)
    linear = generator.normal(size=(count, 2)) if basis else None
    return GaussianProcess(
        points,
        targets,
        groups,
        basis=linear,
        basis_deviation=np.array([0.5, 1.0]) if basis else None,
        scales=scales or Scales(np.array([-0.5, 0.3]), 0.2, math.log(0.2)),
    )


def test_posterior_of_one_point_matches_values_worked_by_hand():
    # variance of the function 1 + 1 for the mean, noise 0.1 ** 2: the mean shrinks by 2 / 2.01.
    gp = GaussianProcess(np.zeros((1, 1)), np.array([3.0]), np.array([0]))
    mean, deviation = gp.predict(np.zeros((1, 1)))
    total = 2.0 + 0.01 + JITTER
    assert mean[0] == pytest.approx(3.0 * 2.0 / total)
    assert deviation[0] ** 2 == pytest.approx(2.0 - 4.0 / total)


def test_far_from_all_points_only_the_mean_is_informed():
    gp = GaussianProcess(np.zeros((1, 1)), np.array([3.0]), np.array([0]))
    mean, deviation = gp.predict(np.full((1, 1), 1e3))
    total = 2.0 + 0.01 + JITTER
    assert mean[0] == pytest.approx(3.0 / total)
    assert deviation[0] ** 2 == pytest.approx(2.0 - 1.0 / total)


def test_posterior_matches_the_dense_formula(generator):
    gp, new = gaussian_process(generator), generator.random((5, 3))
    lengths = np.exp(gp.scales.lengths)[gp.groups]
    variance = math.exp(0.4)
    kernel = matern(gp.points, gp.points, lengths, variance) + 1.0
    kernel += (0.04 + JITTER) * np.eye(12)
    cross = matern(new, gp.points, lengths, variance) + 1.0
    mean, deviation = gp.predict(new)
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(kernel, gp.targets))
    expected = variance + 1.0 - np.diag(cross @ np.linalg.solve(kernel, cross.T))
    np.testing.assert_allclose(deviation**2, expected)


def test_leave_one_out_matches_a_process_without_the_point(generator):
    gp = gaussian_process(generator, basis=True)
    means, deviations = gp.leave_one_out()
    for row in range(len(gp.targets)):
        others = np.arange(len(gp.targets)) != row
        without = GaussianProcess(
            gp.points[others],
            gp.targets[others],
            gp.groups,
            basis=gp.basis[others],
            basis_deviation=gp.basis_deviation,
            scales=gp.scales,
        )
        mean, deviation = without.predict(gp.points[[row]], gp.basis[[row]])
        assert means[row] == pytest.approx(mean[0])
        assert deviations[row] ** 2 == pytest.approx(deviation[0] ** 2 + 0.04 + JITTER)


def test_linear_kernel_is_bayesian_linear_regression(generator):
    # All points are equal, so the kernel is constant with variance 1 + 0.25: an intercept.
    basis, targets = generator.normal(size=(20, 2)), generator.normal(size=20)
    spread = np.array([0.5, 1.0])
    gp = GaussianProcess(
        np.zeros((20, 1)), targets, np.array([0]), basis=basis, basis_deviation=spread
    )
    design = np.column_stack([np.ones(20), basis])
    noise = 0.01 + JITTER
    precision = design.T @ design / noise + np.diag(1 / np.array([1.25, 0.25, 1.0]))
    coefficients = np.linalg.solve(precision, design.T @ targets / noise)
    new = generator.normal(size=(4, 2))
    rows = np.column_stack([np.ones(4), new])
    mean, deviation = gp.predict(np.zeros((4, 1)), new)
    np.testing.assert_allclose(mean, rows @ coefficients, rtol=1e-6)
    expected = np.einsum("ni,ij,nj->n", rows, np.linalg.inv(precision), rows)
    np.testing.assert_allclose(deviation**2, expected, rtol=1e-4)


def test_gradient_agrees_with_finite_differences(generator):
    points, targets = generator.random((9, 3)), generator.normal(size=9)
    gaps, linear = _square_gaps(points, points, np.array([0, 1, 1])), np.ones((9, 9))
    for _ in range(3):
        vector = generator.normal(0.0, 0.5, 4) - [0, 0, 0, 1.5]
        value, gradient = _negative_log_posterior(vector, gaps, targets, linear)
        assert np.isfinite(value)
        numeric = optimize.approx_fprime(
            vector, lambda v: _negative_log_posterior(v, gaps, targets, linear)[0], 1e-6
        )
        np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)


def test_posterior_value_is_the_marginal_likelihood_with_the_priors():
    # One point, and all scales at the modes of their priors, which add nothing.
    vector = Scales.prior_mode(1).vector()
    value, _ = _negative_log_posterior(
        vector, np.zeros((1, 1, 1)), np.array([2.0]), np.ones((1, 1))
    )
    total = 2.0 + 0.01 + JITTER
    assert value == pytest.approx(0.5 * 4.0 / total + 0.5 * math.log(total))


def test_fit_finds_the_relevant_dimension(generator):
    points = generator.random((40, 2))
    gp = GaussianProcess(points, np.sin(6 * points[:, 0]), np.arange(2))
    gp.fit()
    assert gp.scales.lengths[0] < gp.scales.lengths[1] - 1
    assert gp.scales.noise < math.log(0.1)
    mean, _ = gp.predict(np.array([[0.5, 0.1], [0.5, 0.9]]))
    np.testing.assert_allclose(mean, math.sin(3.0), atol=0.1)


def test_scales_round_trip_through_their_vector():
    scales = Scales(np.array([0.1, 0.2]), 0.3, -2.0)
    assert scales.vector().tolist() == [0.1, 0.2, 0.3, -2.0]
    back = Scales.from_vector(scales.vector())
    assert (back.lengths.tolist(), back.signal, back.noise) == ([0.1, 0.2], 0.3, -2.0)


def test_prior_length_scales_grow_with_the_number_of_dimensions():
    assert Scales.prior_mode(1).lengths.tolist() == [-0.5]
    np.testing.assert_allclose(Scales.prior_mode(100).lengths, -0.5 + math.log(10))


@pytest.mark.parametrize("count", [1, 2, 400])
def test_equal_points_and_equal_targets_are_supported(count):
    gp = GaussianProcess(np.zeros((count, 2)), np.zeros(count), np.arange(2))
    gp.fit()
    mean, deviation = gp.predict(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert mean.tolist() == [0.0, 0.0]
    assert 0 < deviation[0] < deviation[1]
    assert np.isfinite(gp.leave_one_out()).all()


def test_a_space_without_features_is_supported():
    gp = GaussianProcess(np.zeros((3, 0)), np.ones(3), np.zeros(0, int))
    gp.fit()
    assert gp.predict(np.zeros((1, 0)))[0][0] == pytest.approx(1.0, abs=0.1)


def test_an_inexact_kernel_gets_a_larger_diagonal():
    kernel = np.array([[1.0, 1.0], [1.0, 1.0 - 1e-5]])
    factor = _factor(kernel.copy())
    np.testing.assert_allclose(factor @ factor.T, kernel + 1e-4 * np.eye(2))


def test_an_indefinite_matrix_is_refused():
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        _factor(np.array([[1.0, 3.0], [3.0, 1.0]]))
