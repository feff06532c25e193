"""The outer loop of `MetaRanker`, and predictions of a meta-trained ranker for single events."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.keras import tf_keras
from tfrec_meta.metalearning.episodes import Batch, EpisodeConfig, Episodes
from tfrec_meta.metalearning.tasks import Tasks, user_tasks
from tfrec_meta.models.adaptation.learners import Examples
from tfrec_meta.models.families.meta_ranker import MetaRanker

_USERS_PER_BATCH = 256


def learn_start(model: MetaRanker, data: Interactions, seed: int = 42) -> list[float]:
    """Meta-trains a fitted model on episodes of the users: the initial weights and the inner loop.

    Args:
        model: a model after `fit`. If no user has more events than the smallest of `shots`, it is
            not changed.
        data: the events on which it was fitted.
        seed: seed of the episodes.

    Returns:
        The loss of each step; empty if the model was not changed.
    """
    config = model.config
    tasks = user_tasks(data, model.spec, "value")
    tasks = dataclasses.replace(tasks, label=model.standardised(model.labels(tasks.label)))
    if not config.steps or not len(tasks.at_least(config.shots[0] + 1)):
        return []
    learned = model.learner.trainable_variables
    optimizer = tf_keras.optimizers.AdamW(
        tf_keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps),
        weight_decay=config.weight_decay,
    )
    embeddings = {variable.ref() for variable in model.fields.trainable_variables}
    optimizer.exclude_from_weight_decay([v for v in learned if v.ref() not in embeddings])
    optimizer.build(learned)

    @tf.function(reduce_retracing=True)
    def step(support: Examples, query: Examples) -> tf.Tensor:
        loss, gradients = model.learner.meta_gradients(support, query)
        pairs = zip(gradients, learned, strict=True)
        optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])
        return loss

    losses = [step(*sets) for sets in _sets(model, data, tasks, seed)]
    model.refresh()
    return [float(loss) for loss in losses]


def predict_events(model: MetaRanker, support: Interactions, events: Interactions) -> np.ndarray:
    """Predicts ratings or logits of events, after adapting to each user's support events.

    Args:
        model: a fitted model.
        support: labelled events. A user without any gets zero-shot predictions. Unknown items are
            ignored.
        events: the events to predict; their values are not used. User features are taken from its
            users table.

    Returns:
        float32 [len(events)].
    """
    users, spec = events.user_ids, model.spec
    support_rows, event_rows = _rows_by_user(support, users), _rows_by_user(events, users)
    encoded = spec.encode_users(events.users)
    row = spec.users.encode(pa.array(users, pa.string()))
    labels = model.labels(support.events["value"].to_numpy())
    items = [spec.items.encode(part.events["item_id"]) for part in (support, events)]
    found = np.zeros(len(events), np.float32)
    for start in range(0, len(users), _USERS_PER_BATCH):
        part = slice(start, start + _USERS_PER_BATCH)
        given, query = support_rows[part], event_rows[part]
        present = given >= 0
        predicted = model.adapted(
            tf.constant(np.where(present, _take(items[0], given), 0), tf.int32),
            tf.constant(np.where(present, _take(labels, given), 0.0), tf.float32),
            {name: tf.constant(table[row[part]]) for name, table in encoded.items()},
            tf.constant(_take(items[1], query), tf.int32),
        )
        found[query[query >= 0]] = predicted.numpy()[query >= 0]
    return found


def _take(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns `values[rows]`, zeros if there are no values; padding (-1) gets any value."""
    return values[rows] if len(values) else np.zeros(rows.shape, values.dtype)


def _rows_by_user(data: Interactions, users: np.ndarray) -> np.ndarray:
    """Returns the event rows of each user, int64 [users, width], padded with -1."""
    index = {user: row for row, user in enumerate(users)}
    row = np.array([index.get(user, -1) for user in data.user_ids], int)[data.user_codes]
    order = np.argsort(row, kind="stable")
    order = order[row[order] >= 0]
    owner = row[order]
    position = np.arange(len(owner)) - np.searchsorted(owner, owner)
    found = np.full([len(users), int(position.max(initial=0)) + 1], -1)
    found[owner, position] = order
    return found


def _sets(
    model: MetaRanker, data: Interactions, tasks: Tasks, seed: int
) -> Iterator[tuple[Examples, Examples]]:
    """Yields the support and query sets of each step."""
    config = model.config
    episodes = Episodes(
        tasks,
        EpisodeConfig(
            config.shots,
            query=config.query,
            order=config.order,
            tasks_per_batch=config.tasks_per_step,
            seed=seed,
        ),
    )
    users = model.spec.encode_users(data.users)
    rng = np.random.default_rng(seed)
    number = done = 0
    while True:
        for batch in episodes.epoch(number):
            if done == config.steps:
                return
            if config.target == "interaction":
                _add_negatives(batch, episodes.tasks, len(model.spec.items), config.negatives, rng)
            yield _examples(model, batch, users, "support"), _examples(model, batch, users, "query")
            done += 1
        number += 1


def _examples(model: MetaRanker, batch: Batch, users: dict[str, np.ndarray], part: str) -> Examples:
    user = batch["support_user"].max(axis=1, initial=0)
    user = np.maximum(user, batch["query_user"].max(axis=1, initial=0))  # padding is 0
    item = batch[f"{part}_item"]
    inputs = {
        "item": tf.constant(item),
        "fold": tf.constant(np.repeat(model.folds(user)[:, None], item.shape[1], axis=1)),
        "user": {
            feature.name: tf.constant(users[feature.name][user][:, None])
            for feature in model.spec.user
        },
    }
    return Examples(inputs, tf.constant(batch[f"{part}_label"]), tf.constant(batch[f"{part}_mask"]))


def _add_negatives(
    batch: Batch, tasks: Tasks, rows: int, count: int, rng: np.random.Generator
) -> None:
    """Adds random items with label 0 to the query sets; items of the task itself are masked."""
    drawn = rng.integers(1, rows, (len(batch["task"]), count))
    is_negative = np.ones(drawn.shape, np.float32)
    for row, task in enumerate(batch["task"]):
        own = tasks.item[tasks.events[tasks.start[task] : tasks.start[task + 1]]]
        is_negative[row] = ~np.isin(drawn[row], own)
    for column, values in (
        ("item", drawn.astype(np.int32)),
        ("user", np.zeros(drawn.shape, np.int32)),
        ("label", np.zeros(drawn.shape, np.float32)),
        ("mask", is_negative),
    ):
        batch[f"query_{column}"] = np.concatenate([batch[f"query_{column}"], values], axis=1)
