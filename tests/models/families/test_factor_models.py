"""iALS and low-rank EASE, by independent means."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse

import tfrec_meta as tm
from tfrec_meta.models import IALSConfig, LowRankEASEConfig
from tfrec_meta.models.families import factor_models as fm
from tfrec_meta.models.families.closed_forms import ease_weights, interaction_matrix


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=60, items=30, interactions=600, seed=3)


def history_of(model, *items):
    return model.spec.encode_queries(["someone"], np.array([items], object))


def test_fold_in_minimises_its_loss():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(8, 3))
    factors[0] = 0
    rows = np.array([[2, 5, 0, 7], [0, 0, 0, 0]], np.int32)
    table = factors.astype(np.float32)
    found = fm.fold_in(rows, table, table.T @ table, 0.3, np.float32([2.0, 1.0])).numpy()
    # As a least-squares problem: a row of the design for each term of the loss.
    design = np.concatenate([factors[[2, 5, 7]], 0.3**0.5 * factors, 2.0**0.5 * np.eye(3)])
    target = np.concatenate([np.ones(3), np.zeros(8 + 3)])
    np.testing.assert_allclose(found[0], np.linalg.lstsq(design, target)[0], rtol=1e-4)
    np.testing.assert_array_equal(found[1], 0)


def test_fold_in_never_fails_for_want_of_a_penalty():
    table = np.zeros((3, 2), np.float32)
    table[1:] = 1e4  # of rank 1: without the ridge there is no Cholesky factor
    rows = np.array([[1, 2]], np.int32)
    found = fm.fold_in(rows, table, table.T @ table, 1.0, np.float32([1e-30]))
    assert np.isfinite(found).all()


def test_each_iteration_lowers_the_loss_of_ials(data):
    config = IALSConfig(embedding_dim=4, l2=0.5, unseen_weight=0.2)

    def loss(iterations):
        strategy = tm.Strategy("ials", dataclasses.replace(config, iterations=iterations))
        model = tm.train(data, strategy)
        seen = interaction_matrix(data, data.user_ids, model.spec.items).toarray()
        history = tm.data.user_histories(data, data.user_ids, 200)
        users = model.query_vectors(model.spec.encode_queries(data.user_ids, history)).numpy()
        items = model.item_embeddings().numpy()
        product = users @ items.T
        fit = (seen * (1 - product) ** 2).sum() + 0.2 * (product**2).sum()
        return fit + 0.5 * (users**2).sum() + 0.5 * (items**2).sum()

    losses = [loss(iterations) for iterations in (1, 2, 4, 8)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 5


def test_a_row_of_the_mean_length_has_the_penalty_as_set():
    data = tm.Interactions.from_arrays(["u", "u", "v", "v"], ["a", "b", "b", "c"])
    config = IALSConfig(embedding_dim=2, l2=3.0, unseen_weight=0.5, frequency_exponent=1.0)
    model = tm.train(data, tm.Strategy("ials", config))
    assert model.mean_history.numpy() == 2.0
    # (4 + 0.5 * 3) / (2 + 0.5 * 3) times as much for twice the length.
    np.testing.assert_allclose(
        model._penalty(np.array([2.0, 4.0]), 2.0, 3), [3.0, 3.0 * 5.5 / 3.5], rtol=1e-6
    )


def test_chunks_of_padded_rows_hold_every_row_once(monkeypatch):
    monkeypatch.setattr(fm, "_CHUNK", 6)
    matrix = scipy.sparse.random(20, 9, density=0.3, random_state=0, format="csr")
    seen = {}
    for chosen, rows in fm._padded(matrix):
        assert rows.size <= max(6, rows.shape[1])
        seen |= {i: sorted(r[r > 0] - 1) for i, r in zip(chosen.tolist(), rows, strict=True)}
    assert seen == {i: sorted(matrix[[i]].indices) for i in range(20)}


def test_low_rank_is_the_truncated_singular_value_decomposition():
    weights = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    left, right = fm.low_rank(weights, 3)
    u, s, vt = np.linalg.svd(weights)
    np.testing.assert_allclose(left @ right.T, u[:, :3] * s[:3] @ vt[:3], atol=1e-4)


def test_low_rank_ease_of_full_rank_is_ease(data):
    model = tm.train(data, tm.Strategy("low_rank_ease", LowRankEASEConfig(100, l2=5.0)))
    assert model.item_embeddings().shape == (30, 30)
    seen = interaction_matrix(data, data.user_ids, model.spec.items)
    rows = model.spec.items.encode(["i2", "i8"]) - 1
    scores = model.logits(history_of(model, "i2", "i8", "i8", "never seen")).numpy()[0]
    np.testing.assert_allclose(scores, ease_weights(seen, 5.0)[rows].sum(axis=0), atol=1e-5)


@pytest.mark.parametrize("family", ["ials", "low_rank_ease"])
def test_a_strangers_embedding_brings_the_prior(data, family):
    model = tm.train(data, family)
    item = {"item_id": np.arange(31, dtype=np.int32)}
    scores = model.embed_query(history_of(model, "")).numpy() @ model.embed_item(item).numpy().T
    np.testing.assert_allclose(scores[0, 1:], model.prior(), rtol=1e-6)
    assert scores[0, 0] == pytest.approx(model.prior().min())


@pytest.mark.parametrize("family", ["ials", "low_rank_ease"])
def test_an_item_named_twice_counts_once(data, family):
    model = tm.train(data, family)
    once, twice = (model.score(history_of(model, *h)) for h in (("i1", "i2"), ("i2", "i1", "i2")))
    np.testing.assert_allclose(once, twice, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (IALSConfig, "embedding_dim", 0),
        (IALSConfig, "iterations", 0),
        (IALSConfig, "l2", 0.0),
        (IALSConfig, "unseen_weight", float("nan")),
        (IALSConfig, "frequency_exponent", 1.5),
        (LowRankEASEConfig, "embedding_dim", 0),
        (LowRankEASEConfig, "l2", -1.0),
    ],
)
def test_bad_configs_are_refused(config, name, value):
    with pytest.raises(ValueError, match=name):
        config(**{name: value})
