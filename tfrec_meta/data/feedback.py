"""Feedback: what each event says about the user's taste, by its type, its value, or both."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.checks import check_fields, check_list, not_empty
from tfrec_meta.data.events import RowName, numbered_row
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.records import create

WEIGHT, TARGET = "weight", "target"
"""The event columns that `Interactions.with_feedback` adds."""


@dataclasses.dataclass(frozen=True)
class Feedback:
    """Declares how events count: their weights, which of them are positive, and the target.

    The weight of a positive event is the weight of its type times its value in the column
    `weight`, as far as these are given, and otherwise 1. Only the ratios of weights matter.

    Args:
        event_type: the column of event types; read only if another field names event types.
        event_weights: the weight of each event type, such as {"view": 1, "cart": 3}.
        weight: a numeric event column with the weight of each event, such as "value".
        positive: which events are positive. A number is the lowest positive value, in the column
            `weight` if that is given and otherwise in `value`; a list names the positive event
            types. None: all events are positive.
        below: what the other events are. "ignore": nothing is learned from them. "negative": they
            are known negatives, with the weight of their type, or 1 without one. In both cases
            they are in no history, but they count as seen.
        target: the event types that validation and test are about, such as ["purchase"]. Other
            events are input: they are in training and in histories. None: all events.

    Raises:
        ParameterError: if a value is not valid, or a single string stands where a list belongs.

    Example:
        >>> import tfrec_meta as tm
        >>> data = tm.Interactions.from_arrays(
        ...     ["ann", "ann"], ["tea", "milk"], further={"event_type": ["view", "purchase"]}
        ... )
        >>> feedback = tm.Feedback(event_weights={"view": 1, "purchase": 10})
        >>> data.with_feedback(feedback).weights.tolist()
        [1.0, 10.0]
    """

    event_type: Annotated[str, not_empty()] = "event_type"
    event_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    weight: str | None = None
    positive: float | tuple[str, ...] | None = None
    below: Literal["ignore", "negative"] = "ignore"
    target: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "event_weights", _type_weights(self.event_weights))
        if self.weight == "":
            raise ParameterError("`weight`=''; use the name of a column.", "weight")
        positive = self.positive
        if isinstance(positive, bool | str) or (
            isinstance(positive, int | float) and not math.isfinite(positive)
        ):
            raise ParameterError(
                f"`positive`={positive!r}; use a finite number, or a list of event types, as "
                "['purchase'].",
                "positive",
            )
        if positive is not None and not isinstance(positive, int | float):
            object.__setattr__(self, "positive", _types("positive", positive))
        if self.target is not None:
            object.__setattr__(self, "target", _types("target", self.target))
        if self.below == "negative" and positive is None:
            raise ParameterError(
                "`below`='negative', but without `positive` all events are positive. Give "
                "`positive`, or leave out `below`.",
                "below",
                "positive",
            )

    @property
    def type_names(self) -> dict[str, tuple[str, ...]]:
        """The event types that each field names, by field; empty if no field names one."""
        found = {"event_weights": tuple(self.event_weights), "target": self.target or ()}
        found["positive"] = self.positive if isinstance(self.positive, tuple) else ()
        return {field: names for field, names in found.items() if names}

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The further event columns that this feedback reads: of event types and of weights."""
        types = (self.event_type,) if self.type_names else ()
        return types if self.weight in (None, "value") else (*types, str(self.weight))

    @property
    def columns_of_duplicates(self) -> tuple[str, ...]:
        """The columns in which two events must agree, in addition, to be exact duplicates."""
        return (*self.columns_read, WEIGHT)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON; `from_dict` reads them."""
        record = dataclasses.asdict(self)
        for name in ("positive", "target"):
            if isinstance(record[name], tuple):
                record[name] = list(record[name])
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Feedback:
        """Reads what `as_dict` returned, or a part of it; missing fields have their defaults.

        Raises:
            ParameterError: for an unknown field, or a value that is not valid.
        """
        feedback: Feedback = create(cls, record)
        return feedback


def with_columns(
    events: pa.Table, feedback: Feedback, name: str, row_name: RowName = numbered_row
) -> pa.Table:
    """Returns events with the columns `weight` and, with a target, `target`.

    Args:
        events: the events, with the columns that the feedback names.
        feedback: how they count.
        name: the name of the data in messages.
        row_name: returns the name of a row of `events`, numbered from 0, in messages.

    Returns:
        The table with `weight` float32: above 0 for a positive event, below 0 for a known negative
        (with that confidence), 0 for an ignored event; and `target` bool.

    Raises:
        ParameterError: if a column is missing or in use, or a weight or an event type is not valid.
    """
    for column in (WEIGHT, TARGET):
        needed = column == WEIGHT or feedback.target is not None
        if needed and column in events.column_names and feedback.weight != column:
            raise ParameterError(
                f"{name} has a column `{column}` of its own, and that name is used for the "
                "declared feedback. Rename the column, or name it as the `weight` of the feedback.",
                "feedback",
            )
    types = _event_types(events, feedback, name, row_name) if feedback.type_names else None
    weight = _weights(events, types, feedback, name, row_name)
    events = _set(events, WEIGHT, pa.array(weight))
    if feedback.target is not None:
        assert types is not None
        events = _set(events, TARGET, _is_one_of(types, feedback.target))
    return events


def type_counts(events: pa.Table, feedback: Feedback, name: str) -> Counter[str]:
    """Returns the number of events of each type; empty if the feedback names no type.

    Raises:
        ParameterError: if there is no column of event types, or an event has none.
    """
    if not feedback.type_names:
        return Counter()
    found = pc.value_counts(_event_types(events, feedback, name, numbered_row))
    return Counter(dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)))


def check_types(counts: Mapping[str, int], feedback: Feedback, name: str) -> None:
    """Checks the event types that the feedback names against those of the data.

    Args:
        counts: events of each type in the whole data.
        feedback: the feedback.
        name: the name of the data in messages.

    Raises:
        ParameterError: if the data has no event of a named type, or a positive event has a type
            without a weight.
    """
    if not counts:
        return
    shown = ", ".join(
        f"{kind!r} ({count:,} events)"
        for kind, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:20]
    )
    for field, kinds in feedback.type_names.items():
        unknown = [kind for kind in kinds if kind not in counts]
        if unknown:
            raise ParameterError(
                f"`{field}` names {', '.join(map(repr, unknown))}, but {name} has no such event in "
                f"the column `{feedback.event_type}`. It has {shown}.",
                field,
            )
    if feedback.event_weights:
        counted = feedback.positive if isinstance(feedback.positive, tuple) else tuple(counts)
        without = [kind for kind in counted if kind not in feedback.event_weights]
        if without:
            listed = ", ".join(f"{kind!r} ({counts[kind]:,} events)" for kind in without)
            raise ParameterError(
                f"`event_weights` has no weight for {listed}. Give each event type of {name} a "
                "weight, or name the types that count in `positive`.",
                "event_weights",
                "positive",
            )


def _weights(
    events: pa.Table, types: pa.Array | None, feedback: Feedback, name: str, row_name: RowName
) -> np.ndarray:
    """float32 [n], see `with_columns`."""
    of_type = np.ones(events.num_rows, np.float64)
    for kind, of_kind in feedback.event_weights.items():
        of_type[_mask(pc.equal(types, kind))] = of_kind
    positive = np.ones(events.num_rows, bool)
    weight = of_type
    if isinstance(feedback.positive, tuple):
        assert types is not None
        positive = _mask(_is_one_of(types, feedback.positive))
    elif feedback.positive is not None:
        numbers = _numbers(events, feedback.weight or "value", name, row_name)
        # In the precision of the column: 0.1 in float32 is above 0.1.
        positive = numbers >= np.asarray(feedback.positive, numbers.dtype)
    if feedback.weight is not None:
        numbers = _numbers(events, feedback.weight, name, row_name)
        wrong = positive & ~((numbers > 0) & np.isfinite(numbers.astype(np.float32)))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ParameterError(
                f"{name}, {row_name(row)}, column `{feedback.weight}`: {numbers[row]:g} is not a "
                f"valid weight ({int(wrong.sum()):,} rows in total). A weight is a finite number "
                "above 0. Remove these events, or set `positive` to the lowest value that counts.",
                "weight",
                "positive",
            )
        weight = of_type * numbers
    others = -of_type if feedback.below == "negative" else np.zeros(events.num_rows)
    return np.where(positive, weight, others).astype(np.float32)


def _numbers(events: pa.Table, column: str, name: str, row_name: RowName) -> np.ndarray:
    """The values of a numeric column without missing ones, in its own precision."""
    if column not in events.column_names:
        raise ParameterError(
            f"`weight`={column!r}, but {name} has the columns {', '.join(events.column_names)}. "
            "Use one of these.",
            "weight",
        )
    values = events[column]
    kind = values.type
    if pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        values, kind = values.cast(pa.float64()), pa.float64()
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ParameterError(
            f"`weight`={column!r}, but that column of {name} is of type {kind}. Use a column of "
            "numbers.",
            "weight",
        )
    missing = values.is_null(nan_is_null=True)
    if pc.any(missing).as_py():
        row = pc.index(missing, True).as_py()
        count = pc.sum(missing).as_py()
        raise ParameterError(
            f"{name}, {row_name(row)}, column `{column}`: the number is missing ({count:,} "
            "rows in total). Fill in a number, or remove these events.",
            "weight",
        )
    numbers: np.ndarray = values.to_numpy()
    return numbers if numbers.dtype.kind == "f" else numbers.astype(np.float64)


def _event_types(events: pa.Table, feedback: Feedback, name: str, row_name: RowName) -> pa.Array:
    """The event types as text, without blanks at their ends."""
    column = feedback.event_type
    if column not in events.column_names:
        raise ParameterError(
            f"`event_type`={column!r}, but {name} has the columns "
            f"{', '.join(events.column_names)}. Use the one that holds the event types.",
            "event_type",
        )
    types = events[column].combine_chunks()
    if isinstance(types, pa.ChunkedArray):
        types = pa.concat_arrays(types.chunks) if types.num_chunks else pa.array([], types.type)
    if pa.types.is_dictionary(types.type):
        types = types.dictionary_decode()
    if pa.types.is_nested(types.type):
        raise ParameterError(
            f"`event_type`={column!r}, but that column of {name} is of type {types.type}. Use a "
            "column with one event type per event.",
            "event_type",
        )
    types = pc.utf8_trim_whitespace(types.cast(pa.string()))
    missing = pc.fill_null(pc.equal(types, ""), True)
    if pc.any(missing).as_py():
        row = pc.index(missing, True).as_py()
        count = pc.sum(missing).as_py()
        raise ParameterError(
            f"{name}, {row_name(row)}, column `{column}`: the event type is missing "
            f"({count:,} rows in total). Fill it in, or remove these events.",
            "event_type",
        )
    return types


def _type_weights(given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise ParameterError(
            f"`event_weights`={given!r}; use a weight for each event type, as "
            "{'view': 1, 'cart': 3}.",
            "event_weights",
        )
    for kind, weight in given.items():
        number = isinstance(weight, int | float | np.integer | np.floating)
        if isinstance(weight, bool) or not number or not 0 < np.float32(weight) < math.inf:
            raise ParameterError(
                f"`event_weights` gives {kind!r} the weight {weight!r}; use a finite number above "
                "0. To leave an event type out, name the types that count in `positive`.",
                "event_weights",
                "positive",
            )
        if not isinstance(kind, str) or not kind.strip():
            raise ParameterError(
                f"`event_weights` has the event type {kind!r}; use a text that is not empty.",
                "event_weights",
            )
    return {kind.strip(): float(weight) for kind, weight in given.items()}


def _types(field: str, given: Any) -> tuple[str, ...]:
    check_list(field, given)
    try:
        kinds = tuple(given)
    except TypeError as error:
        raise ParameterError(
            f"`{field}`={given!r}; use a list of event types, as ['purchase'].", field
        ) from error
    if not kinds or not all(isinstance(kind, str) and kind.strip() for kind in kinds):
        raise ParameterError(
            f"`{field}`={list(kinds)!r}; use a list of event types, as ['purchase'].", field
        )
    return tuple(kind.strip() for kind in kinds)


def _set(events: pa.Table, name: str, column: pa.Array) -> pa.Table:
    if name in events.column_names:
        return events.set_column(events.column_names.index(name), name, column)
    return events.append_column(name, column)


def _is_one_of(types: pa.Array, kinds: tuple[str, ...]) -> pa.Array:
    return pc.is_in(types, value_set=pa.array(kinds, pa.string()))


def _mask(condition: pa.Array) -> np.ndarray:
    return np.asarray(condition.to_numpy(zero_copy_only=False), bool)
