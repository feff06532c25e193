"""FeatureSpec: what a user, an item and an event are made of, and how that becomes numbers."""

from __future__ import annotations

import dataclasses
import json
import keyword
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tfrec_meta.data import Interactions
from tfrec_meta.features.vocabulary import Vocabulary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Names that the serving contract and training batches keep for themselves.
_RESERVED = frozenset(
    {"user_id", "item_id", "history", "exclude", "k", "diversity", "examples", "sample_weight"}
)
_FORMAT = 1  # of the folder that `save` writes

# A wild number in one request must not drown, or overflow, all else that is known of the user.
MAX_DEVIATIONS = 10.0


@dataclasses.dataclass(frozen=True)
class Category:
    """A token, or up to `width` tokens (genres), looked up in a vocabulary of its own.

    Encoded as int32 [n, width], row 0 for unknown tokens and padding.
    """

    name: str
    width: int = 1
    min_count: int = 1

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_at_least_one(self, "width", "min_count")


@dataclasses.dataclass(frozen=True)
class Number:
    """A number, standardised by mean and deviation of the fitted data.

    Encoded as float32 [n, 2]: the standardised value, cut at MAX_DEVIATIONS either way, and 1 where
    there was one; (0, 0) for null, NaN and infinity.
    """

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclasses.dataclass(frozen=True)
class Text:
    """The first `width` words of a text, each looked up in a vocabulary of `vocabulary_size` words.

    Encoded as int32 [n, width]; `features.text.words` says what a word is.
    """

    name: str
    width: int = 16
    vocabulary_size: int = 20_000

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_at_least_one(self, "width", "vocabulary_size")


@dataclasses.dataclass(frozen=True)
class Vector:
    """A precomputed vector (of an image, a sound, a text), taken as it is.

    Encoded as float32 [n, dim]; zeros where there is none.
    """

    name: str
    dim: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_at_least_one(self, "dim")


