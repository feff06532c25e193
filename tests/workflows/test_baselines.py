import logging

import numpy as np
import pytest
import scipy.sparse

import tfrec_meta as tm
from tfrec_meta.features.held_out import interaction_matrix, user_queries
from tfrec_meta.models import FAMILIES
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.workflows import baselines
from tfrec_meta.workflows.configs.evaluation_settings import check_baselines


def test_every_baseline_is_solved_in_closed_form():
    for name, strategy in baselines.BASELINES.items():
        assert strategy.family == name
        assert not issubclass(FAMILIES[strategy.family], TrainableRecommender)
    assert set(baselines.COLD_USER_CONFIGS) <= set(baselines.BASELINES)


def test_ease_is_left_out_of_a_large_catalogue_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert baselines.default_baselines(20_000) == list(baselines.BASELINES)
        assert not caplog.records
        assert baselines.default_baselines(20_001) == ["popularity", "item_knn", "ials"]
    assert "20,001 x 20,001" in caplog.text


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="`baselines` has 'oracle'; use some of popularity, "):
        check_baselines(["ease", "oracle"])


@pytest.mark.parametrize("name", list(baselines.BASELINES))
def test_scores_by_items_equal_those_of_the_users_own_queries(name):
    data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
    model = tm.train(data, name, progress=False)
    users = data.user_ids[:5]
    matrix = interaction_matrix(data, users, model.spec.items)
    score = baselines.scores_by_items(model, matrix)
    expected = model.score(user_queries(model.spec, data, users))
    np.testing.assert_allclose(score(np.array([3, 0])), expected[[3, 0]], rtol=1e-4, atol=1e-5)
    nobody = baselines.scores_by_items(model, scipy.sparse.csr_matrix((1, matrix.shape[1])))
    np.testing.assert_allclose(nobody(np.array([0]))[0], model.prior(), rtol=1e-5)


def test_the_seed_of_a_baseline_decides_its_scores():
    data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
    spec = tm.FeatureSpec.infer(data).fit(data)
    ials = baselines.BASELINES["ials"]
    vectors = [
        baselines.fit_baseline(ials, data, spec, seed).item_factors.numpy() for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.abs(vectors[0] - vectors[2]).max() > 0
