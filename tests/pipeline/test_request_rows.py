"""Integers get the types of the signature; other values are unchanged."""

import pytest
import tensorflow as tf

from tfrec_meta.pipeline.request_rows import as_request, read_types


@pytest.fixture
def row() -> bytes:
    example = tf.train.Example()
    feature = example.features.feature
    feature["age"].int64_list.value.append(41)
    feature["year"].int64_list.value.append(1995)
    feature["time"].int64_list.value.append(1_700_000_000)
    feature["value"].float_list.value.append(3.5)
    feature["user_id"].bytes_list.value.append(b"u1")
    feature["empty"].SetInParent()
    return example.SerializeToString()


def test_converts_integers_to_floats_or_text(row):
    reads = {"age": tf.float32, "year": tf.string, "user_id": tf.string, "gone": tf.float32}
    feature = tf.train.Example.FromString(as_request(row, reads)).features.feature
    assert list(feature["age"].float_list.value) == [41.0]
    assert list(feature["year"].bytes_list.value) == [b"1995"]
    assert list(feature["time"].int64_list.value) == [1_700_000_000]
    assert list(feature["value"].float_list.value) == [3.5]
    assert list(feature["user_id"].bytes_list.value) == [b"u1"]


def test_returns_a_suitable_row_unchanged(row):
    assert as_request(row, {"user_id": tf.string, "value": tf.float32}) is row


def test_reads_the_types_of_the_signature(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="age")])
    def recommend(age):
        return {"score": age}

    module = tf.Module()
    module.recommend = recommend
    tf.saved_model.save(module, str(tmp_path), {"recommend": recommend})
    assert read_types(tmp_path) == {"age": tf.float32}


def test_a_model_that_can_not_be_read_has_no_types(tmp_path):
    assert read_types(tmp_path) == {}
    (tmp_path / "saved_model.pb").write_bytes(b"\xff no SavedModel")
    assert read_types(tmp_path) == {}
