"""Ratings of newcomers: a ranker of content and ids whose last layers a few ratings adapt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)
from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.spec import Encoded
from tfrec_meta.keras import tf_keras
from tfrec_meta.metalearning.episodes import Batch, EpisodeConfig, Episodes, user_tasks
from tfrec_meta.metalearning.learners import LEARNERS, Examples, Learner, LearnerConfig
from tfrec_meta.metalearning.networks import TaskNetwork
from tfrec_meta.models.towers import FeatureSum

import numpy as np
import pyarrow as pa
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class RatingRankerConfig:
    """
    Args:
        learner: a key of `LEARNERS`: what of the network a user's ratings adapt, and how.
        inner: how far it goes; `learner`="ridge" takes its `l2` alone.
        embedding_dim: d, of each feature and of the item.
        hidden: widths of the layers above the embeddings, which learners but "ridge" and "anil"
            adapt, too.
        item_id: whether items have an embedding of their own beside that of their content.
        item_mean: whether a prediction begins at the item's mean rating, drawn to the mean of all
            by `shrinkage` ratings, and the network tells what is different about a user.
        shrinkage: see `item_mean`.
        user_features: whether the network reads the user's features.
        item_features: whether it reads the item's.
        shots: fewest and most ratings of a support set in meta-training.
        query: most ratings that are asked about.
        epochs: passes over the users.
        learning_rate: of the outer loop (Adam), which falls to 0 as half a cosine.
        weight_decay: of the embeddings, decoupled; times the learning rate.
        tasks_per_batch: users a step.
        seed: of all draws.
    """

    learner: str = "ridge"
    inner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    embedding_dim: int = 16
    hidden: tuple[int, ...] = (64,)
    item_id: bool = True
    item_mean: bool = True
    shrinkage: float = 5.0
    user_features: bool = True
    item_features: bool = True
    shots: tuple[int, int] = (0, 40)
    query: int = 20
    epochs: int = 30
    learning_rate: float = 0.005
    weight_decay: float = 3.0
    tasks_per_batch: int = 32
    seed: int = 42

    def __post_init__(self) -> None:
        if self.learner not in LEARNERS:
            raise ValueError(f"`learner`={self.learner!r}; use one of {', '.join(LEARNERS)}.")
        for name in ("embedding_dim", "epochs", "tasks_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 1 or more.")
        for name in ("shrinkage", "learning_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"`{name}`={getattr(self, name)}; use a number above 0.")
        if not 0 <= self.weight_decay < np.inf:
            raise ValueError(f"`weight_decay`={self.weight_decay}; use 0 or more.")
        if not (self.item_id or self.item_features):
            raise ValueError("`item_id` and `item_features` are both False; items are all alike.")


class RatingRanker(tf.Module):
    """Predicts a user's ratings from features, items and the few ratings that there are.

    Embeddings of the user's and the item's features, and of the item, are learned by the outer loop
    alone; the layers above adapt to each user. With `learner`="maml", one inner step, content alone
    and no item mean it is MeLU.

    Args:
        config: how.
        spec: a fitted spec; users and items are its own.

    Sources: Lee et al., "MeLU: Meta-Learned User Preference Estimator for Cold-Start
    Recommendation", KDD 2019; Bertinetto et al., "Meta-Learning with Differentiable Closed-Form
    Solvers", ICLR 2019.
    """

    def __init__(self, config: RatingRankerConfig, spec: FeatureSpec):
        super().__init__(name="rating_ranker")
        self.config, self.spec = config, spec
        self.embedding = _Embedding(config, spec)
        network = TaskNetwork(self.embedding.width, config.hidden, self.embedding, seed=config.seed)
        self.learner: Learner = LEARNERS[config.learner](network, config.inner)
        self._predict = tf.function(self.learner.predict, reduce_retracing=True)
        self.usual = 0.0
        self.item_start = np.zeros(len(spec.items), np.float32)

    def fit(self, data: Interactions, progress: bool = False) -> list[float]:
        """Meta-trains on the users of `data`, whose events have ratings as values.

        Returns:
            The mean query loss of each epoch.

        Raises:
            ValueError: if no user has two ratings.
        """
        config = self.config
        self.embedding.know(data)
        tasks = user_tasks(data, self.spec, label="value").at_least(2)
        if not len(tasks):
            raise ValueError("No user has two ratings: nothing to adapt to and to ask about.")
        values = tasks.label[tasks.events]
        self.usual = float(values.mean())
        items, off = tasks.item[tasks.events], values - self.usual
        total = np.bincount(items, off, len(self.spec.items))
        count = np.bincount(items, minlength=len(self.spec.items))
        self.item_start = (total / (count + config.shrinkage)).astype(np.float32)
        label = np.zeros_like(tasks.label)
        label[tasks.events] = off
        if config.item_mean:  # of an episode's own user nothing is in it
            without = (total[items] - off) / (count[items] - 1 + config.shrinkage)
            label[tasks.events] = off - without
        episodes = Episodes(
            dataclasses.replace(tasks, label=label.astype(np.float32)),
            EpisodeConfig(
                config.shots,
                query=config.query,
                order="random",
                tasks_per_batch=config.tasks_per_batch,
                seed=config.seed,
            ),
        )
        variables = self.learner.trainable_variables
        steps = config.epochs * -(-len(episodes.tasks) // config.tasks_per_batch)
        rate = tf_keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
        optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
        optimizer.exclude_from_weight_decay(var_list=list(self.learner.network.fast.values()))
        optimizer.build(variables)

        @tf.function(reduce_retracing=True)
        def step(support: Examples, query: Examples) -> tf.Tensor:
            loss, gradients = self.learner.meta_gradients(support, query)
            pairs = zip(gradients, variables, strict=True)
            optimizer.apply_gradients([(g, v) for g, v in pairs if g is not None])
            return loss

        losses = []
        bar = tf_keras.utils.Progbar(config.epochs, verbose=int(progress))
        for epoch in range(config.epochs):
            found = [float(step(*self._sets(batch))) for batch in episodes.epoch(epoch)]
            losses.append(float(np.mean(found)))
            bar.update(epoch + 1, [("loss", losses[-1])])
        return losses

    def predict(self, support: Interactions, asked: Interactions) -> np.ndarray:
        """Ratings, each user's after adapting to what `support` has of theirs.

        Args:
            support: known ratings; a user without any gets the zero-shot answer, and items that the
                spec doesn't know are left out.
            asked: whose ratings of which items to predict; their values are not looked at.

        Returns:
            float32 [len(asked)].
        """
        users = asked.user_ids
        known, wanted = _by_user(support, users), _by_user(asked, users)
        found = np.zeros(len(asked), np.float32)
        for chunk in range(0, len(users), 256):
            rows = slice(chunk, chunk + 256)
            given = self._examples(support, known[rows])
            events = wanted[rows]
            query = self._examples(asked, events)
            predicted = self._predict(given, query.inputs).numpy() + self._starts(
                query.inputs["item"]
            )
            found[events[events >= 0]] = predicted[events >= 0]
        return found

    def _starts(self, items: tf.Tensor) -> np.ndarray:
        start = self.item_start[np.asarray(items)] if self.config.item_mean else 0.0
        return self.usual + start

    def _examples(self, data: Interactions, events: np.ndarray) -> Examples:
        """Sets of event rows int32 [T, N], -1 for blanks; labels are what is off the start."""
        at = np.maximum(events, 0)
        item = self.spec.items.encode(data.events["item_id"])[at] if len(data) else at
        user = self.spec.users.encode(data.events["user_id"])[at] if len(data) else at
        value = data.events["value"].to_numpy()[at] if len(data) else np.zeros(at.shape)
        there = (events >= 0) & (item > 0)
        label = np.where(there, value - self._starts(item), 0.0)
        return Examples(
            {"item": tf.constant(item, tf.int32), "user": tf.constant(user, tf.int32)},
            tf.constant(label, tf.float32),
            tf.constant(there, tf.float32),
        )

    def _sets(self, batch: Batch) -> tuple[Examples, Examples]:
        support, query = (
            Examples(
                {side: tf.constant(batch[f"{part}_{side}"]) for side in ("item", "user")},
                tf.constant(batch[f"{part}_label"]),
                tf.constant(batch[f"{part}_mask"]),
            )
            for part in ("support", "query")
        )
        return support, query


class _Embedding(tf.Module):
    """User and item rows int32 [T, N] to the embeddings of their features side by side."""

    def __init__(self, config: RatingRankerConfig, spec: FeatureSpec):
        super().__init__(name="embedding")
        self.spec = spec
        dim = config.embedding_dim
        sides = {
            "user": (spec.user if config.user_features else (), "query"),
            "item": (spec.item if config.item_features else (), "item"),
        }
        self.sums = {
            side: FeatureSum(features, spec, dim, of) for side, (features, of) in sides.items()
        }
        place = 0
        for total in self.sums.values():
            for _, table in total.tables():
                place += 1
                table.assign(_drawn(table.shape, config.seed, place))
        self.tables = {
            side: {name: tf.Variable(values, trainable=False) for name, values in encoded.items()}
            for side, encoded in self._encoded(None, None).items()
        }
        self.of_item = (
            tf.Variable(_drawn([len(spec.items), dim], config.seed, 0), name="item_embedding")
            if config.item_id
            else None
        )
        parts = sum(len(features) for features, _ in sides.values()) + config.item_id
        self.width = dim * parts

    def know(self, data: Interactions) -> None:
        """Takes the features of users and items from the data's tables."""
        for side, encoded in self._encoded(data.users, data.items).items():
            for name, values in encoded.items():
                self.tables[side][name].assign(values)

    def _encoded(self, users: pa.Table | None, items: pa.Table | None) -> dict[str, Encoded]:
        return {"user": self.spec.encode_users(users), "item": self.spec.encode_items(items)}

    def __call__(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        found = []
        for side, total in self.sums.items():
            vectors = total.vectors(self.tables[side])
            if vectors:  # of the whole table, which is smaller than the examples of all tasks
                found.append(tf.gather(tf.concat(vectors, axis=1), rows[side]))
        if self.of_item is not None:
            found.append(tf.gather(self.of_item, rows["item"]))
        return tf.concat(found, axis=-1)


def _drawn(shape: Sequence[int], seed: int, place: int) -> tf.Tensor:
    """Where embeddings begin."""
    return tf.random.stateless_normal(shape, [seed, place], stddev=0.05)


def _by_user(data: Interactions, users: np.ndarray) -> np.ndarray:
    """int64 [users, most]: the event rows of each, -1 pads."""
    place = {user: row for row, user in enumerate(users)}
    row = np.array([place.get(user, -1) for user in data.user_ids], int)[data.user_codes]
    order = np.argsort(row, kind="stable")
    order = order[row[order] >= 0]
    of = row[order]
    step = np.arange(len(of)) - np.searchsorted(of, of)
    found = np.full([len(users), int(step.max(initial=0)) + 1], -1)
    found[of, step] = order
    return found
