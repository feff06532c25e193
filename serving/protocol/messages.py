"""The messages of TF Serving's API, without TensorFlow.

They are built from a descriptor set (see `make_descriptors`) in a separate descriptor pool. The
default pool would refuse a second, different definition of a file that TensorFlow has added.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tfrec_meta.serving.protocol.names import DESCRIPTOR_FILE


def _load_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    content = Path(__file__).with_name(DESCRIPTOR_FILE).read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _load_pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


Example = _message("tensorflow.Example")
TensorProto = _message("tensorflow.TensorProto")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")


def example(features: Mapping[str, Any]) -> bytes:
    """Serialises a tf.Example; the type of its values selects the kind of each feature.

    Args:
        features: by name, a value or a flat sequence of values: text or bytes, whole numbers, or
            floats.

    Raises:
        TypeError: for any other value.

    Example:
        >>> from tfrec_meta.serving.protocol.messages import Example, example
        >>> Example.FromString(example({"age": 40.0})).features.feature["age"].float_list.value[0]
        40.0
    """
    message = Example()
    for name, value in features.items():
        values = np.atleast_1d(np.asarray(value)).ravel().tolist()
        feature = message.features.feature[name]
        if all(isinstance(v, str | bytes) for v in values):
            feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)
        elif all(isinstance(v, int) for v in values):
            feature.int64_list.value.extend(values)
        elif all(isinstance(v, int | float) for v in values):
            feature.float_list.value.extend(values)
        else:
            raise TypeError(f"feature {name!r}={value!r}; use text, whole numbers or floats.")
    return bytes(message.SerializeToString())
