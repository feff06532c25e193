"""History encoders: a user's earlier items, in order, to one vector.

All take item rows int32 [B, H] (oldest first, 0 in any place for no item) and the table of item
embeddings, and return float32 [B, d]; zeros for rows without items. Padding has no effect: rows are
first cut to their latest items and shifted to the left, and each state depends on its own and
earlier positions only, so the result is the state of the latest item.

The dropout seed is an argument and not a hidden state, so that a training that resumes from a
checkpoint uses the same dropout as one without interruption.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import tensorflow as tf

from tfrec_meta.features.graph import latest_known
from tfrec_meta.keras import tf_keras

EncoderName = Literal["mean", "attention", "gru", "convolution", "transformer", "none"]

_KERNEL = 3  # width of a convolution
_MINUS_INFINITY = -1e9  # a logit whose softmax is 0; -inf gives NaN in a row of only such logits


def history_encoder(
    name: EncoderName, dim: int, length: int, layers: int, heads: int, dropout: float
) -> HistoryEncoder:
    """Creates a history encoder by name.

    "mean" (`item_rows.mean_of_rows`) and "none" (zeros) have no weights and no class.

    Args:
        name: the name of the encoder.
        dim: d, of the item embeddings and of the result.
        length: the number of latest items that it reads.
        layers: of "gru", "convolution" and "transformer".
        heads: of "transformer"; together they have `dim` values.
        dropout: dropout rate of each layer.

    Raises:
        ValueError: for another name.
    """
    if name == "attention":
        return AttentionPooling(dim, length)
    if name == "gru":
        return GRUEncoder(dim, length, layers, dropout)
    if name == "convolution":
        return ConvolutionEncoder(dim, length, layers, dropout)
    if name == "transformer":
        return TransformerEncoder(dim, length, layers, heads, dropout)
    raise ValueError(
        f"`name`={name!r}; use one of 'attention', 'gru', 'convolution', 'transformer'."
    )


def mean_states(inputs: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns the states of the encoder "mean" after each item, like `HistoryEncoder.states`.

    Args:
        inputs: float32 [B, n, d], embeddings of the items; zeros for no item.
        rows: int32 [B, n], 0 for no item.

    Returns:
        float32 [B, n, d].
    """
    count = tf.cumsum(tf.cast(rows > 0, inputs.dtype), axis=1)[:, :, None]
    return tf.math.divide_no_nan(tf.cumsum(inputs, axis=1), count)


