"""Turns the arguments of the client's methods into the input tensors of a signature.

Values are padded to the widths fixed at export, which come from the model's metadata. A value that
does not fit is refused with an `InvalidRequest` that names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfrec_meta.export import signatures as names
from tfrec_meta.serving.protocol.errors import InvalidRequest
from tfrec_meta.serving.protocol.metadata import Signature


@dataclass(frozen=True)
class UserSide:
    """Ids, histories, exclusions and features of one or several users; one row per user."""

    users: np.ndarray  # object [B]
    single: bool  # the caller passed one user, not a list of users
    histories: list[list[str]]
    excluded: list[list[str]]
    features: Mapping[str, Any]

    @classmethod
    def of(
        cls, user_id: Any, history: Any, features: Mapping[str, Any], exclude: Any = ()
    ) -> UserSide:
        """Checks the arguments of a call.

        Raises:
            InvalidRequest: if an id is not text, or there is not one list per user.
        """
        single = depth(user_id) == 0
        users = _column("user_id", [user_id] if single else user_id)
        return cls(
            users,
            single,
            lists_of_ids(names.HISTORY, history, len(users), single),
            lists_of_ids(names.EXCLUDE, exclude, len(users), single),
            features,
        )

    def tensors(self, signature: Signature, **further: np.ndarray) -> dict[str, np.ndarray]:
        """Returns all inputs of a signature.

        Raises:
            InvalidRequest: if the signature has no such feature, a feature has another shape or
                dtype, or there are more exclusions than the exported width.
        """
        given = {names.USER_ID: self.users, **further}
        for name, lists in ((names.HISTORY, self.histories), (names.EXCLUDE, self.excluded)):
            given |= _lists_input(signature, name, lists)
        return complete(signature, given, self.features, len(self.users), self.single)


def support_tensors(
    signature: Signature,
    support: Any,
    exclude: Any,
    counts: np.ndarray,
    features: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Returns the inputs of `adapt`.

    An item without a label, or with the label None, counts as liked: it gets the default of the
    signature, which is 1, or the best rating for a model of ratings.

    Args:
        signature: the signature `adapt`.
        support: per row, a list of ids or a mapping of ids to labels.
        exclude: per row, a list of ids.
        counts: int32 [B], the `k` of each row.
        features: values by feature name.

    Raises:
        InvalidRequest: if an id is not text, a label is not a number (from 0 to 1 for a model of
            choices), a support set has more items than the exported width, or as for `complete`.
    """
    rows = len(support)
    ids = [list(given) if isinstance(given, Mapping) else given for given in support]
    lists = lists_of_ids("support", ids, rows, single=False, blanks=True)
    width, longest = _width(signature, names.LABEL), max(map(len, lists), default=0)
    if width is not None and longest > width:
        raise InvalidRequest(
            f"`support` has {longest} items, but the model was exported for {width}. Send fewer, "
            "or export it with a larger `support_width`.",
            parameters=("support",),
        )
    default = signature.defaults.get(names.LABEL)
    liked = 1.0 if default is None else float(default.flat[0])
    low, high = (0, 1) if liked == 1.0 else (-math.inf, math.inf)
    wanted = "use 0 to 1" if liked == 1.0 else "use a rating"
    labels = np.full((rows, longest if width is None else width), liked, np.float32)
    for row, given in enumerate(support):
        for position, label in enumerate(given.values() if isinstance(given, Mapping) else ()):
            if label is None:
                continue
            if isinstance(label, str) or not math.isfinite(label) or not low <= label <= high:
                raise InvalidRequest(
                    f"`support` has the label {label!r}; {wanted}.", parameters=("support",)
                )
            labels[row, position] = label
    given = {
        names.ITEM_ID: padded(lists, labels.shape[1]),
        names.LABEL: labels,
        names.K: counts,
        **_lists_input(
            signature, names.EXCLUDE, lists_of_ids(names.EXCLUDE, exclude, rows, single=False)
        ),
    }
    return complete(signature, given, features, rows, single=False)


def depth(value: Any) -> int:
    """Returns 0 for a value, 1 for a list of values, 2 for a list of lists."""
    if isinstance(value, np.ndarray):
        return value.ndim
    if isinstance(value, list | tuple):
        return 1 + max((depth(each) for each in value), default=0)
    return 0


