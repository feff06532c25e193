"""Alternating least squares, compared with general least-squares solvers."""

import numpy as np
import scipy.sparse

from tfrec_meta.models.solvers import ials


def test_fold_in_minimises_its_loss():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(8, 3))
    factors[0] = 0
    rows = np.array([[2, 5, 0, 7], [0, 0, 0, 0]], np.int32)
    table = factors.astype(np.float32)
    found = ials.fold_in(rows, table, table.T @ table, 0.3, np.float32([2.0, 1.0])).numpy()
    # As a least-squares problem: one row of the design per term of the loss.
    design = np.concatenate([factors[[2, 5, 7]], 0.3**0.5 * factors, 2.0**0.5 * np.eye(3)])
    target = np.concatenate([np.ones(3), np.zeros(8 + 3)])
    np.testing.assert_allclose(found[0], np.linalg.lstsq(design, target)[0], rtol=1e-4)
    np.testing.assert_array_equal(found[1], 0)


def test_fold_in_is_finite_without_a_penalty():
    table = np.zeros((3, 2), np.float32)
    table[1:] = 1e4  # rank 1: without a ridge there is no Cholesky factor
    rows = np.array([[1, 2]], np.int32)
    found = ials.fold_in(rows, table, table.T @ table, 1.0, np.float32([1e-30]))
    assert np.isfinite(found).all()


def test_a_history_of_mean_length_has_the_configured_penalty():
    solver = ials.AlternatingLeastSquares(2, 3.0, 0.5, frequency_exponent=1.0, iterations=1)
    # (4 + 0.5 * 3) / (2 + 0.5 * 3) times as much for twice the length.
    np.testing.assert_allclose(
        solver.penalty(np.array([2.0, 4.0]), 2.0, 3), [3.0, 3.0 * 5.5 / 3.5], rtol=1e-6
    )


def test_chunks_of_padded_rows_contain_every_row_once(monkeypatch):
    monkeypatch.setattr(ials, "_CHUNK", 6)
    matrix = scipy.sparse.random(20, 9, density=0.3, random_state=0, format="csr")
    seen = {}
    for chosen, rows, values in ials._padded(matrix):
        assert rows.size <= max(6, rows.shape[1])
        assert sorted(values[rows > 0]) == sorted(matrix[chosen].data.astype(np.float32))
        assert not values[rows == 0].any()
        seen |= {i: sorted(r[r > 0] - 1) for i, r in zip(chosen.tolist(), rows, strict=True)}
    assert seen == {i: sorted(matrix[[i]].indices) for i in range(20)}