class HistoryEncoder(tf_keras.layers.Layer, ABC):
    """The base class of encoders with weights, which implement `states`.

    Args:
        dim: d.
        length: the number of latest items that it reads.
    """

    def __init__(self, dim: int, length: int):
        super().__init__(name="history_encoder")
        self.dim = dim
        self.length = length

    def call(self, rows: tf.Tensor, table: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the state of the latest item of each row, float32 [B, d]; zeros without items.

        Args:
            rows: int32 [B, H], 0 for no item.
            table: float32 [vocabulary, d]; row 0 is never used.
            draw: int64 [2], the dropout seed; None for no dropout.
        """
        rows = latest_known(rows, min(self.length, rows.shape[1]))
        named = tf.cast(rows > 0, tf.float32)[:, :, None]
        states = self.states(named * tf.gather(table, rows), draw)
        latest = tf.reduce_sum(tf.cast(rows > 0, tf.int32), axis=1)
        some = tf.cast(latest > 0, tf.float32)[:, None]
        return some * tf.gather(states, tf.maximum(latest - 1, 0), batch_dims=1)

    @abstractmethod
    def states(self, inputs: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the state after each item.

        Args:
            inputs: float32 [B, n, d], embeddings of the items, oldest first, without gaps; n is at
                most `length`. Values after the last item have no effect.
            draw: as for `call`.

        Returns:
            float32 [B, n, d]; state i depends on the inputs 0 to i only.
        """

    def _normal(self, name: str, *shape: int) -> tf.Variable:
        return self.add_weight(name=name, shape=shape, initializer="glorot_uniform")

    def _zeros(self, name: str, *shape: int) -> tf.Variable:
        return self.add_weight(name=name, shape=shape, initializer="zeros")

    def _layer_norm(self, name: str) -> tuple[tf.Variable, tf.Variable]:
        scale = self.add_weight(name=f"{name}_scale", shape=[self.dim], initializer="ones")
        return scale, self._zeros(f"{name}_shift", self.dim)


class AttentionPooling(HistoryEncoder):
    """A weighted mean, whose weights depend on the item and on its age.

    It starts as the plain mean.

    References:
        Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016,
        equations 5 to 7 (weights by item).
    """

    def __init__(self, dim: int, length: int):
        super().__init__(dim, length)
        self.project = self._normal("project", dim, dim)
        self.project_shift = self._zeros("project_shift", dim)
        self.importance = self._zeros("importance", dim, 1)
        self.by_age = self._zeros("by_age", 1, length)

    def states(self, inputs: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        hidden = tf.tanh(_dense(inputs, self.project) + self.project_shift)
        content = tf.linalg.matrix_transpose(_dense(hidden, self.importance))  # [B, 1, n]
        logits = content + by_distance(self.by_age, tf.shape(inputs)[1])
        return tf.matmul(tf.nn.softmax(logits), inputs)


class GRUEncoder(HistoryEncoder):
    """Layers of gated recurrent units.

    References:
        Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks" (GRU4Rec),
        ICLR 2016.
    """

    def __init__(self, dim: int, length: int, layers: int, dropout: float):
        super().__init__(dim, length)
        self.dropout = dropout
        self.recurrent = []
        for place in range(layers):
            # Not `layers.GRU`: its choice of a fused kernel pins devices in a SavedModel.
            cell = tf_keras.layers.GRUCell(dim, name=f"cell_{place}")
            layer = tf_keras.layers.RNN(cell, return_sequences=True, name=f"gru_{place}")
            layer.build(tf.TensorShape([None, None, dim]))
            self.recurrent.append(layer)

    def states(self, inputs: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        states = inputs * self.dim**0.5  # scaled to the size of a state, about 1 per value
        for place, layer in enumerate(self.recurrent):
            states = layer(_dropout(states, self.dropout, draw, place))
        return states


class ConvolutionEncoder(HistoryEncoder):
    """Residual blocks of two causal convolutions, whose dilation doubles from one to the next.

    `layers` blocks cover the latest 2 · 4 ** layers - 1 items.

    References:
        Yuan et al., "A Simple Convolutional Generative Network for Next Item Recommendation"
        (NextItNet), WSDM 2019, figure 3b.
    """

    def __init__(self, dim: int, length: int, layers: int, dropout: float):
        super().__init__(dim, length)
        self.dropout = dropout
        self.convolutions = []
        for place in range(2 * layers):
            kernel = self._normal(f"kernel_{place}", _KERNEL * dim, dim)
            self.convolutions.append((kernel, self._layer_norm(f"norm_{place}")))

    def states(self, inputs: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        states = _dropout(inputs * self.dim**0.5, self.dropout, draw, 0)
        block = states
        for place, (kernel, norm) in enumerate(self.convolutions):
            block = tf.nn.relu(_layer_norm(causal_convolution(block, kernel, 2**place), norm))
            if place % 2:
                states += _dropout(block, self.dropout, draw, place)
                block = states
        return states


class TransformerEncoder(HistoryEncoder):
    """Causal self-attention with pre-normalisation and a bias by distance for each head.

    With distances in place of positions, the state after an item does not depend on where the
    window of items begins.

    References:
        Kang and McAuley, "Self-Attentive Sequential Recommendation" (SASRec), ICDM 2018; Raffel et
        al., "Exploring the Limits of Transfer Learning" (T5), JMLR 2020, section 2.1 (bias).
    """

    def __init__(self, dim: int, length: int, layers: int, heads: int, dropout: float):
        super().__init__(dim, length)
        self.heads = heads
        self.dropout = dropout
        self.blocks = []
        for place in range(layers):
            block = {
                "norm": self._layer_norm(f"attention_norm_{place}"),
                "project": self._normal(f"project_{place}", dim, 3 * dim),
                "by_age": self._zeros(f"by_age_{place}", heads, length),
                "join": self._normal(f"join_{place}", dim, dim),
                "dense_norm": self._layer_norm(f"dense_norm_{place}"),
                "widen": self._normal(f"widen_{place}", dim, 4 * dim),
                "widen_shift": self._zeros(f"widen_shift_{place}", 4 * dim),
                "narrow": self._normal(f"narrow_{place}", 4 * dim, dim),
                "narrow_shift": self._zeros(f"narrow_shift_{place}", dim),
            }
            self.blocks.append(block)
        self.last_norm = self._layer_norm("last_norm")

    def states(self, inputs: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        states = _dropout(inputs * self.dim**0.5, self.dropout, draw, 0)
        for place, block in enumerate(self.blocks):
            attended = self._attention(_layer_norm(states, block["norm"]), block)
            states += _dropout(attended, self.dropout, draw, 2 * place + 1)
            hidden = _dense(_layer_norm(states, block["dense_norm"]), block["widen"])
            hidden = _dense(tf.nn.relu(hidden + block["widen_shift"]), block["narrow"])
            hidden += block["narrow_shift"]
            states += _dropout(hidden, self.dropout, draw, 2 * place + 2)
        return _layer_norm(states, self.last_norm)

    def _attention(self, states: tf.Tensor, block: dict[str, tf.Variable]) -> tf.Tensor:
        places, size = tf.shape(states)[1], self.dim // self.heads
        parts = tf.reshape(_dense(states, block["project"]), [-1, places, 3, self.heads, size])
        query, key, value = tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))  # [B, heads, n, size]
        logits = tf.matmul(query, key, transpose_b=True) * size**-0.5
        weights = tf.nn.softmax(logits + by_distance(block["by_age"], places))
        joined = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return _dense(tf.reshape(joined, [-1, places, self.dim]), block["join"])


def by_distance(bias: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns attention biases by distance, which also mask later positions.

    Args:
        bias: float32 [heads, length], for the distances 0 to length - 1.
        places: n, at most `length`.

    Returns:
        float32 [heads, n, n]: element i, j is the bias for i - j, or -1e9 where j is later.
    """
    here = tf.range(places)
    distance = here[:, None] - here[None, :]
    chosen = tf.gather(bias, tf.maximum(distance, 0), axis=1)
    return tf.where(distance >= 0, chosen, _MINUS_INFINITY)


def causal_convolution(inputs: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    """Convolves the current and earlier positions, `dilation` positions apart.

    Args:
        inputs: float32 [B, n, d]; zeros are assumed before the first position.
        kernel: float32 [taps * d, e]; the first d rows belong to the current position.
        dilation: 1 or more.

    Returns:
        float32 [B, n, e].
    """
    places = tf.shape(inputs)[1]
    taps = kernel.shape[0] // inputs.shape[2]
    reach = (taps - 1) * dilation
    padded = tf.pad(inputs, [[0, 0], [reach, 0], [0, 0]])
    starts = [reach - tap * dilation for tap in range(taps)]
    return _dense(tf.concat([padded[:, s : s + places] for s in starts], axis=2), kernel)


def _dense(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """float32 [B, n, d] times [d, e], as one matrix product."""
    return tf.tensordot(inputs, kernel, 1)


def _layer_norm(inputs: tf.Tensor, scale_and_shift: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts."""
    scale, shift = scale_and_shift
    mean, variance = tf.nn.moments(inputs, axes=[-1], keepdims=True)
    return (inputs - mean) * tf.math.rsqrt(variance + 1e-6) * scale + shift


def _dropout(inputs: tf.Tensor, rate: float, draw: tf.Tensor | None, part: int) -> tf.Tensor:
    if draw is None or not rate:
        return inputs
    seed = tf.random.experimental.stateless_fold_in(draw, part)
    return tf.nn.experimental.stateless_dropout(inputs, rate, seed)
