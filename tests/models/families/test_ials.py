"""iALS."""

import dataclasses

import pytest

import tfrec_meta as tm
from tfrec_meta.features.held_out import interaction_matrix
from tfrec_meta.models import IALSConfig


def test_each_iteration_lowers_the_loss():
    data = tm.synthetic(users=60, items=30, interactions=600, seed=3)
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


def test_the_mean_length_of_the_histories_is_kept():
    data = tm.Interactions.from_arrays(["u", "u", "v", "v"], ["a", "b", "b", "c"])
    config = IALSConfig(embedding_dim=2, l2=3.0, unseen_weight=0.5, frequency_exponent=1.0)
    model = tm.train(data, tm.Strategy("ials", config))
    assert model.mean_history.numpy() == 2.0
    assert model.solver.penalty(2.0, 2.0, 3) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embedding_dim", 0),
        ("iterations", 0),
        ("l2", 0.0),
        ("unseen_weight", float("nan")),
        ("frequency_exponent", 1.5),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        IALSConfig(**{name: value})
