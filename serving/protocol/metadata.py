"""The metadata of a served model: its signatures, and the state of its versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfrec_meta.serving.protocol import messages, tensors
from tfrec_meta.serving.protocol.names import SIGNATURE_DEF

_MAX_SIZE = 10**7  # the client makes arrays of the widths in signatures
AVAILABLE = "AVAILABLE"  # TF Serving's state of a version that answers requests


@dataclass(frozen=True)
class TensorInfo:
    """The dtype and shape of a tensor.

    Args:
        dtype: the name of the dtype in NumPy; "string" for text.
        shape: None for each dimension that is not fixed; None as a whole if the rank is unknown.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature. An input with a default (one row) is optional."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    defaults: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ModelMetadata:
    """The served version and its signatures."""

    name: str
    version: int
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version, as TF Serving names it: `AVAILABLE` if it answers requests.

    Args:
        version: the version number.
        state: a value of TF Serving's `ModelVersionStatus.State`.
        error: why the version failed; "" if it did not.
    """

    version: int
    state: str
    error: str = ""


def read_metadata(response: Any) -> ModelMetadata:
    """Reads a GetModelMetadataResponse with signatures.

    Raises:
        ValueError: if it is damaged.
    """
    if SIGNATURE_DEF not in response.metadata:
        raise ValueError("it has no signatures")
    signature_map = messages.SignatureDefMap.FromString(response.metadata[SIGNATURE_DEF].value)
    return ModelMetadata(
        response.model_spec.name,
        response.model_spec.version.value,
        {name: _signature(each) for name, each in sorted(signature_map.signature_def.items())},
    )


def read_status(response: Any) -> list[VersionStatus]:
    """Reads a GetModelStatusResponse; the newest version comes first."""
    statuses = [
        VersionStatus(status.version, _state(status), status.status.error_message)
        for status in response.model_version_status
    ]
    return sorted(statuses, key=lambda status: -status.version)


def _state(status: Any) -> str:
    states = status.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number
    return states[status.state].name if status.state in states else f"STATE {status.state}"


def _signature(proto: Any) -> Signature:
    found = Signature(
        {name: _tensor_info(info) for name, info in sorted(proto.inputs.items())},
        {name: _tensor_info(info) for name, info in sorted(proto.outputs.items())},
        {name: tensors.decode(value) for name, value in sorted(proto.defaults.items())},
    )
    for name, default in found.defaults.items():
        if name not in found.inputs:
            raise ValueError(f"it has a default for {name!r}, which is no input")
        kind = "string" if default.dtype == np.object_ else default.dtype.name
        if default.ndim < 1 or len(default) != 1 or kind != found.inputs[name].dtype:
            raise ValueError(f"the default of {name!r} has {kind} {list(default.shape)}")
    for name, info in (*found.inputs.items(), *found.outputs.items()):
        if any(size is not None and size > _MAX_SIZE for size in info.shape or ()):
            raise ValueError(f"{name!r} has the shape {list(info.shape or ())}")
    return found


def _tensor_info(proto: Any) -> TensorInfo:
    shape = None
    if not proto.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in proto.tensor_shape.dim)
    return TensorInfo(tensors.dtype_name(proto.dtype), shape)
