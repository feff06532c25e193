"""Checks of a candidate's answers: would a client be able to use them?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2

from tfrec_meta.export import signatures as names
from tfrec_meta.serving.protocol import tensors


class Refused(Exception):
    """The candidate must not be pushed. The message is the reason."""


def read_catalogue(model: Path) -> frozenset[bytes] | None:
    """Returns the ids of all items that may be recommended; None if the model has no such file.

    Raises:
        Refused: if the file can't be read.
    """
    path = model / names.EXTRA_ASSETS / names.CATALOGUE
    if not path.is_file():
        return None
    try:
        items = pq.read_table(path, columns=[names.ITEM_ID])[names.ITEM_ID].cast(pa.string())
    except (pa.ArrowException, KeyError, OSError) as error:
        raise Refused(f"its {names.CATALOGUE} can't be read: {error_text(error)}") from error
    return frozenset(item.encode() for item in items.drop_null().to_pylist())


def check_answer(
    signature: str,
    request: predict_pb2.PredictRequest,
    outputs: Mapping[str, np.ndarray],
    catalogue: frozenset[bytes] | None,
) -> None:
    """Checks the answer to a request.

    Args:
        signature: the signature.
        request: the request.
        outputs: the answer, by output name.
        catalogue: ids of all items; None if unknown.

    Raises:
        Refused: if a client could not use the answer.
    """
    rows = _row_count(signature, request)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise Refused(
                f"`{signature}` answers {rows} rows with `{name}` of shape {list(array.shape)}"
            )
    if names.SCORE in outputs:
        score = outputs[names.SCORE]
        if score.dtype.kind != "f":
            raise Refused(f"`{signature}` answers with scores of type {score.dtype}")
        blank = _blanks(signature, request, outputs, score)
        # Blank places, past a row's own `k` or for blank candidates, have no finite score.
        if not np.isfinite(score[~blank]).all():
            bad = score[~blank][~np.isfinite(score[~blank])][0]
            raise Refused(f"`{signature}` answers with a score that is not a finite number: {bad}")
    if names.ITEM_ID in outputs:
        _check_lists(signature, request, outputs[names.ITEM_ID], catalogue)


def _row_count(signature: str, request: predict_pb2.PredictRequest) -> int:
    """Returns the number of rows of the request.

    Raises:
        Refused: if its inputs have no rows, which no client could have sent.
    """
    shapes = [tensor.tensor_shape.dim for tensor in request.inputs.values()]
    if not shapes or not all(shapes):
        problem = "inputs without rows" if shapes else "no inputs"
        raise Refused(f"a warm-up request for `{signature}` has {problem}")
    return max(shape[0].size for shape in shapes)


def _blanks(
    signature: str,
    request: predict_pb2.PredictRequest,
    outputs: Mapping[str, np.ndarray],
    score: np.ndarray,
) -> np.ndarray:
    """Returns a bool array in the shape of the scores: places without an item."""
    items = outputs.get(names.ITEM_ID)
    if items is None and signature == names.RANK and names.ITEM_ID in request.inputs:
        items = _input(request, names.ITEM_ID)
    if items is None:
        return np.zeros(score.shape, bool)
    if items.shape != score.shape:
        raise Refused(
            f"`{signature}` answers with scores of shape {list(score.shape)} for items of shape "
            f"{list(items.shape)}"
        )
    return items == names.PADDING.encode()


def _check_lists(
    signature: str,
    request: predict_pb2.PredictRequest,
    lists: np.ndarray,
    catalogue: frozenset[bytes] | None,
) -> None:
    padding = names.PADDING.encode()
    if lists.dtype != np.object_:
        raise Refused(f"`{signature}` answers with items of type {lists.dtype}")
    # A user who has seen the complete catalogue gets an empty list.
    seen = _seen_items(request, len(lists))
    open_rows = [not catalogue or not catalogue <= items for items in seen]
    if any(open_rows) and not (lists[open_rows] != padding).any():
        raise Refused(f"`{signature}` recommends no items")
    for row in _by_row(lists):
        items = [item for item in row if item != padding]
        if len(set(items)) < len(items):
            raise Refused(f"`{signature}` recommends an item twice in one list")
        unknown = [] if catalogue is None else [i for i in items if i not in catalogue]
        if unknown:
            shown = unknown[0].decode("utf-8", "replace")
            raise Refused(f"`{signature}` recommends {shown!r}, which is not in its catalogue")


def _seen_items(request: predict_pb2.PredictRequest, rows: int) -> list[frozenset[bytes]]:
    """Returns the items that each row of a request marks as seen."""
    seen: list[set[bytes]] = [set() for _ in range(rows)]
    inputs = [names.HISTORY, names.EXCLUDE]
    if request.model_spec.signature_name == names.ADAPT:
        inputs.append(names.ITEM_ID)  # the support set
    for name in inputs:
        if name in request.inputs:
            array = _input(request, name)
            for items, row in zip(seen, _by_row(array), strict=False):
                items.update(row)
    if names.EXAMPLES in request.inputs:
        for items, record in zip(seen, _input(request, names.EXAMPLES), strict=False):
            try:
                features = tf.train.Example.FromString(record).features.feature
            except DecodeError as error:
                raise Refused(f"a request's `{names.EXAMPLES}` are not tf.Examples") from error
            for name in (names.HISTORY, names.EXCLUDE):
                if name in features:
                    items.update(features[name].bytes_list.value)
    return [frozenset(items) for items in seen]


def _by_row(array: np.ndarray) -> np.ndarray:
    # Computed, since NumPy can't infer -1 for an array without elements.
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _input(request: predict_pb2.PredictRequest, name: str) -> np.ndarray:
    try:
        return tensors.decode(request.inputs[name])
    except ValueError as error:
        raise Refused(f"a request's `{name}` can't be decoded: {error}") from error


def error_text(error: Exception) -> str:
    """Returns the message of an error, in one line."""
    return " ".join(str(getattr(error, "details", lambda: error)() or error).split())
