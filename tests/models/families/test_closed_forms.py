"""EASE and the interaction matrix, by independent means."""

import numpy as np
import pytest
import scipy.sparse

import tfrec_meta as tm
from tfrec_meta.features.held_out import interaction_matrix
from tfrec_meta.models import EASEConfig
from tfrec_meta.models.families.closed_forms import ease_weights


def test_ease_weights_minimise_the_ridge_loss_with_a_zero_diagonal():
    rng = np.random.default_rng(0)
    x = (rng.random((40, 6)) < 0.4).astype(float)
    weights = ease_weights(scipy.sparse.csr_matrix(x), l2=2.0)
    for item in range(6):  # each column is a ridge regression on the other items
        others = [j for j in range(6) if j != item]
        design = x[:, others]
        solved = np.linalg.solve(design.T @ design + 2.0 * np.eye(5), design.T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], solved, rtol=1e-4)
        assert weights[item, item] == 0


@pytest.mark.parametrize("l2", [0.0, -1.0, float("nan")])
def test_ease_refuses_a_penalty_that_is_not_positive(l2):
    with pytest.raises(ValueError, match="l2"):
        EASEConfig(l2=l2)


def test_interaction_matrix_marks_pairs_once_and_leaves_strangers_out():
    data = tm.Interactions.from_arrays(["u", "u", "v", "w"], ["a", "a", "b", "a"])
    spec = tm.FeatureSpec().fit(data)
    matrix = interaction_matrix(data, np.array(["v", "u"], object), spec.items)
    assert spec.items.decode(np.array([1, 2])).tolist() == ["a", "b"]
    np.testing.assert_array_equal(matrix.toarray(), [[0, 1], [1, 0]])
