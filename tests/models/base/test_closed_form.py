"""Families whose query is the history alone."""

import numpy as np
import pytest

import tfrec_meta as tm


@pytest.fixture(scope="module", params=["ials", "low_rank_ease"])
def model(request):
    data = tm.synthetic(users=60, items=30, interactions=600, seed=3)
    return tm.train(data, request.param)


def history_of(model, *items):
    return model.spec.encode_queries(["someone"], np.array([items], object))


def test_the_embedding_of_an_unknown_user_gives_the_prior(model):
    item = {"item_id": np.arange(31, dtype=np.int32)}
    scores = model.embed_query(history_of(model, "")).numpy() @ model.embed_item(item).numpy().T
    np.testing.assert_allclose(scores[0, 1:], model.prior(), rtol=1e-6)
    assert scores[0, 0] == pytest.approx(model.prior().min())


def test_an_item_that_occurs_twice_counts_once(model):
    once, twice = (model.score(history_of(model, *h)) for h in (("i1", "i2"), ("i2", "i1", "i2")))
    np.testing.assert_allclose(once, twice, rtol=1e-5, atol=1e-6)
