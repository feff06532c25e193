"""The ranker's own behaviour."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.keras import tf_keras
from tfrec_meta.models import Ranker
from tfrec_meta.models.families import ranker

DATA = tm.Interactions.from_arrays(
    ["u", "u", "v", "v"],
    ["a", "b", "a", "c"],
    time=[1, 2, 1, 2],
    value=[5.0, 2.0, 4.0, 3.0],
    users=pa.table({"user_id": ["u", "v"], "team": ["red", "blue"]}),
    items=pa.table({"item_id": ["a", "b", "c"], "kind": ["x", "x", "y"]}),
)
SPEC = tm.FeatureSpec(
    user=(tm.Category("team"),), item=(tm.Category("kind"),), history_length=3
).fit(DATA)


def batch():
    return {
        "user_id": tf.constant([1, 2]),
        "history": tf.constant([[2, 0, 0], [1, 3, 0]]),
        "item_id": tf.constant([1, 2]),
        "value": tf.constant([5.0, 3.0]),
    }


def made(**options):
    tf_keras.utils.set_random_seed(1)
    model = Ranker(tm.RankerConfig(embedding_dim=4, hidden=(8,), **options), SPEC)
    for weight in model.interaction.weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [1, 2]))
    model.prepare(DATA)
    model.refresh()
    return model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "purchase"}, "`target`='purchase'"),
        ({"interaction": "gcn"}, "`interaction`='gcn'"),
        ({"negative_sampling": "hard"}, "`negative_sampling`='hard'"),
        ({"embedding_dim": 0}, "`embedding_dim`=0"),
        ({"hidden": ()}, r"`hidden`=\(\)"),
        ({"hidden": (8, 0)}, "hidden"),
        ({"cross_layers": 0}, "`cross_layers`=0"),
        ({"cross_rank": -1}, "`cross_rank`=-1"),
        ({"negatives": 0}, "`negatives`=0"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tm.RankerConfig(**options)


def test_the_loss_of_ratings_is_their_squared_error_in_units_of_their_variance():
    model = made(target="rating")
    predicted = np.diag(model.logits(batch(), tf.constant([[1, 2], [1, 2]])))
    expected = np.mean((predicted - [5.0, 3.0]) ** 2) / 1.25
    assert float(model.compute_loss(batch())) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_clicks_is_their_log_loss():
    model = made(target="click")
    logits = np.diag(model.logits(batch(), tf.constant([[1, 2], [1, 2]])))
    # 5 is a click, 3 is not: -log(sigmoid) and -log(1 - sigmoid).
    expected = np.mean(np.log1p(np.exp([-logits[0], logits[1]])))
    assert float(model.compute_loss(batch())) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_the_loss_of_interactions_is_the_softmax_among_sampled_items(sampling, monkeypatch):
    model = made(negatives=4, negative_sampling=sampling)
    _, chance = model._sampled(tf.zeros([2], tf.int64))
    monkeypatch.setattr(model, "_sampled", lambda draw: (tf.constant([1, 2, 3, 3]), chance))
    logits = model.score({k: v.numpy() for k, v in batch().items() if k in ("user_id", "history")})
    corrected = logits - np.log(chance)
    # The first user's own item is 1 and the history 2, the second's are 2 and 1, 3.
    among = [corrected[0, [0, 2, 2]], corrected[1, [1]]]
    expected = np.mean([np.log(np.exp(row).sum()) - row[0] for row in among])
    assert float(model.compute_loss(batch())) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_items_are_sampled_uniformly_or_by_their_share_of_the_events():
    drawn = {}
    for sampling in ("uniform", "popularity"):
        model = made(negatives=20_000, negative_sampling=sampling)
        rows, chance = model._sampled(tf.constant([3, 4], tf.int64))
        drawn[sampling] = np.bincount(rows, minlength=4)[1:] / 20_000
        np.testing.assert_allclose(drawn[sampling], chance, atol=0.02)
    np.testing.assert_allclose(drawn["uniform"], 1 / 3, atol=0.02)
    # Counts 2, 1, 1, plus one each.
    np.testing.assert_allclose(drawn["popularity"], [3 / 7, 2 / 7, 2 / 7], atol=0.02)


def test_each_step_samples_other_items_and_repeats_its_own():
    model = made(negatives=3)
    model.compile(optimizer="sgd")
    first, again = (float(model.compute_loss(batch(), training=True)) for _ in range(2))
    model.optimizer.iterations.assign_add(1)
    assert first == again != float(model.compute_loss(batch(), training=True))


@pytest.mark.parametrize("interaction", ["mlp", "dcn", "dlrm", "deepfm"])
def test_scoring_in_blocks_equals_scoring_at_once(interaction, monkeypatch):
    model = made(interaction=interaction)
    whole = model.logits(batch())
    monkeypatch.setattr(ranker, "_PAIRS_PER_BLOCK", 4)  # two items at once, three in all
    np.testing.assert_allclose(model.logits(batch()), whole, rtol=1e-5, atol=1e-6)


def test_before_training_a_recommender_ranks_by_popularity():
    model = Ranker(tm.RankerConfig(embedding_dim=4), SPEC)
    model.prepare(DATA)
    model.refresh()
    np.testing.assert_allclose(model.logits(batch())[0], model.prior(), rtol=1e-5)


@pytest.mark.parametrize(("target", "usual"), [("rating", 3.5), ("click", 0.5)])
def test_before_training_the_usual_label_is_predicted_for_every_user(target, usual):
    model = Ranker(tm.RankerConfig(target=target, user_id=True), SPEC)
    model.prepare(DATA)
    model.refresh()
    found = model.predict_events(SPEC.encode_queries(["u", "nobody"]), np.array([1, 0], np.int32))
    np.testing.assert_allclose(found[target], [usual, usual], rtol=1e-5)


def test_the_target_decides_the_objective():
    for target, objective in (("interaction", "ndcg@10"), ("click", "auc"), ("rating", "rmse")):
        assert made(target=target).objective == f"val_{objective}"


def test_windows_are_refused():
    with pytest.raises(ValueError, match="`rows`='windows'"):
        made().compute_loss({**batch(), "item_id": tf.constant([[1, 2], [1, 2]])})


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"interaction": "dcn", "cross_rank": 2, "target": "rating"},
        {"interaction": "dlrm", "target": "click", "user_id": True},
        {"interaction": "deepfm", "user_features": False, "item_features": False},
    ],
)
def test_every_shape_trains_saves_and_loads(options, tmp_path):
    strategy = tm.Strategy(
        "ranker",
        tm.RankerConfig(embedding_dim=4, **options),
        tm.TrainingConfig(epochs=1, batch_size=2),
        SPEC,
    )
    model = tm.train(DATA, strategy, progress=False)
    tm.save(model, tmp_path / "model")
    queries = model.spec.encode_queries(["u"], np.array([["a", "", ""]], object))
    loaded = tm.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score(queries), model.score(queries))


def test_early_stopping_keeps_the_epoch_with_the_lowest_error():
    split = tm.split_leave_last_out(tm.synthetic(40, 20, 400, seed=5))
    strategy = tm.Strategy(
        "ranker",
        tm.RankerConfig(target="rating", embedding_dim=4, user_id=True),
        tm.TrainingConfig(epochs=4, batch_size=32, learning_rate=0.05, patience=0),
    )
    model = tm.train(split, strategy, progress=False)
    queries = [line["val_rmse"] for line in model.curve]
    assert set(model.curve[0]) == {"epoch", "loss", "val_rmse", "seconds"}
    kept = tm.Split(split.data, split.train_index, np.array([], int), split.validation_index)
    found = tm.evaluate_predictions(model, kept, resamples=0)["rating"]["rmse"].value
    assert found == pytest.approx(min(queries), rel=1e-5)
