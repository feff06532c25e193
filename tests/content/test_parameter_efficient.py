"""What is trained of a BERT, and what it leaves as it was."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tests.distillation.tiny_bert import HIDDEN, LAYERS, WIDTH, write_tiny_bert
from tfrec_meta.content.bert import mean_of_tokens
from tfrec_meta.content.checkpoints import BertCheckpoint
from tfrec_meta.content.parameter_efficient import (
    Adapter,
    LowRank,
    PrefixRows,
    merge_low_rank,
    tuned_weights,
)
from tfrec_meta.keras import tf_keras

IDS = tf.constant([[2, 4, 5, 6, 3], [2, 7, 3, 0, 0]])
MASK = tf.constant([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
NORMS = 2 * 2 * WIDTH  # scales and shifts per layer
ADDED = {  # numbers per layer, for adapters of size 3
    "lora": 2 * (WIDTH * 3 + 3 * WIDTH),
    "lora_everywhere": 4 * (WIDTH * 3 + 3 * WIDTH) + 2 * 3 * (WIDTH + HIDDEN),
    "adapters": 2 * (WIDTH * 3 + 3 + 3 * WIDTH) + NORMS,
    "prefix": 2 * 3 * WIDTH,
}


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return BertCheckpoint.load(write_tiny_bert(folder, request.param))


def gradients(model, weights):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mean_of_tokens(model, IDS, MASK)[:, :5])
    return tape.gradient(loss, weights)


@pytest.mark.parametrize("method", ["lora", "lora_everywhere", "adapters", "prefix"])
def test_few_weights_are_trained_and_each_has_an_effect(checkpoint, method):
    model = checkpoint.model(dropout=0.0)
    before = mean_of_tokens(model, IDS, MASK)
    kept = {id(v): v.numpy() for v in model.weights}
    weights = tuned_weights(model, method, size=3)
    assert sum(int(np.prod(v.shape)) for v in weights) == LAYERS * ADDED[method]
    assert {id(v) for v in weights} <= {id(v) for v in model.trainable_variables}
    after = mean_of_tokens(model, IDS, MASK)
    if method == "prefix":
        assert np.abs(after - before).max() > 1e-4
    else:
        np.testing.assert_allclose(after, before, atol=1e-6)
    # One factor starts at zero, so the other has no gradient in the first step.
    optimizer = tf_keras.optimizers.SGD(0.05)
    for _ in range(2):
        found = gradients(model, weights)
        assert all(gradient is not None for gradient in found)
        optimizer.apply_gradients(zip(found, weights, strict=True))
    assert all(np.abs(g).max() > 0 for g in gradients(model, weights))
    tuned = {id(v) for v in weights}
    for variable in model.weights:
        if id(variable) in kept and id(variable) not in tuned:
            np.testing.assert_array_equal(variable, kept[id(variable)])


def test_all_means_the_models_weights_without_the_pooler(checkpoint):
    model = checkpoint.model()
    weights = tuned_weights(model, "all")
    pooler = WIDTH * WIDTH + WIDTH if checkpoint.kind == "bert" else 0
    assert sum(int(np.prod(v.shape)) for v in weights) == model.count_params() - pooler
    assert all(gradient is not None for gradient in gradients(model, weights))


@pytest.mark.parametrize("method", ["all", "lora", "adapters", "prefix"])
def test_weights_have_the_same_values_and_order_for_the_same_seed(checkpoint, method):
    one, other = (tuned_weights(checkpoint.model(), method, size=2) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", ["lora", "adapters", "prefix"])
def test_padding_does_not_change_vectors(checkpoint, method):
    model = checkpoint.model()
    tuned_weights(model, method, size=3)
    alone = mean_of_tokens(model, IDS[1:, :3], MASK[1:, :3])
    np.testing.assert_allclose(mean_of_tokens(model, IDS, MASK)[1:], alone, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "lora_everywhere"])
def test_merged_low_rank_gives_the_same_vectors(checkpoint, method):
    model = checkpoint.model()
    count = len(model.weights)
    draw = np.random.default_rng(3)
    for weight in tuned_weights(model, method, size=3):
        weight.assign(draw.normal(scale=0.3, size=weight.shape))
    learned = mean_of_tokens(model, IDS, MASK)
    assert np.abs(learned - mean_of_tokens(checkpoint.model(), IDS, MASK)).max() > 1e-2
    merge_low_rank(model)
    assert len(model.weights) == count
    np.testing.assert_allclose(mean_of_tokens(model, IDS, MASK), learned, atol=1e-5)


def dense(before, after):
    layer = tf_keras.layers.Dense(after, bias_initializer="ones")
    layer.build([None, None, before])
    return layer


def test_low_rank_adds_a_product():
    layer = LowRank(dense(4, 3), rank=2, seed=1)
    layer.up.assign(np.arange(6).reshape(2, 3))
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    expected = x @ (layer.dense.kernel.numpy() + layer.down.numpy() @ layer.up.numpy()) + 1
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_adapter_is_a_bottleneck_after_the_layer():
    layer = Adapter(dense(4, 3), width=2, seed=1)
    layer.up.assign(np.arange(6).reshape(2, 3))
    layer.shift.assign([0.5, -0.5])
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    hidden = x @ layer.dense.kernel.numpy() + 1
    inner = hidden @ layer.down.numpy() + [0.5, -0.5]
    inner *= scipy.stats.norm.cdf(inner)
    np.testing.assert_allclose(layer(x), hidden + inner @ layer.up.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("skipped", [0, 2])
def test_prefix_comes_first(skipped):
    layer = PrefixRows(dense(4, 3), rows=2, skipped=skipped, seed=1)
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    found = layer(x).numpy()
    for row in range(2):
        np.testing.assert_allclose(found[row, :2], layer.rows)
    rest = x[:, skipped:] @ layer.dense.kernel.numpy() + 1
    np.testing.assert_allclose(found[:, 2:], rest, rtol=1e-5, atol=1e-5)


def test_prefix_is_attended_to_like_extra_keys(tmp_path):
    """By hand, of one layer: attention over the learned keys and values besides the tokens'."""
    model = BertCheckpoint.load(write_tiny_bert(tmp_path)).model()
    tuned_weights(model, "prefix", size=3)
    attention = model.bert.encoder.layer[0].attention.self_attention
    inner = attention.attention
    inner.key.rows.assign(tf.random.stateless_normal([3, WIDTH], [1, 2]))
    inner.value.rows.assign(tf.random.stateless_normal([3, WIDTH], [3, 4]))
    x = np.random.default_rng(0).normal(size=(1, 4, WIDTH)).astype(np.float32)
    off = [0.0, 0.0, 0.0, -10_000.0]  # the last token is padding
    found = attention(
        hidden_states=tf.constant(x),
        attention_mask=tf.constant([[[off]]]),
        head_mask=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        past_key_value=None,
        output_attentions=False,
    )[0]
    q = inner.query(x).numpy()[0].reshape(4, 4, 8)
    k, v = (
        np.concatenate([part.rows.numpy(), part.dense(x).numpy()[0]]).reshape(7, 4, 8)
        for part in (inner.key, inner.value)
    )
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(8) + np.array([0, 0, 0, *off])
    share = np.exp(scores - scores.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    expected = np.einsum("hqk,khd->qhd", share, v).reshape(4, WIDTH)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "size", "message"), [("half", 8, "`method`='half'"), ("lora", 0, "`size`=0")]
)
def test_unknown_methods_and_sizes_below_1_are_refused(checkpoint, method, size, message):
    with pytest.raises(ValueError, match=message):
        tuned_weights(checkpoint.model(), method, size)
