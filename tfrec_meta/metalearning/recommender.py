"""The outer loop of `models.MetaLearned`: how far to go from a support set, learned from episodes.

The tables that heads are solved over know the users that they were fitted on: whoever learned from
episodes of these would trust them too much. So users are put into folds, and the episodes of each
fold run over tables that are fitted on the others; what is learned is then used with tables of all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.keras import tf_keras
from tfrec_meta.metalearning.episodes import EpisodeConfig, Episodes, user_tasks
from tfrec_meta.models.families.meta_learned import MetaLearned, Tables
from tfrec_meta.models.layers.item_rows import multi_hot

FEWEST_TASKS = 50
"""With fewer users in any fold there is nothing to learn from that would hold for others."""


def learn_to_adapt(model: MetaLearned, data: Interactions, seed: int = 42) -> list[float]:
    """Meta-trains a fitted model: its gains, its head's penalty, and the weight of the unseen.

    An episode's support set is a user's first events, one up to the most `shots`; its query set
    is of what follows these, and the loss is `ndcg_loss` over the catalogue without the user's
    first `shots` items.

    Args:
        model: after `fit`; with `steps`=0 or fewer than `FEWEST_TASKS` users with two events in a
            fold, it keeps what it begins with.
        data: the events that it was fitted on.
        seed: of folds and episodes.

    Returns:
        The loss of each step.
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
    """1 - NDCG@k, made smooth: what counts is the head of the list; likelihood is of all of it.

    The rank of a candidate is a sum of sigmoids of how far others are above it.

    Args:
        scores: float32 [T, items + 1].
        hidden: int32 [T, S] item rows that are never candidates, as row 0 never is.
        query: int32 [T, Q], distinct, 0 pads.
        k: cut-off.
        pool: candidates that are ranked, the best by the scores as they are.
        temperature: of the sigmoids; the smaller, the closer and the rougher.

    Returns:
        float32 scalar, the mean over the tasks.

    Source: Qin, Liu and Li, "A General Approximation Framework for Direct Optimization of
    Information Retrieval Measures", Information Retrieval 2010 (ApproxNDCG).
    """
    tasks, rows = tf.unstack(tf.shape(scores))
    asked = multi_hot(query, scores.shape[1] or rows)
    never = multi_hot(hidden, scores.shape[1] or rows) + tf.one_hot(0, rows)
    found, best = tf.math.top_k(tf.where(never > 0, -1e9, scores), tf.minimum(pool, rows - 1))
    relevant = tf.gather(asked * tf.cast(never == 0, tf.float32), best, batch_dims=1)
    above = tf.sigmoid((found[:, None, :] - found[:, :, None]) / temperature)
    rank = 0.5 + tf.reduce_sum(above, axis=2)  # a candidate is half above itself
    gain = np.log(2.0) / tf.math.log(1.0 + rank) * tf.sigmoid(k + 0.5 - rank)
    discounts = 1.0 / np.log2(np.arange(2.0, k + 2))
    ideal = tf.constant(np.concatenate([[0.0], np.cumsum(discounts)]), tf.float32)
    wanted = tf.minimum(tf.reduce_sum(tf.cast(query > 0, tf.int32), axis=1), k)
    reached = tf.reduce_sum(relevant * gain, axis=1)
    return 1.0 - tf.reduce_sum(tf.math.divide_no_nan(reached, tf.gather(ideal, wanted))) / tf.cast(
        tasks, tf.float32
    )


class _Fold:
    """Episodes of some users, and tables of the others."""

    def __init__(self, tables: Tables, episodes: Episodes):
        self.tables = Tables(*map(tf.constant, tables))
        self._episodes = episodes
        self._batches = self._endless()

    def next(self) -> tuple[np.ndarray, ...]:
        """Support rows and labels, the rows of all first events, and query rows."""
        return next(self._batches)

    def _endless(self) -> Iterator[tuple[np.ndarray, ...]]:
        most = self._episodes.config.shots[1]
        number = 0
        while True:
            for batch in self._episodes.epoch(number):
                yield (
                    batch["support_item"],
                    batch["support_label"],
                    self._episodes.tasks.first_items(batch["task"], most),
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
    if not config.steps or min(map(len, chosen)) < FEWEST_TASKS:
        return []
    return [
        _Fold(
            model.fitted_tables(data.take(~np.isin(data.user_codes, part))),
            Episodes(own, episode),
        )
        for part, own in zip(parts, chosen, strict=True)
    ]
