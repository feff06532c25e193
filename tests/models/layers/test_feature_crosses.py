"""Feature crosses, compared with the formulas of their papers."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.layers.feature_crosses import create_feature_cross, pairwise_products

DIM = 2
QUERY = tf.constant([[1.0, 2.0, 0.5, -1.0], [0.0, 1.0, 1.0, 1.0]])  # two fields
ITEM = tf.constant([[3.0, -1.0], [0.5, 2.0]])  # one field


def made(name, hidden=(3,), cross_layers=1):
    interaction = create_feature_cross(name, DIM, hidden, cross_layers, 0)
    interaction(QUERY, ITEM)
    for place, weight in enumerate(interaction.weights):
        weight.assign(tf.random.stateless_normal(weight.shape, [place, 1]))
    return interaction


def without_dense_layers(name):
    """What is left when the dense layers say nothing."""
    interaction = made(name)
    for weight in interaction.deep.weights:
        weight.assign(tf.zeros_like(weight))
    return interaction


def test_products_of_all_pairs_worked_by_hand():
    # (1, 2).(3, -1) = 1, (1, 2).(.5, 2) = 4.5, (3, -1).(.5, 2) = -.5
    assert float(pairwise_products(tf.constant([[1.0, 2], [3, -1], [0.5, 2]]))) == pytest.approx(5)


def test_the_perceptron_is_dense_layers_over_all_fields():
    net = made("mlp", hidden=(3, 2))
    kernel = np.concatenate([net.of_query.kernel, net.of_item.kernel])
    fields = np.concatenate([QUERY, ITEM], axis=1)
    first = np.maximum(fields @ kernel + net.of_query.bias.numpy(), 0)
    second = np.maximum(first @ net.deep.layers[0].kernel + net.deep.layers[0].bias.numpy(), 0)
    last = second @ net.deep.layers[1].kernel.numpy() + net.deep.layers[1].bias.numpy()
    np.testing.assert_allclose(net(QUERY, ITEM), last, rtol=1e-5)


def test_deepfm_adds_the_factorization_machine_to_the_dense_layers():
    net = without_dense_layers("deepfm")
    linear = QUERY @ net.linear_query.kernel + ITEM @ net.linear_item.kernel
    # First row: (1, 2).(.5, -1) = -1.5, (1, 2).(3, -1) = 1, (.5, -1).(3, -1) = 2.5.
    # Second: (0, 1).(1, 1) = 1, (0, 1).(.5, 2) = 2, (1, 1).(.5, 2) = 2.5.
    np.testing.assert_allclose(net(QUERY, ITEM), linear + [[2.0], [5.5]], rtol=1e-5)


def test_dlrm_gives_the_dense_layers_the_products_of_fields():
    net = made("dlrm")
    dots = np.zeros((2, 9))  # of fields 1, 0; 2, 0; and 2, 1: the triangle below the diagonal
    dots[:, 3], dots[:, 6], dots[:, 7] = [-1.5, 1], [1, 2], [2.5, 2.5]
    first = QUERY @ net.of_query.kernel + net.of_query.bias + ITEM @ net.of_item.kernel
    first += dots.astype(np.float32) @ net.of_dots.kernel.numpy()
    last = np.maximum(first, 0) @ net.deep.layers[0].kernel.numpy()
    np.testing.assert_allclose(net(QUERY, ITEM), last + net.deep.layers[0].bias.numpy(), rtol=1e-5)


def test_dcn_crosses_the_fields_before_the_dense_layers():
    net = made("dcn", cross_layers=2)
    first = np.concatenate([QUERY, ITEM], axis=1)
    crossed = first
    for cross in net.crosses:
        kernel, bias = (weight.numpy() for weight in cross.weights)
        crossed = first * (crossed @ kernel + bias) + crossed
    hidden, last = net.deep.layers
    deep = np.maximum(crossed @ hidden.kernel.numpy() + hidden.bias.numpy(), 0)
    expected = deep @ last.kernel.numpy() + last.bias.numpy()
    np.testing.assert_allclose(net(QUERY, ITEM), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "dcn", "dlrm", "deepfm"])
def test_all_pairs_together_equal_single_pairs(name):
    net = made(name)
    query, item = net.query_part(QUERY)[:, None], net.item_part(ITEM)
    both = net.pair(query, item[None])
    one_by_one = np.concatenate([net(QUERY, tf.repeat(ITEM[i : i + 1], 2, 0)) for i in (0, 1)], 1)
    np.testing.assert_allclose(both, one_by_one, rtol=1e-4)
    own = tf.stack([item, item[::-1]])  # each query has items of its own
    np.testing.assert_allclose(
        net.pair(query, own), [one_by_one[0], one_by_one[1][::-1]], rtol=1e-4
    )


@pytest.mark.parametrize("name", ["mlp", "dcn", "dlrm"])
def test_the_initial_output_is_0(name):
    net = create_feature_cross(name, DIM, (3,), 1, 0)
    np.testing.assert_array_equal(net(QUERY, ITEM), [[0.0], [0.0]])
