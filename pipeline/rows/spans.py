"""The spans of a file pattern that are read together: a window of increments.

TFX's ExampleGens read one span. This module finds the spans before it, with the same placeholders.
It imports no TFX.
"""

from __future__ import annotations

import datetime
import glob
import gzip
import hashlib
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tfrec_meta.data.sources.byte_streams import damaged
from tfrec_meta.io.digests import digest_of_file

_TOKEN = re.compile(r"(\{(?:SPAN|VERSION)(?::\d+)?\}|\{YYYY\}|\{MM\}|\{DD\}|\*|\?|\[[^\]]*\])")
_NUMBERS = {"SPAN": r"(?P<span>\d+)", "VERSION": r"(?P<version>\d+)"}
_DATES = {
    "{YYYY}": (r"(?P<year>\d{4})", "????"),
    "{MM}": (r"(?P<month>\d{2})", "??"),
    "{DD}": (r"(?P<day>\d{2})", "??"),
}
_WILDCARDS = {"*": "[^/]*", "?": "[^/]"}
_EPOCH = datetime.date(1970, 1, 1)


class Span(NamedTuple):
    """One span: its number (of dates, the days since 1970), its highest version, its pattern."""

    number: int
    version: int
    pattern: str


def has_span(pattern: str) -> bool:
    """Returns whether a pattern has a placeholder for the number or the date of a span."""
    return any(token.startswith(("{SPAN", "{YYYY")) for token in _TOKEN.findall(pattern))


def check_pattern(pattern: str) -> None:
    """Raises a ValueError if the placeholders of a pattern do not say what a span is."""
    if "**" in pattern:
        raise ValueError(
            f"`path`={pattern!r} has `**`, which a pipeline does not know; write one `*` for each "
            "level of folders."
        )
    names = [re.split(r"[:}]", token[1:])[0] for token in _TOKEN.findall(pattern)]
    dates = sorted(name for name in names if f"{{{name}}}" in _DATES)
    complete = dates in ([], ["DD", "MM", "YYYY"]) and not (dates and "SPAN" in names)
    if not complete or max(names.count("SPAN"), names.count("VERSION")) > 1:
        raise ValueError(
            f"`path`={pattern!r} has other placeholders than one {{SPAN}}, or {{YYYY}}, {{MM}} and "
            "{DD} once each, with at most one {VERSION}; correct it."
        )


def spans_of(pattern: str) -> list[Span]:
    """Returns the spans that have files, each with its highest version, oldest first.

    Args:
        pattern: an absolute path with the placeholders of a span, and wildcards.

    Raises:
        ValueError: if a date is not in the calendar, or the numbers of two paths differ only in
            zeros in front, as 1 and 01.
    """
    tokens = _TOKEN.split(pattern)
    newest: dict[int, Span] = {}
    written: dict[tuple[int, int | None], tuple[str | None, str]] = {}
    for path, parts in _matches(pattern):
        if not is_data(path):
            continue
        number, version = _number(parts, path), int(parts.get("version") or 0)
        for key, name in (((number, None), "span"), ((number, version), "version")):
            text = parts.get(name)
            known, earlier = written.setdefault(key, (text, path))
            if known != text:
                raise ValueError(
                    f"{earlier} and {path} have the same {name}, since {known} and {text} are one "
                    "number, but only one of them would be read. Rename one of them."
                )
        if number not in newest or version > newest[number].version:
            filled = "".join(_filled(token, parts) for token in tokens)
            newest[number] = Span(number, version, filled)
    return [newest[number] for number in sorted(newest)]


def folders_of(pattern: str) -> list[tuple[int, str]]:
    """Returns number and path of each folder of a span, also without files; [] if none is one.

    Raises:
        ValueError: if a date is not in the calendar.
    """
    parts = pattern.split(os.sep)
    depth = max((depth for depth, part in enumerate(parts) if _marks_span(part)), default=-1)
    if depth in (-1, len(parts) - 1):
        return []
    matches = _matches(os.sep.join(parts[: depth + 1]))
    return [(_number(found, path), path) for path, found in matches if os.path.isdir(path)]


def is_data(path: str) -> bool:
    """Returns false for folders and for files such as _SUCCESS that Spark writes next to data."""
    return os.path.isfile(path) and os.path.basename(path)[0] not in "._"


def files_of(spans: Iterable[Span]) -> list[Path]:
    """Returns the data files of spans, in the order of the spans and of their names."""
    return [
        Path(path) for span in spans for path in sorted(glob.glob(span.pattern)) if is_data(path)
    ]


def copies(spans: Iterable[Span]) -> Iterator[tuple[Path, Path]]:
    """Yields each file of a span that has the content of one of an earlier span, after that one.

    Files that end in .gz are compared decompressed, since their first bytes have a time.

    Raises:
        ValueError: if a compressed file is damaged.
    """
    alike: defaultdict[tuple[bool, int | bytes], list[tuple[int, Path]]] = defaultdict(list)
    for span in spans:
        for path in files_of([span]):
            alike[_is_gzip(path), _mark(path)].append((span.number, path))
    for files in alike.values():
        first: dict[str, tuple[int, Path]] = {}
        for number, path in files if len(files) > 1 else ():
            known, earlier = first.setdefault(_digest(path), (number, path))
            if known != number:
                yield earlier, path


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _mark(path: Path) -> int | bytes:
    """Returns what files of the same content have alike, without reading all of it."""
    size = path.stat().st_size
    if not _is_gzip(path):
        return size
    with open(path, "rb") as file:
        file.seek(max(size - 8, 0))
        return file.read()  # gzip's checksum and size of the content


def _digest(path: Path) -> str:
    if not _is_gzip(path):
        return digest_of_file(path)
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(damaged(path, error)) from error


def _marks_span(part: str) -> bool:
    return any(token.startswith("{SPAN") or token in _DATES for token in _TOKEN.findall(part))


def _matches(pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the paths of a pattern, and the digits in place of its placeholders."""
    tokens = _TOKEN.split(pattern)
    expression = re.compile("".join(map(_as_regex, tokens)))
    for path in sorted(glob.glob("".join(map(_as_glob, tokens)))):
        found = expression.fullmatch(path)
        if found is not None:
            yield path, found.groupdict()


def _number(parts: dict[str, str], path: str) -> int:
    if "span" in parts:
        return int(parts["span"])
    try:
        day = datetime.date(int(parts["year"]), int(parts["month"]), int(parts["day"]))
    except ValueError as error:
        raise ValueError(
            f"{path} is of no date of the calendar: {error}. Rename it, or remove it."
        ) from error
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
