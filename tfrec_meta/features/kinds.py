"""The kinds of features: the content of a column and the shape of its encoding."""

from __future__ import annotations

import dataclasses
import keyword
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.checks import PositiveInt, Width, between, check_fields
from tfrec_meta.data.privacy.personal_columns import personal_column
from tfrec_meta.errors import ParameterError
from tfrec_meta.features.calendar import SIZES, Part
from tfrec_meta.features.columns import is_list, is_string
from tfrec_meta.io.logs import logger
from tfrec_meta.io.records import create

RESERVED_NAMES = frozenset(
    # Inputs and outputs of the serving signatures.
    ("user_id", "item_id", "history", "exclude", "k", "diversity", "examples", "score", "label")
    + ("embedding", "support_used")
    # Event columns, and tensors of training batches.
    + ("time", "value", "weight", "target", "feedback", "sample_weight")
    # TensorFlow treats an argument of that name as the object.
    + ("self",)
)
"""Names that no feature can have, since the library uses them. Names that begin with "filter_" are
reserved, too."""
MAX_NGRAM = 8  # of `features.text.hashed`
_log = logger(__name__)
MAX_BUCKETS = 2**20  # of the same function, whose hash is universal up to here


@dataclasses.dataclass(frozen=True)
class Category:
    """A token, or up to `width` tokens such as genres, each looked up in a vocabulary.

    The encoding is int32 [n, width], with row 0 for unknown tokens and padding.

    Args:
        name: name of the column.
        width: number of tokens that are kept, the first ones.
        min_count: rarer tokens are unknown.
    """

    name: str
    width: Width = 1
    min_count: PositiveInt = 1

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Number:
    """A number, standardised with the mean and standard deviation of the fitted data.

    The encoding is float32 [n, 2]: the standardised value, clipped to +-MAX_DEVIATIONS, and 1.
    Null, NaN and infinity become (0, 0).

    Args:
        name: name of the column.
    """

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclasses.dataclass(frozen=True)
class Calendar:
    """A time as indicators: for each part, 1 at its value and 0 at the others.

    The column has dates, timestamps or whole Unix seconds. The parts are those of the time in UTC.
    The encoding is float32 [n, encoded_width]: the parts in their order. Null and times outside of
    the years 1 to 9999 become zeros.

    Args:
        name: name of the column.
        parts: "month" (12 values), "day" of the month (31), "weekday" (7, from Monday), "hour"
            (24).
    """

    name: str
    parts: tuple[Part, ...] = ("month", "weekday", "hour")

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)
        object.__setattr__(self, "parts", tuple(self.parts))  # JSON has lists
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise ParameterError(
                f"`parts`={self.parts!r}; use at least one of {', '.join(SIZES)}, each once.",
                "parts",
            )

    @property
    def encoded_width(self) -> int:
        """Second dimension: the number of values of all parts."""
        return sum(SIZES[part] for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Text:
    """The first `width` words of a text, each looked up in a vocabulary of `vocabulary_size` words.

    The encoding is int32 [n, width]. `features.text.words` defines a word.

    Args:
        name: name of the column.
        width: number of words that are kept, the first ones.
        vocabulary_size: number of words in the vocabulary, the most frequent ones.
    """

    name: str
    width: Width = 16
    vocabulary_size: PositiveInt = 20_000

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class HashedText:
    """The words of a text and the n-grams of its characters, each hashed to one of `buckets` rows.

    No vocabulary is fitted, so a text of unseen words is encoded as well: it shares n-grams with
    other texts. The encoding is int32 [n, encoded_width], with row 0 for padding; see
    `features.text.hashed`.

    Args:
        name: name of the column.
        width: number of words that are kept, the first ones.
        bigrams: whether pairs of neighbouring words are encoded too.
        ngrams: lengths of the n-grams. A space before and after each word counts as a character.
            (2, 3) suits Chinese and Japanese, which have no spaces.
        characters: number of characters that n-grams are taken from, the first ones.
        buckets: number of rows.

    Source: Bojanowski et al., "Enriching Word Vectors with Subword Information", TACL 2017.
    """

    name: str
    width: Width = 16
    bigrams: bool = False
    ngrams: tuple[int, ...] = (3, 4)
    characters: Width = 40
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
        """Second dimension: words, then pairs of words, then the n-grams of each length."""
        pairs = self.width - 1 if self.bigrams else 0
        # One space before the text and one after it.
        return self.width + pairs + sum(self.characters + 3 - n for n in self.ngrams)


@dataclasses.dataclass(frozen=True)
class Vector:
    """A precomputed vector, such as one of an image, a sound or a text, used unchanged.

    The encoding is float32 [n, dim], with zeros for missing vectors.

    Args:
        name: name of the column.
        dim: length of the vectors.
    """

    name: str
    dim: Width

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_fields(self)


Feature = Calendar | Category | HashedText | Number | Text | Vector
_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Calendar, Category, HashedText, Number, Text, Vector)
}


def to_record(feature: Feature) -> dict[str, Any]:
    """Returns a feature as plain values for JSON; `from_record` reads them."""
    return {"kind": type(feature).__name__, **dataclasses.asdict(feature)}


def from_record(record: dict[str, Any]) -> Feature:
    """Returns the feature that `to_record` wrote.

    Raises:
        ValueError: for an unknown kind or field, or a value that is not valid.
    """
    if not isinstance(record, dict):
        raise ParameterError(
            f"`features` has {record!r}; use objects with kind and name.", "features"
        )
    fields = dict(record)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"Unknown feature kind {kind!r}; known are {sorted(_KINDS)}.")
    feature: Feature = create(_KINDS[kind], fields)
    return feature


def infer(table: pa.Table | None, key: str) -> tuple[Feature, ...]:
    """Returns a feature for each column of `table` that looks useful; see `FeatureSpec.infer`."""
    if table is None or not len(table):
        return ()
    features: list[Feature] = []
    for field in table.schema:
        twin = field.name.lower() in {feature.name.lower() for feature in features}
        if field.name == key or twin:
            continue
        if key == "user_id" and personal_column("users", field.name, table[field.name]):
            continue
        if not _is_name(field.name):
            _log.warning(
                "The column %r of the table of %ss is not used as a feature: %s. To use it, rename "
                "it, as with columns={%r: %r}.",
                field.name,
                key.removesuffix("_id"),
                _why_no_name(field.name),
                f"{key.removesuffix('_id')}s.NEW_NAME",
                field.name,
            )
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
    # TensorFlow exports only such inputs: ASCII, no leading underscore, no Python keyword.
    plain = name.isidentifier() and name.isascii() and not name.startswith("_")
    return (
        plain
        and not keyword.iskeyword(name)
        and name.lower() not in RESERVED_NAMES
        and not name.lower().startswith("filter_")
    )


def _why_no_name(name: str) -> str:
    if name.lower() in RESERVED_NAMES or name.lower().startswith("filter_"):
        return "the library uses that name itself"
    return "its name is not an identifier of ASCII letters, digits and inner underscores"


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not _is_name(name):
        raise ParameterError(
            f"A feature cannot be named {name!r}: {_why_no_name(str(name))}. Rename the column, as "
            "with `columns` of `read_interactions`.",
            "name",
        )
