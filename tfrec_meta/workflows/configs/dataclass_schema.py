"""JSON Schema of dataclasses: types, conditions, defaults and descriptions of their fields.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tfrec_meta.checks import Condition

Schema = dict[str, Any]

_TYPES: Mapping[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_NONE = re.compile(r"\bNone\b")  # of Python, and null of YAML and JSON
_FIELD = re.compile(r"    (\w+(?:, \w+)*): (.*)")


def object_schema(kind: type, **special: Schema) -> Schema:
    """Returns the schema of a mapping with any of the fields of a dataclass.

    Each field may be null, which stands for its default.

    Args:
        kind: the dataclass.
        special: schemas of fields, in place of those of their types.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    meanings = descriptions(kind)
    properties: Schema = {}
    for field in dataclasses.fields(kind):
        found = special.get(field.name) or schema_of(hints[field.name])
        default = plain_default(field)
        properties[field.name] = {
            **({"description": meanings[field.name]} if field.name in meanings else {}),
            **or_null(found),
            **({} if default is dataclasses.MISSING else {"default": default}),
        }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def schema_of(hint: Any) -> Schema:
    """Returns the schema of a type: of a field of a dataclass, or of an element of its value."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        schema = schema_of(hint.__origin__)
        for condition in hint.__metadata__:
            if isinstance(condition, Condition):
                schema |= condition.schema()
        return schema
    if hint in _TYPES:
        return {"type": _TYPES[hint]}
    if origin is Literal:
        return {"enum": list(inner)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return object_schema(hint)
    if origin is tuple:
        fixed = {} if inner[-1] is ... else {"minItems": len(inner), "maxItems": len(inner)}
        return {"type": "array", "items": schema_of(inner[0]), **fixed}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(inner[1])}
    if origin in (Union, types.UnionType):
        options = [schema_of(option) for option in inner if option is not type(None)]
        found = options[0] if len(options) == 1 else {"anyOf": options}
        return or_null(found) if len(options) < len(inner) else found
    return {}


def or_null(schema: Schema) -> Schema:
    """Returns a schema that accepts null, too."""
    if not schema:
        return schema
    if "enum" in schema:
        kinds = {"type": [schema["type"], "null"]} if isinstance(schema.get("type"), str) else {}
        return {**schema, "enum": [*(e for e in schema["enum"] if e is not None), None], **kinds}
    if "anyOf" in schema:
        others = [option for option in schema["anyOf"] if option != {"type": "null"}]
        return {**schema, "anyOf": [*others, {"type": "null"}]}
    kind = schema.get("type", [])
    listed = [kind] if isinstance(kind, str) else kind
    return {**schema, "type": [*(one for one in listed if one != "null"), "null"]}


def descriptions(kind: type) -> dict[str, str]:
    """Returns the meaning of each field: what docstrings of the class and its bases say of it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").splitlines()
        names: list[str] = []
        for line in lines[lines.index("Args:") + 1 :] if "Args:" in lines else ():
            if line and not line.startswith(" "):
                break
            entry = _FIELD.fullmatch(line)
            if entry is not None:
                names = entry[1].split(", ")
                found |= dict.fromkeys(names, entry[2])
            else:
                found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return {name: _NONE.sub("null", text) for name, text in found.items()}


def plain_default(field: dataclasses.Field[Any]) -> Any:
    """Returns the default of a field as JSON has it; MISSING for none, and for a dataclass."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if dataclasses.is_dataclass(value):
        return dataclasses.MISSING
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _plain(value: Any) -> Any:
    is_config = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_config else value
