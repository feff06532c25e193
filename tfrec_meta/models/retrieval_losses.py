"""Losses of retrieval: one chosen candidate a row, among others.

All take labels float32 [B, C], 1 for the chosen candidate and 0 for the others, and logits float32
[B, C]; a candidate whose logit is below -1e30 is masked: it is no negative. They give float32 [B].
"""

from __future__ import annotations

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)

import tensorflow as tf

MASKED = -1e30


def softmax(labels: tf.Tensor, logits: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Cross-entropy of the chosen candidate among all.

    Args:
        labels: see above.
        logits: see above.
        smoothing: share of the label that is spread over all candidates alike (Szegedy et al.,
            "Rethinking the Inception Architecture", CVPR 2016, section 7).
    """
    log_sum = tf.reduce_logsumexp(logits, axis=1)
    chosen = log_sum - chosen_logit(labels, logits)
    if not smoothing:
        return chosen
    allowed = is_allowed(logits)
    every = log_sum - _mean(logits, allowed)
    return (1.0 - smoothing) * chosen + smoothing * every


def bpr(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """-log sigmoid of how far the chosen candidate is above another, the mean over the others.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    below = tf.math.softplus(logits - chosen_logit(labels, logits)[:, None])
    return _mean(below, _negatives(labels, logits))


def binary_cross_entropy(
    labels: tf.Tensor, logits: tf.Tensor, beta: tf.Tensor | float = 1.0
) -> tf.Tensor:
    """Binary cross-entropy of all candidates, the chosen one's probability to the power of beta.

    Args:
        labels: see above.
        logits: see above.
        beta: in (0, 1]; below 1 it undoes what sampled negatives do to the probabilities:
            `calibrated_beta`.

    Source: Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation
    Trained with Negative Sampling" (gBCE), RecSys 2023, equation 9.
    """
    negatives = _negatives(labels, logits)
    chosen = beta * tf.math.softplus(-chosen_logit(labels, logits))
    others = tf.reduce_sum(tf.where(negatives, tf.math.softplus(logits), 0.0), axis=1)
    count = tf.reduce_sum(tf.cast(negatives, logits.dtype), axis=1)
    return (chosen + others) / (1.0 + count)


def calibrated_beta(sampled: tf.Tensor, t: float) -> tf.Tensor:
    """The power of gBCE.

    Args:
        sampled: float32, share of all negatives that a row is compared with, in (0, 1].
        t: 0 for plain binary cross-entropy, 1 for probabilities as if all negatives were there.

    Source: as for `binary_cross_entropy`, equation 10.
    """
    return sampled * (t * (1.0 - 1.0 / sampled) + 1.0 / sampled)


def cosine_contrastive(
    labels: tf.Tensor, cosines: tf.Tensor, margin: float, weight: float
) -> tf.Tensor:
    """Pulls the chosen candidate to cosine 1, and pushes the others below a margin.

    Args:
        labels: see above.
        cosines: as logits, in [-1, 1].
        margin: a negative below it is far enough.
        weight: of the negatives' mean, beside 1 of the chosen candidate.

    Source: Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering" (CCL),
    CIKM 2021, equation 2.
    """
    near = _mean(tf.nn.relu(cosines - margin), _negatives(labels, cosines))
    return 1.0 - chosen_logit(labels, cosines) + weight * near


def chosen_logit(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The logit of each row's chosen candidate, float32 [B]."""
    return tf.reduce_sum(tf.where(labels > 0, logits, 0.0), axis=1)


def is_allowed(logits: tf.Tensor) -> tf.Tensor:
    """bool [B, C]: False where a candidate is masked."""
    return logits > MASKED


def _negatives(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return (labels == 0) & is_allowed(logits)


def _mean(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """The mean of each row's chosen values, 0 without any."""
    total = tf.reduce_sum(tf.where(chosen, values, 0.0), axis=1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(chosen, values.dtype), axis=1))
