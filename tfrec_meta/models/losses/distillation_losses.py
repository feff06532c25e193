"""What a student learns from a teacher: losses of distillation, each a function of arrays.

Of scores: `soft_labels` and `top_items` compare the catalogue's, row by row. Of vectors: `cosine`
and `squared` compare a student's vector with the teacher's, brought to one width by a projection;
`distances`, `angles` and `value_relations` compare how the vectors of a batch lie to each other, so
that the widths may differ.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec_meta.models.losses.retrieval_losses import MASKED, is_allowed

_ANGLES_OF = 64  # vectors at most: there are as many angles as triples of them


def soft_labels(logits: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Kullback-Leibler divergence from the teacher's softmax to that of the logits, float32 [B].

    Both are as they are compared: already divided by a temperature, if there is one.

    Args:
        logits: float32 [B, C] of all candidates, the chosen one too; what is masked is so for the
            teacher as well.
        teacher: float32 [B, C], its logits.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """
    said = tf.nn.log_softmax(tf.where(is_allowed(logits), teacher, MASKED))
    return tf.reduce_sum(tf.exp(said) * (said - tf.nn.log_softmax(logits)), axis=1)


def top_items(logits: tf.Tensor, teacher: tf.Tensor, k: int) -> tf.Tensor:
    """Cross-entropy of the teacher's k best items, the earlier the heavier, float32 [B].

    The weight of rank r is proportional to exp(-r / k), r from 1, and all add up to 1.

    Args:
        logits: as for `soft_labels`.
        teacher: likewise.
        k: cut to the number of candidates; a masked candidate among them counts nothing.

    Source: Tang and Wang, "Ranking Distillation: Learning Compact Ranking Models With High
    Performance for Recommender System", KDD 2018: the weights are those of its equation 5 with
    lambda = k; instead of a sigmoid an item, the softmax over all of them, as of the other labels.
    """
    k = tf.minimum(k, tf.shape(logits)[1])
    best = tf.math.top_k(tf.where(is_allowed(logits), teacher, MASKED), k)
    weights = tf.nn.softmax(-tf.range(k, dtype=tf.float32) / tf.cast(k, tf.float32))
    weights = tf.where(is_allowed(best.values), weights[None, :], 0.0)
    chances = tf.gather(tf.nn.log_softmax(logits), best.indices, batch_dims=1)
    total = tf.reduce_sum(weights, axis=1)
    return -tf.math.divide_no_nan(tf.reduce_sum(weights * chances, axis=1), total)


def cosine(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """1 - cosine, float32 [n]; 1 where one of the two has no length.

    Args:
        student: float32 [n, d].
        teacher: float32 [n, d].

    Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019, section 3.
    """
    lengths = tf.norm(student, axis=1) * tf.norm(teacher, axis=1)
    return 1.0 - tf.math.divide_no_nan(tf.reduce_sum(student * teacher, axis=1), lengths)


def squared(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of the entries, float32 [n]; arguments as of `cosine`.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, equation 3.
    """
    return tf.reduce_mean(tf.math.squared_difference(student, teacher), axis=1)


def distances(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Huber loss between the distances of all pairs, each kind over its mean; float32 scalar.

    Args:
        student: float32 [n, d].
        teacher: float32 [n, D].

    Source: Park et al., "Relational Knowledge Distillation" (RKD-D), CVPR 2019, equations 4 to 6.
    """
    return _huber(_relative_distances(student), _relative_distances(teacher))


def angles(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    """Huber loss between the cosines of all angles that three vectors make; float32 scalar.

    Of more than 64 vectors only the first 64 are looked at, since time goes with their cube.

    Args:
        student: float32 [n, d].
        teacher: float32 [n, D].

    Source: Park et al., as for `distances` (RKD-A), equations 7 and 8.
    """
    return _huber(_cosines_of_triples(student), _cosines_of_triples(teacher))


def value_relations(
    student: tf.Tensor, teacher: tf.Tensor, counted: tf.Tensor | None = None
) -> tf.Tensor:
    """KL divergence between softmax(V V' / sqrt(d)) of the two, the mean over rows; float32 scalar.

    Args:
        student: float32 [..., n, d]: the values of n tokens, or the vectors of n items.
        teacher: float32 [..., n, D].
        counted: bool, that broadcasts to [..., n]; False for padding. All count without it.

    Source: Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
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
    """float32 [n, n], over the mean of those that are not 0."""
    lengths = tf.reduce_sum(tf.square(vectors), axis=1)
    product = tf.matmul(vectors, vectors, transpose_b=True)
    square = tf.maximum(lengths[:, None] + lengths[None, :] - 2.0 * product, 0.0)
    apart = square > 1e-12
    # The gradient of a root is infinite at 0, and `where` alone would make NaN of it.
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
