"""The answers of a served model, read from the output tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfrec_meta.export import signatures as names
from tfrec_meta.serving.protocol import tensors
from tfrec_meta.serving.protocol.errors import ServingError


@dataclass(frozen=True)
class Recommendation:
    """A recommended item. A higher score is better; scores compare within one answer only."""

    item_id: str
    score: float


@dataclass(frozen=True)
class Adapted:
    """Recommendations for a new user, and the number of support items in the catalogue."""

    items: list[Recommendation]
    support_used: int


def numbers(response: Any, name: str, rows: int, rank: int = 2) -> np.ndarray:
    """Returns one output tensor of numbers.

    Args:
        response: a PredictResponse.
        name: of the output.
        rows: the first dimension that it must have.
        rank: the number of dimensions that it must have.

    Raises:
        ServingError: if the response does not have it, or it has another dtype or shape.
    """
    array = _output(response, name, rows, rank)
    if array.dtype.kind not in "iuf":
        raise damaged(f"the output {name!r} has dtype {array.dtype}, not numbers")
    return array


def recommendations(response: Any, rows: int) -> list[list[Recommendation]]:
    """Returns the recommendations of each row, without the padding at its end.

    Raises:
        ServingError: if the answer has another form than `recommend` promises.
    """
    ids, scores = _output(response, names.ITEM_ID, rows, 2), numbers(response, names.SCORE, rows)
    if ids.dtype != np.object_:
        raise damaged(f"the output {names.ITEM_ID!r} has dtype {ids.dtype}, not text")
    if ids.shape != scores.shape:
        raise damaged(f"it has {list(ids.shape)} item ids and {list(scores.shape)} scores")
    shown = ids != b""
    if not np.isfinite(scores[shown]).all():
        raise damaged("it has scores that are not finite numbers")
    try:
        return [
            [Recommendation(i.decode(), float(s)) for i, s in zip(*row, strict=True) if i]
            for row in zip(ids, scores, strict=True)
        ]
    except UnicodeDecodeError as error:
        raise damaged(f"it has an item id that is not UTF-8 text: {error}") from error


def adapted(response: Any, rows: int) -> list[Adapted]:
    """Returns the answer of `adapt` for each row.

    Raises:
        ServingError: if the answer has another form than `adapt` promises.
    """
    used = numbers(response, names.SUPPORT_USED, rows, rank=1)
    if used.dtype.kind == "f":
        raise damaged(f"the output {names.SUPPORT_USED!r} has dtype {used.dtype}")
    return [
        Adapted(items, int(count))
        for items, count in zip(recommendations(response, rows), used, strict=True)
    ]


def _output(response: Any, name: str, rows: int, rank: int) -> np.ndarray:
    if name not in response.outputs:
        raise ServingError(
            f"the answer has the outputs {sorted(response.outputs)}, but not {name!r}: the model "
            "was not exported by tfrec-meta. Check `address` and `model`."
        )
    try:
        array = tensors.decode(response.outputs[name])
    except (ValueError, TypeError, OverflowError) as error:
        raise damaged(f"the output {name!r} can't be read: {error}") from error
    if array.ndim != rank or array.shape[0] != rows:
        wanted = [rows, *["any"] * (rank - 1)]
        raise damaged(f"the output {name!r} has the shape {list(array.shape)}, not {wanted}")
    return array


def damaged(what: str) -> ServingError:
    """Returns the error for an answer that cannot be from an exported model."""
    return ServingError(
        f"the answer is damaged, or is not from a model that tfrec-meta exported: {what}. Check "
        "`address` and `model`.",
        parameters=("address", "model"),
    )


def ranking(item_ids: Sequence[str], scores: np.ndarray) -> list[Recommendation]:
    """Returns the given items, best first; items with equal scores keep their order.

    Args:
        item_ids: ids of C items.
        scores: float32 [C or more].
    """
    scored = map(Recommendation, item_ids, scores.tolist())
    return sorted(scored, key=lambda item: -item.score)
