import sys

import numpy as np
import pytest
import scipy.sparse as sp

from tfrec_meta.evaluation import peers

# Two circles of users with two circles of items; user 0 lacks item 2, user 4 lacks item 5.
TRAIN = sp.csr_array(
    np.array(
        [
            [1, 1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 0],
            [1, 0, 1, 0, 0, 0],
            [0, 0, 0, 1, 1, 0],
            [0, 0, 0, 1, 1, 1],
            [0, 0, 0, 1, 1, 1],
            [0, 0, 0, 0, 1, 1],
        ]
    )
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: peers.item_knn_scores(TRAIN, neighbours=3),
        lambda: peers.ials_scores(TRAIN, factors=2, regularization=0.01, alpha=5.0),
    ],
)
def test_a_baseline_finds_the_item_that_is_missing_from_the_circle(make):
    pytest.importorskip("implicit")
    scores = make()(np.array([4, 0]))
    assert scores.shape == (2, 6)
    assert scores.dtype == np.float32
    unseen = np.where(TRAIN[[4, 0]].toarray() > 0, -np.inf, scores)
    assert unseen.argmax(axis=1).tolist() == [5, 2]


def test_ials_is_reproducible():
    pytest.importorskip("implicit")
    first, second = (peers.ials_scores(TRAIN, factors=2, seed=3)(np.arange(8)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_values_and_explicit_zeros_of_the_train_matrix_do_not_matter():
    pytest.importorskip("implicit")
    weighted = sp.csr_array(TRAIN * 3.0)
    np.testing.assert_array_equal(
        peers.item_knn_scores(weighted)(np.arange(8)), peers.item_knn_scores(TRAIN)(np.arange(8))
    )
    assert weighted.data.max() == 3


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    for name in ("implicit", "implicit.nearest_neighbours", "implicit.cpu", "implicit.cpu.als"):
        monkeypatch.setitem(sys.modules, name, None)
    for make in (peers.item_knn_scores, peers.ials_scores):
        with pytest.raises(ImportError, match=r"tfrec-meta\[bench\]"):
            make(TRAIN)


def test_bad_train_matrices_are_named():
    pytest.importorskip("implicit")
    with pytest.raises(ValueError, match="`train` is a ndarray"):
        peers.item_knn_scores(TRAIN.toarray())
    with pytest.raises(ValueError, match="no interactions"):
        peers.ials_scores(sp.csr_array((2, 3)))
