"""Weights, known negatives and ignored events of declared feedback, in every family."""

import dataclasses
import functools

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.features.held_out import positive_matrix, weighted_matrix
from tfrec_meta.models import FAMILIES, EASEConfig, IALSConfig, ItemKNNConfig, LowRankEASEConfig
from tfrec_meta.models.families.item_knn import bm25
from tfrec_meta.models.losses.retrieval_losses import bpr_negative, softmax_negative
from tfrec_meta.models.solvers.ease import ease_weights
from tfrec_meta.models.solvers.ials import weighted_fold_in
from tfrec_meta.training.loop import training_rows

RECIPE = tm.TrainingConfig(epochs=1, batch_size=64, learning_rate=0.02)
CONFIGS = {
    "two_tower": tm.TwoTowerConfig(embedding_dim=8, user_id=True),
    "content_tower": tm.ContentTowerConfig(embedding_dim=8, hidden=(8,)),
    "ranker": tm.RankerConfig(embedding_dim=8, hidden=(8,), negatives=8),
    "multi_task": tm.MultiTaskConfig(embedding_dim=8, hidden=(8,)),
    "ials": IALSConfig(embedding_dim=6, l2=0.5, iterations=3),
    "low_rank_ease": LowRankEASEConfig(l2=2.0, embedding_dim=6),
    "ease": EASEConfig(l2=2.0),
    "item_knn": ItemKNNConfig(k1=1.2),
    "meta_learned": tm.MetaLearnedConfig(embedding_dim=6, weights_l2=2.0, iterations=3, steps=2),
    "meta_ranker": tm.MetaRankerConfig(
        "interaction", hidden=(8,), shots=(1, 3), query=4, negatives=8, steps=2
    ),
    "ensemble": tm.EnsembleConfig(
        members=(tm.Member("ials", {"embedding_dim": 6}), tm.Member("item_knn"))
    ),
    "two_stage": tm.TwoStageConfig(
        retriever={"family": "item_knn"}, ranker=tm.Member("ease", {"l2": 2.0}), candidates=8
    ),
}


@pytest.fixture(scope="module")
def data():
    made = tm.synthetic(users=30, items=30, interactions=300, seed=3)
    kinds = np.array(["view", "purchase"])[np.random.default_rng(0).integers(0, 2, len(made))]
    return tm.Interactions(
        made.events.append_column("event_type", pa.array(kinds.tolist())), made.users, made.items
    )


def trained(data, family, **changes):
    strategy = tm.Strategy(family, CONFIGS.get(family), RECIPE)
    return tm.train(data, dataclasses.replace(strategy, **changes), progress=False)


def scores(model, data):
    queries = tm.FeatureSpec.encode_queries(
        model.spec, data.user_ids, tm.data.user_histories(data, data.user_ids, 10)
    )
    return model.score(queries)


@pytest.fixture(scope="module")
def plain(data):
    return functools.cache(lambda family: scores(trained(data, family), data))


# The other families train for seconds each.
EACH_FAMILY = pytest.mark.parametrize(
    "family",
    [
        family
        if family in ("popularity", "item_knn", "ease", "ials", "two_tower", "ensemble")
        else pytest.param(family, marks=pytest.mark.slow)
        for family in FAMILIES
    ],
)


@EACH_FAMILY
def test_equal_weights_give_exactly_the_model_without_weights(data, plain, family):
    equal = data.with_feedback(tm.Feedback(event_weights={"view": 0.7, "purchase": 0.7}))
    assert np.array_equal(scores(trained(equal, family), data), plain(family))


@EACH_FAMILY
def test_weights_change_a_model_unless_the_strategy_leaves_them_out(data, plain, family):
    weighted = data.with_feedback(tm.Feedback(event_weights={"view": 1, "purchase": 20}))
    if family not in ("meta_ranker", "ensemble", "two_stage", "multi_task"):
        found = scores(trained(weighted, family), data)
        assert np.isfinite(found).all()
        assert not np.allclose(found, plain(family), atol=1e-4)
    left_out = trained(weighted, family, use_weights=False)
    assert np.array_equal(scores(left_out, data), plain(family))


@EACH_FAMILY
def test_known_negatives_can_be_trained_on(data, family):
    declared = data.with_feedback(tm.Feedback(positive=["purchase"], below="negative"))
    assert np.isfinite(scores(trained(declared, family), declared)).all()


