"""The meta-learned recommender for new users: closed-form adaptation with learned gains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
import tensorflow as tf

from tfrec_meta.checks import (
    FinitePositiveFloat,
    NonNegativeInt,
    PositiveInt,
    Width,
    at_least,
    check_fields,
)
from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import (
    interaction_matrix,
    positive_matrix,
    weighted_matrix,
)
from tfrec_meta.models.base.closed_form import ClosedForm
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.layers.item_rows import last_occurrences, without_repeats
from tfrec_meta.models.solvers.ials import AlternatingLeastSquares

TERMS = ("head", "ridge", "cosine", "lift")
"""The terms that are added to the log probabilities of later choice; the last three are
item-to-item weights."""
_UNITS = (0.5, 4.0, 1.0, 0.3)  # units of the gains
# Initial gains: with few events the head counts most, with more events the item weights.
_START = (
    (1.6, -1.0, 0.0),
    (0.0, 3.5, 0.0),
    (0.6, 1.2, 0.0),
    (0.7, 0.3, 0.0),
)
_SHAPES = 3  # terms of a gain as a function of the log number of shots: constant, linear, square
_SHRINKAGE = 10.0  # users by which similarities are shrunk
_PRIOR_USERS = 20.0  # users by which lifts are shrunk


@dataclasses.dataclass(frozen=True)
class MetaLearnedConfig:
    """The config of `MetaLearned`.

    Args:
        embedding_dim: d, of the item vectors that the head of a user is solved over.
        l2: penalty of the item vectors in iALS; also the initial value of the learned penalty of a
            head.
        unseen_weight: weight of an item without event in iALS; also the initial value of the
            learned weight in a head.
        iterations: of iALS.
        item_weights: whether to add item-to-item weights. They take memory in proportion to the
            square of the catalogue and time in proportion to its cube.
        weights_l2: their ridge penalty.
        shots: largest number of events of a support set in meta-training. Beyond it, gains grow in
            proportion to the number of events.
        folds: parts of the users. The tables for the episodes of one fold are fitted on the others.
        steps: steps of meta-training; 0 keeps the initial gains.
        learning_rate: of meta-training (Adam); it falls to 0 along a cosine.
        tasks_per_step: users per step.
        query: largest number of later events of a user in one step.
    """

    embedding_dim: Width = 32
    l2: FinitePositiveFloat = 8.0
    unseen_weight: FinitePositiveFloat = 0.3
    iterations: PositiveInt = 10
    item_weights: bool = True
    weights_l2: FinitePositiveFloat = 400.0
    shots: PositiveInt = 20
    folds: Annotated[int, at_least(2)] = 3
    steps: NonNegativeInt = 150
    learning_rate: FinitePositiveFloat = 0.03
    tasks_per_step: PositiveInt = 64
    query: PositiveInt = 1000

    def __post_init__(self) -> None:
        check_fields(self)


class Tables(NamedTuple):
    """The tables that are fitted to all events, not in episodes.

    Attributes:
        later: float32 [items + 1], the log of `later_chances`; the lowest for the unknown item.
        factors: float32 [items + 1, d], item vectors of iALS; row 0 is 0.
        weights: float32 [3, items + 1, items + 1], from the item of the row to that of the column:
            `ridge_weights`, `cosines` and `lifts`; [3, 1, 1] without item weights.
    """

    later: Any
    factors: Any
    weights: Any


class MetaLearned(ClosedForm):
    """The sum of log probabilities of later choice, a ridge head over item vectors, and
    item-to-item weights.

    Each user has a head of their own: the vector that explains the support set best, as in the
    fold-in of iALS. The gain of each term by number of shots, the penalty of the head and the
    weight of unseen items are learned from episodes, through the solver
    (`metalearning.recommender`). Early and later events of users differ: early events are mostly
    of popular items. So the score without support is the probability that a user who did not begin
    with an item chooses it later, and the ridge weights predict later choices from early ones.

    References:
        Bertinetto et al., "Meta-Learning with Differentiable Closed-Form Solvers", ICLR 2019; Hu et
        al., "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.
    """

    family = "meta_learned"
    config_type = MetaLearnedConfig
    adapts = True

    def __init__(self, config: MetaLearnedConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        rows = len(spec.items)
        self.dim = min(config.embedding_dim, max(spec.catalogue_size, 1))
        square = rows if config.item_weights else 1  # 1 without item weights
        self.tables = Tables(
            self._fitted("later", [rows]),
            self._fitted("factors", [rows, self.dim]),
            self._fitted("weights", [len(TERMS) - 1, square, square]),
        )
        self.gains = tf.Variable(np.array(_START, np.float32), name="gains")
        self.log_l2 = tf.Variable(np.float32(np.log(config.l2)), name="log_l2")
        self.log_unseen = tf.Variable(np.float32(np.log(config.unseen_weight)), name="log_unseen")

    def fit(self, data: Interactions) -> None:
        """Fits the tables; `metalearning.recommender.learn_to_adapt` trains the gains."""
        self.observe(data)
        for variable, value in zip(self.tables, self.fitted_tables(data), strict=True):
            variable.assign(value)

    def fitted_tables(self, data: Interactions) -> Tables:
        """Returns the tables of these events as NumPy arrays, without changing the model.

        Weights of declared feedback count in the item vectors, the ridge weights and the cosines;
        probabilities and lifts count users.
        """
        config = self.config
        confidence = weighted_matrix(data, data.user_ids, self.spec.items)
        all_users, data = data.user_ids, data.positive_events()
        early = first_events(data, config.shots)
        users, items = all_users, self.spec.items
        first = interaction_matrix(data.take(early), users, items)
        then = interaction_matrix(data.take(~early), users, items)
        later = np.log(later_chances(first, then))
        chosen = interaction_matrix(data, users, items)
        solver = AlternatingLeastSquares(
            self.dim, config.l2, config.unseen_weight, 0.0, config.iterations
        )
        factors = np.pad(solver.item_vectors(confidence).numpy(), [(1, 0), (0, 0)])
        weights = np.zeros([len(TERMS) - 1, 1, 1], np.float32)
        if config.item_weights:
            roots = chosen
            if data.weights is not None:
                # A pair of events of a user counts by the geometric mean of both weights.
                roots = positive_matrix(data, users, items).sqrt()
                first, then = (part.multiply(roots).tocsr() for part in (first, then))
            ridge = ridge_weights(first, then, config.weights_l2)
            weights = np.pad([ridge, cosines(roots), lifts(chosen)], [(0, 0), (1, 0), (1, 0)])
        return Tables(
            np.concatenate([[later.min()], later]).astype(np.float32),
            factors,
            weights,
        )

    # Adapting.

    def adapt(
        self,
        items: tf.Tensor,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores the catalogue for new users with these support sets.

        Args:
            items: int32 [B, S] item rows. 0 pads and stands for unknown items, which are ignored;
                of an item that occurs twice, the last occurrence counts.
            labels: float32 [B, S], from 0 (disliked) to 1 (chosen). Other values are clipped; a
                label that is not finite counts as 0.
            features: no effect; the family adapts by the support set alone.

        Returns:
            float32 [B, catalogue], and the number of support events used, int32 [B].
        """
        items = last_occurrences(items)
        used = tf.reduce_sum(tf.cast(items > 0, tf.int32), axis=1)
        return self.scores(self.tables, items, labels)[:, 1:], used

    def scores(self, tables: Tables, items: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the scores of `adapt` by item row, float32 [B, items + 1], with any tables.

        Args:
            tables: of these or other users.
            items: int32 [B, S], distinct item rows, 0 pads.
            labels: float32 [B, S].
        """
        there = tf.cast(items > 0, tf.float32)
        labels = (
            tf.where(tf.math.is_finite(labels), tf.clip_by_value(labels, 0.0, 1.0), 0.0) * there
        )
        count = tf.reduce_sum(there, axis=1)
        head, *others = tf.unstack(self._gains(count), axis=1)
        factors = tf.convert_to_tensor(tables.factors)
        solved = self._heads(factors, items, labels) * head[:, None]
        total = tf.matmul(solved, factors, transpose_b=True)
        total += tf.convert_to_tensor(tables.later)[None, :]
        if self.config.item_weights:
            row = tf.range(tf.shape(items)[0])[:, None] + tf.zeros_like(items)
            shape = [tf.shape(items)[0], len(self.spec.items)]
            chosen = tf.scatter_nd(tf.stack([row, items], axis=-1), labels, shape)
            chosen *= tf.math.rsqrt(tf.maximum(count, 1.0))[:, None]
            weights = tf.convert_to_tensor(tables.weights)
            for place, gain in enumerate(others):
                total += gain[:, None] * tf.matmul(chosen, weights[place])
        return total

    def _heads(self, factors: tf.Tensor, items: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The head of each support set, float32 [B, d]; zeros without a positive label."""
        chosen = tf.gather(factors, items)  # row 0, of the padding, is 0
        gram = tf.exp(self.log_unseen) * tf.matmul(factors, factors, transpose_a=True)
        system = gram + tf.matmul(chosen, chosen, transpose_a=True)
        # With a smaller ridge a Cholesky factor may not exist in float32, and one such row fails
        # its whole batch.
        least = tf.maximum(1e-5 * tf.linalg.trace(system), 1e-12)[:, None]
        diagonal = tf.linalg.diag_part(system) + tf.maximum(tf.exp(self.log_l2), least)
        system = tf.linalg.set_diag(system, diagonal)
        right = tf.einsum("bsd,bs->bd", chosen, labels)[:, :, None]
        return tf.linalg.cholesky_solve(tf.linalg.cholesky(system), right)[:, :, 0]

    def _gains(self, shots: tf.Tensor) -> tf.Tensor:
        """The gain of each of `TERMS` by number of shots, float32 [B] to [B, terms]."""
        most = float(self.config.shots)
        share = tf.minimum(tf.math.log1p(shots) / float(np.log1p(most)), 1.0)
        powers = tf.stack([share**power for power in range(_SHAPES)], axis=1)
        gains = tf.matmul(powers, self.gains, transpose_b=True) * tf.constant(_UNITS)
        return gains * tf.maximum(shots / most, 1.0)[:, None]

    # The contract.

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        history = without_repeats(query["history"])
        scores = self.scores(self.tables, history, tf.ones(tf.shape(history)))
        if items is None:
            return scores[:, 1:]
        return tf.gather(scores, items, batch_dims=1)

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        default = MetaLearnedConfig()
        model = {
            "embedding_dim": hp.Choice("embedding_dim", [16, 32, 64, 96], default=32),
            "l2": hp.Float("l2", 1.0, 100.0, sampling="log", default=default.l2),
            "unseen_weight": hp.Float(
                "unseen_weight", 0.03, 1.0, sampling="log", default=default.unseen_weight
            ),
            "weights_l2": hp.Float(
                "weights_l2", 30.0, 3000.0, sampling="log", default=default.weights_l2
            ),
        }
        return {"model": model, "training": {}}


def first_events(data: Interactions, count: int) -> np.ndarray:
    """Returns bool [n]: whether an event is among the first `count` of its user.

    Events are ordered by time, then row. A user's last event is never among the first.
    """
    times = data.times
    keys = (data.user_codes,) if times is None else (times, data.user_codes)
    order = np.lexsort((np.arange(len(data)), *keys))
    users = data.user_codes[order]
    place = np.arange(len(order)) - np.searchsorted(users, users)
    length = np.bincount(users, minlength=1)[users] if len(users) else users
    early = np.zeros(len(data), bool)
    early[order] = place < np.minimum(count, length - 1)
    return early


def ridge_weights(
    first: scipy.sparse.csr_matrix, then: scipy.sparse.csr_matrix, l2: float
) -> np.ndarray:
    """Solves the ridge regression of later choices on early choices.

    Args:
        first: [users, items], 1 where the user chose the item early.
        then: [users, items], 1 where the user chose the item later.
        l2: penalty, above 0.

    Returns:
        float32 [items, items]; `first @ weights` approximates `then`.
    """
    gram = (first.T @ first).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += l2
    right = (first.T @ then).toarray()
    return scipy.linalg.solve(gram, right, assume_a="pos", check_finite=False).astype(np.float32)


def cosines(chosen: scipy.sparse.csr_matrix) -> np.ndarray:
    """Computes the cosine similarity of items by their users, shrunk by a few users.

    Args:
        chosen: [users, items], 1 where the user chose the item.

    Returns:
        float32 [items, items], with a zero diagonal.
    """
    together = (chosen.T @ chosen).toarray()
    length = np.sqrt(together.diagonal() + _SHRINKAGE)
    np.fill_diagonal(together, 0.0)
    return (together / length[:, None] / length[None, :]).astype(np.float32)


def later_chances(first: scipy.sparse.csr_matrix, then: scipy.sparse.csr_matrix) -> np.ndarray:
    """Estimates the probability that a user who did not begin with an item chooses it later.

    An item that most users begin with is rare among later events, and yet a likely choice of the
    few users who did not begin with it. The share of all users would miss that.

    Args:
        first: see `ridge_weights`.
        then: see `ridge_weights`.

    Returns:
        float64 [items], above 0. A user is weighted by the square root of their number of later
        choices; half a user who chose everything is added.
    """
    weight = np.sqrt(np.asarray(then.sum(axis=1), np.float64).ravel())
    weight /= max(weight.mean(), 1e-12) if len(weight) else 1.0
    return (then.T @ weight + 0.5) / (weight.sum() - first.T @ weight + 1.0)


def lifts(chosen: scipy.sparse.csr_matrix) -> np.ndarray:
    """Computes the log of how much more likely an item is for users who chose another item.

    Args:
        chosen: [users, items], 1 where the user chose the item.

    Returns:
        float32 [items, items]; the row is that of the given item. A user is weighted by the inverse
        square root of their number of choices, since users who choose everything carry little
        information. Some average users are added to each row.
    """
    count = np.asarray(chosen.sum(axis=1), np.float64).ravel()
    weight = np.maximum(count, 1.0) ** -0.5
    weighed = scipy.sparse.csr_matrix(scipy.sparse.diags(weight / weight.mean()) @ chosen)
    share = (np.asarray(chosen.sum(axis=0), np.float64).ravel() + 0.5) / len(count)
    together = (weighed.T @ chosen).toarray().astype(np.float64)
    users = together.diagonal()[:, None] + _PRIOR_USERS
    np.fill_diagonal(together, 0.0)
    return np.log((together + _PRIOR_USERS * share) / users / share).astype(np.float32)
