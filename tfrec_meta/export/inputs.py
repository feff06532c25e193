"""Inputs of signatures inside the graph: their checks, their defaults, and reading tf.Examples."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfrec_meta.export import signatures as names
from tfrec_meta.features.graph import missing_value, raw_default, raw_dtype, raw_width
from tfrec_meta.features.kinds import Feature

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of a signature.

    Args:
        dtype: dtype of the tensor.
        width: the second dimension of the tensor; None for a tensor of shape [B].
        default: the value of one row where a request leaves the input out, of shape [1] or
            [1, width]; None for a required input.
    """

    dtype: tf.DType
    width: int | None = None
    default: tf.Tensor | None = None


def padded_input(width: int) -> Input:
    """Returns an optional string input of this width whose default is all padding."""
    return Input(tf.string, width, tf.constant("", tf.string, shape=[1, width]))


def feature_input(feature: Feature) -> Input:
    """Returns the optional input that carries the raw values of a feature."""
    return Input(raw_dtype(feature), raw_width(feature), raw_default(feature))


def signature_function(
    body: Callable[[Tensors], Tensors], inputs: Mapping[str, Input]
) -> Callable[..., Tensors]:
    """Returns a tf.function whose arguments are the inputs, for `tf.saved_model.save`.

    Args:
        body: computes the outputs from the inputs, after `check_inputs`.
        inputs: the inputs by name; a required one comes first.
    """

    def signature(*args: tf.Tensor) -> Tensors:
        return body(check_inputs(dict(zip(inputs, args, strict=True)), inputs))

    signature.__name__ = body.__name__.lstrip("_")
    # tf.function reads names and defaults from here; they become `SignatureDef.defaults`.
    signature.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=inspect.Parameter.empty if spec.default is None else spec.default,
            )
            for name, spec in inputs.items()
        ]
    )
    # The rank is unknown on purpose. With the rank in the TensorSpec, TensorFlow removes the checks
    # of `check_inputs` as constants, and the error that a caller gets does not name the input.
    specs = [tf.TensorSpec(None, spec.dtype, name=name) for name, spec in inputs.items()]
    return tf.function(signature, input_signature=specs)


def check_inputs(raw: Tensors, inputs: Mapping[str, Input]) -> Tensors:
    """Checks rank, width and number of rows, and repeats the single row of an optional input.

    Values are not checked: an invalid row would fail the whole batch that it is part of.

    Args:
        raw: the tensors that came with the request, defaults included.
        inputs: the inputs by name; the first one sets the number of rows.

    Returns:
        The tensors, each with the same number of rows.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, with the name of the wrong input.
    """
    checked: Tensors = {}
    for name, spec in inputs.items():
        tensor = raw[name]
        shape = tf.shape(tensor)
        rank = 1 if spec.width is None else 2
        wanted = "[B]" if spec.width is None else f"[B, {spec.width}]"
        fits = tf.equal(tf.size(shape), rank)
        if spec.width is not None:
            last = tf.reduce_sum(shape[-1:])  # a scalar has no dimension: the sum is 0
            fits = tf.logical_and(fits, tf.equal(last, spec.width))
        message = [f"`{name}` has the wrong shape; expected {wanted}, got", shape]
        with tf.control_dependencies([tf.debugging.Assert(fits, message)]):
            # Not `identity` and `ensure_shape`: once optimised, they fail before the assertion.
            checked[name] = tf.reshape(tensor, [-1] if rank == 1 else [-1, spec.width])
    rows = tf.shape(checked[next(iter(inputs))])[0]
    for name, spec in inputs.items():
        own = tf.shape(checked[name])[0]
        single = tf.logical_and(spec.default is not None, tf.equal(own, 1))
        message = [f"`{name}` must have as many rows as the other inputs, or one; it has", own]
        agrees = tf.debugging.Assert(tf.logical_or(single, tf.equal(own, rows)), message)
        with tf.control_dependencies([agrees]):
            times = tf.where(single, rows, 1)
        multiples = tf.stack([times] if spec.width is None else [times, 1])
        checked[name] = tf.tile(checked[name], multiples)
    return checked


def parse_examples(examples: tf.Tensor, inputs: Mapping[str, Input]) -> Tensors:
    """Reads inputs from serialised tf.Examples; a missing feature gets its default.

    A history of any length is cut to its latest items. Other lists must fit their width.
    """
    features: dict[str, Any] = {}
    for name, spec in inputs.items():
        blank = missing_value(spec.dtype)
        if spec.width is None:
            features[name] = tf.io.FixedLenFeature([], spec.dtype, blank)
        elif spec.dtype == tf.string:
            features[name] = tf.io.FixedLenSequenceFeature(
                [], spec.dtype, allow_missing=True, default_value=""
            )
        else:
            features[name] = tf.io.FixedLenFeature([spec.width], spec.dtype, [blank] * spec.width)
    parsed = tf.io.parse_example(examples, features)
    for name, spec in inputs.items():
        if spec.width is not None and spec.dtype == tf.string:
            parsed[name] = fit_width(parsed[name], spec.width, latest=name == names.HISTORY)
    return parsed


def fit_width(tokens: tf.Tensor, width: int, latest: bool) -> tf.Tensor:
    """Pads or cuts each row of a string tensor to a width.

    Args:
        tokens: string [B, w].
        width: the new width; "" pads on the right.
        latest: whether a longer row keeps its last tokens instead of its first. The last tokens end
            with the last one that is not "": "" may also stand between others.
    """
    padded = tf.pad(tokens, [[0, 0], [0, width]], constant_values="")
    if latest:
        positions = tf.range(1, tf.shape(tokens)[1] + 1)
        # The added 0 is for a batch without any token.
        ends = tf.pad(tf.where(tokens != "", positions, 0), [[0, 0], [1, 0]])
        first = tf.maximum(tf.reduce_max(ends, axis=1) - width, 0)[:, None]
        return tf.gather(padded, first + tf.range(width)[None, :], batch_dims=1)
    return tf.ensure_shape(padded[:, :width], [None, width])
