"""Vocabularies: a token keeps its row permanently, and new tokens are appended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.io.damage import DamagedFile

# TensorFlow reads vocabulary files line by line and removes carriage returns, so a token with
# either would change when it is read.
_LINE_BREAKS = "[\r\n]"

_WAY_OUT = "Fit and save the spec again, or copy it again"

# The file of an empty vocabulary for a lookup table, since TensorFlow reads neither an empty file
# nor an empty line. This is not UTF-8 and therefore not a token.
NO_TOKENS = b"\xff\n"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Vocabulary:
    """Tokens by row: row 0 is reserved for unknown tokens, and `tokens[i]` has row `i + 1`.

    Null, "" and tokens with a line break are never added, neither in memory nor by Beam.

    Example:
        >>> from tfrec_meta.features import Vocabulary
        >>> vocabulary = Vocabulary().grow(pa.array(["tea", "milk", "tea"]))
        >>> vocabulary.encode(["milk", "juice", "tea"])
        array([2, 0, 1], dtype=int32)
    """

    tokens: pa.Array = dataclasses.field(default_factory=lambda: pa.array([], pa.string()))

    def __len__(self) -> int:
        """Returns the number of rows, including row 0: the height of an embedding table."""
        return len(self.tokens) + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens.equals(other.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.tokens):,} tokens)"

    def grow(self, values: pa.Array | pa.ChunkedArray, min_count: int = 1) -> Vocabulary:
        """Returns a vocabulary with the new tokens appended, by descending count, then by token.

        Args:
            values: string [n], nulls allowed.
            min_count: rarer new tokens remain unknown.
        """
        return self.append(counted(values), min_count)

    def append(self, counts: pa.Table, min_count: int = 1) -> Vocabulary:
        """Like `grow`, for values that are counted already.

        Args:
            counts: result of `counted`.
            min_count: rarer new tokens remain unknown.
        """
        keep = pc.greater_equal(counts["count"], min_count)
        keep = pc.and_not(keep, pc.is_in(counts["token"], value_set=self.tokens))
        new = counts.filter(keep).sort_by([("count", "descending"), ("token", "ascending")])
        if not len(new):
            return self
        return Vocabulary(pa.concat_arrays([self.tokens, _combined(new["token"])]))

    def encode(self, values: Iterable[str | int] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Returns the rows of the tokens, int32 [n]; 0 for unknown tokens, null and ""."""
        if isinstance(values, np.ndarray) or not isinstance(values, pa.Array | pa.ChunkedArray):
            values = pa.array(values, from_pandas=True)
        rows = pc.index_in(_combined(values), value_set=self.tokens)
        return pc.add(pc.fill_null(rows, -1), 1).to_numpy(zero_copy_only=False).astype(np.int32)

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Returns the tokens of the rows, object, in the shape of `rows`; "" for row 0."""
        padded = np.concatenate([[""], self.tokens.to_numpy(zero_copy_only=False)]).astype(object)
        return padded[np.asarray(rows)]

    def write(self, path: Path) -> None:
        """Writes one token per line, in UTF-8, as `tf.lookup.TextFileInitializer` reads it."""
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(token + "\n" for token in self.tokens.to_pylist())

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Reads a file that `write` wrote.

        Raises:
            DamagedFile: if its last line is cut, or it is not UTF-8.
        """
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            raise DamagedFile(path, "its last line is cut", _WAY_OUT)
        try:
            text = "" if content == NO_TOKENS else content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DamagedFile(path, f"it is not UTF-8 ({error})", _WAY_OUT) from error
        return cls(pa.array(text.split("\n")[:-1], pa.string()))


def counted(values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Counts the tokens of `values`, without those that vocabularies never contain.

    Args:
        values: string [n], nulls allowed.

    Returns:
        `token` string, distinct, and `count` int64.
    """
    counts = pc.value_counts(_combined(values))
    return _kept(counts.field("values"), counts.field("counts"))


def counted_together(counts: Sequence[pa.Table]) -> pa.Table:
    """Returns the result of `counted` for all values together."""
    tables = pa.concat_tables(counts)
    sums = tables.group_by("token").aggregate([("count", "sum")])
    return pa.table({"token": sums["token"], "count": sums["count_sum"]})


def _kept(tokens: pa.Array, counts: pa.Array) -> pa.Table:
    keep = pc.greater(pc.utf8_length(tokens), 0)
    keep = pc.and_not(keep, pc.match_substring_regex(tokens, _LINE_BREAKS))
    return pa.table({"token": tokens, "count": counts}).filter(pc.fill_null(keep, False))


def _combined(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Returns one plain string array of a chunked or dictionary-encoded one."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values.cast(pa.string())