def _check_id(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` has {value!r}, but ids are text; use {str(value)!r}.")
    return value


def _column(name: str, values: Any) -> np.ndarray:
    column = np.empty(len(values), np.object_)
    column[:] = [_check_id(name, each) for each in values]
    return column


def lists_of_ids(
    name: str, value: Any, rows: int, single: bool, blanks: bool = False
) -> list[list[str]]:
    """Returns one list of ids per row, without "" (padding) unless `blanks`."""
    if isinstance(value, str | bytes):
        raise InvalidRequest(f"`{name}`={value!r} is one id; use a list of ids.")
    value = () if value is None else value
    lists = [value] if single else list(value) or [()] * rows
    if len(lists) != rows or any(isinstance(each, str | bytes) for each in lists):
        raise InvalidRequest(
            f"`{name}` has {len(lists)} entries for {rows} users; use one list of ids for each "
            "user."
        )
    return [
        [item for item in (_check_id(name, each) for each in row) if item or blanks]
        for row in lists
    ]


def counts(k: Any, rows: int, single: bool) -> np.ndarray:
    """Returns int32 [B], from one number for all rows or one per row."""
    values = [k] * rows if depth(k) == 0 else list(k)
    if len(values) != rows or (single and depth(k)):
        raise InvalidRequest(
            f"`k`={k!r} for {rows} users; use one number for all, or one per user."
        )
    for each in values:
        if (
            isinstance(each, bool)
            or not isinstance(each, int | np.integer)
            or not 1 <= each < 2**31
        ):
            raise InvalidRequest(f"`k`={each!r}; use a whole number, 1 or more.", parameters=("k",))
    return np.asarray(values, np.int32)


def padded(lists: list[list[str]], width: int) -> np.ndarray:
    """Returns object [B, width], with "" after the values of each row."""
    array = np.full((len(lists), width), names.PADDING, np.object_)
    for row, values in enumerate(lists):
        array[row, : len(values)] = values
    return array


def output_width(signature: Signature, name: str) -> int | None:
    """Returns the fixed second dimension of an output; None if it is not fixed."""
    info = signature.outputs.get(name)
    if info is None or info.shape is None or len(info.shape) != 2:
        return None
    return info.shape[1]


def _lists_input(signature: Signature, name: str, lists: list[list[str]]) -> dict[str, np.ndarray]:
    """Returns `history` or `exclude` at the exported width; {} if the signature lacks the input."""
    longest = max(map(len, lists), default=0)
    if name not in signature.inputs:
        if longest:
            raise InvalidRequest(f"the signature has no input `{name}`; leave it out.")
        return {}
    width = _width(signature, name)
    if width is None:
        width = longest
    elif name == names.HISTORY:
        lists = [row[max(len(row) - width, 0) :] for row in lists]  # the latest items
    elif longest > width:
        raise InvalidRequest(
            f"`{name}` has {longest} items, but the model was exported for {width}. Send fewer, or "
            "export it with a larger width."
        )
    return {name: padded(lists, width)}


def _width(signature: Signature, name: str) -> int | None:
    """Returns the fixed second dimension of an input; an optional input has it in its default."""
    if name in signature.defaults:
        shape: tuple[int | None, ...] | None = signature.defaults[name].shape
    else:
        shape = signature.inputs[name].shape
    return shape[1] if shape is not None and len(shape) == 2 else None


def input_rank(signature: Signature, name: str) -> int:
    """Returns the rank of an input, batch included; an optional input has it in its default."""
    if name in signature.defaults:
        return signature.defaults[name].ndim
    info = signature.inputs.get(name)
    return 1 if info is None or info.shape is None else len(info.shape)


def complete(
    signature: Signature,
    inputs: dict[str, np.ndarray],
    features: Mapping[str, Any],
    rows: int,
    single: bool,
) -> dict[str, np.ndarray]:
    """Returns all inputs of a signature: the given ones, the features, and defaults for the rest.

    Args:
        signature: the signature.
        inputs: arrays by input name; names that the signature lacks are ignored.
        features: values by feature name: one value per row, or one value for all rows.
        rows: number of rows.
        single: whether each feature is the value of the only row.

    Raises:
        InvalidRequest: if the signature has no such feature, a feature has another shape or dtype,
            or a required input is missing.
    """
    inputs = {name: array for name, array in inputs.items() if name in signature.inputs}
    free = sorted(set(signature.inputs) - set(inputs))
    unknown = sorted(set(features) - set(free))
    if unknown:
        raise InvalidRequest(
            f"the signature has no feature {', '.join(map(repr, unknown))}. Use one of {free}."
        )
    for name in free:
        if name in features:
            inputs[name] = _feature(signature, name, features[name], rows, single)
        elif name in signature.defaults:
            inputs[name] = np.repeat(signature.defaults[name], rows, axis=0)
        else:
            raise InvalidRequest(
                f"the signature needs `{name}` ({signature.inputs[name].dtype}); pass it by name."
            )
    return inputs


def _feature(signature: Signature, name: str, value: Any, rows: int, single: bool) -> np.ndarray:
    """Returns the tensor of a feature: its dtype, one row per user or item."""
    rank, dtype = input_rank(signature, name), signature.inputs[name].dtype
    if single or depth(value) < rank:
        value = [value] * rows
    if len(value) != rows:
        raise InvalidRequest(
            f"`{name}` has {len(value)} entries for {rows} rows; use one for all or one per row."
        )
    width = _width(signature, name)
    if dtype == "string" and rank == 1:
        return _column(name, value)
    if dtype == "string":
        lists = lists_of_ids(name, value, rows, single=False, blanks=True)
        longest = max(map(len, lists), default=0)
        if width is not None and longest > width:
            raise InvalidRequest(
                f"`{name}` has {longest} values, but the model was exported "
                f"for {width}. Send fewer."
            )
        return padded(lists, longest if width is None else width)
    try:
        numbers = np.asarray(value)
        array = numbers.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(
            f"`{name}`={value!r}, but the model needs {dtype}: {error}."
        ) from error
    if numbers.dtype.kind not in "biuf" or (
        np.dtype(dtype).kind in "biu" and not np.array_equal(array, numbers)
    ):
        raise InvalidRequest(f"`{name}`={value!r}, but the model needs {dtype}. Use such numbers.")
    if array.ndim != rank or (width is not None and array.shape[1] != width):
        raise InvalidRequest(
            f"`{name}` has the shape {list(array.shape)}, but the model needs "
            f"{[rows] if width is None else [rows, width]}."
        )
    return array
