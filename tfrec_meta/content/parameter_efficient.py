"""What is trained of a BERT: all of it, or few weights that are added to it.

Of these, all but a prefix leave a model's vectors as they are until they have learned something.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import tensorflow as tf

from tfrec_meta.keras import tf_keras

Method = Literal["all", "lora", "lora_everywhere", "adapters", "prefix"]
LOW_RANK = ("lora", "lora_everywhere")


def tuned_weights(model: Any, method: Method, size: int = 8, seed: int = 42) -> list[tf.Variable]:
    """The variables to train; adds them to `model` where they are none of its own.

    Args:
        model: a TFBertModel or TFDistilBertModel; each is changed at most once.
        method: "all"; "lora", a change of low rank of queries and values;
            "lora_everywhere", of each dense layer; "adapters", bottlenecks behind attention and the
            feed-forward part, trained with the scales and shifts of normalisation; "prefix", rows
            before each layer's keys and values.
        size: the rank, the bottleneck's width, or the rows of the prefix; nothing to "all".
        seed: of initial values.

    Returns:
        float32 variables, always in the same order. The pooler is none of them.

    Raises:
        ValueError: for another method, or a size below 1.

    Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; Houlsby
    et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019; Li and Liang,
    "Prefix-Tuning: Optimizing Continuous Prompts for Generation", ACL 2021 (the rows are learned
    themselves, not by way of another network).
    """
    if method not in get_args(Method):
        raise ValueError(f"`method`={method!r}; use one of {get_args(Method)}.")
    if method == "all":
        return [v for v in model.trainable_variables if "pooler" not in v.name]
    if size < 1:
        raise ValueError(f"`size`={size}; use 1 or more.")
    draws = iter(range(seed, seed + 1_000_000))
    found: list[tf.Variable] = []
    for layer in _layers(model):
        if method in LOW_RANK:
            query, _, value = layer.projections
            for spot in (query, value) if method == "lora" else layer.dense:
                found += _replace(spot, LowRank(_at(spot), size, next(draws)))
        elif method == "adapters":
            for spot in layer.outputs:
                found += _replace(spot, Adapter(_at(spot), size, next(draws)))
            found += [weight for norm in layer.norms for weight in norm.trainable_weights]
        else:
            skipped = 0 if model.config.model_type == "bert" else size
            for spot in layer.projections[1:]:
                found += _replace(spot, PrefixRows(_at(spot), size, skipped, next(draws)))
    if method == "prefix":
        _make_room(model, size)
    return found


def merge_low_rank(model: Any) -> None:
    """Adds what LoRA learned to the dense layers' weights, and takes it away beside them.

    Args:
        model: that `tuned_weights` changed by "lora" or "lora_everywhere".
    """
    for layer in _layers(model):
        for spot in layer.dense:
            found = _at(spot)
            if isinstance(found, LowRank):
                found.dense.kernel.assign_add(tf.matmul(found.down, found.up))
                setattr(*spot, found.dense)


def last_values(model: Any) -> tuple[Any, int]:
    """The layer that makes the values of a model's last attention, and the number of its heads."""
    config = model.config
    heads = config.num_attention_heads if config.model_type == "bert" else config.n_heads
    return _at(list(_layers(model))[-1].projections[2]), int(heads)


class LowRank(tf_keras.layers.Layer):
    """A dense layer, and beside it one of low rank: W x + B A x, of which B begins as zeros.

    Args:
        dense: which stays as it is.
        rank: of the change.
        seed: of A.
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
        """float32 [B, T, width]."""
        return self.dense(inputs) + tf.matmul(tf.matmul(inputs, self.down), self.up)


class Adapter(tf_keras.layers.Layer):
    """A dense layer, and behind it a bottleneck: h + U gelu(D h), of which U begins as zeros.

    Args:
        dense: which stays as it is.
        width: of the bottleneck.
        seed: of D.
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
        """float32 [B, T, width of the dense layer]."""
        hidden = self.dense(inputs)
        return hidden + tf.matmul(tf.nn.gelu(tf.matmul(hidden, self.down) + self.shift), self.up)


class PrefixRows(tf_keras.layers.Layer):
    """The keys or values of a sequence, behind learned ones.

    Args:
        dense: which stays as it is.
        rows: that are learned.
        skipped: rows of the input that stand where the learned ones shall be.
        seed: of their initial values.
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
        """float32 [B, rows + T, width]."""
        rest = self.dense(inputs[:, self.skipped :])
        learned = tf.cast(self.rows, rest.dtype)[None]
        return tf.concat([tf.repeat(learned, tf.shape(rest)[0], axis=0), rest], axis=1)


class _RoomInBert(tf_keras.layers.Layer):
    """Self-attention of a TFBertModel whose keys have a prefix, which its mask has to know."""

    def __init__(self, attention: Any, rows: int):
        super().__init__(name=attention.name, dtype=attention.dtype_policy)
        self.attention, self.rows = attention, rows

    def call(self, hidden_states: tf.Tensor, attention_mask: tf.Tensor, **others: Any) -> Any:
        # Added to the scores: 0 lets through.
        mask = tf.pad(attention_mask, [[0, 0], [0, 0], [0, 0], [self.rows, 0]])
        return self.attention(hidden_states=hidden_states, attention_mask=mask, **others)


class _RoomInDistilBert(tf_keras.layers.Layer):
    """Likewise of a TFDistilBertModel, which also takes the number of keys from its input."""

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


_Spot = tuple[Any, str]  # a layer, and the name of a dense layer within it


class _Layer(NamedTuple):
    """Where the parts of a layer are.

    Attributes:
        projections: to queries, keys and values.
        hidden: the dense layer that begins the feed-forward part.
        outputs: those before the sums, of attention and of the feed-forward part.
        norms: the normalisations behind the sums.
    """

    projections: tuple[_Spot, _Spot, _Spot]
    hidden: _Spot
    outputs: tuple[_Spot, _Spot]
    norms: tuple[Any, Any]

    @property
    def dense(self) -> list[_Spot]:
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


def _make_room(model: Any, rows: int) -> None:
    if model.config.model_type == "bert":
        for layer in model.bert.encoder.layer:
            inner = layer.attention.self_attention
            layer.attention.self_attention = _RoomInBert(inner, rows)
    else:
        for layer in model.distilbert.transformer.layer:
            layer.attention = _RoomInDistilBert(layer.attention, rows)


def _at(spot: _Spot) -> Any:
    return getattr(*spot)


def _replace(spot: _Spot, layer: Any) -> list[tf.Variable]:
    setattr(*spot, layer)
    return list(layer.own)
