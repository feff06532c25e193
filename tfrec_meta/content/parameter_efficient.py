"""Methods of fine-tuning a BERT: training all weights, or a few weights that are added to it.

Added weights do not change the model's vectors before training, except those of a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import tensorflow as tf

from tfrec_meta.errors import ParameterError
from tfrec_meta.keras import tf_keras

Method = Literal["all", "lora", "lora_everywhere", "adapters", "prefix"]
LOW_RANK = ("lora", "lora_everywhere")


def tuned_weights(model: Any, method: Method, size: int = 8, seed: int = 42) -> list[tf.Variable]:
    """Returns the variables to train, after adding those of the method to the model.

    Args:
        model: a TFBertModel or TFDistilBertModel that was not changed by this function before.
        method: "all" trains all weights; "lora" adds low-rank changes to the query and value
            projections, "lora_everywhere" to all dense layers; "adapters" adds bottlenecks after
            attention and feed-forward part, and trains the normalisation layers; "prefix" adds rows
            before the keys and values of each layer.
        size: the rank, the width of the bottleneck, or the rows of the prefix; unused by "all".
        seed: seed of the initial values.

    Returns:
        float32 variables, always in the same order, without those of the pooler.

    Raises:
        ValueError: for an unknown method, or a size below 1.

    Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; Houlsby
    et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019; Li and Liang,
    "Prefix-Tuning: Optimizing Continuous Prompts for Generation", ACL 2021 (here the rows are
    trained directly, without a reparametrising network).
    """
    if method not in get_args(Method):
        raise ParameterError(f"`method`={method!r}; use one of {get_args(Method)}.", "method")
    if method == "all":
        return [v for v in model.trainable_variables if "pooler" not in v.name]
    if size < 1:
        raise ParameterError(f"`size`={size}; use 1 or more.", "size")
    draws = iter(range(seed, seed + 1_000_000))
    found: list[tf.Variable] = []
    for layer in _layers(model):
        if method in LOW_RANK:
            query, _, value = layer.projections
            for attribute in (query, value) if method == "lora" else layer.dense:
                found += _replace(attribute, LowRank(_get(attribute), size, next(draws)))
        elif method == "adapters":
            for attribute in layer.outputs:
                found += _replace(attribute, Adapter(_get(attribute), size, next(draws)))
            found += [weight for norm in layer.norms for weight in norm.trainable_weights]
        else:
            skipped = 0 if model.config.model_type == "bert" else size
            for attribute in layer.projections[1:]:
                found += _replace(
                    attribute, PrefixRows(_get(attribute), size, skipped, next(draws))
                )
    if method == "prefix":
        _extend_attention(model, size)
    return found


def merge_low_rank(model: Any) -> None:
    """Adds LoRA matrices to the weights of the dense layers, and removes the LoRA layers.

    Args:
        model: a model that `tuned_weights` changed by "lora" or "lora_everywhere".
    """
    for layer in _layers(model):
        for attribute in layer.dense:
            found = _get(attribute)
            if isinstance(found, LowRank):
                found.dense.kernel.assign_add(tf.matmul(found.down, found.up))
                setattr(*attribute, found.dense)


def last_values(model: Any) -> tuple[Any, int]:
    """Returns the value projection of a model's last attention, and its number of heads."""
    config = model.config
    heads = config.num_attention_heads if config.model_type == "bert" else config.n_heads
    return _get(list(_layers(model))[-1].projections[2]), int(heads)


class LowRank(tf_keras.layers.Layer):
    """A dense layer with a low-rank change: W x + B A x, where B starts as zeros.

    Args:
        dense: the dense layer, which is not trained.
        rank: rank of the change.
        seed: seed of A.
    """

    def __init__(self, dense: Any, rank: int, seed: int):
        super().__init__(name=f"{dense.name}_low_rank", dtype=dense.dtype_policy)
        before, after = dense.kernel.shape
        drawn = tf_keras.initializers.HeUniform(seed)
        self.down = self.add_weight(name="down", shape=[before, rank], initializer=drawn)
        self.up = self.add_weight(name="up", shape=[rank, after], initializer="zeros")
        self.own = [self.down, self.up]
        self.dense = dense

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, T, width]."""
        return self.dense(inputs) + tf.matmul(tf.matmul(inputs, self.down), self.up)


class Adapter(tf_keras.layers.Layer):
    """A dense layer followed by a bottleneck: h + U gelu(D h), where U starts as zeros.

    Args:
        dense: the dense layer, which is not trained.
        width: width of the bottleneck.
        seed: seed of D.
    """

    def __init__(self, dense: Any, width: int, seed: int):
        super().__init__(name=f"{dense.name}_adapter", dtype=dense.dtype_policy)
        dim = dense.kernel.shape[1]
        drawn = tf_keras.initializers.HeUniform(seed)
        self.down = self.add_weight(name="down", shape=[dim, width], initializer=drawn)
        self.shift = self.add_weight(name="shift", shape=[width], initializer="zeros")
        self.up = self.add_weight(name="up", shape=[width, dim], initializer="zeros")
        self.own = [self.down, self.shift, self.up]
        self.dense = dense

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, T, width of the dense layer]."""
        hidden = self.dense(inputs)
        return hidden + tf.matmul(tf.nn.gelu(tf.matmul(hidden, self.down) + self.shift), self.up)


