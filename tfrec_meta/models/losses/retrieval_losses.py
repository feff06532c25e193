"""Losses of retrieval: one chosen candidate per row, among others.

All take the logit of the chosen candidate of each row, float32 [B], and the logits of the other
candidates, float32 [B, C], and return float32 [B]. A logit below -1e30 is masked: the candidate is
no negative.
"""

from __future__ import annotations

import tensorflow as tf

MASKED = -2e30


def softmax(chosen: tf.Tensor, others: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Returns the cross-entropy of the chosen candidate among all.

    Args:
        chosen: see above.
        others: see above.
        smoothing: share of the label that is spread evenly over all candidates (Szegedy et al.,
            "Rethinking the Inception Architecture", CVPR 2016, section 7).
    """
    # Not reduce_logsumexp, which reads the logits twice as often.
    highest = tf.stop_gradient(tf.maximum(tf.reduce_max(others, axis=1), chosen))
    rest = tf.reduce_sum(tf.exp(others - highest[:, None]), axis=1)
    # Without `highest`, so that a small loss keeps its digits next to large logits.
    above = tf.math.log(tf.exp(chosen - highest) + rest)
    loss = above + (highest - chosen)
    if not smoothing:
        return loss
    negatives = is_allowed(others)
    count = tf.reduce_sum(tf.cast(negatives, others.dtype), axis=1)
    mean = (chosen + tf.reduce_sum(tf.where(negatives, others, 0.0), axis=1)) / (1.0 + count)
    return (1.0 - smoothing) * loss + smoothing * (above + highest - mean)


def softmax_negative(known: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns -log(1 - p) for the softmax probability p of a known negative; 0 without others.

    Args:
        known: float32 [B], the logits of the known negatives.
        others: see above.

    References:
        Welleck et al., "Neural Text Generation with Unlikelihood Training", ICLR 2020, equation 4.
    """
    # 1 - p = S / (exp(known) + S), where S is the sum of the exponentials of the others.
    there = tf.reduce_any(is_allowed(others), axis=1)
    rest = tf.where(there, tf.reduce_logsumexp(others, axis=1), 0.0)
    return tf.where(there, tf.math.softplus(known - rest), 0.0)


def bpr_negative(known: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns the mean of -log sigmoid(other - known) over the others, for known negatives."""
    return _mean(tf.math.softplus(known[:, None] - others), is_allowed(others))


def bpr(chosen: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns the mean of -log sigmoid(chosen - other) over the others.

    References:
        Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    return _mean(tf.math.softplus(others - chosen[:, None]), is_allowed(others))


def binary_cross_entropy(
    chosen: tf.Tensor, others: tf.Tensor, beta: tf.Tensor | float = 1.0
) -> tf.Tensor:
    """Returns the binary cross-entropy, with the chosen probability to the power of beta.

    Args:
        chosen: see above.
        others: see above.
        beta: in (0, 1]; below 1 it corrects the effect of sampled negatives on the probabilities,
            see `calibrated_beta`.

    References:
        Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained
        with Negative Sampling" (gBCE), RecSys 2023, equation 9.
    """
    negatives = is_allowed(others)
    below = tf.reduce_sum(tf.where(negatives, tf.math.softplus(others), 0.0), axis=1)
    count = tf.reduce_sum(tf.cast(negatives, others.dtype), axis=1)
    return (beta * tf.math.softplus(-chosen) + below) / (1.0 + count)


def calibrated_beta(sampled: tf.Tensor, t: float) -> tf.Tensor:
    """Returns the exponent beta of gBCE.

    Args:
        sampled: float32, share of all negatives that are sampled for a row, in (0, 1].
        t: 0 for plain binary cross-entropy, 1 for probabilities as with all negatives.

    References:
        As for `binary_cross_entropy`, equation 10.
    """
    return sampled * (t * (1.0 - 1.0 / sampled) + 1.0 / sampled)


def cosine_contrastive(
    chosen: tf.Tensor, others: tf.Tensor, margin: float, weight: float
) -> tf.Tensor:
    """Pulls the chosen candidate to cosine 1 and pushes the others below a margin.

    Args:
        chosen: cosines, in [-1, 1].
        others: cosines, or masked.
        margin: negatives below it have no loss.
        weight: weight of the mean of the negatives; the chosen candidate has weight 1.

    References:
        Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering" (CCL), CIKM
        2021, equation 2.
    """
    near = _mean(tf.nn.relu(others - margin), is_allowed(others))
    return 1.0 - chosen + weight * near


def is_allowed(others: tf.Tensor) -> tf.Tensor:
    """Returns bool [B, C]: False where a candidate is masked."""
    return others > MASKED / 2


def _mean(values: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """The mean of the allowed values of each row; 0 without any."""
    total = tf.reduce_sum(tf.where(allowed, values, 0.0), axis=1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(allowed, values.dtype), axis=1))
