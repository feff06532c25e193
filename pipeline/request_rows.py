"""The rows of examples as requests, with the types that the exported signatures read.

A tf.Example distinguishes integers from other numbers. A column of integers, such as an age, is
int64 in the rows, while a signature reads numbers as floats and categories as text. A service sends
floats and text too, since the client refuses other types.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.example import example_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tfrec_meta.export import signatures as names


def read_types(model: Path | str) -> dict[str, tf.DType]:
    """Returns the input types of a SavedModel's queries, by name; {} if it can't be read."""
    try:
        record = saved_model_pb2.SavedModel.FromString(Path(model, "saved_model.pb").read_bytes())
    except (OSError, DecodeError):
        return {}
    return {
        name: tf.as_dtype(tensor.dtype)
        for graph in record.meta_graphs
        for name, tensor in graph.signature_def[names.RECOMMEND].inputs.items()
    }


def as_request(row: bytes, types: Mapping[str, tf.DType]) -> bytes:
    """Returns a serialised tf.Example whose integers have the types of the signature."""
    example = example_pb2.Example.FromString(row)
    features = example.features.feature
    changed = False
    for name, dtype in types.items():
        if name not in features or not features[name].int64_list.value:
            continue
        values = list(features[name].int64_list.value)
        if dtype.is_floating:
            features[name].float_list.value[:] = values
        elif dtype == tf.string:
            features[name].bytes_list.value[:] = [str(value).encode() for value in values]
        else:
            continue
        changed = True
    return example.SerializeToString() if changed else row
