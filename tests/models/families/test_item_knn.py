"""Item-kNN, by hand and by dense arithmetic."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse

import tfrec_meta as tm
from tfrec_meta.models import ItemKNN, ItemKNNConfig
from tfrec_meta.models.families.item_knn import bm25, nearest_items

# Three users and items: 0 occurs with 1 twice, with 2 once; 1 occurs with 2 once.
TOUCHED = scipy.sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]], np.float32))


def test_cosine_neighbours_with_shrinkage():
    columns, similarities = nearest_items(TOUCHED, 2, cosine=True, shrinkage=1.0)
    np.testing.assert_array_equal(columns, [[1, 2], [0, 2], [0, 1]])
    # Each item has two users: 2 / (2 + 1) and 1 / (2 + 1).
    np.testing.assert_allclose(similarities, [[2 / 3, 1 / 3]] * 2 + [[1 / 3, 1 / 3]], rtol=1e-6)


def test_only_the_nearest_neighbours_are_kept_and_the_rest_is_padded():
    columns, similarities = nearest_items(TOUCHED, 1, cosine=False)
    np.testing.assert_array_equal(columns, [[1], [0], [0]])  # of two equal ones, the first
    np.testing.assert_array_equal(similarities, [[2], [2], [1]])
    alone = scipy.sparse.csr_matrix(np.eye(2, dtype=np.float32))
    columns, similarities = nearest_items(alone, 1, cosine=True)
    np.testing.assert_array_equal(columns, [[-1], [-1]])
    np.testing.assert_array_equal(similarities, [[0], [0]])


def test_bm25_by_hand():
    # Users have 2, 3 and 1 of 3 items. Every item has 2 users, the mean: length has no effect.
    weighted = bm25(TOUCHED, k1=3.0, b=0.5).toarray()
    np.testing.assert_allclose(weighted[0], [np.log(3 / 3), np.log(3 / 3), 0], atol=1e-7)
    np.testing.assert_allclose(
        weighted[1], 0
    )  # a user with all items has no effect, not a negative one
    np.testing.assert_allclose(weighted[2], [0, 0, np.log(3 / 2) * 4 / (3 + 1)], rtol=1e-6)
    # Lengths 0, 2 and 1 around a mean of 1: the second is twice as long.
    uneven = scipy.sparse.csr_matrix(np.array([[0, 1, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    np.testing.assert_allclose(
        bm25(uneven, k1=1.0, b=0.5)[0, 1], np.log(3 / 2) * 2 / (0.5 + 0.5 * 2 + 1), rtol=1e-6
    )


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=60, items=30, interactions=600, seed=3)


@pytest.mark.parametrize("weighting", ["bm25", "cosine"])
def test_scores_are_the_sums_of_similarities(data, weighting):
    config = ItemKNNConfig(neighbours=5, weighting=weighting)
    model = tm.train(data, tm.Strategy("item_knn", config, history_length=10))
    near, like = model.neighbours.numpy(), model.similarities.numpy()
    assert near.shape == like.shape == (31, 5)
    dense = np.zeros((31, 31), np.float32)
    np.add.at(dense, (np.arange(31)[:, None], near), like)
    history = np.array([["i1", "i4", "i4", "", "i9", ""], [""] * 6], object)
    rows = model.spec.items.encode(["i1", "i4", "i9"])
    scores = model.logits(model.spec.encode_queries(["u", "u"], history)).numpy()
    np.testing.assert_allclose(scores[0], dense[rows].sum(axis=0)[1:], rtol=1e-5)
    np.testing.assert_array_equal(scores[1], 0)


def test_fitting_in_chunks_changes_nothing(data, monkeypatch):
    first = tm.train(data, "item_knn")
    monkeypatch.setattr("tfrec_meta.models.families.item_knn._CHUNK", 100)
    second = tm.train(data, "item_knn")
    np.testing.assert_array_equal(first.neighbours, second.neighbours)


def test_memory_grows_with_the_neighbours_not_the_square():
    items = [f"i{i}" for i in range(3000)]
    data = tm.Interactions.from_arrays(["u"] * 3000, items)
    model = ItemKNN(ItemKNNConfig(neighbours=4), tm.FeatureSpec().fit(data))
    assert sum(v.shape.num_elements() for v in model.variables) == 3000 + 2 * 4 * 3001


@pytest.mark.parametrize(
    "change",
    [
        {"neighbours": 0},
        {"weighting": "tfidf"},
        {"k1": -1.0},
        {"b": 1.5},
        {"shrinkage": float("nan")},
    ],
)
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(ItemKNNConfig(), **change)
