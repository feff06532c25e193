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


def output(response: Any, name: str) -> np.ndarray:
    """Returns one output tensor of a PredictResponse.

    Raises:
        ServingError: if the response does not have it.
    """
    if name not in response.outputs:
        raise ServingError(
            f"the answer has the outputs {sorted(response.outputs)}, but not {name!r}: the model "
            "was not exported by tfrec-meta. Check `address` and `model`."
        )
    return tensors.decode(response.outputs[name])


def recommendations(response: Any) -> list[list[Recommendation]]:
    """Returns the recommendations of each row, without the padding at its end."""
    ids, scores = output(response, names.ITEM_ID), output(response, names.SCORE)
    return [
        [Recommendation(i.decode(), float(s)) for i, s in zip(*row, strict=True) if i]
        for row in zip(ids, scores, strict=True)
    ]


def adapted(response: Any) -> list[Adapted]:
    """Returns the answer of `adapt` for each row."""
    used = output(response, names.SUPPORT_USED)
    return [
        Adapted(items, int(count))
        for items, count in zip(recommendations(response), used, strict=True)
    ]


def ranking(item_ids: Sequence[str], scores: np.ndarray) -> list[Recommendation]:
    """Returns the given items, best first; items with equal scores keep their order.

    Args:
        item_ids: ids of C items.
        scores: float32 [C or more].
    """
    scored = map(Recommendation, item_ids, scores.tolist())
    return sorted(scored, key=lambda item: -item.score)
