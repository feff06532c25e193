"""JSON Schema of dataclasses, worked out by hand."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from tfrec_meta.checks import Width, above, between, not_empty, one_of
from tfrec_meta.workflows.configs.dataclass_schema import descriptions, object_schema, schema_of


class Way(enum.Enum):
    UP = "up"
    DOWN = "down"


@dataclasses.dataclass(frozen=True)
class Base:
    """A base.

    Args:
        width: the width
            in cells; None for any.
        left, right: an end.

    Raises:
        ValueError: never.
    """

    width: Width = 3


@dataclasses.dataclass(frozen=True)
class Shape(Base):
    """A shape.

    Args:
        names: the names.
        right: the last end.
    """

    names: tuple[str, ...] = ("a",)
    left: Annotated[float, between(0, 1)] | None = None
    right: float = 2


def test_a_dataclass_is_a_mapping_with_its_own_and_inherited_fields():
    width = {"type": ["integer", "null"], "minimum": 1, "maximum": 100_000}
    names = {"type": ["array", "null"], "items": {"type": "string"}}
    left = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    assert object_schema(Shape) == {
        "type": "object",
        "properties": {
            "width": {"description": "the width in cells; null for any.", **width, "default": 3},
            "names": {"description": "the names.", **names, "default": ["a"]},
            "left": {"description": "an end.", **left, "default": None},
            "right": {"description": "the last end.", "type": ["number", "null"], "default": 2},
        },
        "additionalProperties": False,
    }


def test_what_a_docstring_says_after_the_arguments_is_no_description():
    assert set(descriptions(Shape)) == {"width", "left", "right", "names"}


def test_types_have_their_schemas():
    for hint, schema in (
        (bool, {"type": "boolean"}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Literal["a", "b"] | None, {"enum": ["a", "b", None]}),
        (Way, {"enum": ["up", "down"]}),
        (Annotated[Way, one_of([Way.UP])], {"enum": ["up"]}),
        (Annotated[float, above(0)], {"type": "number", "exclusiveMinimum": 0}),
        (Annotated[str, not_empty()], {"type": "string", "minItems": 1, "minLength": 1}),
        (
            tuple[float, float],
            {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        ),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Any, {}),
    ):
        assert schema_of(hint) == schema
