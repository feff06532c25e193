"""Converts TensorProto to NumPy and back, by the rules of TensorFlow's C++ `Tensor::FromProto`.

Client and server share it, because it works on the messages of any descriptor pool.
`tf.make_ndarray` is not used: it needs TensorFlow, reads strings in `tensor_content` wrongly and
accepts invalid shapes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# Enum values of tensorflow.DataType.
DT_INVALID = 0
DT_STRING = 7
_NUMPY = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    7: np.object_,
    8: np.complex64,
    9: np.int64,
    10: np.bool_,
    17: np.uint16,
    18: np.complex128,
    19: np.float16,
    22: np.uint32,
    23: np.uint64,
}
DTYPES: dict[int, np.dtype[Any]] = {number: np.dtype(dtype) for number, dtype in _NUMPY.items()}
_ENUMS = {dtype: number for number, dtype in DTYPES.items()}
_FIELDS = {
    1: "float_val",
    2: "double_val",
    3: "int_val",
    4: "int_val",
    5: "int_val",
    6: "int_val",
    7: "string_val",
    8: "scomplex_val",
    9: "int64_val",
    10: "bool_val",
    17: "int_val",
    18: "dcomplex_val",
    19: "half_val",
    22: "uint32_val",
    23: "uint64_val",
}
NAMES = {
    number: "string" if number == DT_STRING else dtype.name for number, dtype in DTYPES.items()
}
# One value may fill any shape, so a request of a few bytes could take all memory.
MAX_TENSOR_BYTES = 2**31


def dtype_name(number: int) -> str:
    """Returns the name of a dtype, as in TensorFlow."""
    return NAMES.get(number, "invalid" if number == DT_INVALID else f"DataType {number}")


def decode(proto: Any) -> np.ndarray:
    """Returns the array of a TensorProto; strings become an object array of bytes.

    If there are fewer values than the shape needs, the last value fills the rest. If there are
    none, the array is filled with zeros ("" for strings).

    Raises:
        ValueError: for a dtype that NumPy lacks, a shape with an unknown, negative or overflowing
            dimension, a `tensor_content` of another length than the shape needs, and an array of
            more than 2 GiB.
    """
    dtype = DTYPES.get(proto.dtype)
    if dtype is None:
        raise ValueError(f"dtype {dtype_name(proto.dtype)} is not supported")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"shape {list(shape)} is not fully known")
    size = math.prod(shape)
    if size * dtype.itemsize > MAX_TENSOR_BYTES:
        raise ValueError(f"shape {list(shape)} needs more than {MAX_TENSOR_BYTES} bytes")
    if size == 0:
        return np.empty(shape, dtype)  # NumPy's own ValueError for more than 64 dimensions
    if proto.tensor_content:
        flat = _from_content(proto.tensor_content, dtype, size)
    else:
        flat = _from_values(getattr(proto, _FIELDS[proto.dtype]), dtype, size)
    return flat.reshape(shape)


def _from_content(content: bytes, dtype: np.dtype[Any], size: int) -> np.ndarray:
    if dtype == np.object_:
        return _string_list(content, size)
    if len(content) != size * dtype.itemsize:
        raise ValueError(
            f"`tensor_content` has {len(content)} bytes, "
            f"but the shape needs {size * dtype.itemsize}"
        )
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype)


def _string_list(content: bytes, size: int) -> np.ndarray:
    """Reads TensorFlow's `EncodeStringList`: all lengths as varints, then all bytes."""
    lengths, at = [], 0
    for _ in range(size):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 28:
                raise ValueError("`tensor_content` is not a list of strings of the shape's size")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError("`tensor_content` is not a list of strings of the shape's size")
    strings = np.empty(size, np.object_)
    for index, length in enumerate(lengths):
        strings[index] = content[at : at + length]
        at += length
    return strings


def _from_values(values: Any, dtype: np.dtype[Any], size: int) -> np.ndarray:
    if dtype == np.object_:
        flat = np.full(size, b"", np.object_)
    else:
        flat = np.zeros(size, dtype)
    if dtype.kind == "c":  # real and imaginary parts alternate
        parts = np.asarray(values, dtype=flat.real.dtype)
        given = parts[0 : len(parts) // 2 * 2 : 2] + 1j * parts[1::2]
    elif dtype == np.float16:  # bit patterns in int32
        given = np.asarray(values, dtype=np.int64).astype(np.uint16).view(np.float16)
    elif dtype == np.object_:
        given = np.empty(len(values), np.object_)
        given[:] = list(values)
    elif dtype.kind in "iu":  # narrower integers wrap, as C++ casts do
        wide = np.uint64 if dtype.kind == "u" and dtype.itemsize >= 4 else np.int64
        given = np.asarray(values, dtype=wide).astype(dtype)
    else:
        given = np.asarray(values, dtype=dtype)
    given = given[:size]
    if len(given):
        flat[: len(given)] = given
        flat[len(given) :] = given[-1]
    return flat


def encode(array: np.ndarray, into: Any) -> None:
    """Fills a TensorProto with the values of an array, in the form that TF Serving uses.

    Args:
        array: an array of a dtype in `DTYPES`; strings are an object array of bytes or str.
        into: an empty TensorProto of any descriptor pool.

    Raises:
        TypeError: for any other dtype.
    """
    number = _ENUMS.get(array.dtype)
    if number is None:
        raise TypeError(f"an array of dtype {array.dtype} cannot be sent as a TensorProto")
    into.dtype = number
    into.tensor_shape.SetInParent()  # also for the empty shape of a scalar
    for size in array.shape:
        into.tensor_shape.dim.add().size = size
    flat = array.ravel()
    if array.dtype == np.object_:
        values: Any = [v.encode() if isinstance(v, str) else v for v in flat]
    elif array.dtype.kind == "c":
        values = flat.view(flat.real.dtype).tolist()
    elif array.dtype == np.float16:
        values = flat.view(np.uint16).tolist()
    else:
        values = flat.tolist()
    getattr(into, _FIELDS[number]).extend(values)
