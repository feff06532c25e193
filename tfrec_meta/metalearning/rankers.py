"""The outer loop of `models.MetaRanker`: where to begin and how to go on, by episodes of users;
and what a ranker that has learned that predicts of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.keras import tf_keras
from tfrec_meta.metalearning.episodes import Batch, EpisodeConfig, Episodes, Tasks, user_tasks
from tfrec_meta.models.adaptation.learners import Examples
from tfrec_meta.models.families.meta_ranker import MetaRanker

_USERS_AT_ONCE = 256


def learn_start(model: MetaRanker, data: Interactions, seed: int = 42) -> list[float]:
    """Meta-trains a fitted model on episodes of the users.

    Args:
        model: after `fit`; without any user of more events than the fewest `shots` it keeps what it
            begins with.
        data: the events that it was fitted on.
        seed: of the episodes.

    Returns:
        The loss of each step.
    """
    config = model.config
    tasks = user_tasks(data, model.spec, "value")
    tasks = dataclasses.replace(tasks, label=model.labels(tasks.label))
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


def predict_events(model: MetaRanker, support: Interactions, asked: Interactions) -> np.ndarray:
    """Ratings or logits of events, each user's after adapting to what `support` has of theirs.

    Args:
        model: fitted.
        support: labelled events; whoever has none gets the zero-shot answer, and items that the
            model doesn't know are left out.
        asked: whose events with which items to predict; their values are not looked at. The users
            table gives the users' features.

    Returns:
        float32 [len(asked)].
    """
    users, spec = asked.user_ids, model.spec
    known, wanted = _by_user(support, users), _by_user(asked, users)
    encoded = spec.encode_users(asked.users)
    row = spec.users.encode(pa.array(users, pa.string()))
    labels = model.labels(support.events["value"].to_numpy())
    items = [spec.items.encode(events.events["item_id"]) for events in (support, asked)]
    found = np.zeros(len(asked), np.float32)
    for start in range(0, len(users), _USERS_AT_ONCE):
        part = slice(start, start + _USERS_AT_ONCE)
        given, query = known[part], wanted[part]
        there = given >= 0
        predicted, _ = model.adapt(
            tf.constant(np.where(there, _at(items[0], given), 0), tf.int32),
            tf.constant(np.where(there, _at(labels, given), 0.0), tf.float32),
            {name: tf.constant(table[row[part]]) for name, table in encoded.items()},
            tf.constant(_at(items[1], query), tf.int32),
        )
        found[query[query >= 0]] = predicted.numpy()[query >= 0]
    return found


def _at(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`values` by row, where there are any; of blanks, -1, something."""
    return values[rows] if len(values) else np.zeros(rows.shape, values.dtype)


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


def _sets(
    model: MetaRanker, data: Interactions, tasks: Tasks, seed: int
) -> Iterator[tuple[Examples, Examples]]:
    """Support and query sets of each step."""
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
    """Items with label 0 join the query sets; those that are the task's own are masked."""
    drawn = rng.integers(1, rows, (len(batch["task"]), count))
    other = np.ones(drawn.shape, np.float32)
    for place, task in enumerate(batch["task"]):
        own = tasks.item[tasks.events[tasks.start[task] : tasks.start[task + 1]]]
        other[place] = ~np.isin(drawn[place], own)
    for column, values in (
        ("item", drawn.astype(np.int32)),
        ("user", np.zeros(drawn.shape, np.int32)),
        ("label", np.zeros(drawn.shape, np.float32)),
        ("mask", other),
    ):
        batch[f"query_{column}"] = np.concatenate([batch[f"query_{column}"], values], axis=1)
