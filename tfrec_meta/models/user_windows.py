"""Windows of users' events, in which each but a user's first is predicted from those before it.

One pass over a window trains an order-aware history encoder on all of its events at once: for a
window of n events this costs about as much as one event with a history of n does by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfrec_meta.data import Interactions, histories
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.user_events import (
    RowOptions,
    batches_of_epochs,
    digest_of,
    random_run,
    reordered,
)

import numpy as np
import tensorflow as tf


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

    def __init__(self, data: Interactions, spec: FeatureSpec, options: RowOptions):
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
        self.digest = digest_of(user, item)
        self._item = tf.constant(item)
        self._user = tf.constant(user)
        self._value = tf.constant(data.events["value"].to_numpy())
        context = spec.encode_context(data.events)
        self._context = {name: tf.constant(value) for name, value in context.items()}
        weight = np.repeat(count ** -float(options.user_balance), count)
        self._weight = tf.constant(weight / weight.mean(), tf.float32)
        # Of each window: whose events, and the how manieth window of theirs it is.
        first, count = first[count > 1], count[count > 1]
        windows = -(-(count - 1) // options.history_length)
        self._owner = tf.constant(np.repeat(np.arange(len(count)), windows))
        self._place = tf.constant(np.concatenate([np.arange(n) for n in windows]))
        self._first, self._count = tf.constant(first), tf.constant(count)
        self._slack = tf.constant(windows * options.history_length - (count - 1))
        self._rows = min(max(1, options.batch_size // options.history_length), int(windows.sum()))
        self._batches = int(windows.sum()) // self._rows
        self.steps = self._batches // options.accumulation

    def batches(self, epoch: int) -> tf.data.Dataset:
        """Batches from the start of `epoch` to the end of training, the same at every call.

        Each is a dict of `history` int32 [B, n] (oldest first), the items that came next in
        `item_id` int32 [B, n] (0 where the window is over), `user_id` int32 [B], `value` and
        `sample_weight` float32 [B, n], and context features [B, n, …] of the events that came next.
        """
        return batches_of_epochs(self._epoch, self._options, epoch)

    def _epoch(self, epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.constant(self._options.seed, tf.int64), epoch])
        shuffle_seed, border_seed, drop_seed, hide_seed = tf.unstack(
            tf.random.split(seed, num=4), num=4
        )
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(self._owner.shape[0]), shuffle_seed
        )
        used = tf.reshape(shuffled[: self._batches * self._rows], [self._batches, self._rows])
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
        width = options.history_length
        begin = first + tf.gather(self._place, rows) * width - tf.gather(shift, owner)
        end = tf.minimum(begin + width - 1, last)
        begin = tf.maximum(begin, first)
        # All events of the window, the one before its first target included.
        start, length = begin[:, None] - 1, (end - begin + 2)[:, None]
        if options.history_crop:
            share, seed = options.history_crop, tf.random.fold_in(drop, 1)
            crop, stop = random_run(length - 1, share, seed)
            start, length = start + crop, stop - crop + 1
        step = tf.range(width + 1, dtype=tf.int64)[None, :]
        if options.history_reorder:
            share, seed = options.history_reorder, tf.random.fold_in(drop, 2)
            order = tf.cast(reordered(length, share, width + 1, seed), tf.int64)
        else:
            order = step
        event = start + tf.minimum(order, length - 1)
        inside = step[:, 1:] < length
        target = event[:, 1:]
        shown = tf.random.stateless_uniform([self._rows, width], drop) >= options.history_dropout
        known = tf.random.stateless_uniform([self._rows], hide) >= options.user_dropout
        return {
            **{name: tf.gather(value, target) for name, value in self._context.items()},
            "history": tf.where(inside & shown, tf.gather(self._item, event[:, :-1]), 0),
            "item_id": tf.where(inside, tf.gather(self._item, target), 0),
            "user_id": tf.where(known, tf.gather(self._user, first), 0),
            "value": tf.gather(self._value, target),
            "sample_weight": tf.gather(self._weight, target),
        }


def _blocks(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of equal codes begins, and how long it is."""
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return first, np.diff(np.append(first, len(codes)))
