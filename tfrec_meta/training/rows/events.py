"""Training rows of single events, each with its own history."""

from __future__ import annotations

import dataclasses

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
class EventRows(RowsInMemory):
    """Training rows of single events.

    A batch is a dict of `history` int32 [B, H], `item_id` and `user_id` int32 [B], `value`,
    `sample_weight` and, with declared feedback, `feedback` float32 [B], and the context features of
    the events.
    """

    order: tf.Tensor  # int64 [n], events by user, then by time
    first: tf.Tensor  # int64 [n], position in `order` of the user's first event
    stop: tf.Tensor  # int64 [n], one past the position of the last strictly earlier event
    count: tf.Tensor  # int64 [n], events of the user

    @classmethod
    def from_interactions(
        cls, data: Interactions, spec: FeatureSpec, options: RowOptions
    ) -> EventRows:
        known = np.flatnonzero(spec.items.encode(data.events["item_id"]))
        if not len(known):
            raise NoRowsError(
                "No training event has an item of the FeatureSpec; fit the spec on this data."
            )
        data = data.take(known)
        past = histories(data)
        user = spec.users.encode(data.events["user_id"])
        item = spec.items.encode(data.events["item_id"])
        value = data.events["value"].to_numpy()
        context = spec.encode_context(data.events)
        # The events of one user are adjacent in `order` and share `start`.
        count = np.bincount(past.start, minlength=len(item))[past.start]
        mean_weight, weight = normalised(count ** -float(options.user_balance))
        mean_feedback, feedback = normalised_feedback(data)
        declared = () if feedback is None else (data.weights,)
        return cls(
            spec=spec,
            options=options,
            digest=digest_of(
                user, item, value, past.order, past.stop, *context.values(), *declared
            ),
            mean_weight=mean_weight,
            user=tf.constant(user),
            item=tf.constant(item),
            value=tf.constant(value),
            context={name: tf.constant(values) for name, values in context.items()},
            weight=weight,
            order=tf.constant(past.order),
            first=tf.constant(past.start),
            stop=tf.constant(past.stop),
            count=tf.constant(count, tf.int64),
            feedback=None if feedback is None else tf.constant(feedback),
            mean_feedback=mean_feedback,
        )

    @staticmethod
    def largest_batch(options: RowOptions) -> int:
        return options.batch_size

    @property
    def _row_tensor(self) -> tf.Tensor:
        return self.item

    def batches_of_rows(self, batches: tf.data.Dataset, seeds: EpochSeeds) -> tf.data.Dataset:
        positions, order = self._positions(seeds.selection)
        items = tf.gather(self.history_item, order)

        def assemble(step: tf.Tensor, rows: tf.Tensor) -> dict[str, tf.Tensor]:
            query = {name: tf.gather(values, rows) for name, values in self.context.items()}
            dropout = tf.random.fold_in(seeds.dropout, step)
            query["history"] = self._history(rows, positions, items, dropout)
            draw = tf.random.stateless_uniform(tf.shape(rows), tf.random.fold_in(seeds.users, step))
            shown = tf.cast(draw >= self.options.user_dropout, tf.int32)
            query["user_id"] = tf.gather(self.user, rows) * shown
            query["item_id"] = tf.gather(self.item, rows)
            query["value"] = tf.gather(self.value, rows)
            query["sample_weight"] = tf.gather(self.weight, rows)
            if self.feedback is not None:
                query["feedback"] = tf.gather(self.feedback, rows)
            return query

        return batches.map(assemble)

    def _positions(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Position of each event in `order`, and `order`; with "leave_one_out" a new order."""
        n, order = tf.size(self.item, tf.int64), self.order
        if self.options.history == "leave_one_out":
            # Shuffles the events within each user's block. A cyclic window behind an event is then
            # a sample of the user's other events without replacement.
            block = tf.cast(tf.gather(self.first, order), tf.float64)
            draw = tf.random.stateless_uniform(n[None], seed, dtype=tf.float64)
            order = tf.gather(order, tf.argsort(block + draw))
        positions = tf.scatter_nd(order[:, None], tf.range(n), n[None])
        return positions, order

    def _history(
        self, rows: tf.Tensor, positions: tf.Tensor, items: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Item rows int32 [B, H] of the events' histories, after augmentation and dropout."""
        width = min(self.options.history_length, self.spec.history_length)
        step = tf.range(width, dtype=tf.int64)[None, :]
        first = tf.gather(self.first, rows)[:, None]
        if self.options.history == "leave_one_out":
            count = tf.gather(self.count, rows)[:, None]
            length = tf.minimum(count - 1, width)
            position = first + (tf.gather(positions, rows)[:, None] - first + 1 + step) % count
        else:
            stop = tf.gather(self.stop, rows)[:, None]
            length = tf.minimum(stop - first, width)
            position = stop - length + step
        size = rows.shape[0] or tf.shape(rows)[0]
        shown = tf.random.stateless_uniform([size, width], seed) >= self.options.history_dropout
        length = tf.broadcast_to(length, [size, 1])
        if self.options.history_crop:
            begin, end = random_run(length, self.options.history_crop, tf.random.fold_in(seed, 1))
            shown &= (step >= begin) & (step < end)
        if self.options.history_reorder:
            share, seed = self.options.history_reorder, tf.random.fold_in(seed, 2)
            order = reordered(length, share, width, seed)
            position = tf.gather(position, order, batch_dims=1)
        last = tf.size(self.item, tf.int64) - 1
        history = tf.gather(items, tf.clip_by_value(position, 0, last))
        if self.options.history == "leave_one_out":
            # Another event with the same item would give the target away.
            shown &= history != tf.gather(self.item, rows)[:, None]
        return tf.where((step < length) & shown, history, 0)
