"""The gradients of a step, compared with gradients worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.base import step
from tfrec_meta.models.base.step import StepOptions


class Squares:
    """Loss: the mean of the squared looked-up rows, and three times a bias."""

    def __init__(self):
        self.table = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        self.bias = tf.Variable([1.0])

    def loss(self, rows):
        rows = tf.gather(self.table, tf.constant(rows))
        return tf.reduce_mean(tf.reduce_sum(rows**2, axis=1)) + 3.0 * self.bias[0]


def dense(gradient):
    return tf.convert_to_tensor(gradient).numpy()


def of(model, rows, **options):
    parts = rows if "accumulation" in options else [rows]
    loss, gradients = step.loss_and_gradients(
        lambda number: model.loss(parts[number]),
        [model.table, model.bias],
        [model.table],
        StepOptions(**options),
    )
    return float(loss), [dense(gradient) for gradient in gradients]


def test_a_plain_step_is_the_gradient():
    loss, (table, bias) = of(Squares(), [0, 2])
    assert loss == pytest.approx((5 + 61) / 2 + 3)
    np.testing.assert_allclose(table, [[1, 2], [0, 0], [5, 6]])
    np.testing.assert_allclose(bias, [3])


def test_accumulated_batches_give_the_step_of_one_large_batch():
    whole = of(Squares(), [0, 2, 2, 1])
    parts = of(Squares(), [[0, 2], [2, 1]], accumulation=2)
    assert parts[0] == pytest.approx(whole[0])
    for one, other in zip(parts[1], whole[1], strict=True):
        np.testing.assert_allclose(one, other)


def test_l2_penalises_each_row_of_the_batch_once_and_no_bias():
    _, (table, bias) = of(Squares(), [0, 2, 2, 2], l2=0.1)
    np.testing.assert_allclose(table, [[0.5 + 0.1, 1 + 0.2], [0, 0], [7.5 + 0.5, 9 + 0.6]])
    np.testing.assert_allclose(bias, [3])


def test_l2_with_a_dense_gradient_penalises_every_row():
    pulled = step.penalised(tf.zeros([2, 2]), tf.Variable([[1.0, 2.0], [3.0, 4.0]]), 0.1)
    np.testing.assert_allclose(pulled, [[0.1, 0.2], [0.3, 0.4]])


def test_the_adversarial_loss_moves_each_row_by_its_size_along_the_gradient():
    model = Squares()
    before = model.table.numpy()
    loss, (table, bias) = of(model, [0, 2], adversarial_weight=0.5, adversarial_size=0.2)
    moved = before + 0.2 * before / np.linalg.norm(before, axis=1, keepdims=True)
    disturbed = (moved[[0, 2]] ** 2).sum(axis=1).mean() + 3
    assert loss == pytest.approx((5 + 61) / 2 + 3 + 0.5 * disturbed)
    expected = before + 0.5 * moved
    expected[1] = 0  # the batch does not contain it
    np.testing.assert_allclose(table, expected, rtol=1e-6)
    np.testing.assert_allclose(bias, [3 + 1.5])
    np.testing.assert_array_equal(model.table.numpy(), before)  # restored bit by bit


def test_a_dense_table_is_disturbed_and_restored():
    table = tf.Variable([[3.0, 4.0], [0.0, 0.0]])
    restore = step.disturb(table, tf.constant([[6.0, 8.0], [0.0, 0.0]]), 0.5)
    np.testing.assert_allclose(table, [[3.3, 4.4], [0, 0]], rtol=1e-6)
    restore()
    np.testing.assert_array_equal(table, np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))


def test_rows_that_occur_twice_are_summed():
    twice = tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0]]), tf.constant([5, 1, 5]))
    once = step.summed_by_row(twice)
    assert dict(zip(once.indices.numpy().tolist(), once.values.numpy()[:, 0], strict=True)) == {
        5: 5.0,
        1: 2.0,
    }
