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
from tfrec_meta.io.digests import digest_of
from tfrec_meta.training.rows.base import (
    NoRowsError,
    RowOptions,
    RowsInMemory,
    TrainingRows,
)

_PARTS_AT_A_TIME = 4  # parts whose batches are interleaved


class StreamedRows(TrainingRows):
    """Training rows with the tensors of only a few parts in memory.

    An epoch goes through the parts in random order, several of them interleaved, and through the
    rows of each part in random order. A batch may hold rows of two parts.

    Args:
        kind: the class of rows, `EventRows` or `WindowRows`.
        data: the training events.
        spec: a fitted FeatureSpec.
        options: the options that shape the batches.

    Raises:
        NoRowsError: if there is nothing to learn from.
    """

    def __init__(
        self,
        kind: type[RowsInMemory],
        data: StreamedInteractions,
        spec: FeatureSpec,
        options: RowOptions,
    ):
        self.options = options
        self._folder = tempfile.TemporaryDirectory(prefix="rows-", dir=data.folder)
        self._parts = 0
        self._row_count = 0
        events, weight, digests = 0, 0.0, []
        positive, feedback = 0, 0.0
        no_rows = None
        for part in data.parts():
            try:
                rows = kind.from_interactions(part, spec, options)
            except NoRowsError as error:
                no_rows = error
                continue
            tensors = _tensors(rows)
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            np.savez(
                self._file(self._parts),
                mean_weight=rows.mean_weight,
                mean_feedback=rows.mean_feedback,
                **arrays,
            )
            self._parts += 1
            self._row_count += rows.row_count
            events += len(rows.item)
            weight += rows.mean_weight * len(rows.item)
            if rows.feedback is not None:
                count = int((arrays["feedback"] > 0).sum())
                positive += count
                feedback += rows.mean_feedback * count
            digests.append(rows.digest.encode())
            self._signature = {
                name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
                for name, tensor in tensors.items()
            }
        if not self._parts:
            raise no_rows or NoRowsError("There are no events to train on.")
        self._mean_weight = weight / events
        self._mean_feedback = feedback / positive if positive else 1.0
        self._kind = kind
        self._spec = spec
        self.digest = digest_of(*digests)

    @property
    def row_count(self) -> int:
        return self._row_count

    @property
    def rows_of_batch(self) -> int:
        return min(self._kind.largest_batch(self.options), self._row_count)

    def batches_of_epoch(self, seed: tf.Tensor, *, drop_remainder: bool = True) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(self._parts), seed)

        def of_part(part: tf.Tensor) -> tf.data.Dataset:
            seed_of_part = tf.random.fold_in(seed, part)
            return self._read(part).batches_of_epoch(seed_of_part, drop_remainder=False)

        parts = tf.data.Dataset.from_tensor_slices(order)
        batches = parts.interleave(of_part, cycle_length=_PARTS_AT_A_TIME, block_length=1)
        return batches.rebatch(self.rows_of_batch, drop_remainder=drop_remainder)

    def _read(self, part: tf.Tensor) -> RowsInMemory:
        """The rows of a part, whose tensors are read when the graph runs."""
        names = [*self._signature, "mean_weight", "mean_feedback"]

        def load(number: np.ndarray) -> list[np.ndarray]:
            with np.load(self._file(int(number)), allow_pickle=False) as arrays:
                return [arrays[name] for name in names]

        dtypes = [spec.dtype for spec in self._signature.values()]
        *loaded, mean_weight, mean_feedback = tf.numpy_function(
            load, [part], [*dtypes, tf.float64, tf.float64], stateful=False
        )
        fields: dict[str, Any] = {"context": {}}
        for (name, spec), tensor in zip(self._signature.items(), loaded, strict=True):
            tensor = tf.ensure_shape(tensor, spec.shape)
            field, _, feature = name.partition(".")
            if feature:
                fields[field][feature] = tensor
            else:
                fields[field] = tensor
        # Weights have a mean of 1 within their part; here they get a mean of 1 over all parts.
        fields["weight"] *= tf.cast(mean_weight / self._mean_weight, tf.float32)
        if "feedback" in fields:
            fields["feedback"] *= tf.cast(mean_feedback / self._mean_feedback, tf.float32)
        return self._kind(self._spec, self.options, self.digest, self._mean_weight, **fields)

    def _file(self, part: int) -> Path:
        return Path(self._folder.name) / f"{part}.npz"


def _tensors(rows: RowsInMemory) -> dict[str, tf.Tensor]:
    """The tensors of rows by field; context features by "context.<feature>"."""
    found = {f"context.{name}": value for name, value in rows.context.items()}
    for field in dataclasses.fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, tf.Tensor):
            found[field.name] = value
    return found
