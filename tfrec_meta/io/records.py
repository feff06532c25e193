"""Dataclasses from records, as JSON and YAML files hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfrec_meta.checks import shortened
from tfrec_meta.errors import ParameterError


def create(kind: type, record: Any) -> Any:
    """Creates a dataclass from a record of a file, as JSON and YAML give it.

    Args:
        kind: the dataclass.
        record: values by field name. Missing fields have their defaults.

    Raises:
        ParameterError: if the record is no mapping, has an unknown field, lacks one without a
            default, or has a value that the dataclass refuses.

    Example:
        >>> from tfrec_meta.io.records import create
        >>> from tfrec_meta.checks import WholeNumber
        >>> create(WholeNumber, {"low": 1})
        Traceback (most recent call last):
        ...
        tfrec_meta.errors.ParameterError: WholeNumber has no low; it has least, most, brief.
    """
    name = kind.__name__
    if not isinstance(record, Mapping):
        raise ParameterError(f"{name} cannot be {shortened(record)}; use values by field name.")
    fields = dataclasses.fields(kind)
    known = [field.name for field in fields]
    unknown = [field for field in record if field not in known]
    if unknown:
        shown = ", ".join(map(str, unknown))
        raise ParameterError(
            f"{name} has no {shown}; it has {', '.join(known)}.", *map(str, unknown)
        )
    needed = [field.name for field in fields if _has_no_default(field)]
    missing = [field for field in needed if field not in record]
    if missing:
        raise ParameterError(f"{name} needs {', '.join(missing)}.", *missing)
    try:
        return kind(**record)
    except TypeError as error:
        if isinstance(error, ParameterError):  # it names the field already
            raise
        raise ParameterError(
            f"{name} cannot be {shortened(dict(record))}; use values of the types of its fields."
        ) from error


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return (
        field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    )
