"""TensorProto to NumPy and back, by the rules of TensorFlow."""

import numpy as np
import pytest

from tfrec_meta.serving.protocol import tensors
from tfrec_meta.serving.protocol.messages import TensorProto

FLOAT, INT32, UINT8, STRING, INT64, BOOL, HALF = 1, 3, 4, 7, 9, 10, 19


def _proto(dtype, shape, **fields):
    proto = TensorProto(dtype=dtype, **fields)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -2], [np.inf, np.nan]], np.float32),
        np.array([1e300], np.float64),
        np.array([[-(2**31), 2**31 - 1]], np.int32),
        np.array([-(2**63), 2**63 - 1], np.int64),
        np.array([0, 2**64 - 1], np.uint64),
        np.array([0, 2**32 - 1], np.uint32),
        np.array([0, 65535], np.uint16),
        np.array([-128, 127], np.int8),
        np.array([-32768], np.int16),
        np.array([255], np.uint8),
        np.array([True, False]),
        np.array([1.5, -0.0, np.inf], np.float16),
        np.array([1 + 2j, -3j], np.complex64),
        np.array([1 + 2j], np.complex128),
        np.array([[b"a\x00", b""], [b"\xff", "é".encode()]], np.object_),
        np.array(7, np.int32),
        np.zeros((0, 3), np.float32),
        np.zeros((2, 0), np.object_),
    ],
)
def test_an_array_round_trips(array):
    proto = TensorProto()
    tensors.encode(array, proto)
    back = tensors.decode(TensorProto.FromString(proto.SerializeToString()))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_fills_a_shape_with_the_last_value():
    assert tensors.decode(_proto(FLOAT, [2, 3], float_val=[1, 2])).tolist() == [
        [1, 2, 2],
        [2, 2, 2],
    ]
    assert tensors.decode(_proto(STRING, [3], string_val=[b"x"])).tolist() == [b"x"] * 3
    assert tensors.decode(_proto(BOOL, [2], bool_val=[True])).tolist() == [True, True]


def test_reads_no_values_as_zeros_and_cuts_surplus_values():
    assert tensors.decode(_proto(INT64, [2])).tolist() == [0, 0]
    assert tensors.decode(_proto(STRING, [2])).tolist() == [b"", b""]
    assert tensors.decode(_proto(INT32, [1], int_val=[4, 5])).tolist() == [4]


def test_reads_tensor_content_as_little_endian():
    proto = _proto(INT32, [2], tensor_content=b"\x01\0\0\0\0\x01\0\0")
    assert tensors.decode(proto).tolist() == [1, 256]


def test_reads_strings_in_tensor_content():
    content = b"\x01\x00\x80\x01" + b"a" + b"b" * 128
    assert tensors.decode(_proto(STRING, [3], tensor_content=content)).tolist() == [
        b"a",
        b"",
        b"b" * 128,
    ]


@pytest.mark.parametrize(
    "proto",
    [
        _proto(FLOAT, [3], tensor_content=b"\0" * 8),
        _proto(FLOAT, [3], tensor_content=b"\0" * 16),
        _proto(STRING, [2], tensor_content=b"\x01"),
        _proto(STRING, [1], tensor_content=b"\x05ab"),
        _proto(STRING, [1], tensor_content=b"\xff\xff\xff\xff\xff\xff\xff"),
        _proto(FLOAT, [-1, 3], float_val=[1, 2, 3]),
        _proto(FLOAT, [2**40, 2**30], float_val=[1]),
        _proto(FLOAT, [2**62, 2**62, 4], float_val=[1]),
        _proto(FLOAT, [0, 2**62, 2**62]),
        _proto(FLOAT, [1] * 100, float_val=[1]),
        _proto(0, [1], float_val=[1]),
        _proto(20, [1]),  # DT_RESOURCE
        _proto(101, [1]),  # a reference type
    ],
)
def test_refuses_an_unreadable_tensor(proto):
    with pytest.raises(ValueError):
        tensors.decode(proto)


def test_refuses_an_unknown_rank():
    proto = _proto(FLOAT, [], float_val=[1])
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="not fully known"):
        tensors.decode(proto)


def test_narrow_integers_wrap_like_casts():
    assert tensors.decode(_proto(UINT8, [2], int_val=[257, -1])).tolist() == [1, 255]


def test_refuses_an_array_that_no_tensor_can_hold():
    with pytest.raises(TypeError, match="datetime64"):
        tensors.encode(np.array(["2020-01-01"], "datetime64[D]"), TensorProto())
