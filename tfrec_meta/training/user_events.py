"""Training rows: events of users, each with a history of its own, as batches."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions, histories
from tfrec_meta.features import FeatureSpec


@dataclasses.dataclass(frozen=True)
class RowOptions:
    """What of a training recipe shapes the batches; `training.TrainingConfig` tells more.

    Args:
        epochs: passes over the events.
        batch_size: events of one batch; of windows, at most.
        history_length: items of a history; of windows, events that one predicts.
        history: "earlier" or "leave_one_out"; windows are always of earlier ones.
        history_dropout: share of the history's items that are hidden.
        user_dropout: share of the rows whose user id is hidden.
        user_balance: each event weighs (events of its user) ** -user_balance.
        history_crop: share of the rows whose history is cut to a random run of its items.
        history_reorder: share of the rows of whose history a random run is in random order.
        accumulation: batches of one step; above 1, each tensor has them as its first dimension.
        seed: of order, histories, borders of windows, and dropout.
    """

    epochs: int
    batch_size: int
    history_length: int
    history: Literal["earlier", "leave_one_out"] = "earlier"
    history_dropout: float = 0.0
    user_dropout: float = 0.0
    user_balance: float = 0.0
    history_crop: float = 0.0
    history_reorder: float = 0.0
    accumulation: int = 1
    seed: int = 42


class NoRowsError(ValueError):
    """Data of which nothing can be learned."""


@dataclasses.dataclass
class UserEvents:
    """Training events as arrays, and the batches that they become.

    They are tensors and not NumPy arrays, since tf.data would write those into its graph, which may
    have 2 GB: 20 million events would be over half of that.
    """

    spec: FeatureSpec
    options: RowOptions
    digest: str  # tells one list of events from another
    mean_weight: float  # of the events, before it was made 1
    user: tf.Tensor  # int32 [n]
    item: tf.Tensor  # int32 [n]
    value: tf.Tensor  # float32 [n]
    context: Mapping[str, tf.Tensor]
    order: tf.Tensor  # int64 [n], events by user, then time
    first: tf.Tensor  # int64 [n], place in `order` of the user's first event
    stop: tf.Tensor  # int64 [n], one past the place of the last strictly earlier event
    count: tf.Tensor  # int64 [n], events of the user
    weight: tf.Tensor  # float32 [n], mean 1

    @classmethod
    def of(cls, data: Interactions, spec: FeatureSpec, options: RowOptions) -> UserEvents:
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
        # Events of one user stand together in `order` and share `start`.
        count = np.bincount(past.start, minlength=len(item))[past.start]
        weight = count ** -float(options.user_balance)
        return cls(
            spec,
            options,
            digest_of(user, item, value, past.order, past.stop, *context.values()),
            float(weight.mean()),
            tf.constant(user),
            tf.constant(item),
            tf.constant(value),
            {name: tf.constant(value) for name, value in context.items()},
            tf.constant(past.order),
            tf.constant(past.start),
            tf.constant(past.stop),
            tf.constant(count, tf.int64),
            tf.constant(weight / weight.mean(), tf.float32),
        )

    @property
    def rows(self) -> int:
        """Rows to learn from in an epoch."""
        return len(self.item)

    @staticmethod
    def largest_batch(options: RowOptions) -> int:
        """Rows of a batch, where there are as many."""
        return options.batch_size

    @property
    def rows_of_batch(self) -> int:
        largest = self.largest_batch(self.options)
        return min(largest, self.item.shape[0] or largest)

    @property
    def history_length(self) -> int:
        return min(self.options.history_length, self.spec.history_length)

    @property
    def steps(self) -> int:
        """Steps an epoch; a last, smaller batch is left out, another one each epoch."""
        return self.rows // self.rows_of_batch // self.options.accumulation

    def batches(self, epoch: int) -> tf.data.Dataset:
        """Batches from the start of `epoch` to the end of training, the same at every call.

        Each is a dict of `history` int32 [B, H], `item_id` and `user_id` int32 [B], `value` and
        `sample_weight` float32 [B], and the context features of the events.
        """
        return batches_of_epochs(self.of_epoch, self.options, epoch)

    def of_epoch(self, seed: tf.Tensor, whole: bool = True) -> tf.data.Dataset:
        """The batches of one epoch.

        Args:
            seed: int64 [2], other numbers for each epoch.
            whole: whether a last, smaller batch is left out.
        """
        # Draws of their own for each purpose: two draws by one seed would be the same numbers.
        shuffle_seed, place_seed, drop_seed, hide_seed = tf.unstack(
            tf.random.split(seed, num=4), num=4
        )
        places, order = self._places(place_seed)
        items = tf.gather(self.item, order)

        def assemble(step: tf.Tensor, rows: tf.Tensor) -> dict[str, tf.Tensor]:
            query = {name: tf.gather(values, rows) for name, values in self.context.items()}
            drop = tf.random.fold_in(drop_seed, step)
            query["history"] = self._history(rows, places, items, drop)
            hide = tf.random.stateless_uniform(tf.shape(rows), tf.random.fold_in(hide_seed, step))
            shown = tf.cast(hide >= self.options.user_dropout, tf.int32)
            query["user_id"] = tf.gather(self.user, rows) * shown
            query["item_id"] = tf.gather(self.item, rows)
            query["value"] = tf.gather(self.value, rows)
            query["sample_weight"] = tf.gather(self.weight, rows)
            return query

        shuffled = shuffled_batches(tf.size(self.item), self.rows_of_batch, shuffle_seed, whole)
        return shuffled.enumerate().map(assemble)

    def _places(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where each event stands in `order`; for "leave_one_out", an order new in each epoch."""
        n, order = tf.size(self.item, tf.int64), self.order
        if self.options.history == "leave_one_out":
            # Users keep their block, events within it are shuffled: a cyclic window behind an event
            # is then a sample of the user's other events, without replacement.
            block = tf.cast(tf.gather(self.first, order), tf.float64)
            draw = tf.random.stateless_uniform(n[None], seed, dtype=tf.float64)
            order = tf.gather(order, tf.argsort(block + draw))
        places = tf.scatter_nd(order[:, None], tf.range(n), n[None])
        return places, order

    def _history(
        self, rows: tf.Tensor, places: tf.Tensor, items: tf.Tensor, draw: tf.Tensor
    ) -> tf.Tensor:
        """Item rows int32 [B, H] of the events' histories, after dropout."""
        step = tf.range(self.history_length, dtype=tf.int64)[None, :]
        first = tf.gather(self.first, rows)[:, None]
        if self.options.history == "leave_one_out":
            count = tf.gather(self.count, rows)[:, None]
            length = tf.minimum(count - 1, self.history_length)
            place = first + (tf.gather(places, rows)[:, None] - first + 1 + step) % count
        else:
            stop = tf.gather(self.stop, rows)[:, None]
            length = tf.minimum(stop - first, self.history_length)
            place = stop - length + step
        size = rows.shape[0] or tf.shape(rows)[0]
        shape = [size, self.history_length]
        kept = tf.random.stateless_uniform(shape, draw) >= self.options.history_dropout
        length = tf.broadcast_to(length, [size, 1])
        if self.options.history_crop:
            begin, end = random_run(length, self.options.history_crop, tf.random.fold_in(draw, 1))
            kept &= (step >= begin) & (step < end)
        if self.options.history_reorder:
            share, seed = self.options.history_reorder, tf.random.fold_in(draw, 2)
            order = reordered(length, share, self.history_length, seed)
            place = tf.gather(place, order, batch_dims=1)
        last = tf.size(self.item, tf.int64) - 1
        history = tf.gather(items, tf.clip_by_value(place, 0, last))
        if self.options.history == "leave_one_out":  # a repeat would give the answer away
            kept &= history != tf.gather(self.item, rows)[:, None]
        return tf.where((step < length) & kept, history, 0)


