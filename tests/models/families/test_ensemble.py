"""Fusion of scores and ranks, with values worked by hand."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

import tfrec_meta as tm
from tfrec_meta.models import EnsembleConfig
from tfrec_meta.models.families.ensemble import candidate_weights


def fused_by_hand(scores, fusion):
    """By means of scipy, for the defaults of the config."""
    standard = scipy.stats.zscore(scores, axis=1)
    ranks = scipy.stats.rankdata(-scores, axis=1)
    return {
        "z_score": standard,
        "min_max": (scores - scores.min(1, keepdims=True)) / np.ptp(scores, axis=1)[:, None],
        "softmax": scipy.special.softmax(standard / EnsembleConfig().temperature, axis=1),
        "reciprocal_rank": 1 / (EnsembleConfig().rank_constant + ranks),
        "borda": (scores.shape[1] - ranks) / (scores.shape[1] - 1),
    }[fusion]


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=40, items=20, interactions=400, seed=3)


@pytest.mark.parametrize("fusion", ["z_score", "min_max", "softmax", "reciprocal_rank", "borda"])
def test_the_score_is_the_weighted_sum_of_the_members_on_one_scale(data, fusion):
    config = EnsembleConfig(("ials", "ease"), fusion=fusion, weights=(3.0, 1.0))
    model = tm.train(data, tm.Strategy("ensemble", config))
    queries = model.spec.encode_queries(["?", "?"], np.array([["i1", "i2"], ["i5", ""]], object))
    first, second = (fused_by_hand(each.score(queries), fusion) for each in model.members)
    np.testing.assert_allclose(
        model.score(queries), 0.75 * first + 0.25 * second, rtol=1e-4, atol=1e-5
    )


def test_a_member_without_evidence_gives_its_prior(data):
    config = EnsembleConfig(("popularity", "ease"), "z_score", weights=(1.0, 0.0))
    model = tm.train(data, tm.Strategy("ensemble", config))
    queries = model.spec.encode_queries(["?"], np.array([["i1"]], object))
    expected = scipy.stats.zscore(model.prior())
    np.testing.assert_allclose(model.score(queries)[0], expected, rtol=1e-4, atol=1e-5)


def test_candidate_weights_are_equal_first_and_then_all_shares_of_a_step():
    two = np.stack(list(candidate_weights(2)))
    np.testing.assert_allclose(two[0], [0.5, 0.5])
    np.testing.assert_allclose(two[1:, 0], np.arange(11) / 10, rtol=1e-6)
    for members in (1, 3, 4, 7, 80):
        weights = np.stack(list(candidate_weights(members)))
        assert len(weights) <= max(61, members + 1)
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
        assert len(np.unique(weights[1:], axis=0)) == len(weights) - 1


def test_the_best_weights_win_and_ties_keep_equal_weights(data):
    model = tm.train(data, tm.Strategy("ensemble", EnsembleConfig(("ials", "ease"))))
    model.choose_weights(lambda: -abs(model.weights.numpy()[0] - 0.29))
    np.testing.assert_allclose(model.weights, [0.3, 0.7], rtol=1e-6)
    model.choose_weights(lambda: 1.0)
    np.testing.assert_allclose(model.weights, [0.5, 0.5])


def test_validation_finds_the_better_member(data):
    split = tm.split_by_item(data, train=0.7, seed=1)
    config = EnsembleConfig(("popularity", "ials"), weights="validation")
    strategy = tm.Strategy("ensemble", config)
    model = tm.train(split.train, strategy, validation=split.test)
    assert model.weights.numpy().sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="Give `validation`, or set the weights"):
        tm.train(split.train, strategy)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": ()}, r"`members`=\(\)"),
        ({"fusion": "cold"}, "`fusion`='cold'"),
        ({"weights": "best"}, "`weights`='best'"),
        ({"weights": (1.0,)}, r"`weights`=\(1.0,\); use 2 numbers"),
        ({"weights": (0.0, 0.0)}, "at least one above 0"),
        ({"weights": (1.0, -1.0)}, "each 0 or more"),
        ({"temperature": 0.0}, "`temperature`=0.0"),
        ({"rank_constant": -1.0}, "`rank_constant`=-1.0"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EnsembleConfig(**fields)
