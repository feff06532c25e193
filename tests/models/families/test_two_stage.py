"""Two-stage models: the order of candidates and of all other items."""

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.models.families.two_stage import rank_proposed


def test_proposed_items_keep_the_rankers_scores_and_the_rest_follows_by_hand():
    retrieved = np.array([[0.9, 0.1, 0.8, 0.5, 0.4]], np.float32)
    scores = rank_proposed(
        retrieved,
        np.array([[0, 2]], np.int32),
        np.array([[1.0, 3.0]], np.float32),
        np.array([[True, True]]),
    )
    np.testing.assert_allclose(scores, [[1.0, -0.4, 3.0, 0.0, -0.1]], atol=1e-5)


def test_items_that_are_not_proposed_keep_the_retrievers_order():
    retrieved = np.array([[0.9, 0.1, 0.8], [0.2, 0.3, 0.1]], np.float32)
    nothing, both = [False, False], [True, False]
    scores = rank_proposed(
        retrieved,
        np.array([[0, 2], [1, 0]], np.int32),
        np.array([[-5.0, 3.0], [2.0, 9.0]], np.float32),
        np.array([nothing, both]),
    ).numpy()
    np.testing.assert_array_equal(np.argsort(-scores), [[0, 2, 1], [1, 0, 2]])
    assert scores[1, 1] == 2.0


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e8])
def test_other_items_rank_below_in_the_retrievers_order_for_any_scale_of_the_ranker(size):
    retrieved = np.linspace(1, 0, 50, dtype=np.float32)[None, :]
    ranked = (-size * np.arange(1, 11, dtype=np.float32))[None, :]
    proposed = np.ones((1, 10), bool)
    scores = rank_proposed(
        retrieved, np.arange(10, dtype=np.int32)[None, :], ranked, proposed
    ).numpy()[0]
    assert np.isfinite(scores).all()
    assert scores[10:].max() < scores[:10].min()
    assert (np.diff(scores[10:]) < 0).all()


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=40, items=20, interactions=400, seed=3)


def asked(model):
    return model.spec.encode_queries(["?", "?"], np.array([["i1", "i2"], ["i5", ""]], object))


def expected_order(model, candidates, blocked):
    """Row by row in NumPy: the ranker's order of what the retriever proposes, then the rest."""
    retriever, ranker = (member.score(asked(model)) for member in model.members)
    orders = []
    for row, own in enumerate(blocked):
        by_retriever = list(np.argsort(-retriever[row], kind="stable"))
        proposed = [c for c in by_retriever if c not in own][:candidates]
        rest = [c for c in by_retriever if c not in proposed]
        orders.append(sorted(proposed, key=lambda c, row=row: -ranker[row, c]) + rest)
    return np.array(orders)


@pytest.mark.parametrize("again", [False, True])
def test_the_ranker_orders_what_the_retriever_proposes(data, again):
    config = tm.TwoStageConfig("ials", "ease", candidates=6, propose_history=again)
    model = tm.train(data, tm.Strategy("two_stage", config))
    items = model.spec.items.encode
    own = [set(items(["i1", "i2"]) - 1), set(items(["i5"]) - 1)]
    scores = model.score(asked(model))
    expected = expected_order(model, 6, [set(), set()] if again else own)
    np.testing.assert_array_equal(np.argsort(-scores, kind="stable"), expected)


def test_with_all_items_proposed_the_order_is_the_rankers(data):
    config = tm.TwoStageConfig("popularity", "ease", candidates=100, propose_history=True)
    model = tm.train(data, tm.Strategy("two_stage", config))
    np.testing.assert_allclose(
        model.score(asked(model)), model.members[1].score(asked(model)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("candidates", [0, -3])
def test_a_config_that_proposes_nothing_is_refused(candidates):
    with pytest.raises(ValueError, match=f"`candidates`={candidates}"):
        tm.TwoStageConfig(candidates=candidates)
