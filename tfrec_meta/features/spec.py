"""FeatureSpec: declares the features of users, items and events, and encodes them as numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tfrec_meta.checks import Width, check_fields, check_list
from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.data.column_types import check_spelling
from tfrec_meta.data.ids import given_ids
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import calendar, columns, fitting, kinds, text_columns
from tfrec_meta.features.kinds import (
    Calendar,
    Category,
    Feature,
    HashedText,
    Number,
    Text,
    Vector,
)
from tfrec_meta.features.vocabulary import Vocabulary
from tfrec_meta.io.damage import read_json

_FORMAT = 1  # of the folder that `save` writes
_SIDES = ("user", "item", "context")
_DECLARED = (*_SIDES, "history_length")
Side = Literal["query", "item"]
Encoded = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """Declares the features of users, items and events, and encodes them once it is fitted.

    Args:
        user: features in the table of users.
        item: features in the table of items.
        context: features of the events, such as device or hour.
        history_length: number of earlier items of a user in a query, the latest ones.
        vocabularies: by "user_id", "item_id" or "<side>.<feature>"; set by `fit`.
        statistics: (mean, deviation) by "<side>.<feature>"; set by `fit`.

    Example:
        >>> import tfrec_meta as tm
        >>> data = tm.synthetic(20, 10, 100)
        >>> spec = tm.FeatureSpec(user=(tm.Number("age"),), history_length=5).fit(data)
        >>> queries = spec.encode_queries(["u1", "unknown"], features={"age": [30, None]})
        >>> sorted(queries), queries["age"].shape
        (['age', 'history', 'user_id'], (2, 2))
    """

    user: tuple[Feature, ...] = ()
    item: tuple[Feature, ...] = ()
    context: tuple[Feature, ...] = ()
    history_length: Width = 200
    vocabularies: Mapping[str, Vocabulary] = dataclasses.field(default_factory=dict)
    statistics: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for names in ([f.name for f in self.query], [f.name for f in self.item]):
            # TensorFlow's input names are not case-sensitive.
            lower = [name.lower() for name in names]
            doubled = {name for name in names if lower.count(name.lower()) > 1}
            if doubled:
                raise ValueError(f"Features declared twice: {sorted(doubled)}; rename one of each.")

    @property
    def query(self) -> tuple[Feature, ...]:
        """The features of the query side: those of the user, then those of the event."""
        return self.user + self.context

    @property
    def is_fitted(self) -> bool:
        """Whether the spec has vocabularies."""
        return "item_id" in self.vocabularies

    @property
    def users(self) -> Vocabulary:
        """The known users: the user of row j + 1 is token j."""
        return self._fitted("user_id")

    @property
    def items(self) -> Vocabulary:
        """The catalogue: the item of column j of a score matrix has row j + 1 here."""
        return self._fitted("item_id")

    @property
    def catalogue_size(self) -> int:
        """The number of items that can be recommended."""
        return len(self.items) - 1

    @classmethod
    def infer(
        cls, data: Interactions | StreamedInteractions, history_length: int = 200
    ) -> FeatureSpec:
        """Declares a feature for each column that looks useful; call `fit` on the result.

        Lists of strings and repeated strings become categories, mostly distinct strings of several
        words become texts, numbers become numbers, and lists of numbers become vectors. Mostly
        distinct strings of one word, such as post codes and links, are left out. So are columns of
        users that look personal (see `tfrec_meta.data.personal_columns`).
        """
        return cls(
            user=kinds.infer(data.users, "user_id"),
            item=kinds.infer(data.items, "item_id"),
            history_length=history_length,
        )

    def fit(self, data: Interactions | StreamedInteractions) -> FeatureSpec:
        """Returns a spec with vocabularies and statistics; a fitted spec only appends new tokens.

        Items of the items table without events are added to the catalogue after those with events.
        Statistics do not change after the first fit, so that a warm-started model gets numbers on
        the same scale.

        Raises:
            ValueError: if a declared column is missing.
        """
        tally = fitting.Tally()
        for part in data.parts():
            for key in fitting.IDS["events"]:
                tally.add(f"events.{key}", None, part.events[key])
            for feature in self.context:
                self._tally(tally, "context", feature, part.events)
        for side, key, features, table in (
            ("user", "user_id", self.user, data.users),
            ("item", "item_id", self.item, data.items),
        ):
            if table is not None:
                tally.add(f"{side}s.{key}", None, table[key])
            for feature in features:
                self._tally(tally, side, feature, table)
        return self.grow(tally.counts())

    def grow(self, counts: Mapping[str, fitting.Counted]) -> FeatureSpec:
        """Returns what `fit` returns for data with these counts.

        Args:
            counts: as `fitting.grow` takes them.
        """
        features = {side: getattr(self, side) for side in _SIDES}
        vocabularies, statistics = fitting.grow(
            features, self.vocabularies, self.statistics, counts
        )
        return dataclasses.replace(self, vocabularies=vocabularies, statistics=statistics)

    @staticmethod
    def _tally(tally: fitting.Tally, side: str, feature: Feature, table: pa.Table | None) -> None:
        column = _column(table, feature.name, side)
        if isinstance(feature, Category | HashedText | Text):
            check_spelling(table, feature.name)
        if isinstance(feature, Calendar):
            calendar.check_times(column, feature.name)
        elif not isinstance(feature, HashedText | Vector):
            tally.add(f"{side}.{feature.name}", feature, _values(feature, column))

    def takes_queries_of(self, other: FeatureSpec) -> bool:
        """Returns whether queries that `other` encoded are valid here, and the items are the same.

        The features of items may differ.
        """
        if self.history_length != other.history_length or self.query != other.query:
            return False
        keys = {"user_id", "item_id", *(self.key(feature, "query") for feature in self.query)}
        return all(
            self.vocabularies.get(key) == other.vocabularies.get(key)
            and self.statistics.get(key) == other.statistics.get(key)
            for key in keys
        )

    def key(self, feature: Feature, side: Side) -> str:
        """Returns the key of a feature in `vocabularies` and `statistics`.

        Args:
            feature: a feature of this spec.
            side: "query" or "item". Both sides may have a feature with the same name, each with its
                own vocabulary.

        Raises:
            ValueError: if the side has no such feature.
        """
        groups = ("item",) if side == "item" else ("user", "context")
        for group in groups:
            if feature in getattr(self, group):
                return f"{group}.{feature.name}"
        raise ValueError(f"Feature `{feature.name}` is not on the {side} side of this spec.")

    def encode_items(self, items: pa.Table | None) -> Encoded:
        """Encodes the features of all items of the catalogue, in vocabulary order.

        Args:
            items: `item_id` and attributes; items without a row get empty features.

        Returns:
            Arrays [catalogue_size + 1, …] by feature; row 0, the unknown item, is empty.
        """
        return self._encode_table(items, "item_id", self.item, "item")

    def encode_users(self, users: pa.Table | None) -> Encoded:
        """Encodes the features of all known users: [users + 1, …] by feature; row 0 is empty."""
        return self._encode_table(users, "user_id", self.user, "query")

    def encode_context(self, events: pa.Table) -> Encoded:
        """Encodes the features of events: [n, …] by feature."""
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
        """Encodes queries, the input of models.

        Args:
            user_id: string [n].
            history: string [n, h] item ids, oldest first, padded with "" on the right. The latest
                `history_length` known items are kept.
            features: raw columns of user and context features by name; missing ones are empty.

        Returns:
            `user_id` int32 [n], `history` int32 [n, history_length], and each query feature.

        Raises:
            ValueError: if the spec is not fitted, `history` does not have n rows of the same
                length, or a feature is unknown or does not have n rows.
        """
        users = given_ids(user_id, "user_id", trim=False)
        n = len(users)
        encoded: Encoded = {"user_id": self.users.encode(users)}
        rows = np.zeros((n, self.history_length), np.int32)
        if history is not None:
            given = columns.matrix(history)
            if given is None or len(given) != n:
                raise ParameterError(
                    f"`history` must be [n, h] for the {n} users, with rows of the same length; "
                    'pad short ones with "" on the right.',
                    "history",
                )
            known = self.items.encode(given_ids(given.ravel(), "history", trim=False)).reshape(
                given.shape
            )
            rows = columns.latest_known(known, self.history_length)
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
                        f"`{feature.name}` has {len(values)} rows for {n} users; give one per user."
                    )
                encoded[feature.name] = values
            else:
                encoded[feature.name] = empty_feature(feature, n)
        return encoded

    def encode_feature(self, feature: Feature, values: Any, side: Side) -> np.ndarray:
        """Encodes the values of one feature, as a raw column or as an array from a request."""
        key = self.key(feature, side)
        if isinstance(feature, Vector):
            return columns.vectors(values, feature.dim, feature.name)
        if isinstance(feature, HashedText):
            return text_columns.hashed(values, feature)
        if isinstance(feature, Calendar):
            return calendar.indicators(values, feature.parts, feature.name)
        if isinstance(feature, Number):
            if key not in self.statistics:
                raise ValueError(
                    f"The spec has no statistics for `{key}`; call `spec.fit(data)` first."
                )
            return columns.standardised(values, self.statistics[key])
        if isinstance(feature, Text):
            tokens = text_columns.words(values, feature.width, feature.name)
        else:
            tokens = columns.padded_tokens(values, feature.width, feature.name)
        rows = self._fitted(key).encode(tokens.ravel())
        return rows.reshape(tokens.shape)

    @staticmethod
    def encode_width(feature: Feature) -> int:
        """Returns the second dimension of the feature's encoding."""
        return empty_feature(feature, 0).shape[1]

    def height(self, feature: Category | HashedText | Text, side: Side) -> int:
        """Returns the number of rows that an embedding table of the feature needs, with row 0.

        Raises:
            ValueError: if the feature's vocabulary is not fitted.
        """
        if isinstance(feature, HashedText):
            return feature.buckets + 1
        return len(self._fitted(self.key(feature, side)))

    def declaration(self) -> dict[str, Any]:
        """Returns features and history length, without fitted state, as plain values for JSON."""
        sides = {side: [kinds.to_record(f) for f in getattr(self, side)] for side in _SIDES}
        return {**sides, "history_length": self.history_length}

    @classmethod
    def declared(cls, record: Mapping[str, Any]) -> FeatureSpec:
        """Returns an unfitted spec from the result of `declaration`; missing parts are empty.

        Raises:
            ValueError: for an unknown part or kind of feature, or a value that is not valid.
        """
        if not isinstance(record, Mapping) or not set(record) <= set(_DECLARED):
            raise ParameterError(
                f"`features`={record!r}; use an object with any of {', '.join(_DECLARED)}.",
                "features",
            )
        sides = {side: record.get(side, ()) for side in _SIDES}
        for side, features in sides.items():
            check_list(side, features)
            sides[side] = tuple(map(kinds.from_record, features))
        return cls(**{**record, **sides})

    def save(self, folder: Path) -> None:
        """Writes `spec.json` and a text file per vocabulary into a new folder."""
        folder.mkdir(parents=True)
        record = {
            "format": _FORMAT,
            **self.declaration(),
            "statistics": {key: list(value) for key, value in self.statistics.items()},
            "vocabularies": sorted(self.vocabularies),
        }
        (folder / "spec.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        for key, vocabulary in self.vocabularies.items():
            vocabulary.write(folder / f"{key}.txt")

    @classmethod
    def load(cls, folder: Path) -> FeatureSpec:
        """Reads a folder that `save` wrote.

        Raises:
            DamagedFile: if a file is cut, or `spec.json` is empty.
            ValueError: if the folder has another format, or names files that do not belong to it.
        """
        keys = ("format", "history_length", "statistics", "vocabularies", *_SIDES)
        record = read_json(folder / "spec.json", "Fit and save the spec again", keys)
        if record["format"] != _FORMAT:
            raise ValueError(
                f"{folder} has format {record['format']}, but this version reads {_FORMAT}. "
                "Fit and save the spec again."
            )
        declared = cls.declared({name: record[name] for name in _DECLARED})
        # A key is a file name; one without a feature could refer to a file outside of the folder.
        known = {"user_id", "item_id"}
        known |= {f"{side}.{f.name}" for side in _SIDES for f in getattr(declared, side)}
        strange = set(record["vocabularies"]) - known
        if strange:
            raise ValueError(
                f"{folder} names vocabularies without a feature: {sorted(strange)}. Fit and save "
                "the spec again."
            )
        for key in record["vocabularies"]:
            if not (folder / f"{key}.txt").resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{folder / key}.txt is a link to a file outside of its folder.")
        return dataclasses.replace(
            declared,
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


def empty_feature(feature: Feature, n: int) -> np.ndarray:
    """Returns the encoding of `n` missing values: zeros of the feature's width and dtype."""
    if isinstance(feature, Category | Text):
        return np.zeros((n, feature.width), np.int32)
    if isinstance(feature, HashedText):
        return np.zeros((n, feature.encoded_width), np.int32)
    if isinstance(feature, Calendar):
        return np.zeros((n, feature.encoded_width), np.float32)
    return np.zeros((n, feature.dim if isinstance(feature, Vector) else 2), np.float32)


def _values(feature: Category | Text | Number, column: pa.ChunkedArray) -> Any:
    """Returns the values of a raw column that `fitting.count` takes: tokens, words or numbers."""
    if isinstance(feature, Number):
        return columns.floats(column)
    if isinstance(feature, Category):
        tokens = columns.padded_tokens(column, feature.width, feature.name)
    else:
        tokens = text_columns.words(column, feature.width, feature.name)
    return pa.array(tokens.ravel(), pa.string())


def _column(table: pa.Table | None, name: str, side: str) -> pa.ChunkedArray:
    if table is None or name not in table.column_names:
        has = [] if table is None else table.column_names
        raise ValueError(f"The {side} table has no column `{name}`; it has {has}.")
    return table[name]
