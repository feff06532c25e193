"""The shared layers of multi-task models."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.layers.experts import create_bottom, mixed

INPUTS = tf.constant([[1.0, -2.0, 0.5], [0.0, 1.0, 2.0]])
TASKS = ("rating", "click")


def made(name, experts=2, layers=2):
    bottom = create_bottom(name, TASKS, 2, (4,), experts, layers)
    bottom(INPUTS)
    return bottom


def test_a_gate_mixes_two_experts_worked_by_hand():
    experts = [tf.constant([[4.0, 0.0]]), tf.constant([[0.0, 8.0]])]
    # The softmax of (0, log 3) is (1/4, 3/4).
    np.testing.assert_allclose(mixed(experts, tf.math.log([[1.0, 3.0]])), [[1.0, 6.0]], rtol=1e-6)


def test_each_task_of_a_mixture_has_its_own_gate():
    bottom = made("mmoe")
    found = bottom(INPUTS)
    experts = np.stack([expert(INPUTS) for expert in bottom.experts])
    for task, gate in zip(TASKS, bottom.gates, strict=True):
        score = np.exp(INPUTS.numpy() @ gate.kernel.numpy())
        weight = score / score.sum(axis=1, keepdims=True)
        expected = np.einsum("be,ebd->bd", weight, experts)
        np.testing.assert_allclose(found[task], expected, rtol=1e-5)


def test_a_shared_bottom_gives_all_tasks_the_same():
    found = made("shared")(INPUTS)
    np.testing.assert_array_equal(found["rating"], found["click"])


def changed(bottom, expert):
    """Tasks whose vectors change with an expert."""
    before = bottom(INPUTS)
    for weight in expert.weights:
        weight.assign_add(tf.ones_like(weight))
    after = bottom(INPUTS)
    return {task for task in TASKS if not np.allclose(before[task], after[task])}


def test_in_the_last_layer_a_task_does_not_use_experts_of_other_tasks():
    bottom = made("ple")
    assert changed(bottom, bottom.experts["rating_1"][0]) == {"rating"}
    assert changed(bottom, bottom.experts["shared_1"][1]) == {"rating", "click"}


def test_an_earlier_layer_reaches_all_tasks_through_the_shared_experts():
    bottom = made("ple")
    assert changed(bottom, bottom.experts["rating_0"][0]) == {"rating", "click"}


def test_one_layer_of_extraction_by_its_formula():
    bottom = made("ple", experts=1, layers=1)
    own, shared = (bottom.experts[f"{group}_0"][0](INPUTS) for group in ("click", "shared"))
    score = np.exp(INPUTS.numpy() @ bottom.gates["click_0"].kernel.numpy())
    weight = score / score.sum(axis=1, keepdims=True)
    expected = weight[:, :1] * own + weight[:, 1:] * shared
    np.testing.assert_allclose(bottom(INPUTS)["click"], expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "kernels"), [("shared", 1), ("mmoe", 2), ("ple", 2)])
def test_all_tasks_depend_on_the_last_shared_layer(name, kernels):
    bottom = made(name)
    assert len(bottom.last_shared) == kernels
    for task in TASKS:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(bottom(INPUTS)[task])
        gradients = tape.gradient(total, bottom.last_shared)
        assert all(np.abs(gradient).max() > 0 for gradient in gradients)
