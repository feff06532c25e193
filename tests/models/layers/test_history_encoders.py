"""History encoders: padding, order, and values worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.models.layers import history_encoders
from tfrec_meta.models.layers.history_encoders import (
    HistoryEncoder,
    by_distance,
    causal_convolution,
)

TABLE = tf.constant(np.random.default_rng(0).normal(size=(9, 4)), tf.float32)
SEES_ORDER = ("attention", "gru", "convolution", "transformer")


@pytest.fixture(scope="module", params=SEES_ORDER)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(name) -> HistoryEncoder:
    """With no weight at its start value: zeros would hide what they multiply."""
    made = history_encoders.history_encoder(name, dim=4, length=5, layers=2, heads=2, dropout=0.5)
    rng = np.random.default_rng(1)
    for weight in made.weights:
        weight.assign(weight + rng.normal(scale=0.3, size=weight.shape))
    return made


def encode(encoder, *rows):
    width = max(len(row) for row in rows)
    padded = [list(row) + [0] * (width - len(row)) for row in rows]
    return encoder(tf.constant(padded, tf.int32), TABLE).numpy()


def test_an_empty_history_is_zeros(encoder):
    np.testing.assert_array_equal(encode(encoder, [0, 0, 0], [1, 2, 3])[0], np.zeros(4))


def test_no_rows_give_no_rows(encoder):
    assert encoder(tf.zeros([0, 3], tf.int32), TABLE).shape == (0, 4)


def test_the_width_of_the_padding_changes_nothing(encoder):
    narrow = encode(encoder, [3, 1])
    for width in (3, 5, 40):
        wide = encode(encoder, [3, 1] + [0] * (width - 2), [2] * width)[:1]
        np.testing.assert_allclose(wide, narrow, rtol=1e-5, atol=1e-6)


def test_gaps_change_nothing(encoder):
    gaps, closed = encode(encoder, [0, 3, 0, 1, 0, 2]), encode(encoder, [3, 1, 2])
    np.testing.assert_allclose(gaps, closed, rtol=1e-5, atol=1e-6)


def test_the_embedding_of_the_unknown_item_is_never_used(encoder):
    rows = tf.constant([[3, 1, 0, 0], [0, 0, 0, 0]])
    other = tf.tensor_scatter_nd_update(TABLE, [[0]], [[1e6, -1e6, 1e6, 5.0]])
    np.testing.assert_array_equal(encoder(rows, other), encoder(rows, TABLE))


def test_only_the_latest_items_are_read(encoder):
    long, short = encode(encoder, [8, 7, 6, 1, 2, 3, 4, 5]), encode(encoder, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(long, short, rtol=1e-5, atol=1e-6)


def test_the_order_of_items_matters(encoder):
    answers = encode(encoder, [1, 2, 3], [3, 2, 1], [2, 1, 3])
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    assert np.abs(answers[0] - answers[2]).max() > 1e-4


def test_each_state_equals_the_result_for_the_items_so_far(encoder):
    items = [4, 1, 8, 2, 2]
    states = encoder.states(tf.gather(TABLE, [items]))[0]
    for place, state in enumerate(states):
        alone = encode(encoder, items[: place + 1])[0]
        np.testing.assert_allclose(state, alone, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_and_reach_every_weight(encoder):
    table = tf.Variable(TABLE)
    rows = tf.constant([[1, 2, 3, 4, 5], [6, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(rows, table) * tf.constant([1.0, 2.0, -1.0, 0.5]))
    wanted = [table, *encoder.trainable_weights]
    for variable, gradient in zip(wanted, tape.gradient(loss, wanted), strict=True):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all(), variable.name
        assert np.abs(gradient).max() > 0, variable.name


def test_dropout_depends_only_on_its_seed(encoder):
    rows = tf.constant([[1, 2, 3, 4, 5]] * 4)
    first, again, other = (
        encoder(rows, TABLE, tf.constant([0, step], tf.int64)).numpy() for step in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    has_dropout = not isinstance(encoder, history_encoders.AttentionPooling)
    assert np.array_equal(first, other) != has_dropout


def test_names_of_weights_do_not_depend_on_earlier_layers(name, encoder):
    again = history_encoders.history_encoder(name, 4, 5, 2, 2, 0.5)
    assert [w.name for w in again.weights] == [w.name for w in encoder.weights]


def test_attention_starts_as_the_mean_and_learns_weights_by_age():
    pooling = history_encoders.AttentionPooling(dim=4, length=3)
    np.testing.assert_allclose(
        encode(pooling, [1, 2]), tf.reduce_mean(TABLE[1:3], axis=0, keepdims=True), rtol=1e-5
    )
    pooling.by_age.assign([[np.log(3.0), 0.0, 0.0]])  # the latest counts three times as much
    expected = 0.75 * TABLE[2] + 0.25 * TABLE[1]
    np.testing.assert_allclose(encode(pooling, [1, 2])[0], expected, rtol=1e-5)


def test_attention_learns_weights_by_item():
    pooling = history_encoders.AttentionPooling(dim=1, length=3)
    pooling.project.assign([[1.0]])
    pooling.importance.assign([[2.0]])
    table = tf.constant([[0.0], [0.5], [-0.5]])
    high, low = np.exp(2 * np.tanh([0.5, -0.5]))
    answer = pooling(tf.constant([[1, 2]]), table)
    np.testing.assert_allclose(answer, [[(0.5 * high - 0.5 * low) / (high + low)]], rtol=1e-5)


def test_gru_is_the_recurrence_of_the_paper():
    gru = history_encoders.GRUEncoder(dim=1, length=3, layers=1, dropout=0.0)
    # Columns: update gate, reset gate, candidate; biases of the input and of the state.
    update, reset, new = 0.5, -1.0, 2.0
    kernel, recurrent, bias = gru.recurrent[0].weights
    kernel.assign([[update, reset, new]])
    recurrent.assign([[0.3, 0.2, 0.7]])
    bias.assign(np.zeros((2, 3)))
    state = 0.0
    for x in (1.0, -2.0):
        z = 1 / (1 + np.exp(-(update * x + 0.3 * state)))
        r = 1 / (1 + np.exp(-(reset * x + 0.2 * state)))
        state = z * state + (1 - z) * np.tanh(new * x + r * 0.7 * state)
    answer = gru(tf.constant([[1, 2, 0]]), tf.constant([[9.0], [1.0], [-2.0]]))
    np.testing.assert_allclose(answer, [[state]], rtol=1e-5)


def test_a_causal_convolution_by_hand():
    inputs = tf.constant([[[1.0], [2.0], [3.0], [4.0]]])
    kernel = tf.constant([[1.0], [10.0], [100.0]])  # now, before, before that
    np.testing.assert_allclose(
        causal_convolution(inputs, kernel, 1)[0, :, 0], [1, 12, 123, 234], rtol=1e-6
    )
    np.testing.assert_allclose(
        causal_convolution(inputs, kernel, 2)[0, :, 0], [1, 2, 13, 24], rtol=1e-6
    )


def test_the_bias_depends_on_distance_and_masks_later_positions():
    bias = by_distance(tf.constant([[5.0, 6.0, 7.0]]), 3)[0].numpy()
    np.testing.assert_array_equal(np.tril(bias), [[5, 0, 0], [6, 5, 0], [7, 6, 5]])
    assert (bias[np.triu_indices(3, 1)] < -1e8).all()


def test_a_transformer_with_zero_weights_is_a_layer_norm():
    transformer = history_encoders.TransformerEncoder(4, length=3, layers=1, heads=2, dropout=0.0)
    for block in transformer.blocks:
        block["join"].assign(tf.zeros([4, 4]))
        block["narrow"].assign(tf.zeros([16, 4]))
    x = TABLE[2].numpy()
    expected = (x - x.mean()) / x.std()
    np.testing.assert_allclose(encode(transformer, [1, 2])[0], expected, rtol=1e-4)


def test_an_encoder_without_weights_has_no_layer():
    with pytest.raises(ValueError, match="mean"):
        history_encoders.history_encoder("mean", 4, 5, 1, 1, 0.0)
