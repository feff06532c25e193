"""Targets of single events, ratings and clicks: their labels, losses and predictions.

A model learns ratings in units of their spread, as differences from their mean, so that it learns
equally well in any unit. The mean and the spread are a part of the model (its "rating scale"), and
its predictions are in the unit of the data.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.keras import tf_keras

_LEAST_SPREAD = 1e-6  # relative to the mean; less is rounding of float32
_OBJECTIVES = {"click": Objective.AUC, "rating": Objective.RMSE}


def objective_of(target: str) -> Objective:
    """Returns the objective of a target; NDCG for all but clicks and ratings."""
    return _OBJECTIVES.get(target, Objective.NDCG)


def rating_scale(data: Interactions | StreamedInteractions) -> np.ndarray:
    """Returns the mean and the spread of the ratings, float32 [2].

    The spread is the standard deviation. For equal ratings, it is their size, or 1 for zeros.

    Args:
        data: at least one event.
    """
    count, mean, squares = 0, 0.0, 0.0
    for part in data.parts():
        value = part.events["value"].to_numpy().astype(np.float64)
        if not len(value):
            continue
        # Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances"
        # (1979): the difference of two sums of squares would lose the digits of large means.
        off = float(value.mean()) - mean
        squares += float(np.square(value - value.mean()).sum())
        squares += off**2 * count * len(value) / (count + len(value))
        mean += off * len(value) / (count + len(value))
        count += len(value)
    spread = float(np.sqrt(squares / max(count, 1)))
    if spread <= _LEAST_SPREAD * abs(mean):
        spread = abs(mean) or 1.0
    return np.array([mean, spread], np.float32)


def observed(target: str, value: np.ndarray, threshold: float) -> np.ndarray:
    """Returns what predictions of a target are compared with: the values, or bools for clicks.

    Args:
        target: "rating" or "click".
        value: of events.
        threshold: of a click.
    """
    return value >= threshold if target == "click" else value


def labels_of(
    target: str, value: tf.Tensor, threshold: float, scale: tf.Tensor | np.ndarray
) -> tf.Tensor:
    """Returns the labels of event values, float32 like `value`.

    Args:
        target: "rating" or "click".
        value: float32, of events.
        threshold: of a click: its label is 1 where the value is `threshold` or more, else 0.
        scale: float32 [2], see `rating_scale`. The label of a rating is its difference from the
            mean, divided by the spread.
    """
    if target == "click":
        return tf.cast(value >= threshold, tf.float32)
    return (value - scale[0]) / scale[1]


def usual_logit(target: str, data: Interactions | StreamedInteractions, threshold: float) -> float:
    """Returns the logit for an unknown user: 0 for the mean rating, or the log odds of a click.

    One click and one event without a click are added, so that the odds are finite.
    """
    if target == "rating":
        return 0.0
    clicks = sum(
        float((part.events["value"].to_numpy() >= threshold).sum()) for part in data.parts()
    )
    return float(np.log((clicks + 1.0) / (len(data) - clicks + 1.0)))


def prediction_of(target: str, logits: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Returns ratings in the unit of the data, or the probabilities of a click, like `logits`.

    Args:
        target: "rating" or "click".
        logits: float32, of the labels that `labels_of` returns.
        scale: float32 [2], see `rating_scale`.
    """
    return tf.sigmoid(logits) if target == "click" else rating_of(logits, scale)


def rating_of(logits: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Returns ratings in the unit of the data; see `prediction_of`."""
    return scale[0] + scale[1] * logits


def ranking_task(target: str) -> tfrs.tasks.Ranking:
    """Returns the task of a target: squared error of ratings, or log loss of clicks.

    For labels and logits [B, 1], its loss is float32 [B].
    """
    # Within a `tf.distribute` strategy, Keras does not allow its own mean.
    each = tf_keras.losses.Reduction.NONE
    if target == "click":
        loss = tf_keras.losses.BinaryCrossentropy(from_logits=True, reduction=each)
    else:
        loss = tf_keras.losses.MeanSquaredError(reduction=each)
    return tfrs.tasks.Ranking(loss=loss)
