"""Learners on problems whose answers are worked by hand, by differences, or by NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.adaptation.learners import (
    LEARNERS,
    Examples,
    LearnerConfig,
    clip_by_task_norm,
    ridge,
)
from tfrec_meta.models.adaptation.networks import TaskNetwork, cross_entropy, masked_mean

GRADIENT_LEARNERS = sorted(set(LEARNERS) - {"ridge"})


def examples(inputs, labels, mask=None):
    labels = np.asarray(labels, np.float32)
    mask = np.ones_like(labels) if mask is None else np.asarray(mask, np.float32)
    return Examples(tf.constant(inputs, tf.float32), tf.constant(labels), tf.constant(mask))


def drawn(tasks=3, count=4, width=2, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(tasks, count, width))
    return examples(inputs, inputs @ rng.normal(size=width) + rng.normal(size=(tasks, 1)))


def scalar(name, rate=0.1, **config):
    """One weight w = 0, y = w x."""
    network = TaskNetwork(1, bias=False)
    network.fast["head/kernel"].assign([[0.0]])
    return LEARNERS[name](
        network, LearnerConfig(inner_steps=1, inner_rate=rate, clip_norm=100.0, **config)
    )


def gradient_of(learner, support, query, name="head/kernel"):
    _, gradients = learner.meta_gradients(support, query)
    (found,) = [
        gradient
        for variable, gradient in zip(learner.trainable_variables, gradients, strict=True)
        if variable is learner.network.fast[name]
    ]
    return found.numpy()


def test_one_inner_step_by_hand():
    # loss (w - 3)², gradient -6 at 0, a step of 0.1: w = 0.6.
    weights = scalar("maml").adapt(examples([[[1.0]]], [[3.0]]))
    np.testing.assert_allclose(weights["head/kernel"], [[[0.6]]], rtol=1e-6)


def test_second_order_by_hand():
    # w' = w - 0.1 * 2 (w - 3) = 0.6; d/dw (w' - 2)² = 2 (w' - 2) (1 - 0.2) = -2.24.
    support, query = examples([[[1.0]]], [[3.0]]), examples([[[1.0]]], [[2.0]])
    np.testing.assert_allclose(gradient_of(scalar("maml"), support, query), [[-2.24]], rtol=1e-5)
    # Without the second derivative, the factor (1 - 0.2) is missing.
    np.testing.assert_allclose(gradient_of(scalar("fomaml"), support, query), [[-2.8]], rtol=1e-5)


def test_the_gradient_of_a_learned_step_size_by_hand():
    # d/da (w - a g - 2)² = -2 g (w' - 2) = -2 * -6 * -1.4 = -16.8.
    learner = scalar("meta_sgd")
    _, gradients = learner.meta_gradients(
        examples([[[1.0]]], [[3.0]]), examples([[[1.0]]], [[2.0]])
    )
    by_variable = {v.ref(): g for v, g in zip(learner.trainable_variables, gradients, strict=True)}
    rate = by_variable[learner.rates["head/kernel"].ref()]
    np.testing.assert_allclose(rate, [[-16.8]], rtol=1e-5)


def test_reptile_moves_towards_the_tasks_by_hand():
    # Two tasks, one step on both their events: gradients -2 * 2 and -2 * 6, (0 - w') / 0.1.
    learner = scalar("reptile")
    support, query = (
        examples([[[1.0]]] * 2, [[1.0], [5.0]]),
        examples([[[1.0]]] * 2, [[3.0], [7.0]]),
    )
    np.testing.assert_allclose(gradient_of(learner, support, query), [[-8.0]], rtol=1e-5)


@pytest.mark.parametrize("name", ["maml", "anil", "meta_sgd", "ridge"])
def test_meta_gradients_agree_with_finite_differences(name):
    network = TaskNetwork(2, hidden=(3,), seed=1)
    learner = LEARNERS[name](network, LearnerConfig(inner_steps=2, inner_rate=0.05))
    support, query = drawn(), drawn(seed=5)
    _, gradients = learner.meta_gradients(support, query)

    def loss():
        return float(tf.reduce_mean(learner.query_losses(support, query)))

    for variable, gradient in zip(learner.trainable_variables, gradients, strict=True):
        start = variable.numpy()
        for place in list(np.ndindex(start.shape))[:4]:
            step = np.zeros_like(start)
            step[place] = 1e-3
            variable.assign(start + step)
            above = loss()
            variable.assign(start - step)
            below = loss()
            variable.assign(start)
            slope = (above - below) / 2e-3
            assert gradient.numpy()[place] == pytest.approx(slope, rel=0.02, abs=1e-2)


def test_first_and_second_order_differ_in_curved_networks():
    found = {}
    for name in ("maml", "fomaml"):
        learner = LEARNERS[name](TaskNetwork(2, hidden=(3,), seed=1), LearnerConfig())
        found[name] = gradient_of(learner, drawn(), drawn(seed=5), "layer_0/kernel")
    assert np.abs(found["maml"] - found["fomaml"]).max() > 0.01 * np.abs(found["maml"]).max()


def test_anil_changes_only_the_head():
    weights = LEARNERS["anil"](TaskNetwork(2, hidden=(3,))).adapt(drawn())
    assert {name: weight.shape.rank for name, weight in weights.items()} == {
        "layer_0/kernel": 2,
        "layer_0/bias": 2,
        "head/kernel": 3,
        "head/bias": 3,
    }


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_each_task_adapts_independently(name):
    learner = LEARNERS[name](TaskNetwork(2, hidden=(3,), seed=1))
    support, inputs = drawn(tasks=4), drawn(tasks=4, seed=3).inputs
    together = learner.predict(support, inputs).numpy()
    for task in range(4):
        alone = Examples(*(part[task : task + 1] for part in support))
        found = learner.predict(alone, inputs[task : task + 1]).numpy()
        np.testing.assert_allclose(found[0], together[task], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_padding_has_no_effect(name):
    learner = LEARNERS[name](TaskNetwork(2, hidden=(3,), seed=1))
    support, inputs = drawn(), drawn(seed=3).inputs
    padded = examples(
        np.pad(support.inputs, [(0, 0), (0, 2), (0, 0)], constant_values=7.0),
        np.pad(support.labels, [(0, 0), (0, 2)], constant_values=-9.0),
        np.pad(support.mask, [(0, 0), (0, 2)]),
    )
    np.testing.assert_allclose(
        learner.predict(padded, inputs), learner.predict(support, inputs), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_without_support_nothing_changes(name):
    learner = LEARNERS[name](TaskNetwork(2, hidden=(3,), seed=1))
    support = drawn()._replace(mask=tf.zeros([3, 4]))
    inputs = drawn(seed=3).inputs
    expected = learner.network.predict(learner.network.weights(), inputs)
    np.testing.assert_allclose(learner.predict(support, inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(LEARNERS))
@pytest.mark.parametrize("case", ["one shot", "equal labels", "equal rows", "nothing", "huge"])
def test_degenerate_support_gives_finite_gradients(name, case):
    support, query = drawn(), drawn(seed=5)
    if case == "one shot":
        support = support._replace(mask=tf.constant([[1.0, 0, 0, 0]] * 3))
    if case == "equal labels":
        support = support._replace(labels=tf.ones([3, 4]))
    if case == "equal rows":
        support = support._replace(inputs=tf.ones([3, 4, 2]))
    if case == "nothing":
        support, query = (s._replace(mask=tf.zeros([3, 4])) for s in (support, query))
    if case == "huge":
        support = support._replace(labels=1e4 * support.labels)
    learner = LEARNERS[name](TaskNetwork(2, hidden=(3,), seed=1))
    loss, gradients = learner.meta_gradients(support, query)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_clipping_is_per_task_over_all_weights():
    one = tf.constant([[[3.0]], [[0.3]], [[0.0]]])
    other = tf.constant([[[4.0]], [[0.4]], [[0.0]]])
    clipped = clip_by_task_norm([one, other], 2.5)  # norms 5, 0.5 and 0
    np.testing.assert_allclose(clipped[0][:, 0, 0], [1.5, 0.3, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped[1][:, 0, 0], [2.0, 0.4, 0.0], rtol=1e-6)


def test_ridge_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6))
    weights, l2, start = rng.random((2, 6)), np.array([0.5, 2.0, 1.0]), np.array([1.0, -1.0, 0.3])
    found = ridge(*(tf.constant(a, tf.float32) for a in (features, labels, weights, l2, start)))
    for task in range(2):
        root = np.sqrt(weights[task])
        design = np.concatenate([features[task] * root[:, None], np.diag(np.sqrt(l2))])
        target = np.concatenate([labels[task] * root, np.sqrt(l2) * start])
        expected = np.linalg.lstsq(design, target, rcond=None)[0]
        np.testing.assert_allclose(found[task], expected, rtol=1e-4)


def test_the_outer_loop_learns_to_adapt():
    # Tasks y = a x + b with a, b of their own: after three examples, the line is known.
    rng = np.random.default_rng(0)

    def episodes(tasks):
        inputs = rng.normal(size=(tasks, 8, 1))
        labels = inputs[:, :, 0] * rng.normal(size=(tasks, 1)) + rng.normal(2.0, size=(tasks, 1))
        return examples(inputs[:, :3], labels[:, :3]), examples(inputs[:, 3:], labels[:, 3:])

    learner = LEARNERS["ridge"](TaskNetwork(1), LearnerConfig(l2=10.0))
    support, query = episodes(200)
    before = float(tf.reduce_mean(learner.query_losses(support, query)))
    step = tf.function(learner.meta_gradients)
    optimizer = tf.keras.optimizers.Adam(0.1)
    for _ in range(80):
        _, gradients = step(*episodes(32))
        optimizer.apply_gradients(zip(gradients, learner.trainable_variables, strict=True))
    assert float(tf.reduce_mean(learner.query_losses(support, query))) < 0.2 * before


def test_losses_by_hand():
    mask = tf.constant([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(masked_mean(tf.constant([[1.0, 3.0, 9.0]] * 2), mask), [2.0, 0.0])
    found = cross_entropy(tf.constant([[1.0, 0.0]]), tf.zeros([1, 2]), tf.ones([1, 2]))
    np.testing.assert_allclose(found, [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_steps": -1}, "`inner_steps`=-1"),
        ({"inner_rate": 0.0}, "`inner_rate`=0.0"),
        ({"clip_norm": float("inf")}, "`clip_norm`=inf"),
        ({"l2": -1.0}, "`l2`=-1.0"),
        ({"loss": "hinge"}, "`loss`='hinge'"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LearnerConfig(**change)


def test_ridge_refuses_losses_without_closed_form():
    with pytest.raises(ValueError, match="no closed form"):
        LEARNERS["ridge"](TaskNetwork(2), LearnerConfig(loss="cross_entropy"))
    with pytest.raises(ValueError, match="widths of 1 or more"):
        TaskNetwork(2, hidden=(0,))