class PrefixRows(tf_keras.layers.Layer):
    """Keys or values of a sequence with trained rows before them.

    Args:
        dense: the projection to keys or values, which is not trained.
        rows: number of trained rows.
        skipped: rows of the input that the trained rows replace.
        seed: seed of the initial values.
    """

    def __init__(self, dense: Any, rows: int, skipped: int, seed: int):
        super().__init__(name=f"{dense.name}_prefix", dtype=dense.dtype_policy)
        drawn = tf_keras.initializers.RandomNormal(stddev=0.02, seed=seed)
        shape = [rows, dense.kernel.shape[1]]
        self.rows = self.add_weight(name="rows", shape=shape, initializer=drawn)
        self.own = [self.rows]
        self.dense = dense
        self.skipped = skipped

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, rows + T, width]."""
        rest = self.dense(inputs[:, self.skipped :])
        learned = tf.cast(self.rows, rest.dtype)[None]
        return tf.concat([tf.repeat(learned, tf.shape(rest)[0], axis=0), rest], axis=1)


class _BertPrefixAttention(tf_keras.layers.Layer):
    """Self-attention of a TFBertModel with a prefix, by which the mask is extended."""

    def __init__(self, attention: Any, rows: int):
        super().__init__(name=attention.name, dtype=attention.dtype_policy)
        self.attention, self.rows = attention, rows

    def call(self, hidden_states: tf.Tensor, attention_mask: tf.Tensor, **others: Any) -> Any:
        # The mask is added to the scores, so 0 means not masked.
        mask = tf.pad(attention_mask, [[0, 0], [0, 0], [0, 0], [self.rows, 0]])
        return self.attention(hidden_states=hidden_states, attention_mask=mask, **others)


class _DistilBertPrefixAttention(tf_keras.layers.Layer):
    """Attention of a TFDistilBertModel with a prefix, by which mask and inputs are extended."""

    def __init__(self, attention: Any, rows: int):
        super().__init__(name=attention.name, dtype=attention.dtype_policy)
        self.attention, self.rows = attention, rows

    def call(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        mask: tf.Tensor,
        *others: Any,
        training: bool = False,
    ) -> Any:
        key, value = (tf.pad(rows, [[0, 0], [self.rows, 0], [0, 0]]) for rows in (key, value))
        mask = tf.pad(mask, [[0, 0], [self.rows, 0]], constant_values=1)
        return self.attention(query, key, value, mask, *others, training=training)


_Attribute = tuple[Any, str]  # a layer, and the name of a dense layer within it


class _Layer(NamedTuple):
    """The parts of a transformer layer.

    Attributes:
        projections: the dense layers of queries, keys and values.
        hidden: the first dense layer of the feed-forward part.
        outputs: the last dense layers of attention and of the feed-forward part.
        norms: the normalisation layers after attention and after the feed-forward part.
    """

    projections: tuple[_Attribute, _Attribute, _Attribute]
    hidden: _Attribute
    outputs: tuple[_Attribute, _Attribute]
    norms: tuple[Any, Any]

    @property
    def dense(self) -> list[_Attribute]:
        """All dense layers."""
        return [*self.projections, self.outputs[0], self.hidden, self.outputs[1]]


def _layers(model: Any) -> Iterator[_Layer]:
    if model.config.model_type == "bert":
        for layer in model.bert.encoder.layer:
            own = layer.attention.self_attention
            parts = layer.attention.dense_output, layer.bert_output
            yield _Layer(
                ((own, "query"), (own, "key"), (own, "value")),
                (layer.intermediate, "dense"),
                ((parts[0], "dense"), (parts[1], "dense")),
                (parts[0].LayerNorm, parts[1].LayerNorm),
            )
    else:
        for layer in model.distilbert.transformer.layer:
            own = layer.attention
            yield _Layer(
                ((own, "q_lin"), (own, "k_lin"), (own, "v_lin")),
                (layer.ffn, "lin1"),
                ((own, "out_lin"), (layer.ffn, "lin2")),
                (layer.sa_layer_norm, layer.output_layer_norm),
            )


def _extend_attention(model: Any, rows: int) -> None:
    if model.config.model_type == "bert":
        for layer in model.bert.encoder.layer:
            inner = layer.attention.self_attention
            layer.attention.self_attention = _BertPrefixAttention(inner, rows)
    else:
        for layer in model.distilbert.transformer.layer:
            layer.attention = _DistilBertPrefixAttention(layer.attention, rows)


def _get(attribute: _Attribute) -> Any:
    return getattr(*attribute)


def _replace(attribute: _Attribute, layer: Any) -> list[tf.Variable]:
    setattr(*attribute, layer)
    return list(layer.own)
