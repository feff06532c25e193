"""Windows of users' events, in which each but a user's first is predicted from those before it.

One pass over a window trains an order-aware history encoder on all of its events at once: for a
window of n events this costs about as much as one event with a history of n does by itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

from tfrec_meta.data import Interactions, histories
from tfrec_meta.features import FeatureSpec

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class WindowOptions:
    """What of a training recipe shapes the batches.

    Args:
        epochs: passes over the events.
        events: of one batch, at most.
        length: events that one window predicts.
        history_dropout: share of the inputs that are hidden.
        user_dropout: share of the windows whose user id is hidden.
        user_balance: each event weighs (events of its user) ** -user_balance.
        seed: of order, borders of windows, and dropout.
    """

    epochs: int
    events: int
    length: int
    history_dropout: float
    user_dropout: float
    user_balance: float
    seed: int


class UserWindows:
    """Training events as windows, and the batches that they become.

    Events go by time, and those of one second by row: a window shows the order that is written
    down. The events of a user but the first fill as few windows as they can, whose borders move in
    each epoch as far as there is room, and each is a target of exactly one of them. Users of one
    event teach nothing.

    Attributes:
        steps: batches an epoch; a last, smaller batch is left out, another one each epoch.
        digest: tells one list of events from another.

    Raises:
        ValueError: if no user has two events of known items.
    """

    def __init__(self, data: Interactions, spec: FeatureSpec, options: WindowOptions):
        data = data.take(np.flatnonzero(spec.items.encode(data.events["item_id"])))
        order = histories(data).order
        data = data.take(order)
        first, count = _blocks(data.user_codes)
        if not (count > 1).any():
            raise ValueError(
                "No user of the training data has two events of items that the FeatureSpec knows, "
                "so that no event has an earlier one to be predicted from."
            )
        self._options = options
        user = spec.users.encode(data.events["user_id"])
        item = spec.items.encode(data.events["item_id"])
        self.digest = hashlib.sha256(user.tobytes() + item.tobytes()).hexdigest()
        self._item = tf.constant(item)
        self._user = tf.constant(user)
        context = spec.encode_context(data.events)
        self._context = {name: tf.constant(value) for name, value in context.items()}
        weight = np.repeat(count ** -float(options.user_balance), count)
        self._weight = tf.constant(weight / weight.mean(), tf.float32)
        # Of each window: whose events, and the how manieth window of theirs it is.
        first, count = first[count > 1], count[count > 1]
        windows = -(-(count - 1) // options.length)
        self._owner = tf.constant(np.repeat(np.arange(len(count)), windows))
        self._place = tf.constant(np.concatenate([np.arange(n) for n in windows]))
        self._first, self._count = tf.constant(first), tf.constant(count)
        self._slack = tf.constant(windows * options.length - (count - 1))
        self._rows = min(max(1, options.events // options.length), int(windows.sum()))
        self.steps = int(windows.sum()) // self._rows

    def batches(self, epoch: int) -> tf.data.Dataset:
        """Batches from the start of `epoch` to the end of training, the same at every call.

        Each is a dict of `history` int32 [B, n] (oldest first), the items that came next in
        `item_id` int32 [B, n] (0 where the window is over), `user_id` int32 [B], `sample_weight`
        float32 [B, n], and context features [B, n, …] of the events that came next.
        """
        epochs = tf.data.Dataset.range(epoch, self._options.epochs)
        options = tf.data.Options()
        options.deterministic = True
        return epochs.flat_map(self._epoch).with_options(options).prefetch(2)

    def _epoch(self, epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.constant(self._options.seed, tf.int64), epoch])
        shuffle_seed, border_seed, drop_seed, hide_seed = tf.unstack(
            tf.random.split(seed, num=4), num=4
        )
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(self._owner.shape[0]), shuffle_seed
        )
        used = tf.reshape(shuffled[: self.steps * self._rows], [self.steps, self._rows])
        uniform = tf.random.stateless_uniform(self._slack.shape, border_seed, dtype=tf.float64)
        shift = tf.cast(uniform * tf.cast(self._slack + 1, tf.float64), tf.int64)

        def assemble(step: tf.Tensor, rows: tf.Tensor) -> Mapping[str, tf.Tensor]:
            return self._batch(
                rows,
                shift,
                tf.random.fold_in(drop_seed, step),
                tf.random.fold_in(hide_seed, step),
            )

        return tf.data.Dataset.from_tensor_slices(used).enumerate().map(assemble)

    def _batch(
        self, rows: tf.Tensor, shift: tf.Tensor, drop: tf.Tensor, hide: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        options, owner = self._options, tf.gather(self._owner, rows)
        first = tf.gather(self._first, owner) + 1  # place of the user's first target
        last = first + tf.gather(self._count, owner) - 2
        begin = first + tf.gather(self._place, rows) * options.length - tf.gather(shift, owner)
        end = tf.minimum(begin + options.length - 1, last)
        begin = tf.maximum(begin, first)
        place = begin[:, None] + tf.range(options.length, dtype=tf.int64)[None, :]
        inside = place <= end[:, None]
        place = tf.minimum(place, last[:, None])
        shape = [self._rows, options.length]
        shown = tf.random.stateless_uniform(shape, drop) >= options.history_dropout
        known = tf.random.stateless_uniform([self._rows], hide) >= options.user_dropout
        return {
            **{name: tf.gather(value, place) for name, value in self._context.items()},
            "history": tf.where(inside & shown, tf.gather(self._item, place - 1), 0),
            "item_id": tf.where(inside, tf.gather(self._item, place), 0),
            "user_id": tf.where(known, tf.gather(self._user, first), 0),
            "sample_weight": tf.gather(self._weight, place),
        }


def _blocks(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of equal codes begins, and how long it is."""
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return first, np.diff(np.append(first, len(codes)))
