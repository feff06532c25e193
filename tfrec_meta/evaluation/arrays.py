"""Checks of the arrays that metrics take: shape, type, length and missing values.

NumPy broadcasts [n, 1] with [n] to [n, n] without an error, and the mean of that is a wrong metric.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.checks import check, whole_number
from tfrec_meta.errors import ParameterError


def vector(name: str, values: ArrayLike, *, finite: bool = False) -> NDArray[Any]:
    """Returns numbers as an array [n].

    Args:
        name: the argument's name, for errors.
        values: [n] or [n, 1], as `predict` of a Keras model returns it; numbers or booleans.
        finite: whether infinite numbers are refused; NaN always is.

    Raises:
        ParameterError: for another shape, no values, values that are not numbers, or NaN.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not len(array):
        raise ParameterError(
            f"`{name}` has shape {np.shape(values)}; use an array [n] or [n, 1] with one number "
            "per row, at least 1.",
            name,
        )
    if array.dtype.kind not in "biuf":
        raise ParameterError(
            f"`{name}` has values of type {array.dtype}, such as {array[0]!r}; use numbers.", name
        )
    bad = ~np.isfinite(array) if finite else np.isnan(array)
    if bad.any():
        at = int(bad.argmax())
        shown = "NaN" if math.isnan(array[at]) else str(array[at])
        raise ParameterError(
            f"`{name}` is {shown} at {at}; fix the model or leave out the row.", name
        )
    return array


def same_length(**arrays: NDArray[Any]) -> None:
    """Checks that arrays have the same number of rows.

    Args:
        **arrays: by the name of the argument.

    Raises:
        ParameterError: if they have not; states the length of each.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"`{name}` has {length}" for name, length in lengths.items())
        raise ParameterError(f"{shown} values; use one per row in each.", *lengths)


def numbers(
    values: ArrayLike, predictions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns two arguments `values` and `predictions` as float64 [n].

    Raises:
        ParameterError: as `vector` and `same_length`.
    """
    value = vector("values", values, finite=True).astype(np.float64)
    prediction = vector("predictions", predictions, finite=True).astype(np.float64)
    same_length(values=value, predictions=prediction)
    return value, prediction


def labelled(
    labels: ArrayLike, predictions: ArrayLike, name: str = "predictions"
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Returns binary labels as bool [n] and their predictions as float64 [n].

    Args:
        labels: 0 and 1, or booleans, [n] or [n, 1].
        predictions: numbers, [n] or [n, 1].
        name: the name of the argument `predictions`.

    Raises:
        ParameterError: as `vector` and `same_length`, and for other labels.
    """
    label = vector("labels", labels)
    prediction = vector(name, predictions).astype(np.float64)
    same_length(**{"labels": label, name: prediction})
    odd = (label != 0) & (label != 1)
    if odd.any():
        raise ParameterError(
            f"`labels` has {label[odd.argmax()]}, but labels are 0 or 1; apply a threshold first.",
            "labels",
        )
    return label.astype(bool), prediction


def probabilities_of(
    labels: ArrayLike, probabilities: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Returns binary labels as bool [n] and the probabilities of a 1 as float64 [n].

    Raises:
        ParameterError: as `labelled`, and for probabilities outside of [0, 1].
    """
    label, probability = labelled(labels, probabilities, "probabilities")
    if probability.min() < 0 or probability.max() > 1:
        raise ParameterError(
            f"`probabilities` range from {probability.min()} to {probability.max()}, "
            "but must be in [0, 1]; apply a sigmoid to logits first.",
            "probabilities",
        )
    return label, probability


def item_lists(lists: ArrayLike, catalogue: int) -> NDArray[np.int64]:
    """Returns recommended items as int64 [Q, k].

    Args:
        lists: int [Q, k], items from 0; -1 where a list is shorter than k.
        catalogue: number of items of the catalogue, at least 1.

    Raises:
        ParameterError: for another shape or type, or items outside of the catalogue.
    """
    check("catalogue", catalogue, whole_number(1))
    array = np.asarray(lists)
    if array.ndim != 2 or (array.size and array.dtype.kind not in "iu"):
        raise ParameterError(
            f"`lists` has shape {array.shape} and type {array.dtype}; use whole numbers "
            "[queries, k].",
            "lists",
        )
    items: NDArray[np.int64] = array.astype(np.int64)
    if items.size and not -1 <= items.min() <= items.max() < catalogue:
        raise ParameterError(
            f"`lists` has items from {items.min()} to {items.max()}; use 0 to {catalogue - 1}, "
            "the items of the catalogue, or -1 for none.",
            "lists",
        )
    return items
