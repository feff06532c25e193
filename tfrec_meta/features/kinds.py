"""The kinds of features: what a column holds, and how wide its encoding is."""

from __future__ import annotations

import dataclasses
import keyword
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.checks import PositiveInt, between, check_fields
from tfrec_meta.features.columns import is_list, is_string

# Names that the serving contract and training batches keep for themselves.
_RESERVED = frozenset(
    {"user_id", "item_id", "history", "exclude", "k", "diversity", "examples", "sample_weight"}
    | {"self"}  # TensorFlow takes an argument of that name for the object
)
MAX_NGRAM = 8  # of `features.text.hashed`
MAX_BUCKETS = 2**20  # likewise: up to here its hash is universal


@dataclasses.dataclass(frozen=True)
class Category:
    """A token, or up to `width` tokens (genres), looked up in a vocabulary of its own.

    Encoded as int32 [n, width], row 0 for unknown tokens and padding.
    """

    name: str
    width: PositiveInt = 1
    min_count: PositiveInt = 1

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)


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
    width: PositiveInt = 16
    vocabulary_size: PositiveInt = 20_000

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class HashedText:
    """The words of a text and the n-grams of its characters, each hashed to one of `buckets` rows.

    Nothing is fitted, so that a text of words that were never seen means something: it shares
    n-grams with others. Encoded as int32 [n, encoded_width], row 0 for padding;
    `features.text.hashed` says how.

    Args:
        name: of the column.
        width: words kept, the first ones.
        bigrams: whether pairs of neighbouring words among them count too.
        ngrams: lengths of the n-grams; a blank before and behind each word counts as a character.
            Texts in Chinese or Japanese, without blanks, are better off with (2, 3).
        characters: of the text that n-grams are taken of, the first ones.
        buckets: rows.

    Source: Bojanowski et al., "Enriching Word Vectors with Subword Information", TACL 2017.
    """

    name: str
    width: PositiveInt = 16
    bigrams: bool = False
    ngrams: tuple[int, ...] = (3, 4)
    characters: PositiveInt = 40
    buckets: Annotated[int, between(1, MAX_BUCKETS)] = 8192

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)
        object.__setattr__(self, "ngrams", tuple(self.ngrams))  # JSON has lists
        longest = min(MAX_NGRAM, self.characters + 2)
        wrong = [n for n in self.ngrams if not 2 <= n <= longest]
        if wrong or len(set(self.ngrams)) < len(self.ngrams):
            raise ValueError(
                f"`ngrams`={self.ngrams} with `characters`={self.characters}; use different "
                f"lengths from 2 to {longest}, or none."
            )

    @property
    def encoded_width(self) -> int:
        """Words, then pairs of words, then the n-grams of each length, each with its place."""
        pairs = self.width - 1 if self.bigrams else 0
        # One blank before the text and one behind it.
        return self.width + pairs + sum(self.characters + 3 - n for n in self.ngrams)


@dataclasses.dataclass(frozen=True)
class Vector:
    """A precomputed vector (of an image, a sound, a text), taken as it is.

    Encoded as float32 [n, dim]; zeros where there is none.
    """

    name: str
    dim: PositiveInt

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)


Feature = Category | HashedText | Number | Text | Vector
_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Category, HashedText, Number, Text, Vector)
}


def to_record(feature: Feature) -> dict[str, Any]:
    """Plain values, ready for JSON; `from_record` takes them back."""
    return {"kind": type(feature).__name__, **dataclasses.asdict(feature)}


def from_record(record: dict[str, Any]) -> Feature:
    """What `to_record` gave.

    Raises:
        ValueError: for a kind that this version does not know.
    """
    fields = dict(record)
    kind = fields.pop("kind")
    if kind not in _KINDS:
        raise ValueError(f"Unknown feature kind {kind!r}; known are {sorted(_KINDS)}.")
    return _KINDS[kind](**fields)


def infer(table: pa.Table | None, key: str) -> tuple[Feature, ...]:
    """A feature for each column of `table` that looks useful; see `FeatureSpec.infer`."""
    if table is None or not len(table):
        return ()
    features: list[Feature] = []
    for field in table.schema:
        twin = field.name.lower() in {feature.name.lower() for feature in features}
        if field.name == key or twin or not _is_name(field.name):
            continue
        kind, column = field.type, table[field.name]
        if pa.types.is_dictionary(kind):
            kind, column = kind.value_type, column.cast(kind.value_type)
        if is_list(kind):
            lengths = pc.min_max(pc.list_value_length(column)).as_py()
            width = lengths["max"] or 1
            if is_string(kind.value_type):
                features.append(Category(field.name, width=width))
            elif pa.types.is_floating(kind.value_type) and lengths["min"] == width:
                features.append(Vector(field.name, width))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            features.append(Number(field.name))
        elif pa.types.is_boolean(kind):
            features.append(Category(field.name))
        elif is_string(kind):
            mostly_distinct = pc.count_distinct(column).as_py() > len(table) / 2
            if not mostly_distinct:
                features.append(Category(field.name))
            elif (pc.mean(pc.count_substring(column.cast(pa.string()), " ")).as_py() or 0) >= 0.5:
                features.append(Text(field.name))
    return tuple(features)


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
