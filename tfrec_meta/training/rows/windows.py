"""Training rows of windows of a user's events, each event predicted from those before it.

One pass over a window trains an order-aware history encoder on all of its events. For a window of n
events this costs about as much as a single event with a history of n items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions, histories
from tfrec_meta.features import FeatureSpec
from tfrec_meta.io.digests import digest_of
from tfrec_meta.training.rows.augmentation import random_run, reordered
from tfrec_meta.training.rows.base import (
    EpochSeeds,
    NoRowsError,
    RowOptions,
    RowsInMemory,
    normalised,
    normalised_feedback,
)


@dataclasses.dataclass
class WindowRows(RowsInMemory):
    """Training rows of windows.

    Events are ordered by time, and events of the same second by row: a window follows the recorded
    order. The events of a user except the first fill as few windows as possible, and each is the
    target of exactly one window. The borders of the windows move in each epoch as far as there is
    room. Users with one event are left out.

    A batch is a dict of `history` int32 [B, n] (oldest first), the items that came next in
    `item_id` int32 [B, n] (0 after the end of a window), `user_id` int32 [B], `value`,
    `sample_weight` and, with declared feedback, `feedback` float32 [B, n], and
    context features [B, n, …] of the events that came next.
    """

    # The events above are sorted by user, then by time.
    owner: tf.Tensor  # int64 [windows], the user of a window: a position in the next three
    number: tf.Tensor  # int64 [windows], which window of its user it is, from 0
    first: tf.Tensor  # int64 [users with two events or more], position of the first event
    count: tf.Tensor  # int64 [users …], events
    slack: tf.Tensor  # int64 [users …], targets for which their windows still have room

    @classmethod
    def from_interactions(
        cls, data: Interactions, spec: FeatureSpec, options: RowOptions
    ) -> WindowRows:
        data = data.take(np.flatnonzero(spec.items.encode(data.events["item_id"])))
        order = histories(data).order
        data = data.take(order)
        first, count = _blocks(data.user_codes)
        if not (count > 1).any():
            raise NoRowsError(
                "No user of the training data has two events with items of the FeatureSpec, so no "
                "event has an earlier one to be predicted from. Use `rows`='events'."
            )
        user = spec.users.encode(data.events["user_id"])
        item = spec.items.encode(data.events["item_id"])
        value = data.events["value"].to_numpy()
        context = spec.encode_context(data.events)
        mean_weight, weight = normalised(np.repeat(count ** -float(options.user_balance), count))
        mean_feedback, feedback = normalised_feedback(data)
        declared = () if feedback is None else (data.weights,)
        first, count = first[count > 1], count[count > 1]
        windows = -(-(count - 1) // options.history_length)
        return cls(
            spec=spec,
            options=options,
            digest=digest_of(user, item, value, *context.values(), *declared),
            mean_weight=mean_weight,
            user=tf.constant(user),
            item=tf.constant(item),
            value=tf.constant(value),
            context={name: tf.constant(values) for name, values in context.items()},
            weight=weight,
            owner=tf.constant(np.repeat(np.arange(len(count)), windows)),
            number=tf.constant(np.concatenate([np.arange(n) for n in windows])),
            first=tf.constant(first),
            count=tf.constant(count),
            slack=tf.constant(windows * options.history_length - (count - 1)),
            feedback=None if feedback is None else tf.constant(feedback),
            mean_feedback=mean_feedback,
        )

    @staticmethod
    def largest_batch(options: RowOptions) -> int:
        return max(1, options.batch_size // options.history_length)

    @property
    def _row_tensor(self) -> tf.Tensor:
        return self.owner

    def batches_of_rows(self, batches: tf.data.Dataset, seeds: EpochSeeds) -> tf.data.Dataset:
        draw = tf.random.stateless_uniform(tf.shape(self.slack), seeds.selection, dtype=tf.float64)
        shift = tf.cast(draw * tf.cast(self.slack + 1, tf.float64), tf.int64)

        def assemble(step: tf.Tensor, rows: tf.Tensor) -> Mapping[str, tf.Tensor]:
            return self._batch(
                rows,
                shift,
                tf.random.fold_in(seeds.dropout, step),
                tf.random.fold_in(seeds.users, step),
            )

        return batches.map(assemble)

    def _batch(
        self, rows: tf.Tensor, shift: tf.Tensor, dropout: tf.Tensor, users: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        options, owner = self.options, tf.gather(self.owner, rows)
        first = tf.gather(self.first, owner) + 1  # position of the user's first target
        last = first + tf.gather(self.count, owner) - 2
        width = options.history_length
        begin = first + tf.gather(self.number, rows) * width - tf.gather(shift, owner)
        end = tf.minimum(begin + width - 1, last)
        begin = tf.maximum(begin, first)
        # All events of the window, including the one before its first target.
        start, length = begin[:, None] - 1, (end - begin + 2)[:, None]
        if options.history_crop:
            share, seed = options.history_crop, tf.random.fold_in(dropout, 1)
            crop, stop = random_run(length - 1, share, seed)
            start, length = start + crop, stop - crop + 1
        step = tf.range(width + 1, dtype=tf.int64)[None, :]
        if options.history_reorder:
            share, seed = options.history_reorder, tf.random.fold_in(dropout, 2)
            order = tf.cast(reordered(length, share, width + 1, seed), tf.int64)
        else:
            order = step
        event = start + tf.minimum(order, length - 1)
        inside = step[:, 1:] < length
        target = event[:, 1:]
        size = rows.shape[0] or tf.shape(rows)[0]
        shown = tf.random.stateless_uniform([size, width], dropout) >= options.history_dropout
        known = tf.random.stateless_uniform([size], users) >= options.user_dropout
        declared = {} if self.feedback is None else {"feedback": tf.gather(self.feedback, target)}
        return {
            **{name: tf.gather(value, target) for name, value in self.context.items()},
            **declared,
            "history": tf.where(inside & shown, tf.gather(self.history_item, event[:, :-1]), 0),
            "item_id": tf.where(inside, tf.gather(self.item, target), 0),
            "user_id": tf.where(known, tf.gather(self.user, first), 0),
            "value": tf.gather(self.value, target),
            "sample_weight": tf.gather(self.weight, target),
        }


def _blocks(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each run of equal codes begins, and its length."""
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return first, np.diff(np.append(first, len(codes)))
