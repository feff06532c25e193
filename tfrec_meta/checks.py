"""Range checks of config dataclasses, declared next to each field and run by one call.

A field states its allowed values in its type. `check_fields`, called in `__post_init__`, checks
all fields of the instance, inherited fields included:

    @dataclasses.dataclass(frozen=True)
    class TowerConfig:
        embedding_dim: PositiveInt = 64
        dropout: Annotated[float, share()] = 0.0
        hidden: tuple[PositiveInt, ...] = ()
        loss: Literal["softmax", "bpr"] = "softmax"

        def __post_init__(self) -> None:
            check_fields(self)

What is read from a type:

- `Annotated[..., condition]`: the conditions of this module, or any other `Condition`;
- `bool`, `int`, `float`, `str`: the value must have this type; an integer is a number, too, and a
  truth value is not;
- `Literal[...]`: the value must be one of the literals;
- `tuple[X, ...]`: each element is checked as an X;
- `X | None`: None is accepted, any other value is checked as an X.

Rules that involve several fields stay ordinary code below the call. `check` is the same for one
argument of a function. The module imports nothing of the package, so every layer can use it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import numbers
import types
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tfrec_meta.errors import ParameterError, ParameterTypeError


class Condition(ABC):
    """A condition that a value must meet."""

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Returns whether the value meets the condition.

        Raises:
            TypeError: if the value is of a type that cannot be compared, as a text with a number.
        """

    @abstractmethod
    def advice(self) -> str:
        """Returns the accepted values in words, to complete "use …."."""

    def advice_for(self, value: Any) -> str:
        """Returns `advice` for a value that is refused; it may leave out what the value meets."""
        return self.advice()

    def schema(self) -> dict[str, Any]:
        """Returns the condition in the words of JSON Schema."""
        return {}


@dataclasses.dataclass(frozen=True)
class Interval(Condition):
    """Accepts the numbers of an interval. NaN is in no interval.

    Args:
        low: the lower end.
        high: the upper end.
        words: the interval in words, for the error message.
        open_low: whether `low` itself is refused.
        open_high: whether `high` itself is refused.
    """

    low: float
    high: float
    words: str
    open_low: bool = False
    open_high: bool = False

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool):
            raise TypeError(value)
        above = self.low < value if self.open_low else self.low <= value
        return bool(above and (value < self.high if self.open_high else value <= self.high))

    def advice(self) -> str:
        return self.words

    def schema(self) -> dict[str, Any]:
        low = "exclusiveMinimum" if self.open_low else "minimum"
        high = "exclusiveMaximum" if self.open_high else "maximum"
        ends = {low: self.low, high: self.high}
        return {"type": "number"} | {key: end for key, end in ends.items() if math.isfinite(end)}


@dataclasses.dataclass(frozen=True)
class WholeNumber(Condition):
    """Accepts integers (also NumPy's) from `least` to `most`, and no float or truth value.

    Args:
        least: the smallest integer.
        most: the largest integer; None for no limit.
        brief: whether the error for an integer below `least` leaves out that it must be whole.
    """

    least: int
    most: int | None = None
    brief: bool = False

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            return False
        return self.least <= int(value) and (self.most is None or int(value) <= self.most)

    def advice(self) -> str:
        if self.most in (None, _MOST):  # a limit that few readers will meet
            return f"a whole number, {self.least} or more"
        return f"a whole number from {self.least} to {self.most:,}"

    def advice_for(self, value: Any) -> str:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if whole and self.most == _MOST and int(value) > _MOST:
            return f"{_MOST:,} or less"
        brief = self.brief and whole and int(value) < self.least
        return f"{self.least} or more" if brief else self.advice()

    def schema(self) -> dict[str, Any]:
        limits = {"minimum": self.least, "maximum": self.most}
        known = {key: end for key, end in limits.items() if end not in (None, _MOST)}
        return {"type": "integer"} | known


@dataclasses.dataclass(frozen=True)
class OneOf(Condition):
    """Accepts the values of a list."""

    options: tuple[Any, ...]

    def accepts(self, value: Any) -> bool:
        return value in self.options

    def advice(self) -> str:
        shown = [repr(option) for option in self.options]
        return f"one of {', '.join(shown)}" if len(shown) > 1 else shown[0]

    def schema(self) -> dict[str, Any]:
        return {"enum": [getattr(option, "value", option) for option in self.options]}


