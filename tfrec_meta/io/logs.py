"""Texts of other people's data on a terminal: escapes of control characters, and loggers.

Names of files and columns, ids and cells may hold control characters, which rule a terminal: they
clear it, hide text or change its title.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

# C0 and C1 controls, those of the direction of text, separators of lines, and lone surrogates.
_RULING = (
    r"\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f"
)
_CONTROLS = re.compile(f"[\\x00-\\x08{_RULING}]")
_CONTROLS_AND_BREAKS = re.compile(f"[\\x00-\\x0a{_RULING}]")


def printable(text: str, lines: bool = True) -> str:
    """Returns a text with escapes in place of control characters, which could rule a terminal.

    Args:
        text: may hold titles and ids of other people's data.
        lines: whether line breaks and tabs stay as they are.

    Example:
        >>> from tfrec_meta.io.logs import printable
        >>> printable("\\x1b[2J")
        '\\\\x1b[2J'
    """
    pattern = _CONTROLS if lines else _CONTROLS_AND_BREAKS
    return pattern.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def logger(name: str) -> logging.Logger:
    """Returns the logger of a module, which escapes the texts that its messages are filled with.

    Args:
        name: `__name__` of the module.
    """
    found = logging.getLogger(name)
    found.addFilter(_escape)
    return found


def _escape(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(map(_escaped, record.args))
    return True


def _escaped(value: Any) -> Any:
    """Returns an argument of a message; only texts and what is shown as text can do harm."""
    if isinstance(value, BaseException):
        return printable(str(value))
    if isinstance(value, str | os.PathLike):
        return printable(str(value), lines=False)
    return value
