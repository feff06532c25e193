import sys

import numpy as np
import pytest
import scipy.sparse as sp

import tfrec_meta as tm
from benchmarks import peers
from tfrec_meta.features.held_out import interaction_matrix
from tfrec_meta.models import IALSConfig, ItemKNNConfig
from tfrec_meta.workflows.baselines import scores_by_items

# Two groups of users with two groups of items; user 0 lacks item 2, user 4 lacks item 5.
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
def test_peers_rank_the_missing_item_of_the_users_group_first(make):
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


def test_item_knn_ignores_the_values_of_the_train_matrix():
    pytest.importorskip("implicit")
    weighted = sp.csr_array(TRAIN * 3.0)
    np.testing.assert_array_equal(
        peers.item_knn_scores(weighted)(np.arange(8)), peers.item_knn_scores(TRAIN)(np.arange(8))
    )
    assert weighted.data.max() == 3


def test_error_names_the_extra_if_implicit_is_not_installed(monkeypatch):
    for name in ("implicit", "implicit.nearest_neighbours", "implicit.cpu", "implicit.cpu.als"):
        monkeypatch.setitem(sys.modules, name, None)
    for make in (peers.item_knn_scores, peers.ials_scores):
        with pytest.raises(ImportError, match=r"tfrec-meta\[bench\]"):
            make(TRAIN)


def test_dense_and_empty_train_matrices_are_refused():
    pytest.importorskip("implicit")
    with pytest.raises(ValueError, match="`train` is a ndarray"):
        peers.item_knn_scores(TRAIN.toarray())
    with pytest.raises(ValueError, match="no interactions"):
        peers.ials_scores(sp.csr_array((2, 3)))


@pytest.fixture(scope="module")
def split():
    return tm.split_by_item(tm.synthetic(users=150, items=60, interactions=3000, seed=3), seed=1)


def test_item_knn_equals_that_of_implicit(split):
    pytest.importorskip("implicit")
    strategy = tm.Strategy("item_knn", ItemKNNConfig(neighbours=20))
    model = tm.train(split.train, strategy, progress=False)
    matrix = interaction_matrix(split.train, split.train.user_ids, model.spec.items)
    users = np.arange(matrix.shape[0])
    theirs = peers.item_knn_scores(matrix, neighbours=20)(users)
    ours = scores_by_items(model, matrix)(users)
    # implicit counts an item as its own neighbour, which matters for items of the history only.
    unseen = matrix.toarray() == 0
    assert np.corrcoef(ours[unseen], theirs[unseen])[0, 1] > 0.999


def test_ials_is_as_good_as_that_of_implicit(split):
    pytest.importorskip("implicit")
    # implicit weights observed pairs by alpha and others by 1; the model by 1 and `unseen_weight`.
    config = IALSConfig(16, l2=10.0, unseen_weight=1 / 3, iterations=15)
    model = tm.train(split.train, tm.Strategy("ials", config), progress=False)
    ours = tm.evaluate(model, split, baselines=(), resamples=0)["ials"]["ndcg@10"].value
    theirs = peers.evaluate_peers(
        model.spec,
        split,
        {"ials": lambda matrix: peers.ials_scores(matrix, factors=16)},
        resamples=0,
    )["ials"]["ndcg@10"].value
    assert ours == pytest.approx(theirs, rel=0.03)


@pytest.fixture(scope="module")
def by_time():
    """A split with users who have no history, for whom all models use the popular items."""
    events = tm.synthetic(users=150, items=60, interactions=3000, seed=3)
    late = events.user_codes < 12  # their events come last
    time = np.arange(len(events)) + late * len(events)
    users, items = (events.events[n].to_pylist() for n in ("user_id", "item_id"))
    data = tm.Interactions.from_arrays(users, items, time.tolist())
    split = tm.split_by_time(data)
    assert len(set(split.test.user_ids) - set(split.past.user_ids)) > 5
    return split


@pytest.mark.parametrize("name", ["item_knn", "ials"])
def test_the_default_baseline_is_close_to_that_of_implicit_also_with_new_users(by_time, name):
    pytest.importorskip("implicit")
    knn, ials = ItemKNNConfig(), IALSConfig()
    fits = {
        "item_knn": lambda matrix: peers.item_knn_scores(matrix, knn.neighbours, knn.k1, knn.b),
        "ials": lambda matrix: peers.ials_scores(
            matrix,
            min(ials.embedding_dim, matrix.shape[1]),
            ials.l2 / ials.unseen_weight,
            1 / ials.unseen_weight,
            ials.iterations,
        ),
    }
    popular = tm.train(by_time, "popularity", progress=False)
    ours = tm.evaluate(popular, by_time, baselines=[name], tune_baselines=False, resamples=0)
    theirs = peers.evaluate_peers(popular.spec, by_time, {name: fits[name]}, resamples=0)
    figures = [found[name]["ndcg@10"].value for found in (ours, theirs)]
    assert figures[0] == pytest.approx(figures[1], rel=0.001 if name == "item_knn" else 0.03)


def test_peers_on_matrices_equal_the_models_of_the_same_name(split):
    model = tm.train(split, "ease", progress=False)
    results = tm.evaluate(model, split, baselines=["popularity"], resamples=0)
    fits = {
        "ease": lambda matrix: peers.ease_scores(matrix, model.config.l2),
        "popularity": peers.popularity_scores,
    }
    found = peers.evaluate_peers(model.spec, split, fits, resamples=0)
    for name in fits:
        assert found[name]["ndcg@10"].value == pytest.approx(results[name]["ndcg@10"].value)
