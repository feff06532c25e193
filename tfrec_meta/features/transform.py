"""The FeatureSpec in TensorFlow Transform: input columns and the body of `preprocessing_fn`."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer

from tfrec_meta.features import calendar, fitting, kinds, text
from tfrec_meta.features.columns import MAX_WHOLE, NOT_WHOLE, mean_and_scale
from tfrec_meta.features.graph import LINE, TOKEN, Encoding, raw_default, raw_width, table
from tfrec_meta.features.kinds import (
    Calendar,
    Category,
    Feature,
    HashedText,
    Number,
    Text,
    Vector,
)
from tfrec_meta.features.spec import FeatureSpec
from tfrec_meta.features.vocabulary import NO_TOKENS

# Splits of the Histories examples.
EVENT_SPLITS = ("train", "validation", "test")  # one row per event
TABLE_SPLITS = ("users", "items")  # one row per user or item, if there are such tables

# Columns of the rows of EVENT_SPLITS, as tf.Example: bytes [1], bytes [1], int64 [1] (absent where
# unknown), float [1], bytes [h] (strictly earlier items of the user, oldest first). Further event
# columns, and the user's columns of the users table, stand there by their own names.
USER_ID = "user_id"
ITEM_ID = "item_id"
TIME = "time"
VALUE = "value"
HISTORY = "history"
EVENT_COLUMNS = (USER_ID, ITEM_ID, TIME, VALUE, HISTORY)


def user_column(name: str) -> str:
    """Returns the name of a users column in the rows of the split `users`, such as `user/age`."""
    return f"user/{name}"


def item_column(name: str) -> str:
    """Returns the name of an items column in rows of the split `items`, such as `item/title`."""
    return f"item/{name}"


_SPEC = "spec.json"
# By side: the table where its features are counted, and the prefix of the columns.
_SIDES = {"user": ("users", "user/"), "item": ("items", "item/"), "context": ("events", "")}
_PARTS = 64  # counted batches before a merge

Inputs = Mapping[str, tf.SparseTensor]


def spec_of(transform_graph: Path | str) -> FeatureSpec:
    """Reads the fitted spec of a Transform graph, which equals a spec fitted in memory.

    Args:
        transform_graph: the folder of a TransformGraph artifact.

    Raises:
        ValueError: if this graph was not made by `preprocess`.
    """
    assets = Path(transform_graph) / tft.TFTransformOutput.TRANSFORM_FN_DIR / "assets"
    if not (assets / _SPEC).is_file():
        raise ValueError(f"{transform_graph} holds no FeatureSpec; run Transform again.")
    return FeatureSpec.load(assets)


def grown_from(declared: FeatureSpec, earlier: FeatureSpec) -> FeatureSpec:
    """Returns `declared` with vocabularies and statistics of an earlier spec, as a start for `fit`.

    A feature whose kind has changed starts empty; changed widths or counts do not matter.
    """
    keys = {"user_id", "item_id"}
    for side in _SIDES:
        before = {(feature.name, type(feature)) for feature in getattr(earlier, side)}
        for feature in getattr(declared, side):
            if (feature.name, type(feature)) in before:
                keys.add(f"{side}.{feature.name}")
    return dataclasses.replace(
        declared,
        vocabularies={k: v for k, v in earlier.vocabularies.items() if k in keys},
        statistics={k: v for k, v in earlier.statistics.items() if k in keys},
    )


def inferred(
    users: pa.Table | None,
    items: pa.Table | None,
    history_length: int,
    earlier: FeatureSpec | None = None,
) -> FeatureSpec:
    """Like `FeatureSpec.infer`, but stable from one span of data to the next.

    The features of `earlier` keep their kind as long as their column exists, with the width that
    the new data needs. New features are added.
    """
    earlier = earlier or FeatureSpec()
    return FeatureSpec(
        user=_kept(earlier.user, users, "user_id"),
        item=_kept(earlier.item, items, "item_id"),
        history_length=history_length,
    )


def _kept(earlier: tuple[Feature, ...], given: pa.Table | None, key: str) -> tuple[Feature, ...]:
    found = {feature.name: feature for feature in kinds.infer(given, key)}
    columns = [] if given is None else given.column_names
    kept = {f.name: _wider(f, found.get(f.name)) for f in earlier if f.name in columns}
    return tuple({**kept, **{name: f for name, f in found.items() if name not in kept}}.values())


def _wider(before: Feature, now: Feature | None) -> Feature:
    if isinstance(before, Vector) and isinstance(now, Vector):
        return now
    if isinstance(before, Category) and isinstance(now, Category) and now.width > before.width:
        return dataclasses.replace(before, width=now.width)
    return before


def preprocess(spec: FeatureSpec, inputs: Inputs) -> dict[str, tf.Tensor]:
    """The body of a `preprocessing_fn`: analyses, and encodes like the spec in memory.

    Args:
        spec: a declared spec; existing vocabularies and statistics are extended.
        inputs: the columns of the Histories examples, each a SparseTensor [B, n].

    Returns:
        For the rows of events `user_id` [B], `item_id` [B], `history` [B, history_length], `value`
        [B] and the query features by name; for those of the tables `user/user_id` [B],
        `user/<feature>`, `item/item_id` [B], `item/<feature>`. Rows are int64, the rest is
        float32; rows of another kind have zeros.

    Raises:
        ValueError: if a declared feature has no column, or one of an unsuitable type.
    """
    encoding = _Deferred(spec, *_analyse(spec, inputs))
    raw = {f.name: _raw(f, _column(inputs, f.name, "events")) for f in spec.query}
    raw[USER_ID] = _first(inputs[USER_ID], "")
    raw[HISTORY] = _padded(inputs[HISTORY], None, "")
    outputs = encoding.encode_query(raw)
    outputs[ITEM_ID] = encoding.lookup("item_id", _first(inputs[ITEM_ID], ""))
    if user_column("user_id") in inputs:
        ids = _first(inputs[user_column("user_id")], "")
        outputs[user_column("user_id")] = encoding.lookup("user_id", ids)
        for feature in spec.user:
            name = user_column(feature.name)
            outputs[name] = encoding.encode(
                feature, _raw(feature, _column(inputs, name, "users")), "query"
            )
    if item_column("item_id") in inputs:
        raw = {f.name: _raw(f, _column(inputs, item_column(f.name), "items")) for f in spec.item}
        raw[ITEM_ID] = _first(inputs[item_column("item_id")], "")
        encoded = encoding.encode_item(raw)
        outputs.update({item_column(name): values for name, values in encoded.items()})
    if VALUE in inputs and VALUE not in outputs:
        outputs[VALUE] = _first(_floats(inputs[VALUE], VALUE), 0.0)
    # TensorFlow Transform supports no other integers.
    return {k: tf.cast(v, tf.int64) if v.dtype.is_integer else v for k, v in outputs.items()}


class _Deferred(Encoding):
    """The encoding with deferred results of the analysis.

    Args:
        spec: the declared spec.
        vocabularies: deferred names of the vocabulary files, by key.
        statistics: deferred mean and scale, float32 [2], by key.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        vocabularies: Mapping[str, tf.Tensor],
        statistics: Mapping[str, tf.Tensor],
    ):
        super().__init__(spec)
        self._vocabularies = vocabularies
        self._statistics = statistics
        self._rows: dict[str, tf.lookup.StaticHashTable] = {}

    def lookup(self, key: str, tokens: tf.Tensor) -> tf.Tensor:
        def look_up(tokens: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if tf.is_symbolic_tensor(path) and path.op.type == "Placeholder":
                # Transform only determines which columns an analysis needs. With a table in the
                # graph, it would read all histories for every analysis.
                return tf.strings.to_hash_bucket_fast(tokens, 2), tf.constant(2, tf.int64)
            if key not in self._rows:  # one table for ids, histories and the catalogue
                self._rows[key] = _table(path)
            return self._rows[key].lookup(tokens), self._rows[key].size()

        rows = tft.apply_vocabulary(
            tokens, self._vocabularies[key], default_value=-1, lookup_fn=look_up
        )
        return tf.cast(rows, tf.int32) + 1

    def mean_and_scale(self, key: str) -> tuple[tf.Tensor, tf.Tensor]:
        return self._statistics[key][0], self._statistics[key][1]


def _table(path: tf.Tensor) -> tf.lookup.StaticHashTable:
    if tf.inside_function() and isinstance(path, tf.__internal__.EagerTensor):
        with tf.init_scope():  # once, not per call of the function
            return table(path, TOKEN, LINE, -1)
    return table(path, TOKEN, LINE, -1)


def _analyse(
    spec: FeatureSpec, inputs: Inputs
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns deferred vocabulary files and statistics, from one pass over the counted columns."""
    counted: dict[str, tf.Tensor] = {}
    features: dict[str, Feature | None] = {}
    for source, prefix in (("events", ""), ("users", "user/"), ("items", "item/")):
        for name in fitting.IDS[source]:
            if prefix + name in inputs:
                counted[f"{source}.{name}"] = inputs[prefix + name].values
                features[f"{source}.{name}"] = None
    vocabularies = ["user_id", "item_id"]
    for side, (source, prefix) in _SIDES.items():
        for feature in getattr(spec, side):
            key = f"{side}.{feature.name}"
            if isinstance(feature, Calendar | HashedText | Vector) or key in spec.statistics:
                continue
            column = _column(inputs, prefix + feature.name, source)
            counted[key], features[key] = _counted(feature, column), feature
            if not isinstance(feature, Number):
                vocabularies.append(key)
    files = tft.experimental.ptransform_analyzer(
        inputs=list(counted.values()),
        ptransform=_Fit(spec, features, vocabularies),
        output_dtypes=[tf.string] * (len(vocabularies) + 1),
        output_shapes=[[] for _ in range(len(vocabularies) + 1)],
        output_asset_default_values=[b"?"] * (len(vocabularies) + 1),
        name="fit",
    )
    statistics = {
        key: tf.constant(mean_and_scale(known), tf.float32)
        for key, known in spec.statistics.items()
    }
    numbers = {key: f for key, f in features.items() if isinstance(f, Number)}
    if numbers:
        # Separate from the files: an analyzer cannot return both files and tensors (TFT 1.21).
        (found,) = tft.experimental.ptransform_analyzer(
            inputs=[counted[key] for key in numbers],
            ptransform=_Statistics(numbers),
            output_dtypes=[tf.float32],
            output_shapes=[[len(numbers), 2]],
            name="statistics",
        )
        statistics.update(zip(numbers, tf.unstack(found), strict=True))
    return dict(zip(vocabularies, files, strict=False)), statistics


class _Fit(PTransformAnalyzer):
    """Counts batches, merges the counts, grows the spec once and writes it as assets."""

    def __init__(
        self,
        spec: FeatureSpec,
        features: Mapping[str, Feature | None],
        vocabularies: Sequence[str],
    ):
        super().__init__()
        self._spec = spec
        self._features = dict(features)
        self._files = [*(f"{key}.txt" for key in vocabularies), _SPEC]

    def expand(self, batches: beam.PCollection) -> tuple[beam.PCollection, ...]:
        written = (
            batches
            | "Count" >> beam.CombineGlobally(_Count(self._features))
            | "Grow" >> beam.Map(_write, self._spec, self._files, str(self.base_temp_dir))
        )
        return tuple(written | name >> beam.Map(_path, name) for name in self._files)


class _Statistics(beam.PTransform):
    """Computes mean and scale of numbers, float32 [numbers, 2]."""

    def __init__(self, numbers: Mapping[str, Number]):
        super().__init__()
        self._numbers = dict(numbers)

    def expand(self, batches: beam.PCollection) -> tuple[beam.PCollection]:
        counts = batches | "Count" >> beam.CombineGlobally(_Count(self._numbers))
        return (counts | "Scale" >> beam.Map(_scales),)


class _Count(beam.CombineFn):
    """Combines batches, each a tuple of arrays, into counts by key."""

    def __init__(self, features: Mapping[str, Feature | None]):
        self._features = dict(features)

    def create_accumulator(self) -> dict[str, list[fitting.Counted]]:
        return {key: [fitting.count(f, _empty(f))] for key, f in self._features.items()}

    def add_input(
        self, counts: dict[str, list[fitting.Counted]], batch: Sequence[np.ndarray]
    ) -> dict[str, list[fitting.Counted]]:
        for (key, feature), values in zip(self._features.items(), batch, strict=True):
            if not len(values):
                continue
            if not isinstance(feature, Number):
                values = pa.array(values, pa.binary()).cast(pa.string())
            counts[key].append(fitting.count(feature, values))
            if len(counts[key]) > _PARTS:
                counts[key] = [fitting.merge(counts[key])]
        return counts

    def merge_accumulators(
        self, accumulators: Sequence[dict[str, list[fitting.Counted]]]
    ) -> dict[str, list[fitting.Counted]]:
        every = list(accumulators)
        return {
            key: [fitting.merge([part for counts in every for part in counts[key]])]
            for key in self._features
        }

    def compact(self, counts: dict[str, list[fitting.Counted]]) -> dict[str, list[fitting.Counted]]:
        return {key: [fitting.merge(parts)] for key, parts in counts.items()}

    def extract_output(
        self, counts: dict[str, list[fitting.Counted]]
    ) -> dict[str, fitting.Counted]:
        return {key: fitting.merge(parts) for key, parts in counts.items()}


def _empty(feature: Feature | None) -> Any:
    return np.empty(0, np.float32) if isinstance(feature, Number) else pa.array([], pa.string())


def _write(
    counts: Mapping[str, fitting.Counted], spec: FeatureSpec, files: Sequence[str], folder: str
) -> str:
    """Grows the spec and writes it into a new folder; returns the folder."""
    fitted = spec.grow(counts)
    target = os.path.join(folder, uuid.uuid4().hex)
    tf.io.gfile.makedirs(target)
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / "spec"
        fitted.save(made)
        for name in files:
            if not (made / name).stat().st_size:
                (made / name).write_bytes(NO_TOKENS)
            tf.io.gfile.copy(str(made / name), os.path.join(target, name))
    return target


def _path(folder: str, name: str) -> np.ndarray:
    return np.array(os.path.join(folder, name))


def _scales(counts: Mapping[str, fitting.Moments]) -> np.ndarray:
    scales = [mean_and_scale(moments.mean_and_deviation()) for moments in counts.values()]
    return np.array(scales, np.float32)


def _column(inputs: Inputs, name: str, where: str) -> tf.SparseTensor:
    if name not in inputs:
        raise ValueError(
            f"The {where} have no column `{name.rpartition('/')[2]}`, but the spec declares it "
            f"as a feature; the columns of all tables are {', '.join(sorted(inputs))}."
        )
    return inputs[name]


def _counted(feature: Feature, column: tf.SparseTensor) -> tf.Tensor:
    """Returns the values of a column that `fitting.count` takes: tokens, words or numbers."""
    if isinstance(feature, Number):
        return _narrow(_floats(column, feature.name), 1).values
    if isinstance(feature, Category):
        return _narrow(_strings(column, feature.name), feature.width).values
    assert isinstance(feature, Text)  # hashed texts and vectors are not counted
    texts = _narrow(_strings(column, feature.name), 1).values
    return tf.reshape(text.words(texts, feature.width), [-1])


def _raw(feature: Feature, column: tf.SparseTensor) -> tf.Tensor:
    """Returns a column as input of `Encoding`, padded to `raw_width` with `raw_default`."""
    default = tf.reshape(raw_default(feature), [-1])[0]
    if isinstance(feature, Number):
        return _first(_floats(column, feature.name), default)
    if isinstance(feature, Vector):
        return _vectors(_floats(column, feature.name), feature)
    if isinstance(feature, Calendar):
        return _first(_times(column, feature.name), default)
    strings = _strings(column, feature.name)
    width = raw_width(feature)
    return _first(strings, default) if width is None else _padded(strings, width, default)


def _vectors(column: tf.SparseTensor, feature: Vector) -> tf.Tensor:
    row = column.indices[:, 0]
    lengths = tf.math.bincount(
        tf.cast(row, tf.int32), minlength=tf.cast(column.dense_shape[0], tf.int32)
    )
    fits = tf.reduce_all((lengths == 0) | (lengths == feature.dim))
    message = f"`{feature.name}` has vectors of another length than `dim`={feature.dim}."
    with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
        return tf.identity(_padded(column, feature.dim, 0.0))


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


def _strings(column: tf.SparseTensor, name: str) -> tf.SparseTensor:
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


def _floats(column: tf.SparseTensor, name: str) -> tf.SparseTensor:
    if column.dtype == tf.string:
        raise ValueError(
            f"`{name}` holds text; declare a Category, a Text or a HashedText, or write numbers."
        )
    return column.with_values(tf.cast(tf.cast(column.values, tf.float64), tf.float32))


def _narrow(column: tf.SparseTensor, width: int) -> tf.SparseTensor:
    return tf.sparse.retain(column, column.indices[:, 1] < width)


def _padded(column: tf.SparseTensor, width: int | None, default: Any) -> tf.Tensor:
    """Returns [B, width]; without a width, as wide as the longest row."""
    if width is None:
        return tf.sparse.to_dense(column, default)
    narrow = _narrow(column, width)
    shape = tf.stack([column.dense_shape[0], tf.constant(width, tf.int64)])
    dense = tf.sparse.to_dense(tf.SparseTensor(narrow.indices, narrow.values, shape), default)
    return tf.ensure_shape(dense, [None, width])


def _first(column: tf.SparseTensor, default: Any) -> tf.Tensor:
    return _padded(column, 1, default)[:, 0]
