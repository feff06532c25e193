"""What of an event is to be predicted, its rating or whether it is a click: labels and losses."""

from __future__ import annotations

from typing import Literal

from tfrec_meta.keras import tf_keras

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

Target = Literal["rating", "click"]
# Of models that are judged by the order of the whole catalogue, by a click, or by a rating.
NDCG, AUC, RMSE = "val_ndcg@10", "val_auc", "val_rmse"


def labels_of(target: str, value: tf.Tensor, threshold: float) -> tf.Tensor:
    """float32 like `value`: the value itself, or 1 for a click, which is one of `threshold` up."""
    if target == "click":
        return tf.cast(value >= threshold, tf.float32)
    return value


def usual_logit(target: str, value: np.ndarray, threshold: float) -> float:
    """The logit of someone of whom nothing is known: the mean rating, or the log odds of a click.

    One click more and one less: a click that everyone makes has finite odds.
    """
    if target == "click":
        clicks = float((value >= threshold).sum()) + 1.0
        return float(np.log(clicks / (len(value) + 2.0 - clicks)))
    return float(value.mean())


def prediction_of(target: str, logits: tf.Tensor) -> tf.Tensor:
    """What the logits mean: a rating is one itself, of a click they are the log odds."""
    return tf.sigmoid(logits) if target == "click" else logits


def ranking_task(target: str) -> tfrs.tasks.Ranking:
    """Squared error of ratings, log loss of clicks; for labels and logits float32 [B, 1]."""
    mean = tf_keras.losses.Reduction.SUM_OVER_BATCH_SIZE
    if target == "click":
        loss = tf_keras.losses.BinaryCrossentropy(from_logits=True, reduction=mean)
    else:
        loss = tf_keras.losses.MeanSquaredError(reduction=mean)
    return tfrs.tasks.Ranking(loss=loss)
