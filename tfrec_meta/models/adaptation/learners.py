"""Learners: how a network adapts to a task from its support set, and how the adaptation is trained.

All tasks of a batch adapt together: the fast weights are one tensor with one row per task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import FinitePositiveFloat, NonNegativeInt, check_fields
from tfrec_meta.models.adaptation.networks import (
    HEAD,
    TaskNetwork,
    Weights,
    cross_entropy,
    squared_error,
)

Loss = Literal["squared_error", "cross_entropy"]
_LOSSES = {"squared_error": squared_error, "cross_entropy": cross_entropy}


class Examples(NamedTuple):
    """A support or query set of each task of a batch.

    Attributes:
        inputs: of the network, N examples for each of T tasks.
        labels: float32 [T, N].
        mask: float32 [T, N], 0 for padding.
    """

    inputs: Any
    labels: tf.Tensor
    mask: tf.Tensor


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """The settings of a learner.

    Args:
        inner_steps: gradient steps on the support set.
        inner_rate: their learning rate; the initial one, where it is learned.
        clip_norm: largest norm of the inner gradient of a task.
        loss: "squared_error" for ratings, "cross_entropy" for clicks.
        l2: initial ridge penalty.
    """

    inner_steps: NonNegativeInt = 3
    inner_rate: FinitePositiveFloat = 0.1
    clip_norm: FinitePositiveFloat = 10.0
    loss: Loss = "squared_error"
    l2: FinitePositiveFloat = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


class Learner(tf.Module):
    """The base class of learners: `adapt` to a support set, `meta_gradients` of episodes.

    Args:
        network: the network that adapts.
        config: the settings.

    Attributes:
        name_in_config: the key in `LEARNERS`.
        first_order: whether the outer loop treats the inner gradients as constants.
    """

    name_in_config: ClassVar[str]
    first_order: ClassVar[bool] = False

    def __init__(self, network: TaskNetwork, config: LearnerConfig = LearnerConfig()):
        super().__init__(name=self.name_in_config)
        self.network = network
        self.config = config

    def adapted_names(self) -> list[str]:
        """Returns the names of the weights that the inner loop changes."""
        return list(self.network.fast)

    def learned(self) -> dict[str, tf.Variable]:
        """Returns what the learner learns beside the network, by name."""
        return {}

    def adapt(self, support: Examples) -> Weights:
        """Returns the weights after the inner loop.

        Args:
            support: a task without examples keeps the initial weights (zero-shot).

        Returns:
            Adapted weights are [T, a, b], the others [a, b].
        """
        tasks = tf.shape(support.labels)[0]
        weights = self.network.weights()
        for name in self.adapted_names():
            weights[name] = tf.tile(weights[name][None], [tasks, 1, 1])
        for _ in range(self.config.inner_steps):
            weights |= self._step(weights, support)
        return weights

    def predict(self, support: Examples, inputs: Any) -> tf.Tensor:
        """Returns the predictions for `inputs` after adapting to `support`, float32 [T, N]."""
        return self.network.predict(self.adapt(support), inputs)

    def query_losses(self, support: Examples, query: Examples) -> tf.Tensor:
        """Returns the loss of each query set after adapting to the support set, float32 [T]."""
        return self._losses(self.adapt(support), query)

    def meta_gradients(
        self, support: Examples, query: Examples
    ) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
        """Computes one step of the outer loop.

        Returns:
            The mean query loss, and the gradients in the order of `trainable_variables`.
        """
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.query_losses(support, query))
        return loss, tape.gradient(loss, self.trainable_variables)

    def _losses(self, weights: Weights, examples: Examples) -> tf.Tensor:
        predictions = self.network.predict(weights, examples.inputs)
        return _LOSSES[self.config.loss](examples.labels, predictions, examples.mask)

    def _step(self, weights: Weights, examples: Examples) -> Weights:
        """Returns the adapted weights after one inner step."""
        names = self.adapted_names()
        with tf.GradientTape() as tape:
            own = [weights[name] for name in names]
            tape.watch(own)
            # The gradient of the sum is that of each task, since tasks share no fast weights.
            total = tf.reduce_sum(self._losses(weights, examples))
        gradients = tape.gradient(total, own, unconnected_gradients="zero")
        if self.first_order:
            gradients = [tf.stop_gradient(gradient) for gradient in gradients]
        gradients = clip_by_task_norm(gradients, self.config.clip_norm)
        return {
            name: weight - self._rate(name) * gradient
            for name, weight, gradient in zip(names, own, gradients, strict=True)
        }

    def _rate(self, name: str) -> Any:
        return self.config.inner_rate


class MAML(Learner):
    """Learns the initial weights by second derivatives through the inner steps.

    References:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
        Networks", ICML 2017.
    """

    name_in_config = "maml"


class FOMAML(Learner):
    """MAML without second derivatives (section 5.2 of the paper of MAML)."""

    name_in_config = "fomaml"
    first_order = True


class ANIL(Learner):
    """MAML whose inner loop changes only the head.

    References:
        Raghu et al., "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of
        MAML", ICLR 2020.
    """

    name_in_config = "anil"

    def adapted_names(self) -> list[str]:
        return [name for name in HEAD if name in self.network.fast]


class MetaSGD(Learner):
    """MAML that learns a signed step size for each weight.

    References:
        Li et al., "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017.
    """

    name_in_config = "meta_sgd"

    def __init__(self, network: TaskNetwork, config: LearnerConfig = LearnerConfig()):
        super().__init__(network, config)
        self.rates = {
            name: tf.Variable(tf.fill(weight.shape, config.inner_rate), name="rate")
            for name, weight in network.fast.items()
        }

    def learned(self) -> dict[str, tf.Variable]:
        return {f"rate.{name}": rate for name, rate in self.rates.items()}

    def _rate(self, name: str) -> Any:
        return self.rates[name]


class Reptile(Learner):
    """Moves the initial weights towards the weights of the tasks after steps on all their events.

    The gradient of an adapted weight is its change, (start - end) / (steps * rate), so that any
    outer optimiser can apply it. Shared weights get their first-order gradient.

    References:
        Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018.
    """

    name_in_config = "reptile"
    first_order = True

    def meta_gradients(
        self, support: Examples, query: Examples
    ) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
        """Computes one step; the loss is that of the query set after steps on both sets."""
        both = Examples(
            tf.nest.map_structure(
                lambda one, other: tf.concat([one, other], axis=1), support.inputs, query.inputs
            ),
            tf.concat([support.labels, query.labels], axis=1),
            tf.concat([support.mask, query.mask], axis=1),
        )
        adapted = {name: tf.stop_gradient(weight) for name, weight in self.adapt(both).items()}
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self._losses(adapted, query))
        gradients = tape.gradient(loss, self.trainable_variables)
        way = self.config.inner_rate * max(self.config.inner_steps, 1)
        moved = {
            self.network.fast[name].ref(): (start - tf.reduce_mean(adapted[name], axis=0)) / way
            for name, start in self.network.weights().items()
        }
        return loss, [
            moved.get(variable.ref(), gradient)
            for variable, gradient in zip(self.trainable_variables, gradients, strict=True)
        ]


class RidgeHead(Learner):
    """The head is the ridge regression on the support set, in closed form.

    It minimises sum (y - x·w)² + sum l2 (w - w0)². The initial head w0, which is used without a
    support set, the penalty l2 of each feature and the features are learned.

    References:
        Bertinetto et al., "Meta-Learning with Differentiable Closed-Form Solvers", ICLR 2019
        (R2-D2), there with w0 = 0 and one l2 for all.
    """

    name_in_config = "ridge"

    def __init__(self, network: TaskNetwork, config: LearnerConfig = LearnerConfig()):
        if config.loss != "squared_error":
            raise ValueError(
                f"`loss`={config.loss!r} has no closed form. Use 'squared_error' with 'ridge'."
            )
        super().__init__(network, config)
        self.has_bias = "head/bias" in network.fast
        width = network.head_width + self.has_bias
        self.log_l2 = tf.Variable(tf.fill([width], float(np.log(config.l2))), name="log_l2")

    def adapted_names(self) -> list[str]:
        return [name for name in HEAD if name in self.network.fast]

    def learned(self) -> dict[str, tf.Variable]:
        return {"log_l2": self.log_l2}

    def adapt(self, support: Examples) -> Weights:
        weights = self.network.weights()
        features = self.network.features(weights, support.inputs)
        start = weights["head/kernel"][:, 0]
        if self.has_bias:
            features = tf.concat([features, tf.ones_like(features[:, :, :1])], axis=2)
            start = tf.concat([start, weights["head/bias"][0]], axis=0)
        head = ridge(features, support.labels, support.mask, tf.exp(self.log_l2), start)
        width = self.network.head_width
        weights["head/kernel"] = head[:, :width, None]
        if self.has_bias:
            weights["head/bias"] = head[:, None, width:]
        return weights


LEARNERS: Mapping[str, type[Learner]] = {
    learner.name_in_config: learner for learner in (MAML, FOMAML, ANIL, MetaSGD, Reptile, RidgeHead)
}


def ridge(
    features: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, l2: tf.Tensor, start: tf.Tensor
) -> tf.Tensor:
    """Solves a ridge regression per task, by a differentiable, batched Cholesky factor.

    Args:
        features: float32 [T, N, d].
        labels: float32 [T, N].
        weights: float32 [T, N], of the squared errors; 0 for padding.
        l2: float32 [d], penalties above 0.
        start: float32 [d], the centre of the penalty and the solution without examples.

    Returns:
        float32 [T, d].
    """
    weighted = features * weights[:, :, None]
    system = tf.matmul(weighted, features, transpose_a=True)
    # With a smaller ridge a Cholesky factor may not exist in float32, which fails the whole batch.
    least = 1e-6 * tf.linalg.trace(system)[:, None]
    system = tf.linalg.set_diag(system, tf.linalg.diag_part(system) + tf.maximum(l2, least))
    residual = labels - tf.linalg.matvec(features, start)
    right = tf.einsum("tnd,tn->td", weighted, residual)
    return start + tf.linalg.cholesky_solve(tf.linalg.cholesky(system), right[:, :, None])[:, :, 0]


def clip_by_task_norm(gradients: list[tf.Tensor], clip_norm: float) -> list[tf.Tensor]:
    """Scales the gradients of each task down to a joint norm of at most `clip_norm`.

    Args:
        gradients: float32 [T, a, b] per weight.
        clip_norm: the largest norm.

    Returns:
        The scaled gradients; differentiable also where they are 0.
    """
    squares = tf.add_n([tf.reduce_sum(tf.square(g), axis=[1, 2]) for g in gradients])
    scale = clip_norm * tf.math.rsqrt(tf.maximum(squares, clip_norm**2))
    return [gradient * scale[:, None, None] for gradient in gradients]
