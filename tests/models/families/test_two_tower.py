"""The two-tower model's own behaviour."""

import keras_tuner
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.keras import tf_keras
from tfrec_meta.models import TwoTower

DATA = tm.Interactions.from_arrays(
    ["u", "u", "v", "v"],
    ["a", "b", "a", "c"],
    time=[1, 2, 1, 2],
    users=pa.table({"user_id": ["u", "v"], "team": ["red", "blue"]}),
    items=pa.table({"item_id": ["a", "b", "c"], "kind": ["x", "x", "y"]}),
)
SPEC = tm.FeatureSpec(
    user=(tm.Category("team"),), item=(tm.Category("kind"),), history_length=3
).fit(DATA)


def batch(items=(1, 2)):
    return {
        "user_id": tf.constant([1, 2]),
        "history": tf.constant([[2, 0, 0], [1, 3, 0]]),
        "item_id": tf.constant(items),
    }


def made(**options):
    tf_keras.utils.set_random_seed(1)
    model = TwoTower(tm.TwoTowerConfig(embedding_dim=4, **options), SPEC)
    model.prepare(DATA)
    return model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"hidden": (8, 0)}, "hidden"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"encoder": "lstm"}, "encoder"),
        ({"encoder": "none"}, "`user_id`=True"),
        ({"encoder_length": 0}, "encoder_length"),
        ({"encoder_layers": 0}, "encoder_layers"),
        ({"encoder": "transformer", "encoder_heads": 3}, "encoder_heads"),
        ({"encoder_dropout": 1.0}, "encoder_dropout"),
        ({"loss": "cosine_contrastive"}, "popularity_bias"),
        ({"loss": "cosine_contrastive", "popularity_bias": False, "normalise": False}, "normalise"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tm.TwoTowerConfig(**options)


def test_loss_is_the_corrected_in_batch_softmax_worked_by_hand():
    model = made(mask_positives=False, item_features=False)
    query = model.embed_query(batch()).numpy()
    item = model.embed_item({"item_id": tf.constant([1, 2])}).numpy()
    # Item 1 was touched twice, item 2 once: log q of 2/2 and 1/2, relative to the most popular.
    logits = query @ item.T - np.log([1.0, 0.5])
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    assert float(model.compute_loss(batch())) == pytest.approx(expected, rel=1e-5)


def test_without_logq_the_loss_is_the_plain_softmax():
    model = made(mask_positives=False, item_features=False, logq="none")
    query = model.embed_query(batch()).numpy()
    item = model.embed_item({"item_id": tf.constant([1, 2])}).numpy()
    logits = query @ item.T
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    assert float(model.compute_loss(batch())) == pytest.approx(expected, rel=1e-5)


def test_items_of_the_own_history_are_no_negatives():
    # Row 0's history holds item 2 (column 1), row 1's holds item 1 (column 0): no negative is left.
    assert float(made(mask_positives=True).compute_loss(batch())) == pytest.approx(0.0, abs=1e-6)


def test_the_same_item_twice_in_a_batch_is_no_negative():
    model = made(mask_positives=False)
    assert float(model.compute_loss(batch(items=(2, 2)))) == pytest.approx(0.0, abs=1e-5)


def test_sample_weights_weight_the_loss():
    model = made(mask_positives=False)
    first = float(model.compute_loss({**batch(), "sample_weight": tf.constant([1.0, 0.0])}))
    second = float(model.compute_loss({**batch(), "sample_weight": tf.constant([0.0, 1.0])}))
    both = float(model.compute_loss({**batch(), "sample_weight": tf.constant([1.0, 1.0])}))
    assert first + second == pytest.approx(both, rel=1e-5)


def test_dropout_is_applied_only_in_training():
    model = made(encoder="transformer", encoder_dropout=0.5, mask_positives=False)
    model.compile(optimizer="sgd")
    asked, trained = (float(model.compute_loss(batch(), training=t)) for t in (False, True))
    assert asked == float(model.compute_loss(batch()))
    assert trained != asked
    assert trained == float(model.compute_loss(batch(), training=True))  # in the same step
    model.optimizer.iterations.assign_add(1)
    assert trained != float(model.compute_loss(batch(), training=True))


def test_the_search_space_depends_on_the_encoder():
    for encoder, asked, rows in (
        ("mean", set(), None),
        ("attention", {"length"}, "windows"),
        ("gru", {"length", "layers", "dropout"}, "windows"),
        ("transformer", {"length", "layers", "dropout", "heads"}, "windows"),
    ):
        hp = keras_tuner.HyperParameters()
        hp.values["encoder"] = encoder
        parts = TwoTower.search_space(hp)
        active = {p.name for p in hp.space if hp.is_active(p)}
        assert {n for n in active if n.startswith("encoder_")} == {f"encoder_{n}" for n in asked}
        given = {n for n, v in parts["model"].items() if n.startswith("encoder_") and v is not None}
        assert given == {f"encoder_{n}" for n in asked}
        assert parts["training"]["rows"] == rows


def test_bias_starts_at_log_popularity():
    # Counts 2, 1, 1, plus one each: 3/7, 2/7, 2/7.
    np.testing.assert_allclose(made().item_bias[1:], np.log([3 / 7, 2 / 7, 2 / 7]), rtol=1e-6)


def test_known_users_need_not_repeat_their_features():
    model = made(user_features=True)
    table = model.query_sum.table_team
    table.assign(tf.random.stateless_normal(table.shape, [1, 2]))
    told = SPEC.encode_queries(["u"], None, {"team": ["red"]})
    silent = SPEC.encode_queries(["u"], None)
    np.testing.assert_array_equal(model.embed_query(told), model.embed_query(silent))


def test_features_alone_are_evidence():
    model = made(user_features=True)
    stranger = SPEC.encode_queries(["new"], None, {"team": ["red"]})
    nobody = SPEC.encode_queries(["new"], None, {"team": ["green"]})
    assert bool(model.has_evidence(stranger)[0])
    assert not bool(model.has_evidence(nobody)[0])


def test_an_unseen_item_is_embedded_by_its_features():
    model = made()
    model.item_sum.table_kind.assign([[0.0] * 4, [1, 0, 0, 0], [0, 1, 0, 0]])
    unseen = {"item_id": tf.constant([0]), "kind": tf.constant([[1]])}
    np.testing.assert_allclose(model.embed_item(unseen)[0, :4], [1, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": (8,)},
        {"share_item_embeddings": False, "normalise": False},
        {"popularity_bias": False, "logq": "none"},
        {"user_id": True, "user_features": True, "item_features": True},
        pytest.param(
            {"encoder": "gru", "share_item_embeddings": False, "hidden": (8,)},
            marks=pytest.mark.slow,
        ),
        {"encoder": "none", "user_id": True, "mask_positives": False},
        {"negatives": "full", "label_smoothing": 0.1},
        {"negatives": "mixed", "uniform_negatives": 4, "memory": 3, "logq": "streaming"},
        {"negatives": "uniform", "uniform_negatives": 4, "loss": "bpr"},
        {"loss": "cosine_contrastive", "popularity_bias": False},
    ],
)
def test_every_shape_trains_saves_and_loads(options, tmp_path):
    strategy = tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(embedding_dim=4, **options),
        tm.TrainingConfig(epochs=2, batch_size=2),
        SPEC,
    )
    model = tm.train(DATA, strategy, progress=False)
    tm.save(model, tmp_path / "model")
    queries = model.spec.encode_queries(["u"], np.array([["a", "", ""]], object))
    np.testing.assert_array_equal(tm.load(tmp_path / "model").score(queries), model.score(queries))


