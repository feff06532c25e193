"""What of an event is to be predicted, its rating or whether it is a click: labels and losses."""

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
    """float32 like `value`: the value itself, or 1 for a click, which is one of `threshold` up."""
    if target == "click":
        return tf.cast(value >= threshold, tf.float32)
    return value


def usual_logit(target: str, data: Interactions | StreamedInteractions, threshold: float) -> float:
    """The logit of someone of whom nothing is known: the mean rating, or the log odds of a click.

    One click more and one less: a click that everyone makes has finite odds.
    """
    total = 0.0
    for part in data.parts():
        value = part.events["value"].to_numpy()
        total += float((value >= threshold).sum() if target == "click" else value.sum())
    if target == "click":
        return float(np.log((total + 1.0) / (len(data) - total + 1.0)))
    return total / len(data)


def prediction_of(target: str, logits: tf.Tensor) -> tf.Tensor:
    """What the logits mean: a rating is one itself, of a click they are the log odds."""
    return tf.sigmoid(logits) if target == "click" else logits


def ranking_task(target: str) -> tfrs.tasks.Ranking:
    """Squared error of ratings, log loss of clicks: float32 [B], for labels and logits [B, 1]."""
    # Keras refuses to take the mean itself within a `tf.distribute` strategy.
    each = tf_keras.losses.Reduction.NONE
    if target == "click":
        loss = tf_keras.losses.BinaryCrossentropy(from_logits=True, reduction=each)
    else:
        loss = tf_keras.losses.MeanSquaredError(reduction=each)
    return tfrs.tasks.Ranking(loss=loss)
