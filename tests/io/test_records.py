"""Dataclasses from records of files."""

import dataclasses

import pytest

from tfrec_meta.checks import PositiveInt, check_fields
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.records import create


@dataclasses.dataclass(frozen=True)
class Tower:
    dim: PositiveInt
    name: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


def test_missing_fields_have_their_defaults():
    assert create(Tower, {"dim": 3}) == Tower(3, "")


@pytest.mark.parametrize(
    ("record", "message", "parameters"),
    [
        (3, "Tower cannot be 3; use values by field name.", ()),
        (None, "Tower cannot be None; use values by field name.", ()),
        ({}, "Tower needs dim.", ("dim",)),
        ({"dim": 3, "depth": 2}, "Tower has no depth; it has dim, name.", ("depth",)),
        ({"dim": 3, 4: 2}, "Tower has no 4; it has dim, name.", ("4",)),
        ({"dim": "big"}, "`dim`='big'; use a whole number, 1 or more.", ("dim",)),
        ({"dim": 10**30}, f"`dim`={10**30}; use 2,147,483,647 or less.", ("dim",)),
        ({"dim": 3, "name": ["a"]}, "`name`=['a']; use a text.", ("name",)),
    ],
)
def test_a_wrong_record_names_the_field(record, message, parameters):
    with pytest.raises(ParameterError) as raised:
        create(Tower, record)
    assert str(raised.value) == message
    assert raised.value.parameters == parameters
