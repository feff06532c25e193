"""Networks whose weights are arguments: shared by all tasks, or "fast" weights, one set per task.

A shared weight has two dimensions; a fast weight has the task as an additional first dimension. One
batched matrix product handles both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Weights = dict[str, tf.Tensor]
HEAD = ("head/kernel", "head/bias")


class TaskNetwork(tf.Module):
    """An embedding that all tasks share, dense layers, and a linear head with one output.

    Args:
        width: f, the width of the embedding.
        hidden: widths of the dense layers; none for a linear model.
        embed: maps inputs of any structure to float32 [T, N, f]; by default the identity. Only the
            outer loop trains its variables.
        bias: whether the layers and the head have a bias.
        seed: seed of the initial kernels (He initialisation).

    Raises:
        ValueError: if a width is below 1.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int] = (),
        embed: Callable[[Any], tf.Tensor] | None = None,
        bias: bool = True,
        seed: int = 0,
    ):
        super().__init__(name="task_network")
        if width < 1 or any(units < 1 for units in hidden):
            raise ValueError(f"`width`={width}, `hidden`={tuple(hidden)}; use widths of 1 or more.")
        self.embed = embed
        self.layers = len(hidden)
        self.fast: dict[str, tf.Variable] = {}
        before = width
        for place, units in enumerate([*hidden, 1]):
            name = "head" if place == self.layers else f"layer_{place}"
            scale = (2.0 / before) ** 0.5
            start = tf.random.stateless_normal([before, units], [seed, place], stddev=scale)
            self.fast[f"{name}/kernel"] = tf.Variable(start, name=f"{name}_kernel")
            if bias:
                self.fast[f"{name}/bias"] = tf.Variable(tf.zeros([1, units]), name=f"{name}_bias")
            before = units
        self.head_width = hidden[-1] if hidden else width

    def weights(self) -> Weights:
        """Returns the initial values of the weights that an inner loop may change."""
        return {name: tf.convert_to_tensor(variable) for name, variable in self.fast.items()}

    def features(self, weights: Weights, inputs: Any) -> tf.Tensor:
        """Returns the inputs of the head.

        Args:
            weights: each [a, b] or, if fast, [T, a, b].
            inputs: of `embed`, or float32 [T, N, f].

        Returns:
            float32 [T, N, d].
        """
        state = inputs if self.embed is None else self.embed(inputs)
        for place in range(self.layers):
            state = tf.nn.relu(_dense(state, weights, f"layer_{place}"))
        return state

    def predict(self, weights: Weights, inputs: Any) -> tf.Tensor:
        """Returns the predictions, float32 [T, N]; arguments as of `features`."""
        return _dense(self.features(weights, inputs), weights, "head")[:, :, 0]


def _dense(state: tf.Tensor, weights: Weights, name: str) -> tf.Tensor:
    state = tf.matmul(state, weights[f"{name}/kernel"])
    bias = weights.get(f"{name}/bias")
    return state if bias is None else state + bias


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of each row where the mask is 1, float32 [T]; 0 for an empty row.

    Args:
        values: float32 [T, N].
        mask: float32 [T, N], 0 or 1.
    """
    return tf.reduce_sum(values * mask, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)


def squared_error(labels: tf.Tensor, predictions: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared error of each task, float32 [T]; all arguments float32 [T, N]."""
    return masked_mean(tf.square(predictions - labels), mask)


def cross_entropy(labels: tf.Tensor, predictions: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the binary cross-entropy of logits per task, float32 [T]; labels in [0, 1]."""
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=predictions)
    return masked_mean(losses, mask)
