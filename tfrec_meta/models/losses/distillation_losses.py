"""Losses of distillation, as functions of arrays.

`soft_labels` and `top_items` compare scores of the catalogue, row by row. `cosine` and `squared`
compare a student's vector with the teacher's, projected to one width. `distances`, `angles` and
`value_relations` compare relations among the vectors of a batch, so that the widths may differ.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec_meta.models.losses.retrieval_losses import MASKED, is_allowed

_ANGLES_OF = 64  # vectors at most; the number of angles grows with their cube


def soft_labels(logits: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Returns the Kullback-Leibler divergence of the softmaxes, teacher to student, float32 [B].

    Both logits are already divided by their temperature.

    Args:
        logits: float32 [B, C], the student's logits of all candidates, the chosen one included. A
            masked candidate is masked for the teacher, too.
        teacher: float32 [B, C], the teacher's logits.

    References:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """
    said = tf.nn.log_softmax(tf.where(is_allowed(logits), teacher, MASKED))
    return tf.reduce_sum(tf.exp(said) * (said - tf.nn.log_softmax(logits)), axis=1)


def top_items(logits: tf.Tensor, teacher: tf.Tensor, k: int) -> tf.Tensor:
    """Returns the cross-entropy of the teacher's k best items, weighted by rank, float32 [B].

    The weight of rank r is proportional to exp(-r / k), with r from 1; the weights sum to 1.

    Args:
        logits: as for `soft_labels`.
        teacher: as for `soft_labels`.
        k: at most the number of candidates; a masked candidate among them is ignored.

    References:
        Tang and Wang, "Ranking Distillation: Learning Compact Ranking Models With High Performance
        for Recommender System", KDD 2018: the weights are those of its equation 5 with lambda = k;
        instead of one sigmoid per item, the softmax over all items, as for the other labels.
    """
    k = tf.minimum(k, tf.shape(logits)[1])
    best = tf.math.top_k(tf.where(is_allowed(logits), teacher, MASKED), k)
    weights = tf.nn.softmax(-tf.range(k, dtype=tf.float32) / tf.cast(k, tf.float32))
    weights = tf.where(is_allowed(best.values), weights[None, :], 0.0)
    chances = tf.gather(tf.nn.log_softmax(logits), best.indices, batch_dims=1)
    total = tf.reduce_sum(weights, axis=1)
    return -tf.math.divide_no_nan(tf.reduce_sum(weights * chances, axis=1), total)


def cosine(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Returns 1 - cosine, float32 [n]; 1 where one of the two is zero.

    Args:
        student: float32 [n, d].
        teacher: float32 [n, d].

    References:
        Sanh et al., "DistilBERT, a distilled version of BERT", 2019, section 3.
    """
    lengths = tf.norm(student, axis=1) * tf.norm(teacher, axis=1)
    return 1.0 - tf.math.divide_no_nan(tf.reduce_sum(student * teacher, axis=1), lengths)


def squared(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared difference of the entries, float32 [n]; arguments as of `cosine`.

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, equation 3.
    """
    return tf.reduce_mean(tf.math.squared_difference(student, teacher), axis=1)


def distances(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Returns the Huber loss of the distances of all pairs, divided by their mean; float32 scalar.

    Args:
        student: float32 [n, d].
        teacher: float32 [n, D].

    References:
        Park et al., "Relational Knowledge Distillation" (RKD-D), CVPR 2019, equations 4 to 6.
    """
    return _huber(_relative_distances(student), _relative_distances(teacher))


def angles(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Returns the Huber loss of the cosines of all angles of three vectors; float32 scalar.

    Only the first 64 vectors are used, since time grows with the cube of their number.

    Args:
        student: float32 [n, d].
        teacher: float32 [n, D].

    References:
        Park et al., as for `distances` (RKD-A), equations 7 and 8.
    """
    return _huber(_cosines_of_triples(student), _cosines_of_triples(teacher))


def value_relations(
    student: tf.Tensor, teacher: tf.Tensor, counted: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns the mean KL divergence of the rows of softmax(V V' / sqrt(d)); float32 scalar.

    Args:
        student: float32 [..., n, d]: the values of n tokens, or the vectors of n items.
        teacher: float32 [..., n, D].
        counted: bool, broadcast to [..., n]; False for padding. None if all count.

    References:
        Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
        Pre-Trained Transformers", NeurIPS 2020, equations 8 to 10.
    """
    said, own = _log_relations(teacher, counted), _log_relations(student, counted)
    each = tf.reduce_sum(tf.exp(said) * (said - own), axis=-1)
    if counted is None:
        return tf.reduce_mean(each)
    weights = tf.broadcast_to(tf.cast(counted, each.dtype), tf.shape(each))
    return tf.math.divide_no_nan(tf.reduce_sum(each * weights), tf.reduce_sum(weights))


def _log_relations(values: tf.Tensor, counted: tf.Tensor | None) -> tf.Tensor:
    scale = tf.math.rsqrt(tf.cast(tf.shape(values)[-1], values.dtype))
    products = tf.matmul(values, values, transpose_b=True) * scale
    if counted is not None:
        products = tf.where(counted[..., None, :], products, MASKED)
    return tf.nn.log_softmax(products)


def _relative_distances(vectors: tf.Tensor) -> tf.Tensor:
    """float32 [n, n], divided by the mean of the distances that are not 0."""
    lengths = tf.reduce_sum(tf.square(vectors), axis=1)
    product = tf.matmul(vectors, vectors, transpose_b=True)
    square = tf.maximum(lengths[:, None] + lengths[None, :] - 2.0 * product, 0.0)
    apart = square > 1e-12
    # The gradient of a square root is infinite at 0; one `where` alone would give NaN.
    found = tf.where(apart, tf.sqrt(tf.where(apart, square, 1.0)), 0.0)
    count = tf.reduce_sum(tf.cast(apart, found.dtype))
    return tf.math.divide_no_nan(found, tf.math.divide_no_nan(tf.reduce_sum(found), count))


def _cosines_of_triples(vectors: tf.Tensor) -> tf.Tensor:
    """float32 [n, n, n]: at i, j, k the cosine of the angle at j between i and k."""
    vectors = vectors[:_ANGLES_OF]
    away = tf.math.l2_normalize(vectors[None, :, :] - vectors[:, None, :], axis=2, epsilon=1e-12)
    return tf.einsum("jid,jkd->ijk", away, away)


def _huber(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    off = tf.abs(student - teacher)
    return tf.reduce_mean(tf.where(off < 1.0, 0.5 * tf.square(off), off - 0.5))