@pytest.mark.parametrize("family", ["ease", "item_knn", "popularity", "ials", "two_tower"])
def test_ignored_events_teach_nothing(data, family):
    # The spec and the users come from the same events, so only the events may differ.
    spec = tm.FeatureSpec().fit(data)
    declared = data.with_feedback(tm.Feedback(positive=["purchase"]))
    kinds = np.array(data.events["event_type"].to_pylist())
    strategy = tm.Strategy(family, CONFIGS.get(family), RECIPE)
    bought = data.take(kinds == "purchase")
    models = [
        tm.train(part, strategy, features=spec, progress=False) for part in (declared, bought)
    ]
    one, other = (scores(model, bought) for model in models)
    assert np.allclose(one, other, atol=1e-4)


# Values worked out by hand, or by another method.


def small(weights, **fields):
    """User a has x and y, user b has x and z, with these weights of the events."""
    data = tm.Interactions.from_arrays(["a", "a", "b", "b"], ["x", "y", "x", "z"], value=weights)
    return data.with_feedback(tm.Feedback(**fields))


def test_the_strongest_event_of_a_pair_counts_and_the_mean_is_1():
    data = tm.Interactions.from_arrays(
        ["a", "a", "a", "b", "b"], ["x", "x", "y", "y", "y"], value=[1.0, 5.0, 1.0, 2.0, 1.0]
    )
    spec = tm.FeatureSpec().fit(data)
    declared = data.with_feedback(tm.Feedback(weight="value", positive=2, below="negative"))
    # Pairs: (a, x) 5, (a, y) a known negative of weight 1, (b, y) 2; the mean of 5 and 2 is 3.5.
    matrix = weighted_matrix(declared, data.user_ids, spec.items).toarray()
    columns = spec.items.encode(np.array(["x", "y"], object)) - 1
    expected = np.array([[5 / 3.5, -1 / 3.5], [0, 2 / 3.5]])
    assert matrix[:, columns] == pytest.approx(expected)
    positive = positive_matrix(declared, data.user_ids, spec.items).toarray()
    assert positive[:, columns] == pytest.approx(np.maximum(expected, 0))


def test_popularity_sums_weights_with_mean_1():
    data = small([1.0, 2.0, 4.0, 5.0], weight="value")
    model = trained(data, "popularity")
    columns = model.spec.items.encode(np.array(["x", "y", "z"], object)) - 1
    assert model.item_counts.numpy()[columns] == pytest.approx([5 / 3, 2 / 3, 5 / 3])
    assert np.exp(model.prior()).sum() == pytest.approx(1)


def test_ease_counts_pairs_by_the_geometric_mean_of_their_weights():
    matrix = scipy.sparse.csr_matrix(np.array([[4.0, 1.0, 0.0], [1.0, 0.0, 9.0]], np.float32))
    gram = np.array([[5.0, 2.0, 3.0], [2.0, 1.0, 0.0], [3.0, 0.0, 9.0]])
    inverse = np.linalg.inv(gram + 2.0 * np.eye(3))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    assert ease_weights(matrix, 2.0) == pytest.approx(expected, abs=1e-6)


def test_bm25_sums_the_weights_of_users_and_items():
    matrix = scipy.sparse.csr_matrix(np.array([[4.0, 0.0, 0.0, 0], [1.0, 0.0, 1.0, 0]], np.float32))
    # Weights of the users 4 and 2, of the items 5, 0, 1, 0; their mean is 1.5.
    rarity = np.maximum(np.log(4 / np.array([5.0, 3.0])), 0)
    saturation = 3.0 / (2.0 * (1 - 0.5 + 0.5 * np.array([5, 1]) / 1.5) + 1)
    found = bm25(matrix, 2.0, 0.5).toarray()
    assert found[1, 0] == pytest.approx(rarity[1] * saturation[0], rel=1e-5)
    assert found[1, 2] == pytest.approx(rarity[1] * saturation[1], rel=1e-5)
    assert found[0, 0] == 0  # four weights in a catalogue of four are no information


def test_the_fold_in_minimises_the_weighted_loss():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(6, 3))
    factors[0] = 0
    rows, confidence = np.array([[1, 2, 4, 0]], np.int32), np.array([[2.0, 0.5, -3.0, 0.0]])
    found = weighted_fold_in(
        tf.constant(rows),
        tf.constant(confidence, tf.float32),
        tf.constant(factors, tf.float32),
        tf.constant(factors.T @ factors, tf.float32),
        tf.constant(0.3),
        tf.constant([1.5]),
    )
    # As a least-squares problem: one equation for each term of the loss.
    lines = [np.sqrt(2.0) * factors[1], np.sqrt(0.5) * factors[2], np.sqrt(3.0) * factors[4]]
    right = [np.sqrt(2.0), np.sqrt(0.5), 0.0]
    system = np.vstack([*lines, np.sqrt(0.3) * factors[1:], np.sqrt(1.5) * np.eye(3)])
    expected = np.linalg.lstsq(system, np.array([*right, *np.zeros(8)]), rcond=None)[0]
    assert found.numpy()[0] == pytest.approx(expected, abs=1e-5)


