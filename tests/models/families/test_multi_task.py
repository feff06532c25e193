"""The multi-task model's own behaviour."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.keras import tf_keras
from tfrec_meta.models import MultiTask
from tfrec_meta.models.base.contract import WarmStartError
from tfrec_meta.models.losses.task_weights import gradnorm_weights

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
BATCH = {
    "user_id": tf.constant([1, 2]),
    "history": tf.constant([[3, 0, 0], [3, 0, 0]]),
    "item_id": tf.constant([1, 2]),
    "value": tf.constant([5.0, 3.0]),
}


def made(**options):
    tf_keras.utils.set_random_seed(1)
    model = MultiTask(tm.MultiTaskConfig(embedding_dim=4, hidden=(8,), **options), SPEC)
    model.prepare(DATA)
    model.refresh()
    model.compile(optimizer="sgd")
    return model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ()}, r"`tasks`=\(\)"),
        ({"tasks": ("rating", "rating")}, "`tasks`"),
        ({"tasks": ("purchase",)}, "purchase"),
        ({"bottom": "none"}, "`bottom`='none'"),
        ({"weighting": "none"}, "`weighting`='none'"),
        ({"experts": 0}, "`experts`=0"),
        ({"layers": 0}, "`layers`=0"),
        ({"embedding_dim": 0}, "`embedding_dim`=0"),
        ({"hidden": ()}, "`hidden`"),
        ({"temperature": 0.0}, "`temperature`=0.0"),
        ({"weights": (1.0,)}, r"`weights`=\(1.0,\), but there are 3 tasks"),
        ({"weights": (1.0, 1.0, -1.0)}, "`weights`"),
        ({"weighting": "gradnorm", "weights": (1.0, 1.0, 1.0)}, "'gradnorm'"),
        ({"gradnorm_alpha": -1.0}, "`gradnorm_alpha`=-1.0"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tm.MultiTaskConfig(**options)


def test_each_head_has_its_own_loss():
    model = made(tasks=("rating", "click", "retrieval"))
    found = model.task_losses(BATCH)
    pairs = model.predictions(BATCH, tf.constant([[1], [2]]))
    rating, chance = (pairs[task].numpy()[:, 0] for task in ("rating", "click"))
    variance = np.var(DATA.events["value"].to_numpy())
    assert float(found[0]) == pytest.approx(np.mean((rating - [5, 3]) ** 2) / variance, rel=1e-5)
    assert float(found[1]) == pytest.approx(-np.mean(np.log([chance[0], 1 - chance[1]])), rel=1e-4)
    # Item 1 was touched twice, item 2 once: log q of 2/2 and 1/2, relative to the most popular.
    logits = model.logits(BATCH).numpy()[:, :2] - np.log([1.0, 0.5])
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    assert float(found[2]) == pytest.approx(expected, rel=1e-4)


def test_fixed_weights_multiply_the_losses():
    model = made(tasks=("rating", "click"), weights=(2.0, 0.5))
    rating, click = model.task_losses(BATCH).numpy()
    assert float(model.compute_loss(BATCH)) == pytest.approx(2 * rating + click / 2, rel=1e-5)


def test_uncertainty_starts_with_half_the_squared_error():
    model = made(tasks=("rating", "click"), weighting="uncertainty")
    rating, click = model.task_losses(BATCH).numpy()
    assert float(model.compute_loss(BATCH)) == pytest.approx(rating / 2 + click, rel=1e-5)


@pytest.mark.parametrize(
    "bottom", ["shared", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mmoe", "ple"))]
)
def test_gradnorm_trains_its_weights_by_norms_and_all_else_by_losses(bottom):
    model = made(tasks=("rating", "click"), bottom=bottom, weighting="gradnorm")
    model.task_weights.assign([0.3, -0.2])
    model.first_losses.assign(model.task_losses(BATCH) * [1.0, 2.0])
    shared = model.query_bottom.last_shared + model.item_bottom.last_shared
    with tf.GradientTape(persistent=True) as tape:
        total = model.compute_loss(BATCH)
        losses = tf.unstack(model.task_losses(BATCH))
        weights = gradnorm_weights(model.task_weights)
        weighed = weights[0] * losses[0] + weights[1] * losses[1]
    assert float(total) == pytest.approx(float(weighed), rel=1e-5)
    found, expected = (tape.gradient(loss, model.item_embedding) for loss in (total, weighed))
    np.testing.assert_allclose(*map(tf.convert_to_tensor, (found, expected)), rtol=1e-4, atol=1e-6)
    # The losses fell to 1 and 1/2 of their start, so the rates are 4/3 and 2/3.
    norms = np.array([float(tf.linalg.global_norm(tape.gradient(x, shared))) for x in losses])
    weighed_norms = weights.numpy() * norms
    wanted = weighed_norms.mean() * np.array([4 / 3, 2 / 3]) ** 1.5
    sign = np.sign(weighed_norms - wanted) * norms
    # d w_i / d s_j = w_i (1[i = j] - w_j / 2), of a softmax times two.
    w = weights.numpy()
    by_hand = [sum(sign[i] * w[i] * ((i == j) - w[j] / 2) for i in (0, 1)) for j in (0, 1)]
    np.testing.assert_allclose(tape.gradient(total, model.task_weights), by_hand, rtol=1e-3)


def test_gradnorm_keeps_the_losses_of_the_first_step():
    model = made(weighting="gradnorm")
    first = model.task_losses(BATCH)
    model.compute_loss(BATCH, training=True)
    np.testing.assert_allclose(model.first_losses, first, rtol=1e-5)
    model.optimizer.iterations.assign_add(1)
    model.usual.assign_add(tf.ones_like(model.usual))
    model.compute_loss(BATCH, training=True)
    np.testing.assert_allclose(model.first_losses, first, rtol=1e-5)


@pytest.mark.parametrize(
    ("tasks", "main", "objective"),
    [
        (("rating", "click", "retrieval"), "retrieval", "val_ndcg@10"),
        (("rating", "click"), "click", "val_auc"),
        (("rating",), "rating", "val_rmse"),
    ],
)
def test_the_first_task_ranks_the_catalogue(tasks, main, objective):
    model = made(tasks=tasks, user_id=True)
    model.user_bias.assign(tf.random.stateless_normal(model.user_bias.shape, [1, 2]))
    assert model.main_task == main
    assert model.objective == objective
    assert list(model.targets) == [task for task in tasks if task != "retrieval"]
    if main != "retrieval":
        scores = model.logits_or_prior(BATCH)
        found = model.predictions(BATCH, tf.constant([[1, 2, 3]] * 2))[main]
        scores = tf.sigmoid(scores) if main == "click" else scores
        np.testing.assert_allclose(found, scores, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"bottom": "ple", "weighting": "gradnorm", "user_id": True},
        {"bottom": "shared", "weighting": "uncertainty", "tasks": ("click", "rating")},
        {"tasks": ("rating",), "user_features": False, "item_features": False},
    ],
)
def test_every_shape_trains_saves_and_loads(options, tmp_path):
    strategy = tm.Strategy(
        "multi_task",
        tm.MultiTaskConfig(embedding_dim=4, **options),
        tm.TrainingConfig(epochs=1, batch_size=2),
        SPEC,
    )
    model = tm.train(DATA, strategy, progress=False)
    tm.save(model, tmp_path / "model")
    queries = model.spec.encode_queries(["u"], np.array([["a", "", ""]], object))
    loaded = tm.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score(queries), model.score(queries))


def test_weights_may_be_whole_numbers():
    model, doubled = made(tasks=("rating",)), made(tasks=("rating",), weights=(2,))
    assert float(doubled.compute_loss(BATCH)) == pytest.approx(2 * float(model.compute_loss(BATCH)))


def test_a_warm_start_refuses_other_tasks():
    with pytest.raises(WarmStartError, match="`tasks`"):
        made(tasks=("rating", "retrieval")).warm_start(made(tasks=("retrieval", "rating")))
