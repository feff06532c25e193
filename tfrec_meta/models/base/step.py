"""One training step's loss and gradients, by the recipe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import tensorflow as tf

if TYPE_CHECKING:
    from tfrec_meta.models.base.contract import Query
    from tfrec_meta.models.base.trainable import TrainableRecommender

Gradient: TypeAlias = Any  # tf.Tensor or tf.IndexedSlices


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """What of a training recipe shapes a step; `training.TrainingConfig` tells more.

    Args:
        accumulation: batches whose gradients are added up before one update; above 1, each input
            of a step has them as its first dimension.
        l2: penalty, half of it times the square of each weight.
        adversarial_weight: of the loss under the worst small change of the embeddings; 0 for none.
        adversarial_size: length of that change, a row.
        compiled: whether XLA compiles the step, which then needs shapes known beforehand.
    """

    accumulation: int = 1
    l2: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_size: float = 0.0
    compiled: bool = False


def loss_and_gradients(
    model: TrainableRecommender, inputs: Query, options: StepOptions
) -> tuple[tf.Tensor, list[Gradient]]:
    """The mean loss of a step, float32 scalar, and a gradient for each trainable variable.

    In a replica of several, the loss of its part of the batch, and its share of the gradients.
    """
    if options.accumulation == 1:
        parts = [inputs]
    else:
        parts = [{k: v[i] for k, v in inputs.items()} for i in range(options.accumulation)]
    losses, found = [], []
    for number, part in enumerate(parts):
        model.part_of_step = number
        loss, gradients = _of_batch(model, part, options)
        losses.append(loss)
        found.append(gradients)
    gradients = [_mean(list(of_one)) for of_one in zip(*found, strict=True)]
    if options.l2:
        variables = model.trainable_variables
        gradients = [
            penalised(gradient, variable, options.l2)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:  # whose gradients are added up
        gradients = [_scaled(gradient, 1 / replicas) for gradient in gradients]
    return tf.add_n(losses) / len(losses), gradients


def _of_batch(
    model: TrainableRecommender, inputs: Query, options: StepOptions
) -> tuple[tf.Tensor, list[Gradient]]:
    variables = model.trainable_variables

    def differentiated() -> tuple[tf.Tensor, list[Gradient]]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, training=True)
            if model.losses:  # regularisers of layers
                loss += tf.add_n(model.losses)
        found = tape.gradient(loss, variables, unconnected_gradients="zero")
        return loss, found

    loss, gradients = differentiated()
    if not options.adversarial_weight:
        return loss, gradients
    tables = {id(table) for table, _ in model.rows_of_tokens().values() if table.shape.rank == 2}
    undo = [
        disturb(variable, gradient, options.adversarial_size)
        for variable, gradient in zip(variables, gradients, strict=True)
        if id(variable) in tables
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


def disturb(table: tf.Variable, gradient: Gradient, size: float):
    """Moves each row of a table by `size` in the direction in which the loss grows fastest.

    Args:
        table: float32 [rows, d].
        gradient: of the loss; rows without one stay.
        size: length of the change of a row.

    Returns:
        A function that puts the rows back, to the bit.

    Source: He et al., "Adversarial Personalized Ranking for Recommendation" (APR), SIGIR 2018,
    equation 8, with each row's change of one length.
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
    """The gradient with that of a penalty of l2 / 2 times the squares; biases and scales have none.

    Of a table whose gradient is of rows, the rows of the batch alone are penalised.
    """
    if variable.shape.rank < 2:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        gradient = summed_by_row(gradient)
        values = gradient.values + l2 * tf.gather(variable, gradient.indices)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient + l2 * variable


def summed_by_row(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """The same gradient with each row once."""
    rows, place = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, place, tf.shape(rows)[0])
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _mean(gradients: list[Gradient], share: float | None = None) -> Gradient:
    """The sum of gradients of one variable, times `share`; their mean by default."""
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
