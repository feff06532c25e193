"""The outer loop of `MetaLearned`, which learns from episodes how strongly to adapt.

The tables of the model are fitted on the training users. Episodes of the same users would overrate
them. So users are divided into folds, and the episodes of each fold use tables that are fitted on
the other folds. What is learned is then used with tables of all users.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.keras import tf_keras
from tfrec_meta.metalearning.episodes import EpisodeConfig, Episodes
from tfrec_meta.metalearning.tasks import user_tasks
from tfrec_meta.models.families.meta_learned import MetaLearned, Tables
from tfrec_meta.models.layers.item_rows import multi_hot

MIN_TASKS = 50
"""Smallest number of users in a fold; with fewer, what is learned would not generalise."""


def learn_to_adapt(model: MetaLearned, data: Interactions, seed: int = 42) -> list[float]:
    """Meta-trains a fitted model: its gains, its head's penalty, and the weight of unseen items.

    The support set of an episode is the first events of a user, from 1 to `shots`. The query set is
    the events after the first `shots`. The loss is `ndcg_loss` over the catalogue without the
    user's first `shots` items.

    Args:
        model: a model after `fit`. With `steps`=0, or fewer than `MIN_TASKS` users with two events
            in a fold, it is not changed.
        data: the events on which it was fitted.
        seed: seed of folds and episodes.

    Returns:
        The loss of each step; empty if the model was not changed.
    """
    folds = _folds(model, data, seed)
    if not folds:
        return []
    learned = [model.gains, model.log_l2, model.log_unseen]
    optimizer = tf_keras.optimizers.Adam(
        tf_keras.optimizers.schedules.CosineDecay(model.config.learning_rate, model.config.steps)
    )
    optimizer.build(learned)

    @tf.function(reduce_retracing=True)
    def step(
        tables: Tables, support: tf.Tensor, label: tf.Tensor, hidden: tf.Tensor, query: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            scores = model.scores(tables, support, label)
            loss = ndcg_loss(scores, hidden, query)
        optimizer.apply_gradients(zip(tape.gradient(loss, learned), learned, strict=True))
        return loss

    losses = []
    for number in range(model.config.steps):
        fold = folds[number % len(folds)]
        losses.append(step(fold.tables, *fold.next()))
    return [float(loss) for loss in losses]


def ndcg_loss(
    scores: tf.Tensor,
    hidden: tf.Tensor,
    query: tf.Tensor,
    k: int = 10,
    pool: int = 100,
    temperature: float = 0.02,
) -> tf.Tensor:
    """A smooth approximation of 1 - NDCG@k.

    Unlike a likelihood, it depends on the head of the list only. The rank of a candidate is
    approximated by a sum of sigmoids of the score differences to other candidates.

    Args:
        scores: float32 [T, items + 1].
        hidden: int32 [T, S] item rows that are no candidates; row 0 never is.
        query: int32 [T, Q], distinct item rows, padded with 0.
        k: cut-off.
        pool: how many candidates are ranked, those with the highest scores.
        temperature: of the sigmoids. Smaller values approximate NDCG more closely, but less
            smoothly.

    Returns:
        float32 scalar, the mean over tasks.

    Source: Qin, Liu and Li, "A General Approximation Framework for Direct Optimization of
    Information Retrieval Measures", Information Retrieval 2010 (ApproxNDCG).
    """
    tasks, rows = tf.unstack(tf.shape(scores))
    is_query = multi_hot(query, scores.shape[1] or rows)
    excluded = multi_hot(hidden, scores.shape[1] or rows) + tf.one_hot(0, rows)
    found, best = tf.math.top_k(tf.where(excluded > 0, -1e9, scores), tf.minimum(pool, rows - 1))
    relevant = tf.gather(is_query * tf.cast(excluded == 0, tf.float32), best, batch_dims=1)
    above = tf.sigmoid((found[:, None, :] - found[:, :, None]) / temperature)
    rank = 0.5 + tf.reduce_sum(above, axis=2)  # a candidate counts half against itself
    gain = np.log(2.0) / tf.math.log(1.0 + rank) * tf.sigmoid(k + 0.5 - rank)
    discounts = 1.0 / np.log2(np.arange(2.0, k + 2))
    ideal = tf.constant(np.concatenate([[0.0], np.cumsum(discounts)]), tf.float32)
    relevant_count = tf.minimum(tf.reduce_sum(tf.cast(query > 0, tf.int32), axis=1), k)
    reached = tf.reduce_sum(relevant * gain, axis=1)
    return 1.0 - tf.reduce_sum(
        tf.math.divide_no_nan(reached, tf.gather(ideal, relevant_count))
    ) / tf.cast(tasks, tf.float32)


class _Fold:
    """Episodes of the users of one fold, and tables fitted on the users of the other folds."""

    def __init__(self, tables: Tables, episodes: Episodes):
        self.tables = Tables(*map(tf.constant, tables))
        self._episodes = episodes
        self._batches = self._endless()

    def next(self) -> tuple[np.ndarray, ...]:
        """Returns support rows and labels, the item rows of all first events, and query rows."""
        return next(self._batches)

    def _endless(self) -> Iterator[tuple[np.ndarray, ...]]:
        largest = self._episodes.config.shots[1]
        number = 0
        while True:
            for batch in self._episodes.epoch(number):
                yield (
                    batch["support_item"],
                    batch["support_label"],
                    self._episodes.tasks.first_items(batch["task"], largest),
                    batch["query_item"],
                )
            number += 1


def _folds(model: MetaLearned, data: Interactions, seed: int) -> list[_Fold]:
    config = model.config
    episode = EpisodeConfig(
        (1, config.shots),
        spacing="log",
        query=config.query,
        same_query=True,
        tasks_per_batch=config.tasks_per_step,
        seed=seed,
    )
    by_name = np.argsort(data.user_ids.astype(str), kind="stable")
    parts = np.array_split(np.random.default_rng(seed).permutation(by_name), config.folds)
    tasks = user_tasks(data, model.spec)
    chosen = [tasks.take(np.isin(tasks.names, data.user_ids[part])).at_least(2) for part in parts]
    if not config.steps or min(map(len, chosen)) < MIN_TASKS:
        return []
    return [
        _Fold(
            model.fitted_tables(data.take(~np.isin(data.user_codes, part))),
            Episodes(own, episode),
        )
        for part, own in zip(parts, chosen, strict=True)
    ]
