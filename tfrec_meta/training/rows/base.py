"""The interface of training rows, and what rows in memory share."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec


@dataclasses.dataclass(frozen=True)
class RowOptions:
    """The part of a training recipe that shapes the batches; see `training.TrainingConfig`.

    Args:
        epochs: passes over the events.
        batch_size: events per batch; with windows, at most so many.
        history_length: items per history; with windows, events that one window predicts.
        history: "earlier" or "leave_one_out". Windows always use earlier events.
        history_dropout: share of the history items that are hidden.
        user_dropout: share of the rows whose user id is hidden.
        user_balance: the weight of an event is (number of events of its user) ** -user_balance.
        history_crop: share of the rows whose history is cut to a random run of its items.
        history_reorder: share of the rows in which a random run of the history is shuffled.
        accumulation: batches per step; above 1, they are the first dimension of each tensor.
        seed: seed of the order, of histories, of window borders, and of dropout.
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
    """The training data has no events to learn from."""


class TrainingRows(abc.ABC):
    """The rows that a model is trained on, as batches.

    Attributes:
        options: the options that shape the batches.
        digest: a digest of the events, to recognise the same training data.
    """

    options: RowOptions
    digest: str

    @property
    @abc.abstractmethod
    def row_count(self) -> int:
        """Rows per epoch."""

    @property
    @abc.abstractmethod
    def rows_of_batch(self) -> int:
        """Rows per batch."""

    @abc.abstractmethod
    def batches_of_epoch(self, seed: tf.Tensor, *, drop_remainder: bool = True) -> tf.data.Dataset:
        """Returns the batches of one epoch.

        Args:
            seed: int64 [2], other numbers for each epoch.
            drop_remainder: whether to leave out a last, smaller batch.
        """

    @property
    def steps(self) -> int:
        """Steps per epoch. A last, smaller batch is left out: other rows in each epoch."""
        return self.row_count // self.rows_of_batch // self.options.accumulation

    def batches(self, epoch: int) -> tf.data.Dataset:
        """Returns the batches from the start of `epoch` to the end of training.

        The batches are the same at every call. Each is a dict of tensors.
        """

        def steps(number: tf.Tensor) -> tf.data.Dataset:
            seed = tf.stack([tf.constant(self.options.seed, tf.int64), number])
            batches = self.batches_of_epoch(seed)
            if self.options.accumulation == 1:
                return batches
            return batches.batch(self.options.accumulation, drop_remainder=True)

        deterministic = tf.data.Options()
        deterministic.deterministic = True
        epochs = tf.data.Dataset.range(epoch, self.options.epochs)
        return epochs.flat_map(steps).with_options(deterministic).prefetch(2)


@dataclasses.dataclass
class RowsInMemory(TrainingRows):
    """Training rows whose events are in memory.

    They are tensors and not NumPy arrays: tf.data would write arrays into its graph, which is
    limited to 2 GB, and 20 million events would take more than half of that.
    """

    spec: FeatureSpec
    options: RowOptions
    digest: str
    mean_weight: float  # of the events, before weights were divided by it
    user: tf.Tensor  # int32 [n]
    item: tf.Tensor  # int32 [n]
    value: tf.Tensor  # float32 [n]
    context: Mapping[str, tf.Tensor]
    weight: tf.Tensor  # float32 [n], mean 1
    # With declared feedback: float32 [n], of which those above 0 have mean 1, and that mean before.
    feedback: tf.Tensor | None = dataclasses.field(default=None, kw_only=True)
    mean_feedback: float = dataclasses.field(default=1.0, kw_only=True)

    @classmethod
    @abc.abstractmethod
    def from_interactions(cls, data: Interactions, spec: FeatureSpec, options: RowOptions) -> Self:
        """Makes the rows of training events.

        Raises:
            NoRowsError: if there is nothing to learn from.
        """

    @staticmethod
    @abc.abstractmethod
    def largest_batch(options: RowOptions) -> int:
        """Returns the rows per batch, if there are enough of them."""

    @property
    @abc.abstractmethod
    def _row_tensor(self) -> tf.Tensor:
        """A tensor with one element per row."""

    @abc.abstractmethod
    def batches_of_rows(self, batches: tf.data.Dataset, seeds: EpochSeeds) -> tf.data.Dataset:
        """Turns row numbers into batches.

        Args:
            batches: row numbers int32 [B] per batch, enumerated.
            seeds: the seeds of the epoch.
        """

    @property
    def history_item(self) -> tf.Tensor:
        """Int32 [n], the item of each event in histories: 0 for events that are not positive."""
        if self.feedback is None:
            return self.item
        return tf.where(self.feedback > 0, self.item, 0)

    @property
    def row_count(self) -> int:
        return len(self._row_tensor)

    @property
    def rows_of_batch(self) -> int:
        largest = self.largest_batch(self.options)
        # The size is unknown in a graph that reads the rows of a part from a file.
        return min(largest, self._row_tensor.shape[0] or largest)

    def batches_of_epoch(self, seed: tf.Tensor, *, drop_remainder: bool = True) -> tf.data.Dataset:
        # One seed per purpose: two draws with the same seed would be the same numbers.
        seeds = EpochSeeds(*tf.unstack(tf.random.split(seed, num=4), num=4))
        size = tf.size(self._row_tensor)
        shuffled = shuffled_batches(size, self.rows_of_batch, seeds.order, drop_remainder)
        return self.batches_of_rows(shuffled.enumerate(), seeds)


@dataclasses.dataclass(frozen=True)
class EpochSeeds:
    """The seeds of one epoch, int64 [2] each.

    Args:
        order: seed of the order of the rows.
        selection: seed of the histories that "leave_one_out" samples, or of the window borders.
        dropout: seed of what is hidden in or done to histories.
        users: seed of the hidden user ids.
    """

    order: tf.Tensor
    selection: tf.Tensor
    dropout: tf.Tensor
    users: tf.Tensor


def shuffled_batches(
    size: tf.Tensor, batch: int, seed: tf.Tensor, drop_remainder: bool
) -> tf.data.Dataset:
    """Returns the numbers below `size` in random order, int32 [B] each.

    Args:
        size: int32 scalar.
        batch: B.
        seed: int64 [2].
        drop_remainder: whether to leave out a last, smaller batch.
    """
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(size), seed)
    end = tf.cast(size, tf.int64) - (batch - 1 if drop_remainder else 0)

    def of_step(start: tf.Tensor) -> tf.Tensor:
        rows = shuffled[start : start + batch]
        return tf.ensure_shape(rows, [batch]) if drop_remainder else rows

    return tf.data.Dataset.range(0, end, batch).map(of_step)


def normalised(weight: np.ndarray) -> tuple[float, tf.Tensor]:
    """Returns the mean of the weights, and the weights divided by it, float32."""
    return float(weight.mean()), tf.constant(weight / weight.mean(), tf.float32)


def normalised_feedback(data: Interactions) -> tuple[float, np.ndarray | None]:
    """Returns the mean weight of positive events, and all weights divided by it, float32 [n].

    Without feedback, these are 1 and None; equal weights become exactly 1.
    """
    weights = data.weights
    if weights is None:
        return 1.0, None
    positive = weights[weights > 0]
    mean = float(positive.mean(dtype=np.float64)) if len(positive) else 1.0
    return mean, (weights / mean).astype(np.float32)
