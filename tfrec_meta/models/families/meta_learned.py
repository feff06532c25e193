"""A recommender for newcomers: it adapts in closed form, and has learned how far to go."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
import tensorflow as tf

from tfrec_meta.checks import (
    FinitePositiveFloat,
    NonNegativeInt,
    PositiveInt,
    at_least,
    check_fields,
)
from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import interaction_matrix
from tfrec_meta.models.base.closed_form import ClosedForm
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.layers.item_rows import last_occurrences, without_repeats
from tfrec_meta.models.solvers.ials import AlternatingLeastSquares

TERMS = ("head", "ridge", "cosine", "lift")
"""What is added to the later chances; the last three are item-to-item weights."""
_UNITS = (0.5, 4.0, 1.0, 0.3)  # of the gains
_START = (  # gains until episodes have taught others: by few events the head, by more the weights
    (1.6, -1.0, 0.0),
    (0.0, 3.5, 0.0),
    (0.6, 1.2, 0.0),
    (0.7, 0.3, 0.0),
)
_SHAPES = 3  # of a gain, as a function of the number of shots: constant, linear, square
_SHRINKAGE = 10.0  # users, by which similarities are held back
_PRIOR_USERS = 20.0  # likewise, lifts


@dataclasses.dataclass(frozen=True)
class MetaLearnedConfig:
    """
    Args:
        embedding_dim: d, of the item vectors that a head is solved over.
        l2: their penalty, in iALS; where the learned penalty of a head begins.
        unseen_weight: likewise, what an item without event weighs.
        iterations: of iALS.
        item_weights: whether there are item-to-item weights, too. They take memory and time in
            proportion to the square and the cube of the catalogue.
        weights_l2: their ridge penalty.
        shots: most events of a support set in meta-training; beyond that, gains grow in proportion
            to the events.
        folds: parts of the users; the tables of each fold's episodes are fitted on the others.
        steps: of meta-training; 0 leaves the gains as they begin.
        learning_rate: of meta-training (Adam), which falls to 0 as half a cosine.
        tasks_per_step: users a step.
        query: most later events of a user that a step asks about.
    """

    embedding_dim: PositiveInt = 32
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
    """What is fitted on users' events at once, not by episodes.

    Attributes:
        later: float32 [items + 1], log of `later_chances`; of the unknown item, the least.
        factors: float32 [items + 1, d], item vectors of iALS; row 0 is 0.
        weights: float32 [3, items + 1, items + 1], from the item of the row to that of the column:
            `ridge_weights`, `cosines` and `lifts`; [3, 1, 1] without any.
    """

    later: Any
    factors: Any
    weights: Any


class MetaLearned(ClosedForm):
    """Later chances, a ridge head over item vectors, and item-to-item weights, in one sum.

    The head is each user's own: the vector that explains the support set best beside all that is
    not in it (iALS's fold-in). How much each term counts after so many shots, and the head's
    penalty and what the unseen weighs in it, are learned from episodes, through the solver
    (`metalearning.recommender`). Early and later events differ: people begin with what everyone
    knows. So the answer without support is the chance to choose later what one did not begin with,
    and the ridge weights lead from what users choose first to what they choose later.

    Sources: Bertinetto et al., "Meta-Learning with Differentiable Closed-Form Solvers", ICLR 2019;
    Hu et al., "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.
    """

    family = "meta_learned"
    config_type = MetaLearnedConfig
    adapts = True

    def __init__(self, config: MetaLearnedConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        rows = len(spec.items)
        self.dim = min(config.embedding_dim, max(spec.catalogue_size, 1))
        square = rows if config.item_weights else 1  # without them, the unknown item's alone
        self.tables = Tables(
            self._fitted("later", [rows]),
            self._fitted("factors", [rows, self.dim]),
            self._fitted("weights", [len(TERMS) - 1, square, square]),
        )
        self.gains = tf.Variable(np.array(_START, np.float32), name="gains")
        self.log_l2 = tf.Variable(np.float32(np.log(config.l2)), name="log_l2")
        self.log_unseen = tf.Variable(np.float32(np.log(config.unseen_weight)), name="log_unseen")

    def fit(self, data: Interactions) -> None:
        """Fits the tables; `metalearning.recommender.learn_to_adapt` learns the rest."""
        self.observe(data)
        for variable, value in zip(self.tables, self.fitted_tables(data), strict=True):
            variable.assign(value)

    def fitted_tables(self, data: Interactions) -> Tables:
        """The tables of these events, as NumPy arrays; the model's own stay as they are."""
        config = self.config
        early = first_events(data, config.shots)
        users, items = data.user_ids, self.spec.items
        first = interaction_matrix(data.take(early), users, items)
        then = interaction_matrix(data.take(~early), users, items)
        later = np.log(later_chances(first, then))
        chosen = interaction_matrix(data, users, items)
        solver = AlternatingLeastSquares(
            self.dim, config.l2, config.unseen_weight, 0.0, config.iterations
        )
        factors = np.pad(solver.item_vectors(chosen).numpy(), [(1, 0), (0, 0)])
        weights = np.zeros([len(TERMS) - 1, 1, 1], np.float32)
        if config.item_weights:
            ridge = ridge_weights(first, then, config.weights_l2)
            weights = np.pad([ridge, cosines(chosen), lifts(chosen)], [(0, 0), (1, 0), (1, 0)])
        return Tables(
            np.concatenate([[later.min()], later]).astype(np.float32),
            factors,
            weights,
        )

    # Adapting.

    def adapt(self, items: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores of the catalogue for newcomers with these support sets.

        Args:
            items: int32 [B, S] item rows, 0 for blanks and unknown ones, which count for nothing;
                of an item that is there twice, the last counts.
            labels: float32 [B, S], from 0 (not for me) to 1 (chosen); beyond that they are cut, and
                what is no number is 0.

        Returns:
            float32 [B, catalogue], and how many events were used, int32 [B].
        """
        items = last_occurrences(items)
        used = tf.reduce_sum(tf.cast(items > 0, tf.int32), axis=1)
        return self.scores(self.tables, items, labels)[:, 1:], used

    def scores(self, tables: Tables, items: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """As `adapt`, by tables of any users, of distinct items: float32 [B, items + 1]."""
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
        """The head of each support set, float32 [B, d]: zeros without a positive label."""
        chosen = tf.gather(factors, items)  # of blanks: row 0, which is 0
        gram = tf.exp(self.log_unseen) * tf.matmul(factors, factors, transpose_a=True)
        system = gram + tf.matmul(chosen, chosen, transpose_a=True)
        # Below that a Cholesky factor may not exist in float32, and one bad row fails its batch.
        least = tf.maximum(1e-5 * tf.linalg.trace(system), 1e-12)[:, None]
        diagonal = tf.linalg.diag_part(system) + tf.maximum(tf.exp(self.log_l2), least)
        system = tf.linalg.set_diag(system, diagonal)
        right = tf.einsum("bsd,bs->bd", chosen, labels)[:, :, None]
        return tf.linalg.cholesky_solve(tf.linalg.cholesky(system), right)[:, :, 0]

    def _gains(self, shots: tf.Tensor) -> tf.Tensor:
        """What each of `TERMS` counts after so many shots, float32 [B] to [B, terms]."""
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
        """See the contract."""
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
    """bool [n]: whether an event is among its user's first `count`, by time, then row; a user's
    last event never is."""
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
    """The ridge regression of what users chose later on what they chose first.

    Args:
        first, then: [users, items], 1 where the user chose the item.
        l2: penalty, above 0.

    Returns:
        float32 [items, items]: `first @ weights` comes close to `then`.
    """
    gram = (first.T @ first).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += l2
    right = (first.T @ then).toarray()
    return scipy.linalg.solve(gram, right, assume_a="pos", check_finite=False).astype(np.float32)


def cosines(chosen: scipy.sparse.csr_matrix) -> np.ndarray:
    """How alike items are by who chose them, a few users' worth held back; 0 to themselves.

    Args:
        chosen: [users, items], 1 where the user chose the item.

    Returns:
        float32 [items, items].
    """
    together = (chosen.T @ chosen).toarray()
    length = np.sqrt(together.diagonal() + _SHRINKAGE)
    np.fill_diagonal(together, 0.0)
    return (together / length[:, None] / length[None, :]).astype(np.float32)


def later_chances(first: scipy.sparse.csr_matrix, then: scipy.sparse.csr_matrix) -> np.ndarray:
    """The chance that a user who did not begin with an item chooses it later.

    What everyone begins with is rare among later events and yet the best guess for those few who
    did not begin with it: a share of all users would hide that.

    Args:
        first, then: see `ridge_weights`.

    Returns:
        float64 [items], above 0; users weigh as the root of how much they chose later, and half a
        user chose everything.
    """
    weight = np.sqrt(np.asarray(then.sum(axis=1), np.float64).ravel())
    weight /= max(weight.mean(), 1e-12) if len(weight) else 1.0
    return (then.T @ weight + 0.5) / (weight.sum() - first.T @ weight + 1.0)


def lifts(chosen: scipy.sparse.csr_matrix) -> np.ndarray:
    """log of how much likelier an item is to those who chose another one.

    Args:
        chosen: [users, items], 1 where the user chose the item.

    Returns:
        float32 [items, items], the given item's row. A user weighs as the inverse root of how much
        they chose: from those who choose everything nothing follows. Some users who are like all
        are added to each row.
    """
    count = np.asarray(chosen.sum(axis=1), np.float64).ravel()
    weight = np.maximum(count, 1.0) ** -0.5
    weighed = scipy.sparse.csr_matrix(scipy.sparse.diags(weight / weight.mean()) @ chosen)
    share = (np.asarray(chosen.sum(axis=0), np.float64).ravel() + 0.5) / len(count)
    together = (weighed.T @ chosen).toarray().astype(np.float64)
    users = together.diagonal()[:, None] + _PRIOR_USERS
    np.fill_diagonal(together, 0.0)
    return np.log((together + _PRIOR_USERS * share) / users / share).astype(np.float32)