@dataclasses.dataclass(frozen=True)
class NotEmpty(Condition):
    """Accepts sequences with at least one element."""

    def accepts(self, value: Any) -> bool:
        return len(value) > 0

    def advice(self) -> str:
        return "at least one value"

    def schema(self) -> dict[str, Any]:
        return {"minItems": 1, "minLength": 1}


@dataclasses.dataclass(frozen=True)
class OfType(Condition):
    """Accepts the values of a type.

    Args:
        kind: bool, int, float or str; NumPy's types of numbers count as int and float.
        words: the type in words.
    """

    kind: type
    words: str

    def accepts(self, value: Any) -> bool:
        is_bool = isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
        accepted = is_bool if self.kind is bool else isinstance(value, _ABSTRACT[self.kind])
        if not accepted or (is_bool and self.kind is not bool):
            raise TypeError(value)
        return True

    def advice(self) -> str:
        return self.words

    def schema(self) -> dict[str, Any]:
        kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
        return {"type": kinds[self.kind]}


_ABSTRACT: dict[type, type] = {int: numbers.Integral, float: numbers.Real, str: str}
_TYPES = {
    bool: OfType(bool, "True or False"),
    int: OfType(int, "a whole number"),
    float: OfType(float, "a number"),
    str: OfType(str, "a text"),
}


