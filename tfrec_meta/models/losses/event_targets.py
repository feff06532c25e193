"""Targets of single events, ratings and clicks: their labels, losses and predictions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.keras import tf_keras

Target = Literal["rating", "click"]
_OBJECTIVES = {"click": Objective.AUC, "rating": Objective.RMSE}


def objective_of(target: str) -> Objective:
    """Returns the objective of a target; NDCG for all but clicks and ratings."""
    return _OBJECTIVES.get(target, Objective.NDCG)


def labels_of(target: str, value: tf.Tensor, threshold: float) -> tf.Tensor:
    """Returns the labels of event values, float32 like `value`.

    A rating is the value itself; a click is 1 where the value is `threshold` or more, else 0.
    """
    if target == "click":
        return tf.cast(value >= threshold, tf.float32)
    return value


def usual_logit(target: str, data: Interactions | StreamedInteractions, threshold: float) -> float:
    """Returns the logit for an unknown user: the mean rating, or the log odds of a click.

    One click and one event without a click are added, so that the odds are finite.
    """
    total = 0.0
    for part in data.parts():
        value = part.events["value"].to_numpy()
        total += float((value >= threshold).sum() if target == "click" else value.sum())
    if target == "click":
        return float(np.log((total + 1.0) / (len(data) - total + 1.0)))
    return total / len(data)


def prediction_of(target: str, logits: tf.Tensor) -> tf.Tensor:
    """Returns ratings, which are the logits themselves, or the probabilities of a click."""
    return tf.sigmoid(logits) if target == "click" else logits


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
