"""Encodes raw strings and numbers with a fitted FeatureSpec in TensorFlow ops."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec_meta.features import calendar, text
from tfrec_meta.features.columns import MAX_DEVIATIONS, MAX_ENTRY, mean_and_scale
from tfrec_meta.features.kinds import (
    Calendar,
    Category,
    Feature,
    HashedText,
    Number,
    Text,
    Vector,
)
from tfrec_meta.features.spec import FeatureSpec, Side
from tfrec_meta.features.vocabulary import Vocabulary


class Encoding(tf.Module):
    """Encodes like `FeatureSpec.encode_queries` and `encode_items`, in the graph.

    Subclasses provide the fitted state: a fitted spec has its values, while in TensorFlow Transform
    they are deferred.
    """

    def __init__(self, spec: FeatureSpec):
        super().__init__(name="encoder")
        self._spec = spec

    def lookup(self, key: str, tokens: tf.Tensor) -> tf.Tensor:
        """Returns rows in the vocabulary `key`, int32 in the shape of `tokens`; 0 if unknown."""
        # Abstract; `abc.ABC` would conflict with the metaclass of tf.Module.
        raise NotImplementedError

    def mean_and_scale(self, key: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the number to subtract from `key` and the factor to multiply with afterwards."""
        raise NotImplementedError  # abstract, as `lookup`

    def encode_query(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes user_id [B], history [B, H] and query features, which have their `raw_width`."""
        history = self.lookup("item_id", raw["history"])
        encoded = {
            "user_id": self.lookup("user_id", raw["user_id"]),
            "history": latest_known(history, self._spec.history_length),
        }
        for feature in self._spec.query:
            encoded[feature.name] = self.encode(feature, raw[feature.name], "query")
        return encoded

    def encode_item(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes item_id [B] and item features, also of items outside of the catalogue."""
        encoded = {"item_id": self.lookup("item_id", raw["item_id"])}
        for feature in self._spec.item:
            encoded[feature.name] = self.encode(feature, raw[feature.name], "item")
        return encoded

    def encode(self, feature: Feature, values: tf.Tensor, side: Side) -> tf.Tensor:
        """Encodes the values of one feature, which have its `raw_width`."""
        key = self._spec.key(feature, side)
        if isinstance(feature, Vector):
            finite = tf.where(tf.math.is_finite(values), values, 0.0)
            return tf.clip_by_value(finite, -MAX_ENTRY, MAX_ENTRY)
        if isinstance(feature, Number):
            mean, scale = self.mean_and_scale(key)
            present = tf.math.is_finite(values)
            standardised = (tf.where(present, values, mean) - mean) * scale
            cut = tf.clip_by_value(standardised, -MAX_DEVIATIONS, MAX_DEVIATIONS)
            return tf.stack([cut, tf.cast(present, tf.float32)], axis=1)
        if isinstance(feature, Calendar):
            return _indicators(values, feature)
        if isinstance(feature, HashedText):
            return text.hashed(values, feature)
        if isinstance(feature, Text):
            return self.lookup(key, text.words(values, feature.width))
        rows = self.lookup(key, values)
        return rows[:, None] if feature.width == 1 else rows


class GraphEncoder(Encoding):
    """Encodes with a fitted spec, in lookup tables.

    Args:
        spec: a fitted FeatureSpec.
        folder: an existing folder for the vocabulary files, which a SavedModel copies as assets.
        hashed_users: whether the file of users holds a hash of each id instead of the id. A
            person with the file can still test whether it has a given id.
    """

    def __init__(self, spec: FeatureSpec, folder: Path, hashed_users: bool = False):
        super().__init__(spec)
        self._user_key: list[int] | None = None
        self._rows = {}
        for key, vocabulary in spec.vocabularies.items():
            path = folder / f"{key}.txt"
            hashed = hashed_users and key == "user_id"
            if len(vocabulary) > 1 and hashed:
                self._user_key = _write_hashes(path, vocabulary)
            else:
                vocabulary.write(path)
            kind = FIRST_COLUMN if hashed else TOKEN
            self._rows[key] = table(path, kind, LINE, -1) if len(vocabulary) > 1 else None
        self._item_tokens = table(folder / "item_id.txt", LINE, TOKEN, "")

    def item_tokens(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns item ids, string in the shape of `rows`; "" for row 0."""
        return self._item_tokens.lookup(tf.cast(rows, tf.int64) - 1)

    def item_rows(self, tokens: tf.Tensor) -> tf.Tensor:
        """Returns rows of item ids, int32 in the shape of `tokens`; 0 for unknown items and ""."""
        return self.lookup("item_id", tokens)

    def feature_rows(self, feature: Feature, tokens: tf.Tensor) -> tf.Tensor:
        """Returns rows of an item category's tokens, int32 as `tokens`; 0 for unknown tokens."""
        return self.lookup(self._spec.key(feature, "item"), tokens)

    def lookup(self, key: str, tokens: tf.Tensor) -> tf.Tensor:
        rows = self._rows[key]
        if rows is None:  # the vocabulary is empty
            return tf.zeros_like(tokens, tf.int32)
        if key == "user_id" and self._user_key is not None:
            tokens = _hashes(tokens, self._user_key)
        return tf.cast(rows.lookup(tokens), tf.int32) + 1

    def mean_and_scale(self, key: str) -> tuple[tf.Tensor, tf.Tensor]:
        return mean_and_scale(self._spec.statistics[key])


def raw_width(feature: Feature) -> int | None:
    """Returns the second dimension of a feature in requests; None for a column [B]."""
    if isinstance(feature, Vector):
        return feature.dim
    if isinstance(feature, Category) and feature.width > 1:
        return feature.width
    return None


def raw_dtype(feature: Feature) -> tf.DType:
    """Returns the dtype in requests: int64 (times), float32 (numbers, vectors) or string."""
    if isinstance(feature, Calendar):
        return tf.int64
    return tf.float32 if isinstance(feature, Number | Vector) else tf.string


def raw_default(feature: Feature) -> tf.Tensor:
    """Returns one `missing_value`, of the shape [1] or [1, raw_width]."""
    width, dtype = raw_width(feature), raw_dtype(feature)
    return tf.constant(missing_value(dtype), dtype, shape=[1] if width is None else [1, width])


def missing_value(dtype: tf.DType) -> str | float | int:
    """Returns what stands for a missing value in requests: "", NaN or `calendar.MISSING`."""
    if dtype == tf.string:
        return ""
    return calendar.MISSING if dtype == tf.int64 else float("nan")


def _indicators(times: tf.Tensor, feature: Calendar) -> tf.Tensor:
    """Like `features.calendar.indicators`, in the graph.

    Args:
        times: int64 [B], Unix seconds.
        feature: the feature.

    Returns:
        float32 [B, encoded_width].
    """
    present = (times >= calendar.FIRST_SECOND) & (times <= calendar.LAST_SECOND)
    times = tf.where(present, times, tf.zeros_like(times))
    nowhere = -tf.ones_like(times)  # a row of zeros in `one_hot`
    return tf.concat(
        [
            tf.one_hot(
                tf.where(present, calendar.place(times, part), nowhere), calendar.SIZES[part]
            )
            for part in feature.parts
        ],
        axis=1,
    )


def latest_known(rows: tf.Tensor, length: int) -> tf.Tensor:
    """Like `features.columns.latest_known`, in the graph: int32 [B, h] to int32 [B, length]."""
    known = tf.cast(rows > 0, tf.int32)
    from_latest = tf.cumsum(known, axis=1, reverse=True) - 1
    kept = tf.minimum(tf.reduce_sum(known, axis=1, keepdims=True), length)
    place = kept - 1 - from_latest
    index = tf.cast(tf.where((known > 0) & (place >= 0)), tf.int32)
    target = tf.stack([index[:, 0], tf.gather_nd(place, index)], axis=1)
    return tf.scatter_nd(target, tf.gather_nd(rows, index), [tf.shape(rows)[0], length])


def _hashes(tokens: tf.Tensor, key: list[int]) -> tf.Tensor:
    """Returns SipHash-2-4 of each token under a key of two numbers, int64 in [0, 2**63 - 1)."""
    return tf.strings.to_hash_bucket_strong(tokens, 2**63 - 1, key)


def _write_hashes(path: Path, vocabulary: Vocabulary) -> list[int]:
    """Writes the hash of each token, one per line, and returns the key that keeps them apart."""
    tokens = tf.constant(vocabulary.tokens.to_numpy(zero_copy_only=False), tf.string)
    for attempt in itertools.count():
        key = [_HASH_KEY, attempt]
        hashes = _hashes(tokens, key).numpy()
        if len(np.unique(hashes)) == len(hashes):
            path.write_text("".join(f"{one}\n" for one in hashes), encoding="ascii")
            return key
    raise AssertionError("unreachable")


_HASH_KEY = 0x243F6A8885A308D3  # digits of pi
FIRST_COLUMN = (tf.int64, 0)
TOKEN = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE)
LINE = (tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)


def table(
    path: Path | str | tf.Tensor,
    key: tuple[tf.DType, int],
    value: tuple[tf.DType, int],
    default: str | int,
) -> tf.lookup.StaticHashTable:
    """Returns a lookup table of a vocabulary file, from tokens to lines or from lines to tokens."""
    name = str(path) if isinstance(path, Path) else path
    initializer = tf.lookup.TextFileInitializer(name, *key, *value)
    return tf.lookup.StaticHashTable(initializer, default_value=default)
