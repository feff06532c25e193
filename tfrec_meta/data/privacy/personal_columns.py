"""Finds columns that look like data about people, by their names and by a sample of their values.

A warning about every column helps nobody, so the rules are conservative: a name counts only with
values that fit it, and values count only where hardly anything else looks like them. A column that
is not found can still be personal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa

from tfrec_meta.data.events import SCHEMA
from tfrec_meta.data.feedback import WEIGHT
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.privacy.column_names import kind_by_name
from tfrec_meta.data.privacy.column_values import fits, kind_by_values
from tfrec_meta.data.privacy.personal_data import PersonalData, Table
from tfrec_meta.data.sources.streaming import StreamedInteractions

_SAMPLE = 1000  # values of a column
_OURS = {*SCHEMA.names, WEIGHT}


@dataclasses.dataclass(frozen=True)
class PersonalColumn:
    """A column that looks personal. It holds no value of the column.

    Attributes:
        table: "events", "users" or "items".
        column: its name. `user_id` and `item_id` are columns of the events.
        looks_like: such as "e-mail addresses".
        by: whether its "name" or its "values" look so.
    """

    table: Table
    column: str
    looks_like: PersonalData
    by: Literal["name", "values"]

    @classmethod
    def from_dict(cls, record: Mapping[str, str]) -> PersonalColumn:
        """Returns the column of a record that `dataclasses.asdict` made.

        Raises:
            LookupError, ValueError: if it is no such record.
        """
        looks_like = PersonalData(record["looks_like"])
        return cls(record["table"], record["column"], looks_like, record["by"])  # type: ignore[arg-type]

    @property
    def full_name(self) -> str:
        """Table and column, such as "users.email"; the ids have no table."""
        ids = self.column in ("user_id", "item_id")
        return self.column if ids else f"{self.table}.{self.column}"

    @property
    def reason(self) -> str:
        """Why the column looks personal, such as "e-mail addresses, by its values"."""
        return f"{self.looks_like}, by its {self.by}"

    def __str__(self) -> str:
        return f"{self.full_name} ({self.reason})"


def personal_columns(data: Interactions | StreamedInteractions) -> tuple[PersonalColumn, ...]:
    """Returns the columns of a data set that look like data about people.

    E-mail addresses, phone numbers, names, postal addresses, birth dates, IP addresses, numbers of
    cards, accounts and identity documents are recognized. Values are sampled; of streamed events,
    from the first part.

    Args:
        data: events, with the tables of users and items.

    Example:
        >>> import pyarrow as pa
        >>> from tfrec_meta.data import Interactions, personal_columns
        >>> users = pa.table({"user_id": ["u1"], "mail": ["ann@shop.example"], "age": [30]})
        >>> data = Interactions.from_arrays(["u1"], ["tea"], users=users)
        >>> print(*personal_columns(data))
        users.mail (e-mail addresses, by its values)
    """
    return tuple(_found(data))


def personal_column(table: Table, name: str, column: pa.ChunkedArray) -> PersonalColumn | None:
    """Returns the column, if it looks personal; see `personal_columns`.

    Args:
        table: which table has it.
        name: its name.
        column: its values, of any type.
    """
    values = _sample(column)
    found = None if values is None else kind_by_values(values, table)
    if found is not None:
        return PersonalColumn(table, name, found, "values")
    named = kind_by_name(name, table)
    if named is PersonalData.BIRTH_DATE and pa.types.is_temporal(column.type):
        return PersonalColumn(table, name, named, "name")
    if named is not None and values is not None and fits(named, values):
        return PersonalColumn(table, name, named, "name")
    return None


def _found(data: Interactions | StreamedInteractions) -> Iterator[PersonalColumn]:
    events = next(data.parts()).events
    for key in ("user_id", "item_id"):
        kind = kind_by_values(_sample(events[key]) or [], "users" if key == "user_id" else "items")
        if kind is not None:
            yield PersonalColumn("events", key, kind, "values")
    tables: tuple[tuple[Table, pa.Table | None], ...] = (
        ("events", events),
        ("users", data.users),
        ("items", data.items),
    )
    for name, table in tables:
        if table is None:
            continue
        for column in table.column_names:
            if column in _OURS and (name == "events" or column.endswith("_id")):
                continue
            found = personal_column(name, column, table[column])
            if found is not None:
                yield found


def _sample(column: pa.ChunkedArray) -> list[str] | None:
    """Returns some values as text, without missing ones; None for a type that holds no text."""
    present = column.drop_null()
    rows = np.unique(np.linspace(0, len(present) - 1, min(len(present), _SAMPLE)).astype(np.int64))
    taken = present.take(pa.array(rows)).combine_chunks()
    if pa.types.is_dictionary(taken.type):
        taken = taken.dictionary_decode()
    while _is_list(taken.type):
        taken = taken.flatten()
    if not _holds_text(taken.type):
        return None
    texts = (_text(value) for value in taken.to_pylist()[:_SAMPLE] if value is not None)
    return [text for text in texts if text]


def _text(value: str | float) -> str:
    """Returns a value as text; pandas turns whole numbers with a missing one into fractions."""
    return value.strip() if isinstance(value, str) else f"{value:.15g}"


def _holds_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
