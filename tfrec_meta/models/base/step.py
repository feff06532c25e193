"""The loss and the gradients of one training step, as the training recipe shapes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

Gradient: TypeAlias = Any  # tf.Tensor or tf.IndexedSlices
PartLoss: TypeAlias = Callable[[int], tf.Tensor]
"""The loss of one part of a step, float32 scalar, by the number of the part."""


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """The part of a training recipe that shapes a step; see `training.TrainingConfig`.

    Args:
        accumulation: batches whose gradients are averaged before one update. Above 1, each input of
            a step has the batches as its first dimension.
        l2: penalty; half of it times the square of each weight is added to the loss.
        adversarial_weight: weight of the loss under the worst small change of the embeddings; 0 for
            no such loss.
        adversarial_size: length of that change of each embedding row.
        compiled: whether XLA compiles the step, which requires static shapes.
    """

    accumulation: int = 1
    l2: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_size: float = 0.0
    compiled: bool = False


def loss_and_gradients(
    part_loss: PartLoss,
    variables: Sequence[tf.Variable],
    tables: Collection[tf.Variable],
    options: StepOptions,
) -> tuple[tf.Tensor, list[Gradient]]:
    """Computes the mean loss of a step and its gradients.

    In a distributed training, both are those of this replica: the loss of its part of the batch,
    and its share of the gradients.

    Args:
        part_loss: the loss of each of `options.accumulation` parts.
        variables: the trainable variables.
        tables: which of these are embedding tables, which `adversarial_weight` disturbs.
        options: the recipe.

    Returns:
        The loss, float32 scalar, and one gradient per variable.
    """
    losses, found = [], []
    for number in range(options.accumulation):
        loss, gradients = _of_part(part_loss, number, variables, tables, options)
        losses.append(loss)
        found.append(gradients)
    gradients = [_mean(list(of_one)) for of_one in zip(*found, strict=True)]
    if options.l2:
        gradients = [
            penalised(gradient, variable, options.l2)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:  # the gradients of the replicas are summed
        gradients = [_scaled(gradient, 1 / replicas) for gradient in gradients]
    return tf.add_n(losses) / len(losses), gradients


def _of_part(
    part_loss: PartLoss,
    number: int,
    variables: Sequence[tf.Variable],
    tables: Collection[tf.Variable],
    options: StepOptions,
) -> tuple[tf.Tensor, list[Gradient]]:
    def differentiated() -> tuple[tf.Tensor, list[Gradient]]:
        with tf.GradientTape() as tape:
            loss = part_loss(number)
        return loss, tape.gradient(loss, variables, unconnected_gradients="zero")

    loss, gradients = differentiated()
    if not options.adversarial_weight:
        return loss, gradients
    disturbable = {id(table) for table in tables}
    undo = [
        disturb(variable, gradient, options.adversarial_size)
        for variable, gradient in zip(variables, gradients, strict=True)
        if id(variable) in disturbable
    ]
    disturbed, further = differentiated()
    for restore in undo:
        restore()
    weight = options.adversarial_weight
    both = [
        _mean([one, _scaled(other, weight)], share=1.0)
        for one, other in zip(gradients, further, strict=True)
    ]
    return loss + weight * disturbed, both


def disturb(table: tf.Variable, gradient: Gradient, size: float) -> Callable[[], Any]:
    """Moves each row of a table by `size` in the direction in which the loss grows fastest.

    Args:
        table: float32 [rows, d].
        gradient: gradient of the loss; rows without one stay unchanged.
        size: length of the change of a row.

    Returns:
        A function that restores the rows bit by bit.

    References:
        He et al., "Adversarial Personalized Ranking for Recommendation" (APR), SIGIR 2018,
        equation 8; here the change of each row has the same length.
    """
    if isinstance(gradient, tf.IndexedSlices):
        gradient = summed_by_row(gradient)
        before = tf.gather(table, gradient.indices)
        after = before + size * tf.math.l2_normalize(gradient.values, axis=1)
        table.scatter_update(tf.IndexedSlices(after, gradient.indices))
        return lambda: table.scatter_update(tf.IndexedSlices(before, gradient.indices))
    before = tf.identity(table)
    table.assign(before + size * tf.math.l2_normalize(gradient, axis=1))
    return lambda: table.assign(before)


def penalised(gradient: Gradient, variable: tf.Variable, l2: float) -> Gradient:
    """Adds the gradient of a penalty of l2 / 2 times the squared weights.

    Biases and scales, which have one dimension, are not penalised. Of a table with a sparse
    gradient, only the rows of the batch are penalised.
    """
    if variable.shape.rank < 2:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        gradient = summed_by_row(gradient)
        values = gradient.values + l2 * tf.gather(variable, gradient.indices)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient + l2 * variable


def summed_by_row(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Returns the same sparse gradient with each row once."""
    rows, place = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, place, tf.shape(rows)[0])
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _mean(gradients: list[Gradient], share: float | None = None) -> Gradient:
    """The sum of several gradients of one variable, times `share`; by default their mean."""
    share = 1 / len(gradients) if share is None else share
    if len(gradients) == 1:
        return gradients[0]
    if all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients):
        return tf.IndexedSlices(
            share * tf.concat([gradient.values for gradient in gradients], axis=0),
            tf.concat([gradient.indices for gradient in gradients], axis=0),
            gradients[0].dense_shape,
        )
    return share * tf.add_n([tf.convert_to_tensor(gradient) for gradient in gradients])


def _scaled(gradient: Gradient, weight: float) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(weight * gradient.values, gradient.indices, gradient.dense_shape)
    return weight * gradient
