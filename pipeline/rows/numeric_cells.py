"""Numbers in columns of text: which columns are numbers, and which of their cells are mistakes.

The rules are those of `tfrec_meta.data.column_types`, for columns that are read in parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.numbers import CODE, NUMBER, are_mistakes, is_placeholder
from tfrec_meta.pipeline.table_columns import Kind, kind_of


@dataclasses.dataclass(frozen=True)
class NumericCells:
    """The numbers among the cells of a column of text, or of a part of it; `+` adds parts.

    Attributes:
        kind: the type of the numbers.
        numbers: number of cells that are numbers.
        others: number of other cells that are not empty.
        placeholders: how many of the others stand for a missing number, such as "n/a".
        is_text: whether the column is text in any case, such as one with the code 02139.
        first: a description of the first of the others.
    """

    kind: Kind = Kind("none")  # noqa: RUF009  (a tuple)
    numbers: int = 0
    others: int = 0
    placeholders: int = 0
    is_text: bool = False
    first: str = ""

    @classmethod
    def of(
        cls, cells: pa.Array, declared: bool, describe: Callable[[int], str], where: str
    ) -> NumericCells:
        """Counts the cells of a column.

        Args:
            cells: string [n], null where a cell is empty; from `plain`.
            declared: whether the column is declared as numbers; then placeholders are empty cells.
            describe: returns a description of the cell in a row.
            where: names the column in errors.
        """
        numbers = only_numbers(cells)
        is_other = pc.and_(cells.is_valid(), numbers.is_null())
        placeholder = pc.and_(is_other, is_placeholder(cells))
        if declared:
            is_other = pc.and_not(is_other, placeholder)
        first = pc.index(is_other, True).as_py()
        codes = pc.any(pc.match_substring_regex(cells, f"^{CODE}"), min_count=0).as_py()
        return cls(
            kind_of(numbers, "none", where),
            len(numbers) - numbers.null_count,
            pc.sum(is_other).as_py() or 0,
            0 if declared else pc.sum(placeholder).as_py() or 0,
            codes and not declared,
            describe(first) if first >= 0 else "",
        )

    def __add__(self, other: NumericCells) -> NumericCells:
        return NumericCells(
            self.kind | other.kind,
            self.numbers + other.numbers,
            self.others + other.others,
            self.placeholders + other.placeholders,
            self.is_text or other.is_text,
            self.first or other.first,
        )

    @property
    def are_numbers(self) -> bool:
        """Whether the column is one of numbers; the other cells are mistakes then."""
        filled = self.numbers + self.others
        if self.is_text or not self.numbers:
            return False
        return not self.others or are_mistakes(self.others, self.placeholders, filled)


def plain(column: pa.Array, decimal: str) -> pa.Array:
    """Returns a column of text trimmed, with a decimal point, and null for empty cells."""
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), None, text)
    return text if decimal == "." else pc.replace_substring(text, decimal, ".")


def only_numbers(cells: pa.Array) -> pa.Array:
    """Returns the cells of `plain` that are numbers, without a plus sign, and null for others."""
    is_number = pc.match_substring_regex(cells, f"^{NUMBER}$")
    return pc.utf8_ltrim(pc.if_else(is_number, cells, None), "+")
