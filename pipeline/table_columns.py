"""The types of table columns, and columns as the features of tf.Examples.

This module imports neither TFX nor TensorFlow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.numbers import CODE, NUMBER

# Each can represent the ones before. "int" are whole numbers that float32 has, "code" other ones.
_BASES = ("none", "int", "code", "float", "text")
_TYPES = {"int": pa.int64(), "code": pa.int64(), "float": pa.float32(), "text": pa.string()}
LARGEST_WHOLE = 2**24  # float32 has every whole number up to this one
_NUMBER_CELL = rf"^\s*{NUMBER}\s*$"
_CODE_CELL = rf"^\s*{CODE}"


class Kind(NamedTuple):
    """The type of a column: nothing, integers, numbers or text; one value or a list per row."""

    base: str
    many: bool = False

    def __or__(self, other: Kind) -> Kind:
        return Kind(max(self.base, other.base, key=_BASES.index), self.many or other.many)

    @property
    def written(self) -> str:
        """The type in tf.Examples: whole numbers are floats, so that 9 and 9.5 are of one type.

        A column may have whole numbers only in one span and others in the next. Lists of whole
        numbers and numbers that float32 does not have are integers.
        """
        if self.base == "int" and not self.many:
            return "float"
        return "int" if self.base in ("int", "code") else self.base


def kind_of(column: pa.Array, known: str | None, where: str) -> Kind:
    """Returns the type of a column.

    Args:
        column: the column, from `tables._column`.
        known: the narrowest type so far, if text is to be parsed as numbers; None keeps text as
            text.
        where: names the column in errors.

    Raises:
        TypeError: for a type that a tf.Example can't represent.
    """
    many = is_list(column.type)
    kind = column.type.value_type if many else column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return Kind("none", many)
    if pa.types.is_boolean(kind):
        return Kind("text", many)  # "true" and "false", the tokens that the library makes of them
    if pa.types.is_integer(kind):
        return Kind(_whole_base(column.flatten() if many else column), many)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Kind("float", many)
    if is_text(kind):
        return Kind("text" if known is None else _text_base(column, known), many)
    raise TypeError(
        f"{where} is of type {column.type}, which a tf.Example can't represent; leave it out, or "
        "write it as numbers, text or lists of these."
    )


def _text_base(column: pa.Array, known: str) -> str:
    """Returns the narrowest base, `known` at least, as which all cells can be parsed."""
    values = (column.flatten() if is_list(column.type) else column).drop_null()
    if not len(values):
        return known
    if known == "text" or pc.any(pc.match_substring_regex(values, _CODE_CELL)).as_py():
        return "text"
    for base in ("int", "float"):
        try:
            numbers = values.cast(pa.int64() if base == "int" else pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bad cells; types without a cast
            continue
        return max(known, _whole_base(numbers) if base == "int" else base, key=_BASES.index)
    return "text"


def _whole_base(values: pa.Array) -> str:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    limits = pc.min_max(values)
    small = max(abs(limits[end].as_py() or 0) for end in ("min", "max")) <= LARGEST_WHOLE
    return "int" if small else "code"


def first_not_number(column: pa.Array) -> int:
    """Returns the first row of a text column that is neither a number nor missing; 0 if all are."""
    if not is_text(column.type):
        return 0
    other = pc.invert(pc.fill_null(pc.match_substring_regex(column, _NUMBER_CELL), True))
    return max(pc.index(other, True).as_py(), 0)


def exception_among_numbers(column: pa.Array) -> int | None:
    """Returns the first row that is not a number, in a text column of mostly numbers.

    None if most cells are text, or numbers with leading zeros, which are codes.
    """
    if not is_text(column.type):
        return None
    number = pc.fill_null(pc.match_substring_regex(column, _NUMBER_CELL), False)
    present = len(column) - column.null_count
    if not present > (pc.sum(number).as_py() or 0) >= max(present / 2, 1):
        return None
    if pc.any(pc.fill_null(pc.match_substring_regex(column, _CODE_CELL), False)).as_py():
        return None
    return first_not_number(column)


def as_feature(column: pa.Array, base: str, where: str) -> pa.ListArray:
    """Returns one list of values per row, null where there are none, for the tf.Example encoder.

    Raises:
        ValueError: if a value can't be converted.
    """
    rows = len(column)
    if is_list(column.type):
        parents = pc.list_parent_indices(column).to_numpy()
        values = column.flatten()
    else:
        parents, values = np.arange(rows), column
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        if base == "float" and is_text(values.type):
            values = values.cast(pa.float64())
        if base != "text" or not is_text(values.type):  # bytes need not be UTF-8
            # An unsafe cast, so that integers above 2**24 may become floats.
            values = values.cast(_TYPES[base], safe=base != "float")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:  # as in `_text_base`
        raise ValueError(f"{where}: {error}. Fix the file.") from error
    present = values.is_valid()
    if base == "float":
        present = pc.and_(present, pc.invert(pc.fill_null(pc.is_nan(values), False)))
    counts = np.bincount(parents[present.to_numpy(zero_copy_only=False)], minlength=rows)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = values.filter(present)
    if base == "text":
        values = values.cast(pa.binary())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(counts == 0))


def is_list(kind: pa.DataType) -> bool:
    is_of = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(fits(kind) for fits in is_of)


def is_text(kind: pa.DataType) -> bool:
    is_of = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(fits(kind) for fits in is_of)