Feature = Category | Number | Text | Vector
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Category, Number, Text, Vector)}
Side = Literal["query", "item"]
Encoded = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """Declares the features of users, items and events; once fitted, encodes them.

    Args:
        user: features of the users table.
        item: features of the items table.
        context: features of the events themselves (device, hour).
        history_length: earlier items of a user that a query carries, the latest ones.
        vocabularies: by "user_id", "item_id", or "<side>.<feature>"; made by `fit`.
        statistics: (mean, deviation) by "<side>.<feature>"; made by `fit`.
    """

    user: tuple[Feature, ...] = ()
    item: tuple[Feature, ...] = ()
    context: tuple[Feature, ...] = ()
    history_length: int = 200
    vocabularies: Mapping[str, Vocabulary] = dataclasses.field(default_factory=dict)
    statistics: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_at_least_one(self, "history_length")
        for names in ([f.name for f in self.query], [f.name for f in self.item]):
            doubled = {name for name in names if names.count(name) > 1}
            if doubled:
                raise ValueError(f"Features declared twice: {sorted(doubled)}; rename one of each.")

    @property
    def query(self) -> tuple[Feature, ...]:
        """The features of the query side: the user's, then the event's."""
        return self.user + self.context

    @property
    def is_fitted(self) -> bool:
        return "item_id" in self.vocabularies

    @property
    def users(self) -> Vocabulary:
        return self._fitted("user_id")

    @property
    def items(self) -> Vocabulary:
        """The catalogue: the item of column j of a score matrix has row j + 1 here."""
        return self._fitted("item_id")

    @property
    def catalogue_size(self) -> int:
        return len(self.items) - 1

    @classmethod
    def infer(cls, data: Interactions, history_length: int = 200) -> FeatureSpec:
        """Declares a feature for each column that looks useful; `fit` is still to be called.

        Lists of strings and repeated strings become categories, strings of several words that
        hardly repeat become texts, numbers numbers, and lists of numbers vectors. Strings that
        hardly repeat and are one word (post codes, links) are left out.
        """
        return cls(
            user=_infer_features(data.users, "user_id"),
            item=_infer_features(data.items, "item_id"),
            history_length=history_length,
        )

    def fit(self, data: Interactions) -> FeatureSpec:
        """Learns vocabularies and statistics; on a fitted spec, only appends new tokens.

        Items of the items table that nobody has touched join the catalogue after those of the
        events. Statistics stay as first fitted, so that a warm-started model sees the same scale.

        Raises:
            ValueError: if a declared column is missing.
        """
        vocabularies, statistics = dict(self.vocabularies), dict(self.statistics)
        for key, table in (("user_id", data.users), ("item_id", data.items)):
            vocabulary = vocabularies.get(key, Vocabulary()).grow(data.events[key])
            if table is not None:
                vocabulary = vocabulary.grow(table[key])
            vocabularies[key] = vocabulary
        for side, features, table in self._sides(data):
            for feature in features:
                key = f"{side}.{feature.name}"
                column = _column(table, feature.name, side)
                if isinstance(feature, Category | Text):
                    known = vocabularies.get(key, Vocabulary())
                    vocabularies[key] = _grow(known, feature, column)
                elif isinstance(feature, Number) and key not in statistics:
                    statistics[key] = _mean_and_deviation(column)
        return dataclasses.replace(self, vocabularies=vocabularies, statistics=statistics)

    def _sides(self, data: Interactions):
        yield "user", self.user, data.users
        yield "item", self.item, data.items
        yield "context", self.context, data.events

    def key(self, feature: Feature, side: Side) -> str:
        """Where `vocabularies` and `statistics` keep the state of this feature.

        Args:
            feature: one of this spec.
            side: "query" or "item": both may have a feature of one name, with its own vocabulary.
        """
        groups = ("item",) if side == "item" else ("user", "context")
        for group in groups:
            if feature in getattr(self, group):
                return f"{group}.{feature.name}"
        raise ValueError(f"Feature `{feature.name}` is not on the {side} side of this spec.")

    def encode_items(self, items: pa.Table | None) -> Encoded:
        """Features of the whole catalogue, in vocabulary order.

        Args:
            items: item_id and attributes; items that it lacks get empty features.

        Returns:
            A dict of arrays [catalogue_size + 1, …] by feature, row 0 empty (the unknown item).
        """
        return self._encode_table(items, "item_id", self.item, "item")

    def encode_users(self, users: pa.Table | None) -> Encoded:
        """Features of all known users, [users + 1, …] by feature, row 0 empty."""
        return self._encode_table(users, "user_id", self.user, "query")

    def encode_context(self, events: pa.Table) -> Encoded:
        """Features of the events themselves, [n, …] by feature."""
        return {
            f.name: self.encode_feature(f, _column(events, f.name, "context"), "query")
            for f in self.context
        }

    def encode_queries(
        self,
        user_id: Sequence[str] | np.ndarray,
        history: np.ndarray | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> Encoded:
        """The query side, as models take it.

        Args:
            user_id: string [n].
            history: string [n, h], oldest first, "" pads on the right; cut to the latest
                `history_length` items, or padded to it.
            features: raw columns of user and context features by name; those left out are empty.

        Returns:
            user_id int32 [n], history int32 [n, history_length], and each query feature.

        Raises:
            ValueError: if the spec is not fitted, `history` has not n rows of one width, or a
                feature is not of this spec or has not n rows.
        """
        n = len(user_id)
        encoded: Encoded = {"user_id": self.users.encode(user_id)}
        rows = np.zeros((n, self.history_length), np.int32)
        if history is not None:
            given = _matrix(history)
            if given is None or len(given) != n:
                raise ValueError(
                    f"`history` must be [n, h] for the {n} users, each row as wide as the others; "
                    'fill short ones up with "" on the right.'
                )
            known = self.items.encode(given.ravel()).reshape(given.shape)
            rows = latest_known(known, self.history_length)
        encoded["history"] = rows
        features = features or {}
        unknown = set(features) - {f.name for f in self.query}
        if unknown:
            raise ValueError(
                f"Query features {sorted(unknown)} are not part of the spec; it has "
                f"{[f.name for f in self.query]}."
            )
        for feature in self.query:
            if feature.name in features:
                values = self.encode_feature(feature, features[feature.name], "query")
                if len(values) != n:
                    raise ValueError(
                        f"`{feature.name}` has {len(values)} rows for {n} users; give one each."
                    )
                encoded[feature.name] = values
            else:
                encoded[feature.name] = empty_feature(feature, n)
        return encoded

    def encode_feature(self, feature: Feature, values: Any, side: Side) -> np.ndarray:
        """One raw column, or an array as a request carries it, as the feature's encoding."""
        key = self.key(feature, side)
        if isinstance(feature, Vector):
            return _encode_vector(feature, values)
        if isinstance(feature, Number):
            if key not in self.statistics:
                raise ValueError(
                    f"The spec has no statistics for `{key}`; call `spec.fit(data)` first."
                )
            return _encode_number(values, self.statistics[key])
        if isinstance(feature, Text):
            tokens = _words(values, feature.width)
        else:
            tokens = _padded_tokens(values, feature)
        rows = self._fitted(key).encode(tokens.ravel())
        return rows.reshape(tokens.shape)

    @staticmethod
    def encode_width(feature: Feature) -> int:
        """Second dimension of the feature's encoding."""
        return empty_feature(feature, 0).shape[1]

    def save(self, folder: Path) -> None:
        """Writes `spec.json` and a text file a vocabulary into a new folder."""
        folder.mkdir(parents=True)
        record = {
            "format": _FORMAT,
            "history_length": self.history_length,
            "statistics": {key: list(value) for key, value in self.statistics.items()},
            "vocabularies": sorted(self.vocabularies),
        }
        for side in ("user", "item", "context"):
            record[side] = [
                {"kind": type(f).__name__, **dataclasses.asdict(f)} for f in getattr(self, side)
            ]
        (folder / "spec.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        for key, vocabulary in self.vocabularies.items():
            vocabulary.write(folder / f"{key}.txt")

    @classmethod
    def load(cls, folder: Path) -> FeatureSpec:
        """Reads what `save` wrote.

        Raises:
            ValueError: if the folder was written by another format.
        """
        record = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise ValueError(
                f"{folder} has format {record['format']}, but this version reads {_FORMAT}. "
                "Fit and save the spec again."
            )
        sides = {
            side: tuple(_feature_from_record(feature) for feature in record[side])
            for side in ("user", "item", "context")
        }
        return cls(
            **sides,
            history_length=record["history_length"],
            vocabularies={k: Vocabulary.read(folder / f"{k}.txt") for k in record["vocabularies"]},
            statistics={key: (v[0], v[1]) for key, v in record["statistics"].items()},
        )

    def _fitted(self, key: str) -> Vocabulary:
        if key not in self.vocabularies:
            raise ValueError(
                f"The spec has no vocabulary for `{key}`; call `spec.fit(data)` first."
            )
        return self.vocabularies[key]

    def _encode_table(
        self, table: pa.Table | None, key: str, features: tuple[Feature, ...], side: Side
    ) -> Encoded:
        vocabulary = self._fitted(key)
        encoded = {f.name: empty_feature(f, len(vocabulary)) for f in features}
        if table is None or not features:
            return encoded
        rows = vocabulary.encode(table[key])
        known = np.flatnonzero(rows)
        for feature in features:
            column = _column(table, feature.name, key.removesuffix("_id"))
            values = self.encode_feature(feature, column, side)
            encoded[feature.name][rows[known]] = values[known]
        return encoded


def latest_known(rows: np.ndarray, length: int) -> np.ndarray:
    """Drops unknown rows, keeps the latest `length` others, oldest first, zeros on the right.

    Args:
        rows: int32 [n, h], 0 where there is no known item.
        length: width of the answer.

    Returns:
        int32 [n, length].
    """
    n = len(rows)
    known = rows > 0
    # From the right, the place of each known item among the known ones: 0 is the latest.
    from_latest = np.cumsum(known[:, ::-1], axis=1)[:, ::-1] - 1
    kept = np.minimum(known.sum(axis=1), length)
    place = kept[:, None] - 1 - from_latest
    result = np.zeros((n, length), np.int32)
    row, column = np.nonzero(known & (place >= 0))
    result[row, place[row, column]] = rows[row, column]
    return result


def empty_feature(feature: Feature, n: int) -> np.ndarray:
    """The encoding of `n` rows without a value: zeros of the feature's width and dtype."""
    if isinstance(feature, Category | Text):
        return np.zeros((n, feature.width), np.int32)
    return np.zeros((n, feature.dim if isinstance(feature, Vector) else 2), np.float32)


def _feature_from_record(record: dict[str, Any]) -> Feature:
    fields = dict(record)
    kind = fields.pop("kind")
    if kind not in _KINDS:
        raise ValueError(f"Unknown feature kind {kind!r}; known are {sorted(_KINDS)}.")
    return _KINDS[kind](**fields)


def _is_name(name: str) -> bool:
    # TensorFlow exports no input of another name: ASCII, no underscore in front, no keyword.
    plain = name.isidentifier() and name.isascii() and not name.startswith("_")
    return (
        plain
        and not keyword.iskeyword(name)
        and name not in _RESERVED
        and not name.startswith("filter_")
    )


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise ValueError(
            f"A feature can't be called {name!r}: the serving signatures keep that name, or it is "
            "no identifier of ASCII letters, digits and inner underscores. Rename the column."
        )


def _check_at_least_one(owner: Any, *names: str) -> None:
    for name in names:
        if getattr(owner, name) < 1:
            raise ValueError(f"`{name}`={getattr(owner, name)}; use 1 or more.")


def _infer_features(table: pa.Table | None, key: str) -> tuple[Feature, ...]:
    if table is None or not len(table):
        return ()
    features: list[Feature] = []
    for field in table.schema:
        if field.name == key or not _is_name(field.name):
            continue
        kind, column = field.type, table[field.name]
        if pa.types.is_dictionary(kind):
            kind, column = kind.value_type, column.cast(kind.value_type)
        if _is_list(kind):
            lengths = pc.min_max(pc.list_value_length(column)).as_py()
            width = lengths["max"] or 1
            if _is_string(kind.value_type):
                features.append(Category(field.name, width=width))
            elif pa.types.is_floating(kind.value_type) and lengths["min"] == width:
                features.append(Vector(field.name, width))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            features.append(Number(field.name))
        elif pa.types.is_boolean(kind):
            features.append(Category(field.name))
        elif _is_string(kind):
            mostly_distinct = pc.count_distinct(column).as_py() > len(table) / 2
            if not mostly_distinct:
                features.append(Category(field.name))
            elif (pc.mean(pc.count_substring(column.cast(pa.string()), " ")).as_py() or 0) >= 0.5:
                features.append(Text(field.name))
    return tuple(features)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _column(table: pa.Table | None, name: str, side: str) -> pa.ChunkedArray:
    if table is None or name not in table.column_names:
        has = [] if table is None else table.column_names
        raise ValueError(f"The {side} table has no column `{name}`; it has {has}.")
    return table[name]


def _grow(known: Vocabulary, feature: Category | Text, column: pa.ChunkedArray) -> Vocabulary:
    if isinstance(feature, Category):
        tokens = _padded_tokens(column, feature)
        return known.grow(pa.array(tokens.ravel(), pa.string()), feature.min_count)
    grown = known.grow(pa.array(_words(column, feature.width).ravel(), pa.string()))
    return Vocabulary(grown.tokens[: max(feature.vocabulary_size, len(known.tokens))])


def _mean_and_deviation(column: pa.ChunkedArray) -> tuple[float, float]:
    values = _floats(column).astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    mean, deviation = float(values.mean()), float(values.std())
    # Equal values have a deviation of some 1e-17 by rounding, which would blow up the next one.
    smallest = max(abs(mean) * np.finfo(np.float32).eps, np.finfo(np.float32).tiny)
    return mean, deviation if deviation > smallest else 1.0


def _floats(values: Any) -> np.ndarray:
    """float32 [n], as a request carries numbers; NaN for null, infinity for what is too large."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)


def mean_and_scale(statistics: tuple[float, float]) -> tuple[np.float32, np.float32]:
    """What is taken off a number, and then multiplied with it.

    A factor, since TensorFlow makes of a division by a constant a product that rounds otherwise.
    """
    mean, deviation = statistics
    return np.float32(mean), np.float32(1.0 / deviation)


def _encode_number(values: Any, statistics: tuple[float, float]) -> np.ndarray:
    mean, scale = mean_and_scale(statistics)
    raw = _floats(values)
    present = np.isfinite(raw)
    with np.errstate(over="ignore"):
        standardised = (np.where(present, raw, mean) - mean) * scale
    cut = np.clip(standardised, -MAX_DEVIATIONS, MAX_DEVIATIONS)
    return np.stack([cut, present.astype(np.float32)], axis=1)


def _encode_vector(feature: Vector, values: Any) -> np.ndarray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(valid & (lengths != feature.dim))
        if len(wrong):
            raise ValueError(
                f"`{feature.name}` has {lengths[wrong[0]]:.0f} numbers in row {wrong[0] + 1}, but "
                f"`dim`={feature.dim}; use null where there is no vector."
            )
        result = np.zeros((len(column), feature.dim), np.float32)
        flat = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float32)
        result[valid] = flat.reshape(-1, feature.dim)
    else:
        result = np.asarray(values, np.float32)
        if result.ndim != 2 or result.shape[1] != feature.dim:
            raise ValueError(
                f"`{feature.name}` has shape {list(result.shape)}; use [n, {feature.dim}]."
            )
    return np.where(np.isfinite(result), result, np.float32(0))


def _padded_tokens(values: Any, feature: Category) -> np.ndarray:
    """Object array [n, width] of tokens, "" where there is none."""
    column = _arrow(values)
    padded = np.full((len(column), feature.width), "", object)
    if _is_list(column.type):
        row = pc.list_parent_indices(column).to_numpy()
        flat = pc.fill_null(pc.list_flatten(column).cast(pa.string()), "")
        first = np.searchsorted(row, np.arange(len(column)))
        place = np.arange(len(row)) - first[row]
        kept = place < feature.width
        padded[row[kept], place[kept]] = flat.to_numpy(zero_copy_only=False)[kept]
    else:
        padded[:, 0] = pc.fill_null(column.cast(pa.string()), "").to_numpy(zero_copy_only=False)
    return padded


def _arrow(values: Any) -> pa.Array:
    """One flat array, or one of lists, of a column, a NumPy array [n] or [n, w], or a sequence."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        is_coded = pa.types.is_dictionary(values.type)
        return values.dictionary_decode() if is_coded else values
    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = list(values)
    return pa.array(values, from_pandas=True)


def _matrix(rows: Any) -> np.ndarray | None:
    """Object array [n, h], or None where the rows are not lists of one width."""
    if not len(rows):
        return np.empty((0, 0), object)
    try:
        matrix = np.asarray(rows, object)
    except ValueError:  # from rows that are arrays of several widths
        return None
    return matrix if matrix.ndim == 2 else None


def _words(values: Any, width: int) -> np.ndarray:
    """Object array [n, width] of the words of each text, by the ops that a SavedModel runs."""
    from tfrec_meta.features import text  # imports TensorFlow, which numbers and ids do not need

    texts = pc.fill_null(_arrow(values).cast(pa.string()), "").to_numpy(zero_copy_only=False)
    tokens = text.words(np.asarray(texts, object), width).numpy()
    decoded = pa.array(tokens.ravel(), pa.binary()).cast(pa.string())
    return decoded.to_numpy(zero_copy_only=False).reshape(tokens.shape)
