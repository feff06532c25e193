"""Low-rank EASE."""

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.features.held_out import interaction_matrix
from tfrec_meta.models import LowRankEASEConfig
from tfrec_meta.models.solvers.ease import ease_weights


def test_full_rank_gives_the_scores_of_ease():
    data = tm.synthetic(users=60, items=30, interactions=600, seed=3)
    model = tm.train(data, tm.Strategy("low_rank_ease", LowRankEASEConfig(100, l2=5.0)))
    assert model.item_embeddings().shape == (30, 30)
    seen = interaction_matrix(data, data.user_ids, model.spec.items)
    rows = model.spec.items.encode(["i2", "i8"]) - 1
    history = np.array([["i2", "i8", "i8", "never seen"]], object)
    query = model.spec.encode_queries(["someone"], history)
    scores = model.logits(query).numpy()[0]
    np.testing.assert_allclose(scores, ease_weights(seen, 5.0)[rows].sum(axis=0), atol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("embedding_dim", 0), ("l2", -1.0)])
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        LowRankEASEConfig(**{name: value})