@dataclasses.dataclass(frozen=True)
class IsList(Condition):
    """Accepts what can be a list, but no single text, which is one by mistake, and no mapping."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)

    def advice(self) -> str:
        return "a list of values"

    def advice_for(self, value: Any) -> str:
        return self.advice() if isinstance(value, Mapping) else f"a list, as in [{value!r}]"


def at_least(least: float, *, finite: bool = False) -> Condition:
    """Returns the condition "`least` or more"; with `finite`, infinity is refused."""
    words = f"a finite number, {least} or more" if finite else f"{least} or more"
    return Interval(least, math.inf, words, open_high=finite)


def above(low: float, *, finite: bool = False) -> Condition:
    """Returns the condition "a number above `low`"; with `finite`, infinity is refused."""
    words = f"a {'finite ' * finite}number above {low}"
    return Interval(low, math.inf, words, open_low=True, open_high=finite)


def between(low: float, high: float) -> Condition:
    """Returns the condition "a number from `low` to `high`", both ends included."""
    return Interval(low, high, f"a number from {low} to {high}")


def share() -> Condition:
    """Returns the condition of a share that is dropped: in [0, 1), so that something remains."""
    return Interval(0, 1, "a share in [0, 1)", open_high=True)


def whole_number(least: int, most: int | None = None) -> Condition:
    """Returns the condition "a whole number, `least` or more", or "from `least` to `most`"."""
    return WholeNumber(least, _MOST if most is None else most)


def one_of(options: Collection[Any]) -> Condition:
    """Returns the condition "one of these values"."""
    return OneOf(tuple(options))


def not_empty() -> Condition:
    """Returns the condition that a sequence has at least one element."""
    return NotEmpty()


# The largest width of a tensor that a config can ask for. A larger one is a mistake, which would
# take all memory before anything else notices it.
MAX_WIDTH = 100_000

# The largest integer of TensorFlow's int32, which counts and sizes have.
_MOST = 2**31 - 1

Width = Annotated[int, WholeNumber(1, MAX_WIDTH, brief=True)]
PositiveInt = Annotated[int, WholeNumber(1, _MOST, brief=True)]
NonNegativeInt = Annotated[int, WholeNumber(0, _MOST, brief=True)]
Seed = Annotated[int, WholeNumber(0, 2**32 - 1)]
PositiveFloat = Annotated[float, above(0)]
NonNegativeFloat = Annotated[float, at_least(0)]
FinitePositiveFloat = Annotated[float, above(0, finite=True)]
FiniteNonNegativeFloat = Annotated[float, at_least(0, finite=True)]


def of_type(kind: type) -> Condition:
    """Returns the condition that a value is of a type: bool, int, float or str."""
    return _TYPES[kind]


def check_list(name: str, value: Any) -> None:
    """Raises a ParameterError if another value stands where a list or None belongs.

    Example:
        >>> from tfrec_meta.checks import check_list
        >>> check_list("families", "ease")
        Traceback (most recent call last):
        ...
        tfrec_meta.errors.ParameterError: `families`='ease'; use a list, as in ['ease'].
    """
    if value is not None:
        check(name, value, IsList())


def check(name: str, value: Any, condition: Condition) -> None:
    """Checks one value.

    Args:
        name: what the error calls the value, as the argument's name.
        value: the value.
        condition: what it must meet.

    Raises:
        ParameterError: if the value does not meet the condition; a ValueError whose message names
            the accepted values.
        ParameterTypeError: if the value is of a type that cannot be compared.

    Example:
        >>> from tfrec_meta.checks import at_least, check
        >>> check("workers", 0, at_least(1))
        Traceback (most recent call last):
        ...
        tfrec_meta.errors.ParameterError: `workers`=0; use 1 or more.
    """
    try:
        accepted = condition.accepts(value)
    except TypeError:
        raise _wrong_type(name, value, condition.advice_for(value)) from None
    if not accepted:
        raise ParameterError(
            f"`{name}`={shortened(value)}; use {condition.advice_for(value)}.", name
        )


def check_fields(config: Any) -> None:
    """Checks all fields of a dataclass instance against the conditions in their types.

    Args:
        config: the instance; called in its `__post_init__`.

    Raises:
        ParameterError: for the first field whose value is refused.
        ParameterTypeError: if a value is of a type that cannot be compared.
    """
    kind: Any = type(config)  # mypy does not know that a type is hashable
    for name, rules in _rules(kind):
        value = getattr(config, name)
        for rule in rules:
            rule.apply(name, value)


@dataclasses.dataclass(frozen=True)
class _Rule:
    """A condition on a field: on its value, or with `each` on each element of its value."""

    condition: Condition
    each: bool = False
    optional: bool = False

    def apply(self, name: str, value: Any) -> None:
        if self.optional and value is None:
            return
        if not self.each:
            check(name, value, self.condition)
            return
        advice = f"values that are each {self.condition.advice()}"
        try:
            refused = [element for element in value if not self.condition.accepts(element)]
        except TypeError:
            raise _wrong_type(name, value, advice) from None
        if refused:
            advice = f"values that are each {self.condition.advice_for(refused[0])}"
            raise ParameterError(f"`{name}`={shortened(value)}; use {advice}.", name)


def _wrong_type(name: str, value: Any, advice: str) -> ParameterTypeError:
    return ParameterTypeError(f"`{name}`={shortened(value)}; use {advice}.", name)


def shortened(value: Any) -> str:
    """Returns the repr of a value, or of an enum's value, cut to 200 characters for messages."""
    text = repr(value.value if isinstance(value, enum.Enum) else value)
    return text if len(text) <= 200 else text[:197] + "..."


@functools.cache
def _rules(kind: type) -> tuple[tuple[str, tuple[_Rule, ...]], ...]:
    """The rules of each field of a dataclass, in the order of the fields."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (field.name, tuple(_rules_of(hints[field.name]))) for field in dataclasses.fields(kind)
    )


def _rules_of(hint: Any) -> Iterator[_Rule]:
    origin = get_origin(hint)
    if origin is Annotated:
        if hint.__origin__ not in (int, float):  # their conditions imply the type
            yield from _rules_of(hint.__origin__)
        yield from (_Rule(extra) for extra in hint.__metadata__ if isinstance(extra, Condition))
    elif hint in _TYPES:
        yield _Rule(_TYPES[hint])
    elif origin is Literal:
        yield _Rule(OneOf(get_args(hint)))
    elif origin is tuple and len(get_args(hint)) == 2 and get_args(hint)[1] is ...:
        yield _Rule(IsList())
        yield from (_Rule(rule.condition, each=True) for rule in _rules_of(get_args(hint)[0]))
    elif origin in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        if len(options) == 1:  # of several types, a condition of one says nothing of the others
            for rule in _rules_of(options[0]):
                yield dataclasses.replace(rule, optional=True)
