"""Columns of tf.Examples, each a SparseTensor [B, n], as values that the encoding takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfrec_meta.features import calendar, text
from tfrec_meta.features.columns import MAX_WHOLE, NOT_WHOLE
from tfrec_meta.features.graph import raw_default, raw_width
from tfrec_meta.features.kinds import Calendar, Category, Feature, Number, Text, Vector

Inputs = Mapping[str, tf.SparseTensor]


def column_of(inputs: Inputs, name: str, where: str) -> tf.SparseTensor:
    """Returns a column; raises a ValueError if `where`, the table in words, does not have it."""
    if name not in inputs:
        raise ValueError(
            f"The {where} have no column `{name.rpartition('/')[2]}`, but the spec declares it "
            f"as a feature; the columns of all tables are {', '.join(sorted(inputs))}."
        )
    return inputs[name]


def counted_values(feature: Feature, column: tf.SparseTensor) -> tf.Tensor:
    """Returns the values of a column that `fitting.count` takes: tokens, words or numbers."""
    if isinstance(feature, Number):
        return _narrow(floats(column, feature.name), 1).values
    if isinstance(feature, Category):
        return _narrow(strings(column, feature.name), feature.width).values
    assert isinstance(feature, Text)  # hashed texts and vectors are not counted
    texts = _narrow(strings(column, feature.name), 1).values
    return tf.reshape(text.words(texts, feature.width), [-1])


def raw_values(feature: Feature, column: tf.SparseTensor) -> tf.Tensor:
    """Returns a column as input of `Encoding`, padded to `raw_width` with `raw_default`."""
    default = tf.reshape(raw_default(feature), [-1])[0]
    if isinstance(feature, Number):
        return first_values(floats(column, feature.name), default)
    if isinstance(feature, Vector):
        return _vectors(floats(column, feature.name), feature)
    if isinstance(feature, Calendar):
        return first_values(_times(column, feature.name), default)
    tokens, width = strings(column, feature.name), raw_width(feature)
    return first_values(tokens, default) if width is None else padded(tokens, width, default)


def _vectors(column: tf.SparseTensor, feature: Vector) -> tf.Tensor:
    row = column.indices[:, 0]
    lengths = tf.math.bincount(
        tf.cast(row, tf.int32), minlength=tf.cast(column.dense_shape[0], tf.int32)
    )
    fits = tf.reduce_all((lengths == 0) | (lengths == feature.dim))
    message = f"`{feature.name}` has vectors of another length than `dim`={feature.dim}."
    with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
        return tf.identity(padded(column, feature.dim, 0.0))


def _times(column: tf.SparseTensor, name: str) -> tf.SparseTensor:
    if column.dtype == tf.string:
        raise ValueError(f"`{name}` holds text; declare its type: `types`={{{name!r}: 'time'}}.")
    times = _whole(column, name).values
    fits = (times >= calendar.FIRST_SECOND) & (times <= calendar.LAST_SECOND)
    message = (
        f"`{name}` has numbers that are no Unix seconds of the years 1 to 9999; declare its type: "
        f"`types`={{{name!r}: 'time'}}."
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(fits), [message])]):
        return column.with_values(tf.identity(times))


def strings(column: tf.SparseTensor, name: str) -> tf.SparseTensor:
    """Returns a column as strings, as `columns.tokens` does; `name` names it in errors."""
    if column.dtype == tf.string:
        return column
    return column.with_values(tf.strings.as_string(_whole(column, name).values))


def _whole(column: tf.SparseTensor, name: str) -> tf.SparseTensor:
    """Returns a column of numbers as int64; see `columns.tokens` for the whole ones of floats."""
    if column.dtype == tf.int64:
        return column
    numbers = column.values
    fits = (tf.floor(numbers) == numbers) & (tf.abs(numbers) <= MAX_WHOLE)
    message = f"`{name}` {NOT_WHOLE}"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(fits), [message])]):
        return column.with_values(tf.cast(numbers, tf.int64))


def floats(column: tf.SparseTensor, name: str) -> tf.SparseTensor:
    """Returns a column of numbers as float32; raises a ValueError for a column of strings."""
    if column.dtype == tf.string:
        raise ValueError(
            f"`{name}` holds text; declare a Category, a Text or a HashedText, or write numbers."
        )
    return column.with_values(tf.cast(tf.cast(column.values, tf.float64), tf.float32))


def _narrow(column: tf.SparseTensor, width: int) -> tf.SparseTensor:
    return tf.sparse.retain(column, column.indices[:, 1] < width)


def padded(column: tf.SparseTensor, width: int | None, default: Any) -> tf.Tensor:
    """Returns [B, width]; without a width, as wide as the longest row."""
    if width is None:
        return tf.sparse.to_dense(column, default)
    narrow = _narrow(column, width)
    shape = tf.stack([column.dense_shape[0], tf.constant(width, tf.int64)])
    dense = tf.sparse.to_dense(tf.SparseTensor(narrow.indices, narrow.values, shape), default)
    return tf.ensure_shape(dense, [None, width])


def first_values(column: tf.SparseTensor, default: Any) -> tf.Tensor:
    """Returns the first value of each row, [B]."""
    return padded(column, 1, default)[:, 0]
