"""Range checks of config dataclasses."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.checks import (
    FinitePositiveFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    above,
    at_least,
    between,
    check,
    check_fields,
    not_empty,
    one_of,
    share,
    whole_number,
)

SMALL = tm.synthetic(users=20, items=10, interactions=100)


@pytest.mark.parametrize(
    ("condition", "accepted", "refused"),
    [
        (at_least(1), [1, 1.5, math.inf], [0, -1, math.nan]),
        (at_least(0, finite=True), [0, 3.5], [-0.1, math.inf, math.nan]),
        (above(0), [1e-9, math.inf], [0, -1, math.nan]),
        (above(0, finite=True), [1e-9], [0, math.inf, math.nan]),
        (between(-1, 1), [-1, 0, 1], [-1.01, 1.01, math.nan]),
        (share(), [0, 0.99], [1, -0.1, math.nan]),
        (whole_number(2), [2, np.int64(3)], [1, 2.0, "2", None, True]),
        (one_of(("a", "b")), ["a", "b"], ["c", None, 1]),
        (not_empty(), [(1,), "x"], [(), ""]),
    ],
    ids=lambda value: value.advice() if hasattr(value, "advice") else "",
)
def test_a_condition_accepts_and_refuses(condition, accepted, refused):
    assert all(condition.accepts(value) for value in accepted)
    assert not any(condition.accepts(value) for value in refused)


@pytest.mark.parametrize(
    ("condition", "value", "message"),
    [
        (at_least(1), 0, "`n`=0; use 1 or more."),
        (above(0), -2.0, "`n`=-2.0; use a number above 0."),
        (above(0, finite=True), math.inf, "`n`=inf; use a finite number above 0."),
        (between(0, 1), 2, "`n`=2; use a number from 0 to 1."),
        (share(), 1, "`n`=1; use a share in [0, 1)."),
        (whole_number(1), 1.5, "`n`=1.5; use a whole number, 1 or more."),
        (whole_number(1, 9), 10, "`n`=10; use a whole number from 1 to 9."),
        (whole_number(1, 9), True, "`n`=True; use a whole number from 1 to 9."),
        (one_of(("a", "b")), "c", "`n`='c'; use one of 'a', 'b'."),
        (not_empty(), (), "`n`=(); use at least one value."),
    ],
)
def test_the_error_names_the_value_and_what_to_use(condition, value, message):
    with pytest.raises(ValueError) as raised:
        check("n", value, condition)
    assert str(raised.value) == message


@dataclasses.dataclass(frozen=True)
class Base:
    dim: PositiveInt = 4
    rate: FinitePositiveFloat = 0.1
    loss: Literal["softmax", "bpr"] = "softmax"
    note: Any = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class Derived(Base):
    hidden: Annotated[tuple[PositiveInt, ...], not_empty()] = (8,)
    memory: NonNegativeInt = 0
    limit: PositiveFloat | None = None
    weights: tuple[float, ...] | Literal["equal"] = "equal"
    name: str = ""
    names: tuple[str, ...] = ()
    is_big: bool = False
    size: float = 1.0


def test_defaults_are_accepted():
    assert Derived().hidden == (8,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": 0}, "`dim`=0; use 1 or more."),
        ({"rate": math.inf}, "`rate`=inf; use a finite number above 0."),
        ({"loss": "hinge"}, "`loss`='hinge'; use one of 'softmax', 'bpr'."),
        ({"hidden": ()}, "`hidden`=(); use at least one value."),
        ({"hidden": (8, 0)}, "`hidden`=(8, 0); use values that are each 1 or more."),
        ({"dim": 2.5}, "`dim`=2.5; use a whole number, 1 or more."),
        ({"dim": True}, "`dim`=True; use a whole number, 1 or more."),
        ({"dim": "four"}, "`dim`='four'; use a whole number, 1 or more."),
        ({"hidden": 8}, "`hidden`=8; use a list, as in [8]."),
        ({"hidden": "a"}, "`hidden`='a'; use a list, as in ['a']."),
        ({"rate": "fast"}, "`rate`='fast'; use a finite number above 0."),
        ({"memory": -1}, "`memory`=-1; use 0 or more."),
        ({"limit": 0}, "`limit`=0; use a number above 0."),
        ({"rate": True}, "`rate`=True; use a finite number above 0."),
        ({"name": 3}, "`name`=3; use a text."),
        ({"is_big": "yes"}, "`is_big`='yes'; use True or False."),
        ({"is_big": 1}, "`is_big`=1; use True or False."),
        ({"size": "big"}, "`size`='big'; use a number."),
        ({"size": True}, "`size`=True; use a number."),
        ({"names": ("a", 3)}, "`names`=('a', 3); use values that are each a text."),
        ({"names": {"a": 3}}, "`names`={'a': 3}; use a list of values."),
        ({"names": 3}, "`names`=3; use a list, as in [3]."),
    ],
)
def test_fields_are_checked_inherited_ones_included(fields, message):
    with pytest.raises(ValueError) as raised:
        Derived(**fields)
    assert str(raised.value) == message


def test_numbers_of_numpy_and_whole_numbers_are_numbers():
    assert Derived(size=2, is_big=np.bool_(True), dim=np.int32(3)).size == 2
    assert Derived(size=np.float32(0.5)).size == 0.5


def test_none_is_accepted_where_the_type_allows_it():
    assert Derived(limit=None).limit is None
    assert Derived(limit=2.0).limit == 2.0


def test_a_type_with_several_alternatives_is_left_to_the_config():
    assert Derived(weights=(1.0, 2.0)).weights == (1.0, 2.0)


def test_a_value_of_another_type_raises_a_type_error():
    with pytest.raises(TypeError, match="`rate`='fast'; use a finite number"):
        Base(rate="fast")


@pytest.mark.parametrize(
    "call",
    [
        lambda: tm.FeatureSpec(user="age"),
        lambda: tm.HashedText("title", ngrams="34"),
        lambda: tm.MultiTaskConfig(tasks="retrieval"),
        lambda: tm.ExportConfig(filters="genres"),
        lambda: tm.TwoTowerConfig(hidden="64"),
        lambda: tm.tune(SMALL, families="ease", trials=1),
        lambda: tm.evaluate(None, tm.split_by_item(SMALL), baselines="ease"),
    ],
)
def test_a_single_text_in_place_of_a_list_is_an_error_that_says_so(call):
    with pytest.raises(ValueError, match=r"; use a list, as in \["):
        call()


@pytest.mark.parametrize(
    "read",
    [
        tm.read_interactions,
        lambda path, columns: tm.Interactions.from_pandas(SMALL.to_pandas(), columns=columns),
    ],
)
def test_a_text_in_place_of_a_mapping_of_columns_is_an_error_that_says_so(read, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\na,x\n")
    with pytest.raises(ValueError, match="`columns`='price'; use a mapping"):
        read(path, "price")
