"""Training rows of more events than fit into memory: encoded once, read part by part."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_meta.data import StreamedInteractions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.training.user_events import (
    NoRowsError,
    RowOptions,
    UserEvents,
    batches_of_epochs,
    digest_of,
)
from tfrec_meta.training.user_windows import UserWindows

_TOGETHER = 4  # parts whose batches take turns


class StreamedRows:
    """What `UserEvents` or `UserWindows` are, with the tensors of a few parts in memory.

    An epoch goes through the parts in random order, several of them in turn, and through each
    one's rows in random order; a batch may hold rows of two parts. Of the rows of an epoch a last,
    smaller batch is left out, another one each epoch.

    Args:
        kind: what a row is.
        data: the events.
        spec: a fitted spec.
        options: as of the rows that are in memory.

    Attributes:
        steps: steps an epoch.
        rows_of_batch: as of the rows that are in memory.
        digest: tells one list of events from another.

    Raises:
        ValueError: if nothing can be learned from the events.
    """

    def __init__(
        self,
        kind: type[UserEvents] | type[UserWindows],
        data: StreamedInteractions,
        spec: FeatureSpec,
        options: RowOptions,
    ):
        self._options = options
        self._place = tempfile.TemporaryDirectory(prefix="rows-", dir=data.folder)
        self._parts = 0
        self._rows = 0
        events, weight, digests = 0, 0.0, []
        nothing = None
        for part in data.parts():
            try:
                rows: Any = kind.of(part, spec, options)
            except NoRowsError as error:
                nothing = error
                continue
            tensors = _tensors(rows)
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            np.savez(self._file(self._parts), mean_weight=rows.mean_weight, **arrays)
            self._parts += 1
            self._rows += rows.rows
            events += len(rows.item)
            weight += rows.mean_weight * len(rows.item)
            digests.append(rows.digest.encode())
            self._signature = {
                name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
                for name, tensor in tensors.items()
            }
        if not self._parts:
            raise nothing or NoRowsError("There are no events to train on.")
        self._mean_weight = weight / events
        self._kind: Any = kind
        self._spec = spec
        self.digest = digest_of(*digests)
        self.rows_of_batch = min(kind.largest_batch(options), self._rows)
        self.steps = self._rows // self.rows_of_batch // options.accumulation

    def batches(self, epoch: int) -> tf.data.Dataset:
        """As of the rows that are in memory: the same at every call."""
        return batches_of_epochs(self._of_epoch, self._options, epoch)

    def _of_epoch(self, seed: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(self._parts), seed)

        def of_part(part: tf.Tensor) -> tf.data.Dataset:
            return self._read(part).of_epoch(tf.random.fold_in(seed, part), whole=False)

        parts = tf.data.Dataset.from_tensor_slices(order)
        batches = parts.interleave(of_part, cycle_length=_TOGETHER, block_length=1)
        return batches.rebatch(self.rows_of_batch, drop_remainder=True)

    def _read(self, part: tf.Tensor) -> Any:
        """The rows of a part, whose tensors are read when the graph runs."""
        names = [*self._signature, "mean_weight"]

        def load(number: np.ndarray) -> list[np.ndarray]:
            with np.load(self._file(int(number)), allow_pickle=False) as arrays:
                return [arrays[name] for name in names]

        kinds = [spec.dtype for spec in self._signature.values()]
        *loaded, mean_weight = tf.numpy_function(load, [part], [*kinds, tf.float64], stateful=False)
        fields: dict[str, Any] = {"context": {}}
        for (name, spec), tensor in zip(self._signature.items(), loaded, strict=True):
            tensor = tf.ensure_shape(tensor, spec.shape)
            field, _, feature = name.partition(".")
            if feature:
                fields[field][feature] = tensor
            else:
                fields[field] = tensor
        # From a mean of 1 in the part to one of 1 in all of them.
        fields["weight"] *= tf.cast(mean_weight / self._mean_weight, tf.float32)
        return self._kind(self._spec, self._options, self.digest, self._mean_weight, **fields)

    def _file(self, part: int) -> Path:
        return Path(self._place.name) / f"{part}.npz"


def _tensors(rows: UserEvents | UserWindows) -> dict[str, tf.Tensor]:
    """By field; those of the context by "context.<feature>"."""
    found = {f"context.{name}": value for name, value in rows.context.items()}
    for field in dataclasses.fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, tf.Tensor):
            found[field.name] = value
    return found
