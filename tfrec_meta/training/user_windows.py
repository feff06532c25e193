"""Windows of users' events, in which each but a user's first is predicted from those before it.

One pass over a window trains an order-aware history encoder on all of its events at once: for a
window of n events this costs about as much as one event with a history of n does by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions, histories
from tfrec_meta.features import FeatureSpec
from tfrec_meta.training.user_events import (
    NoRowsError,
    RowOptions,
    batches_of_epochs,
    digest_of,
    random_run,
    reordered,
    shuffled_batches,
)


@dataclasses.dataclass
class UserWindows:
    """Training events as windows, and the batches that they become.

    Events go by time, and those of one second by row: a window shows the order that is written
    down. The events of a user but the first fill as few windows as they can, whose borders move in
    each epoch as far as there is room, and each is a target of exactly one of them. Users of one
    event teach nothing.
    """

    spec: FeatureSpec
    options: RowOptions
    digest: str  # tells one list of events from another
    mean_weight: float  # of the events, before it was made 1
    user: tf.Tensor  # int32 [n], by user, then time
    item: tf.Tensor  # int32 [n]
    value: tf.Tensor  # float32 [n]
    context: Mapping[str, tf.Tensor]
    weight: tf.Tensor  # float32 [n], mean 1
    owner: tf.Tensor  # int64 [windows], whose events: a place in the next three
    place: tf.Tensor  # int64 [windows], the how manieth window of its owner
    first: tf.Tensor  # int64 [users of two events or more], place of the first event
    count: tf.Tensor  # int64 [users ...], events
    slack: tf.Tensor  # int64 [users ...], targets for which their windows still have room

    @classmethod
    def of(cls, data: Interactions, spec: FeatureSpec, options: RowOptions) -> UserWindows:
        """Raises NoRowsError if no user has two events of known items."""
        data = data.take(np.flatnonzero(spec.items.encode(data.events["item_id"])))
        order = histories(data).order
        data = data.take(order)
        first, count = _blocks(data.user_codes)
        if not (count > 1).any():
            raise NoRowsError(
                "No user of the training data has two events of items that the FeatureSpec knows, "
                "so that no event has an earlier one to be predicted from."
            )
        user = spec.users.encode(data.events["user_id"])
        item = spec.items.encode(data.events["item_id"])
        context = spec.encode_context(data.events)
        weight = np.repeat(count ** -float(options.user_balance), count)
        first, count = first[count > 1], count[count > 1]
        windows = -(-(count - 1) // options.history_length)
        return cls(
            spec,
            options,
            digest_of(user, item, data.events["value"].to_numpy(), *context.values()),
            float(weight.mean()),
            tf.constant(user),
            tf.constant(item),
            tf.constant(data.events["value"].to_numpy()),
            {name: tf.constant(value) for name, value in context.items()},
            tf.constant(weight / weight.mean(), tf.float32),
            tf.constant(np.repeat(np.arange(len(count)), windows)),
            tf.constant(np.concatenate([np.arange(n) for n in windows])),
            tf.constant(first),
            tf.constant(count),
            tf.constant(windows * options.history_length - (count - 1)),
        )

    @property
    def rows(self) -> int:
        """Rows to learn from in an epoch."""
        return len(self.owner)

    @staticmethod
    def largest_batch(options: RowOptions) -> int:
        """Rows of a batch, where there are as many."""
        return max(1, options.batch_size // options.history_length)

    @property
    def rows_of_batch(self) -> int:
        largest = self.largest_batch(self.options)
        return min(largest, self.owner.shape[0] or largest)

    @property
    def steps(self) -> int:
        """Steps an epoch; a last, smaller batch is left out, another one each epoch."""
        return self.rows // self.rows_of_batch // self.options.accumulation

    def batches(self, epoch: int) -> tf.data.Dataset:
        """Batches from the start of `epoch` to the end of training, the same at every call.

        Each is a dict of `history` int32 [B, n] (oldest first), the items that came next in
        `item_id` int32 [B, n] (0 where the window is over), `user_id` int32 [B], `value` and
        `sample_weight` float32 [B, n], and context features [B, n, …] of the events that came next.
        """
        return batches_of_epochs(self.of_epoch, self.options, epoch)

    def of_epoch(self, seed: tf.Tensor, whole: bool = True) -> tf.data.Dataset:
        """The batches of one epoch.

        Args:
            seed: int64 [2], other numbers for each epoch.
            whole: whether a last, smaller batch is left out.
        """
        shuffle_seed, border_seed, drop_seed, hide_seed = tf.unstack(
            tf.random.split(seed, num=4), num=4
        )
        uniform = tf.random.stateless_uniform(tf.shape(self.slack), border_seed, dtype=tf.float64)
        shift = tf.cast(uniform * tf.cast(self.slack + 1, tf.float64), tf.int64)

        def assemble(step: tf.Tensor, rows: tf.Tensor) -> Mapping[str, tf.Tensor]:
            return self._batch(
                rows,
                shift,
                tf.random.fold_in(drop_seed, step),
                tf.random.fold_in(hide_seed, step),
            )

        shuffled = shuffled_batches(tf.size(self.owner), self.rows_of_batch, shuffle_seed, whole)
        return shuffled.enumerate().map(assemble)

    def _batch(
        self, rows: tf.Tensor, shift: tf.Tensor, drop: tf.Tensor, hide: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        options, owner = self.options, tf.gather(self.owner, rows)
        first = tf.gather(self.first, owner) + 1  # place of the user's first target
        last = first + tf.gather(self.count, owner) - 2
        width = options.history_length
        begin = first + tf.gather(self.place, rows) * width - tf.gather(shift, owner)
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
        size = rows.shape[0] or tf.shape(rows)[0]
        shown = tf.random.stateless_uniform([size, width], drop) >= options.history_dropout
        known = tf.random.stateless_uniform([size], hide) >= options.user_dropout
        return {
            **{name: tf.gather(value, target) for name, value in self.context.items()},
            "history": tf.where(inside & shown, tf.gather(self.item, event[:, :-1]), 0),
            "item_id": tf.where(inside, tf.gather(self.item, target), 0),
            "user_id": tf.where(known, tf.gather(self.user, first), 0),
            "value": tf.gather(self.value, target),
            "sample_weight": tf.gather(self.weight, target),
        }


def _blocks(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of equal codes begins, and how long it is."""
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return first, np.diff(np.append(first, len(codes)))
