"""Serialising tf.Examples without TensorFlow."""

import numpy as np
import pytest

from tfrec_meta.serving.protocol.messages import Example, example


def test_selects_the_list_by_the_type_of_the_values():
    features = Example.FromString(
        example(
            {
                "user_id": "u",
                "raw": [b"\xff"],
                "year": [1990, 2000],
                "age": 30.5,
                "image": np.array([0.5, 1.0], np.float32),
                "genres": ["a", "é"],
                "none": [],
            },
        )
    ).features.feature
    assert list(features["user_id"].bytes_list.value) == [b"u"]
    assert list(features["raw"].bytes_list.value) == [b"\xff"]
    assert list(features["genres"].bytes_list.value) == [b"a", "é".encode()]
    assert list(features["year"].int64_list.value) == [1990, 2000]
    assert list(features["age"].float_list.value) == [30.5]
    assert list(features["image"].float_list.value) == [0.5, 1.0]
    assert list(features["none"].bytes_list.value) == []


def test_refuses_other_values():
    with pytest.raises(TypeError, match="'when'"):
        example({"when": object()})