def batches_of_epochs(
    of_epoch: Callable[[tf.Tensor], tf.data.Dataset], options: RowOptions, first: int
) -> tf.data.Dataset:
    """One epoch after the other from `first`, each a dataset of batches by its seed, int64 [2]."""

    def steps(epoch: tf.Tensor) -> tf.data.Dataset:
        batches = of_epoch(tf.stack([tf.constant(options.seed, tf.int64), epoch]))
        if options.accumulation == 1:
            return batches
        return batches.batch(options.accumulation, drop_remainder=True)

    deterministic = tf.data.Options()
    deterministic.deterministic = True
    epochs = tf.data.Dataset.range(first, options.epochs)
    return epochs.flat_map(steps).with_options(deterministic).prefetch(2)


def shuffled_batches(size: tf.Tensor, batch: int, seed: tf.Tensor, whole: bool) -> tf.data.Dataset:
    """The numbers below `size` in random order, int32 [B] each.

    Args:
        size: int32 scalar.
        batch: B.
        seed: int64 [2].
        whole: whether a last, smaller batch is left out.
    """
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(size), seed)
    end = tf.cast(size, tf.int64) - (batch - 1 if whole else 0)

    def of_step(start: tf.Tensor) -> tf.Tensor:
        rows = shuffled[start : start + batch]
        return tf.ensure_shape(rows, [batch]) if whole else rows

    return tf.data.Dataset.range(0, end, batch).map(of_step)


def random_run(length: tf.Tensor, share: float, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A random run of places in a `share` of the rows, and all places in the others.

    Args:
        length: int64 [B, 1], places of each row.
        share: of the rows, in [0, 1].
        seed: int64 [2].

    Returns:
        int64 [B, 1] each: the first place of the run, and one past its last; at least one place
        where there is any.
    """
    draws = tf.random.stateless_uniform([3, tf.shape(length)[0], 1], seed, dtype=tf.float64)
    here, there = tf.unstack(
        tf.cast(tf.floor(draws[:2] * tf.cast(length, tf.float64)), tf.int64), num=2
    )
    chosen = draws[2] < share
    begin = tf.where(chosen, tf.minimum(here, there), 0)
    end = tf.where(chosen, tf.minimum(tf.maximum(here, there) + 1, length), length)
    return begin, end


def reordered(length: tf.Tensor, share: float, width: int, seed: tf.Tensor) -> tf.Tensor:
    """Orders int32 [B, width] in which, for a `share` of the rows, a random run is shuffled.

    Args:
        length: int64 [B, 1], places of each row that are in use.
        share: of the rows, in [0, 1].
        width: of a row.
        seed: int64 [2].

    Source: Xie et al., "Contrastive Learning for Sequential Recommendation" (CL4SRec), ICDE 2022,
    section 3.2.3; `random_run` is its crop and a random run its choice of what to reorder.
    """
    begin, end = random_run(length, 1.0, seed)
    draws = tf.random.stateless_uniform(
        [tf.shape(length)[0], width + 1], tf.random.fold_in(seed, 0), dtype=tf.float64
    )
    place = tf.range(width, dtype=tf.int64)[None, :]
    chosen = (place >= begin) & (place < end) & (draws[:, :1] < share)
    # Between the run's neighbours, in any order.
    within = tf.cast(begin, tf.float64) + draws[:, 1:] * tf.cast(end - begin, tf.float64)
    return tf.argsort(tf.where(chosen, within, tf.cast(place, tf.float64)), stable=True)


def digest_of(*parts: np.ndarray | bytes) -> str:
    """Tells one sequence of arrays or texts from another."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
