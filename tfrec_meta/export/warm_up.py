"""Warm-up requests, which TF Serving replays before it serves a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from tfrec_meta.export import signatures as names
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.export.inputs import Input
from tfrec_meta.features import FeatureSpec


def write_warm_up_requests(
    path: Path,
    model_name: str,
    spec: FeatureSpec,
    config: ExportConfig,
    inputs: Mapping[str, Mapping[str, Input]],
) -> None:
    """Writes requests that run each signature once, so that no user waits for the first call.

    Args:
        path: the new file of `prediction_log_pb2.PredictionLog` records.
        model_name: name of the served model.
        spec: the model's fitted FeatureSpec.
        config: the options of the export.
        inputs: the inputs of each exported signature.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, given in _requests(spec, config, names.ADAPT in inputs):
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=model_name, signature_name=signature)
            )
            for key, spec_of_input in inputs[signature].items():
                value: Any = tf.constant(given[key]) if key in given else spec_of_input.default
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def _requests(
    spec: FeatureSpec, config: ExportConfig, adapts: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields signature names and the inputs that differ from their defaults.

    With and without a history, all branches of a model are taken. The requests name no user: a
    known one takes the same branches, and its id would be in the export.
    """
    tokens = spec.items.tokens.slice(0, 3).to_pylist()
    candidates = _row(tokens, config.candidates_width)
    for history in (_row(tokens, config.history_width), _row([], config.history_width)):
        query = {names.USER_ID: [""], names.HISTORY: [history]}
        yield names.RECOMMEND, query
        yield names.RANK, {**query, names.ITEM_ID: [candidates]}
    if adapts:
        yield names.ADAPT, {names.ITEM_ID: [_row(tokens, config.support_width)]}


def _row(tokens: list[str], width: int) -> list[str]:
    """Returns the tokens cut or padded to `width`."""
    return (tokens + [names.PADDING] * width)[:width]
