"""The FeatureSpec in TensorFlow Transform: input columns and the body of `preprocessing_fn`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from tfrec_meta.features import fitting, kinds
from tfrec_meta.features.analysis import SPEC_FILE, Fit, Statistics
from tfrec_meta.features.columns import mean_and_scale
from tfrec_meta.features.example_columns import (
    Inputs,
    column_of,
    counted_values,
    first_values,
    floats,
    padded,
    raw_values,
)
from tfrec_meta.features.graph import LINE, TOKEN, Encoding, table
from tfrec_meta.features.kinds import Calendar, Category, Feature, HashedText, Number, Vector
from tfrec_meta.features.spec import FeatureSpec

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


# By side: the table where its features are counted, and the prefix of the columns.
_SIDES = {"user": ("users", "user/"), "item": ("items", "item/"), "context": ("events", "")}


def spec_of(transform_graph: Path | str) -> FeatureSpec:
    """Reads the fitted spec of a Transform graph, which equals a spec fitted in memory.

    Args:
        transform_graph: the folder of a TransformGraph artifact.

    Raises:
        ValueError: if this graph was not made by `preprocess`.
    """
    assets = Path(transform_graph) / tft.TFTransformOutput.TRANSFORM_FN_DIR / "assets"
    if not (assets / SPEC_FILE).is_file():
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
    raw = {f.name: raw_values(f, column_of(inputs, f.name, "events")) for f in spec.query}
    raw[USER_ID] = first_values(inputs[USER_ID], "")
    raw[HISTORY] = padded(inputs[HISTORY], None, "")
    outputs = encoding.encode_query(raw)
    outputs[ITEM_ID] = encoding.lookup("item_id", first_values(inputs[ITEM_ID], ""))
    if user_column("user_id") in inputs:
        ids = first_values(inputs[user_column("user_id")], "")
        outputs[user_column("user_id")] = encoding.lookup("user_id", ids)
        for feature in spec.user:
            name = user_column(feature.name)
            outputs[name] = encoding.encode(
                feature, raw_values(feature, column_of(inputs, name, "users")), "query"
            )
    if item_column("item_id") in inputs:
        raw = {
            f.name: raw_values(f, column_of(inputs, item_column(f.name), "items"))
            for f in spec.item
        }
        raw[ITEM_ID] = first_values(inputs[item_column("item_id")], "")
        encoded = encoding.encode_item(raw)
        outputs.update({item_column(name): values for name, values in encoded.items()})
    if VALUE in inputs and VALUE not in outputs:
        outputs[VALUE] = first_values(floats(inputs[VALUE], VALUE), 0.0)
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
            column = column_of(inputs, prefix + feature.name, source)
            counted[key], features[key] = counted_values(feature, column), feature
            if not isinstance(feature, Number):
                vocabularies.append(key)
    files = tft.experimental.ptransform_analyzer(
        inputs=list(counted.values()),
        ptransform=Fit(spec, features, vocabularies),
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
            ptransform=Statistics(numbers),
            output_dtypes=[tf.float32],
            output_shapes=[[len(numbers), 2]],
            name="statistics",
        )
        statistics.update(zip(numbers, tf.unstack(found), strict=True))
    return dict(zip(vocabularies, files, strict=False)), statistics
