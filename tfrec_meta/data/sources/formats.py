"""`FileFormat`: how data files are written, and what happens to invalid rows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypedDict

from tfrec_meta.checks import between, check_fields
from tfrec_meta.data.events import MAX_BAD_SHARE, BadRows
from tfrec_meta.data.times import TimeUnit
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.stores import AnyPath

ColumnType = Literal["text", "number", "time"]

DELIMITERS: Mapping[str, str] = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
COMPRESSIONS = (".gz", ".zst")
SUFFIXES = ".parquet, .csv, .tsv, .jsonl or .ndjson (all but .parquet also with .gz or .zst)"

# Text with at least one directive of `datetime.strptime`.
_DIRECTIVES = re.compile(r"[^%]*(%[aAbBcdDfFGHIjmMpSTuUVwWxXyYzZ%][^%]*)+")
_COLUMN_TYPES: tuple[str, ...] = ("text", "number", "time")


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """How data files are written, and what happens to invalid rows. JSON-able.

    Args:
        delimiter: the character between cells. None: a comma in .csv, a tab in .tsv.
        encoding: of text files, by its name in Python.
        decimal: the character before the decimals of numbers in text: "." or ",".
        quote: the character that encloses cells. None: the double quotation mark in .csv, no
            quoting in .tsv. "" switches quoting off.
        lists: the separator of the values in a cell, by further event column and by attribute:
            `{"genres": "|"}`.
        types: "text", "number" or "time", by further event column and by attribute; the types of
            the others are recognized.
        time_unit: unit of numeric times since 1970: s, ms, us or ns. None recognizes the unit by
            the size of the numbers, and logs it unless it is seconds.
        time_format: format of times in text, as for `datetime.strptime`. None reads ISO 8601 and
            numbers.
        bad_rows: "raise" raises at the first invalid row, with its file, row and column; "drop"
            removes invalid rows, counts them by reason and logs examples.
        max_bad_share: with "drop", the highest share of invalid rows that is accepted.

    Raises:
        ParameterError: for a value that is not accepted.
    """

    delimiter: str | None = None
    encoding: str = "utf8"
    decimal: Literal[".", ","] = "."
    quote: str | None = None
    lists: Mapping[str, str] = dataclasses.field(default_factory=dict)
    types: Mapping[str, ColumnType] = dataclasses.field(default_factory=dict)
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    bad_rows: BadRows = "raise"
    max_bad_share: Annotated[float, between(0, 1)] = MAX_BAD_SHARE

    def __post_init__(self) -> None:
        check_fields(self)
        _check_character("delimiter", self.delimiter)
        _check_character("quote", self.quote or None)
        if self.delimiter is not None and self.delimiter == self.quote:
            raise ParameterError(
                f"`delimiter` and `quote` are both {self.quote!r}; use two characters.",
                "delimiter",
                "quote",
            )
        try:
            "".encode(self.encoding)  # refuses codecs that are not of text, such as rot13
        except (LookupError, TypeError, ValueError) as error:
            raise ParameterError(
                f"`encoding`={self.encoding!r} is not an encoding that Python knows; use a name "
                "such as 'utf8', 'latin1', 'cp1252' or 'utf-16'.",
                "encoding",
            ) from error
        if self.time_format is not None and not _DIRECTIVES.fullmatch(self.time_format):
            raise ParameterError(
                f"`time_format`={self.time_format!r}; use a format of `datetime.strptime`, such as "
                "'%d/%m/%Y %H:%M:%S'.",
                "time_format",
            )
        for name in ("lists", "types"):
            given = getattr(self, name) or {}
            if not isinstance(given, Mapping):
                raise ParameterError(f"`{name}`={given!r}; use a mapping from column names.", name)
            object.__setattr__(self, name, MappingProxyType(dict(given)))
        for column, mark in self.lists.items():
            if not isinstance(mark, str) or not mark:
                raise ParameterError(
                    f"`lists`: the separator of `{column}` is {mark!r}; use a text such as '|'.",
                    "lists",
                )
        for column, kind in self.types.items():
            if kind not in _COLUMN_TYPES:
                raise ParameterError(
                    f"`types`: the type of `{column}` is {kind!r}; use one of "
                    f"{', '.join(_COLUMN_TYPES)}.",
                    "types",
                )

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as values for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"lists": dict(self.lists), "types": dict(self.types)}

    def text(self, path: AnyPath) -> TextFormat:
        """Returns the format of the delimited text file `path`."""
        suffix = suffix_of(path) or ".csv"
        quote = self.quote if self.quote is not None else '"' * (suffix != ".tsv")
        delimiter = self.delimiter or DELIMITERS[suffix]
        trusted = self.quote is not None
        return TextFormat(delimiter, None, self.encoding, quote, self.decimal, trusted)

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy cannot be pickled
        return FileFormat, tuple(self.as_dict().values())


class FormatOptions(TypedDict, total=False):
    """The fields of `FileFormat` as keyword arguments of the functions that read files."""

    delimiter: str | None
    encoding: str
    decimal: Literal[".", ","]
    quote: str | None
    lists: Mapping[str, str]
    types: Mapping[str, ColumnType]
    time_unit: TimeUnit | None
    time_format: str | None
    bad_rows: BadRows
    max_bad_share: float


@dataclasses.dataclass(frozen=True)
class TextFormat:
    """The format of one delimited text file.

    Attributes:
        delimiter: one character.
        names: the columns of a file without a header line; None if the first line names them.
        encoding: of the text.
        quote: the character that encloses cells; "" if none does.
        decimal: the character before the decimals of numbers.
        trusted: whether the quotation marks are certain to enclose cells, also over lines of which
            each looks like a row.
    """

    delimiter: str = ","
    names: tuple[str, ...] | None = None
    encoding: str = "utf8"
    quote: str = '"'
    decimal: str = "."
    trusted: bool = False


def suffix_of(path: AnyPath) -> str | None:
    """Returns the suffix of a data file without .gz or .zst; None for other files."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        return ".parquet"
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in (*DELIMITERS, *JSON_LINES) else None


def _check_character(name: str, value: str | None) -> None:
    if value is None:
        return
    usable = isinstance(value, str) and len(value) == 1 and value.isascii()
    if not usable or value in "\r\n\0":
        raise ParameterError(
            f"`{name}`={value!r}; use one ASCII character that is not a line break.", name
        )
