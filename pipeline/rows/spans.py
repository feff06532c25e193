"""The spans of a file pattern that are read together: a window of increments.

TFX's ExampleGens read one span. This module finds the spans before it, with the same placeholders.
It imports no TFX.
"""

from __future__ import annotations

import datetime
import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tfrec_meta.io.digests import digest_of_file

_TOKEN = re.compile(r"(\{(?:SPAN|VERSION)(?::\d+)?\}|\{YYYY\}|\{MM\}|\{DD\}|\*\*|\*|\?|\[[^\]]*\])")
_NUMBERS = {"SPAN": r"(?P<span>\d+)", "VERSION": r"(?P<version>\d+)"}
_DATES = {
    "{YYYY}": (r"(?P<year>\d{4})", "????"),
    "{MM}": (r"(?P<month>\d{2})", "??"),
    "{DD}": (r"(?P<day>\d{2})", "??"),
}
_WILDCARDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
_EPOCH = datetime.date(1970, 1, 1)


class Span(NamedTuple):
    """One span: its number (of dates, the days since 1970), its highest version, its pattern."""

    number: int
    version: int
    pattern: str


def has_span(pattern: str) -> bool:
    """Returns whether a pattern has a placeholder for the number or the date of a span."""
    return any(token.startswith(("{SPAN", "{YYYY")) for token in _TOKEN.findall(pattern))


def window_of(pattern: str, size: int | None) -> list[Span]:
    """Returns the newest spans that have files, each with its highest version, oldest first.

    Args:
        pattern: an absolute path with the placeholders of a span, and wildcards.
        size: the number of spans; None returns all.
    """
    tokens = _TOKEN.split(pattern)
    wildcard = "".join(map(_as_glob, tokens))
    expression = re.compile("".join(map(_as_regex, tokens)))
    newest: dict[int, Span] = {}
    for path in sorted(glob.glob(wildcard, recursive=True)):
        found = expression.fullmatch(path)
        if found is None or not is_data(path):
            continue
        parts = found.groupdict()
        number, version = _number(parts), int(parts.get("version") or 0)
        if number not in newest or version > newest[number].version:
            filled = "".join(_filled(token, parts) for token in tokens)
            newest[number] = Span(number, version, filled)
    spans = [newest[number] for number in sorted(newest)]
    return spans if size is None else spans[-size:]


def is_data(path: str) -> bool:
    """Returns false for folders and for files such as _SUCCESS that Spark writes next to data."""
    return os.path.isfile(path) and os.path.basename(path)[0] not in "._"


def files_of(spans: Iterable[Span]) -> list[Path]:
    """Returns the data files of spans, in the order of the spans and of their names."""
    return [
        Path(path) for span in spans for path in sorted(glob.glob(span.pattern)) if is_data(path)
    ]


def copies(spans: Iterable[Span]) -> Iterator[tuple[Path, Path]]:
    """Yields each file of a span that has the content of one of an earlier span, after that one."""
    by_size: defaultdict[int, list[tuple[int, Path]]] = defaultdict(list)
    for span in spans:
        for path in files_of([span]):
            by_size[path.stat().st_size].append((span.number, path))
    for same_size in by_size.values():
        first: dict[str, tuple[int, Path]] = {}
        for number, path in same_size if len(same_size) > 1 else ():
            known, earlier = first.setdefault(digest_of_file(path), (number, path))
            if known != number:
                yield earlier, path


def _number(parts: dict[str, str]) -> int:
    if "span" in parts:
        return int(parts["span"])
    day = datetime.date(int(parts["year"]), int(parts["month"]), int(parts["day"]))
    return (day - _EPOCH).days


def _as_glob(token: str) -> str:
    if token in _DATES:
        return _DATES[token][1]
    return "*" if token.startswith(("{SPAN", "{VERSION")) else token


def _as_regex(token: str) -> str:
    if token in _DATES:
        return _DATES[token][0]
    if token in _WILDCARDS:
        return _WILDCARDS[token]
    if token.startswith(("{SPAN", "{VERSION")):
        return _NUMBERS[re.split(r"[:}]", token[1:])[0]]
    if token.startswith("["):
        return token.replace("[!", "[^")
    return re.escape(token)


def _filled(token: str, parts: dict[str, str]) -> str:
    """Returns a token with the digits as they are in the path, also zeros in front."""
    if token in _DATES:
        return parts[{"{YYYY}": "year", "{MM}": "month", "{DD}": "day"}[token]]
    if token.startswith(("{SPAN", "{VERSION")):
        return parts["span" if token.startswith("{SPAN") else "version"]
    return token