def test_penalties_of_known_negatives():
    known = tf.constant([1.0, 2.0])
    others = tf.constant([[0.0, 1.0], [-2e30, -2e30]])
    share = np.exp(1) / (np.exp(1) + 1 + np.exp(1))
    assert softmax_negative(known, others).numpy() == pytest.approx([-np.log(1 - share), 0])
    expected = (np.log1p(np.exp(1.0)) + np.log(2.0)) / 2
    assert bpr_negative(known, others).numpy() == pytest.approx([expected, 0])


@pytest.mark.parametrize("loss", ["softmax", "bpr", "binary_cross_entropy", "cosine_contrastive"])
@pytest.mark.parametrize("negatives", ["in_batch", pytest.param("full", marks=pytest.mark.slow)])
def test_a_known_negative_ends_with_a_lower_score(loss, negatives):
    # Everyone has chosen i0 to i3. All but the last user dislike i3 in the second data set.
    users = np.repeat([f"u{number}" for number in range(24)], 4)
    items = np.tile(["i0", "i1", "i2", "i3"], 24)
    value = np.where((items == "i3") & (users != "u23"), 1.0, 5.0)
    data = tm.Interactions.from_arrays(users, items, np.arange(96), value)
    config = tm.TwoTowerConfig(
        embedding_dim=8,
        loss=loss,
        negatives=negatives,
        mask_positives=False,
        popularity_bias=False,
        normalise=True,
    )
    recipe = tm.TrainingConfig(epochs=6, batch_size=32, learning_rate=0.02, user_balance=0.0)

    def mean_score(data):
        model = tm.train(data, tm.Strategy("two_tower", config, recipe), progress=False)
        queries = model.spec.encode_queries(
            ["", ""], np.array([["i0", "i1"], ["i1", "i2"]], object)
        )
        row = model.spec.items.encode(np.array(["i3"], object))[0] - 1
        found = model.score(queries)
        return float((found[:, row] - found.mean(axis=1)).mean())

    disliked = data.with_feedback(tm.Feedback(positive=3, below="negative"))
    assert mean_score(disliked) < mean_score(data)


def test_windows_hide_events_that_are_not_positive_from_histories():
    data = tm.Interactions.from_arrays(
        ["a"] * 4, ["w", "x", "y", "z"], range(4), value=[5.0, 1.0, 4.0, 5.0]
    ).with_feedback(tm.Feedback(positive=3, below="negative", weight="value"))
    config = tm.TwoTowerConfig(embedding_dim=4, encoder="gru")
    recipe = tm.TrainingConfig(epochs=1, batch_size=8, rows="windows", history_length=4)
    spec = tm.FeatureSpec().fit(data)
    model = FAMILIES["two_tower"](config, spec)
    batch = next(iter(training_rows(data, model, recipe).batches(0)))
    code = dict(zip("wxyz", spec.items.encode(np.array([*"wxyz"], object)), strict=True))
    assert batch["item_id"].numpy()[0, :3].tolist() == [code["x"], code["y"], code["z"]]
    assert batch["history"].numpy()[0, :3].tolist() == [code["w"], 0, code["y"]]
    mean = 14 / 3
    assert batch["feedback"].numpy()[0, :3] == pytest.approx([-1 / mean, 4 / mean, 5 / mean])
    config = dataclasses.replace(config, negatives="full")
    assert np.isfinite(trained(data, "two_tower", model=config, training=recipe).curve[-1]["loss"])


def test_models_of_ratings_learn_from_all_events_as_before(data):
    config = tm.RankerConfig(embedding_dim=8, hidden=(8,), target="rating")
    declared = data.with_feedback(
        tm.Feedback(positive=["purchase"], below="negative", event_weights={"purchase": 9})
    )
    plain, other = (trained(part, "ranker", model=config) for part in (data, declared))
    assert np.array_equal(plain.item_counts, other.item_counts)
    assert float(plain.usual) == float(other.usual)
    rows = [training_rows(part, plain, RECIPE).row_count for part in (data, declared)]
    assert rows == [len(data), len(data)]
