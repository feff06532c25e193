"""Numbers in text: what is one, and reading them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.ids import text_of

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""Pattern of a number, to be put between the anchors of a cell."""
CODE = r"(\+[0-9.]|[+-]?0[0-9])"
"""Pattern of the beginning of a code: a number would lose its leading zeros or its plus sign."""

_MISSING = (
    "n/a",
    "na",
    "nan",
    "null",
    "none",
    "nil",
    "missing",
    "unknown",
    "-",
    "--",
    "—",
    "–",
    "?",
)
_MOSTLY = 0.8  # share of numbers from which other cells of a column are probably mistakes
_FLOAT = rf"^({NUMBER}|-?(?i:nan|inf|infinity))$"


def numbers_of(column: pa.Array, decimal: str = ".") -> tuple[pa.Array, np.ndarray]:
    """Reads text or bytes as numbers.

    Returns:
        float32 [n], null for empty cells, and a mask [n] of the cells that are not numbers, which
        are null, too.
    """
    text, bad = text_of(column)
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.equal(text, ""), None, text)
    if decimal != ".":
        wrong = pc.match_substring(text, ".")
        bad = bad | _mask(wrong, False)
        text = pc.if_else(wrong, None, pc.replace_substring(text, decimal, "."))
    try:
        return text.cast(pa.float32()), bad
    except pa.ArrowInvalid:  # which does not say where
        is_number = pc.match_substring_regex(text, _FLOAT)
    bad = bad | ~_mask(is_number, True)
    text = pc.if_else(is_number, text, None)
    if pc.any(pc.starts_with(text, "+")).as_py():
        text = pc.utf8_ltrim(text, "+")
    return text.cast(pa.float32()), bad


def is_placeholder(text: pa.Array) -> pa.BooleanArray:
    """Returns which cells stand for a missing number, such as "n/a"; false for null."""
    return pc.is_in(pc.utf8_lower(text), value_set=pa.array(_MISSING))


def are_mistakes(others: int, placeholders: int, filled: int) -> bool:
    """Returns whether the cells of a column that are not numbers are probably mistakes.

    Args:
        others: their number.
        placeholders: how many of them stand for a missing number.
        filled: the number of all cells that are not empty.
    """
    return placeholders == others or others <= (1 - _MOSTLY) * filled


def _mask(condition: pa.Array, missing: bool) -> np.ndarray:
    return pc.fill_null(condition, missing).to_numpy(zero_copy_only=False).astype(bool)
