"""Types of the values that options take, and lists of names."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import click

from tfrec_meta.checks import shortened
from tfrec_meta.io.stores import is_url


class Place(click.Path):
    """The path of a file or a folder, which may not exist yet; what is above it is no file.

    Args:
        remote: whether the URL of an object store is accepted.
        options: of `click.Path`.
    """

    def __init__(self, remote: bool = False, **options: Any):
        super().__init__(**options)
        self.remote = remote

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if is_url(value):
            if not self.remote:
                self.fail(f"{value!r} is a URL; use a path on this machine.", param, ctx)
            return value
        above = next((folder for folder in Path(value).parents if folder.exists()), None)
        if above is not None and not above.is_dir():
            self.fail(f"{value!r} is not possible, because {str(above)!r} is a file.", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = Place(file_okay=False)
REMOTE_FOLDER = Place(file_okay=False, remote=True)
FILE = Place(dir_okay=False)


class ExistingFile(click.Path):
    """The path of a file that a command reads. A missing file ends the command with status 1.

    Args:
        optional: whether the empty text is accepted, for an option that takes a file or nothing.
        remote: whether the URL of an object store is accepted; the file is looked up when it is
            read.
    """

    def __init__(self, optional: bool = False, remote: bool = False):
        super().__init__(dir_okay=False)
        self.optional, self.remote = optional, remote

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if self.remote and is_url(value):
            return value
        if not Path(value).is_file() and not (self.optional and value == ""):
            flag = max(param.opts, key=len)
            raise click.ClickException(f"{flag}={value!r} does not exist; use an existing file.")
        return value


class Columns(click.ParamType):
    """The names of columns: `user_id=customer,item_id=product`."""

    name = "ours=theirs,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, str]:
        columns: dict[str, str] = {}
        for part in Names().convert(value, param, ctx):
            ours, equals, theirs = part.partition("=")
            if not (ours and equals and theirs):
                self.fail(f"{part!r} is not OURS=THEIRS, as in user_id=customer", param, ctx)
            columns[ours] = theirs
        return columns


class Separators(click.ParamType):
    """The separators of cells with several values: `genres=|,tags=;`. A comma may be one."""

    name = "column=separator,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, str]:
        if not re.fullmatch(r"([^=,]+=.+?)(,[^=,]+=.+?)*", value):
            self.fail(f"{value!r} is not COLUMN=SEPARATOR, as in genres=|", param, ctx)
        return dict(re.findall(r"([^=,]+)=(.+?)(?=,[^=,]+=|$)", value))


class Character(click.ParamType):
    """One character; `tab` or `\\t` for a tab."""

    name = "character"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        return "\t" if value in ("tab", "\\t") else value


class EventWeights(click.ParamType):
    """Weights of event types: `view=1,cart=3`."""

    name = "type=weight,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, float]:
        weights: dict[str, float] = {}
        for part in Names().convert(value, param, ctx):
            kind, equals, weight = part.rpartition("=")
            try:
                weights[kind] = float(weight)
            except ValueError:
                equals = ""
            if not (kind and equals):
                self.fail(f"{part!r} is not TYPE=WEIGHT, as in view=1", param, ctx)
        return weights


class Names(click.ParamType):
    """Names, separated by commas: `ials,ease`.

    Args:
        none: whether the word "none" stands for no names.
    """

    name = "name,..."

    def __init__(self, none: bool = False):
        self.none = none

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        if not isinstance(value, str):
            return list(value)
        found = [] if self.none and value == "none" else names(value)
        if not found and value != "none":
            self.fail(f"{value!r} holds no name.", param, ctx)
        return found


class Numbers(Names):
    """Whole numbers, separated by commas: `1,5,20`."""

    name = "number,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return [int(word) for word in super().convert(value, param, ctx)]
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers, as in 1,5,20.", param, ctx)


class AttributeValues(click.ParamType):
    """An attribute and its values: `genre=comedy,drama`."""

    name = "attribute=value,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, list[str]]:
        attribute, _, text = value.partition("=")
        if not (attribute and names(text)):
            self.fail(f"{value!r} is not ATTRIBUTE=VALUE, as in genre=comedy.", param, ctx)
        return attribute, names(text)


class Positive(click.ParamType):
    """The lowest positive value, or the positive event types: `4` or `purchase,cart`."""

    name = "value|type,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> float | list[str]:
        try:
            return float(value)
        except ValueError:
            return Names().convert(value, param, ctx)


class Setting(click.ParamType):
    """One value of a name: `two_tower/embedding_dim=64`. The value is JSON, or else a text."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        name, equals, text = value.partition("=")
        if not (name and equals and text):
            self.fail(f"{value!r} is not NAME=VALUE, as in two_tower/encoder=gru", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


def names(text: str | None) -> list[str]:
    """Splits a text at its commas, as a row of a CSV file, and drops empty parts.

    Raises:
        click.UsageError: if a name that begins with a quotation mark does not end with one.

    Example:
        >>> names('12, "fish, smoked", 7')
        ['12', 'fish, smoked', '7']
    """
    try:
        rows = list(csv.reader((text or "").splitlines(), skipinitialspace=True, strict=True))
    except csv.Error:
        raise click.UsageError(
            f"{shortened(text)} has a name that begins with a quotation mark. Such a name has to "
            'end with one, before a comma or the end. Use "fish, smoked" for a name with a comma, '
            '"""fish" for one that starts with a mark.'
        ) from None
    return [part.strip() for row in rows for part in row if part.strip()]