@pytest.mark.parametrize("encoder", ["mean", "attention", "gru", "convolution", "transformer"])
def test_a_window_has_the_loss_of_its_events(encoder):
    model = made(encoder=encoder, encoder_dropout=0.0, user_id=True, mask_positives=False)
    window = {
        "user_id": tf.constant([1, 2]),
        "history": tf.constant([[2, 1, 0], [1, 3, 2]]),
        "item_id": tf.constant([[1, 3, 0], [3, 2, 1]]),
        "sample_weight": tf.constant([[1.0, 2.0, 9.0], [0.5, 1.0, 1.0]]),
    }
    events = {
        "user_id": tf.constant([1, 1, 2, 2, 2]),
        "history": tf.constant([[2, 0, 0], [2, 1, 0], [1, 0, 0], [1, 3, 0], [1, 3, 2]]),
        "item_id": tf.constant([1, 3, 3, 2, 1]),
        "sample_weight": tf.constant([1.0, 2.0, 0.5, 1.0, 1.0]),
    }
    loss = float(model.compute_loss(window))
    assert loss > 0.1
    assert loss == pytest.approx(float(model.compute_loss(events)), rel=1e-5)


def test_items_of_the_own_window_are_no_negatives():
    window = {
        "user_id": tf.constant([1, 2]),
        "history": tf.constant([[2, 1], [2, 1]]),
        "item_id": tf.constant([[1, 3], [1, 3]]),
    }
    assert float(made().compute_loss(window)) == pytest.approx(0.0, abs=1e-5)
    assert float(made(mask_positives=False).compute_loss(window)) > 0.1


def test_without_an_encoder_the_history_has_no_effect():
    model = made(encoder="none", user_id=True)
    asked = {"user_id": tf.constant([1, 1]), "history": tf.constant([[2, 3], [0, 0]])}
    one, other = model.embed_query(asked).numpy()
    np.testing.assert_array_equal(one, other)
    stranger = {"user_id": tf.constant([0]), "history": tf.constant([[2, 3]])}
    assert not model.has_evidence(stranger).numpy()[0]
