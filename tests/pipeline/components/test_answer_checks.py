"""Which answers of a candidate are accepted, and which are refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tfrec_meta.pipeline.components.answer_checks import Refused, check_answer, read_catalogue
from tfrec_meta.serving.protocol import messages


def check_recommendations(signature="recommend", rows=1, **outputs):
    request = predict_pb2.PredictRequest()
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u"] * rows))
    arrays = {
        name: np.array(value, np.object_ if name == "item_id" else np.float32)
        for name, value in outputs.items()
    }
    check_answer(signature, request, arrays, frozenset({b"a", b"b", b"c"}))


def test_accepts_blanks_past_a_rows_own_k():
    check_recommendations(item_id=[[b"a", b"b", b""]], score=[[0.5, 0.25, -np.inf]])


@pytest.mark.parametrize(
    "outputs, words",
    [
        (
            {"item_id": [[b"a", b"b"]], "score": [[1, np.nan]]},
            "a score that is not a finite number: nan",
        ),
        (
            {"item_id": [[b"a", b"b"]], "score": [[1, -np.inf]]},
            "a score that is not a finite number: -inf",
        ),
        (
            {"item_id": [[b"a", b"z"]], "score": [[2, 1]]},
            "recommends 'z', which is not in its catalogue",
        ),
        ({"item_id": [[b"a", b"a"]], "score": [[2, 1]]}, "an item twice in one list"),
        ({"item_id": [[b"", b""]], "score": [[-np.inf, -np.inf]]}, "recommends no items"),
        ({"item_id": [[b"a", b"b"]], "score": [[1]]}, r"scores of shape \[1, 1\] for items of"),
        ({"score": [1.0, 2.0]}, r"answers 1 rows with `score` of shape \[2\]"),
        ({"score": 1.0}, r"answers 1 rows with `score` of shape \[\]"),
        ({"item_id": np.empty((1, 0))}, "recommends no items"),
    ],
)
def test_refuses_an_answer_that_no_client_could_use(outputs, words):
    with pytest.raises(Refused, match=words):
        check_recommendations(**outputs)


@pytest.mark.parametrize(
    "outputs, words",
    [
        ({"item_id": np.array([[1, 2]])}, "items of type int64"),
        ({"score": np.array([[b"high"]], np.object_)}, "scores of type object"),
    ],
)
def test_refuses_an_answer_of_a_wrong_type(outputs, words):
    request = predict_pb2.PredictRequest()
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u"]))
    with pytest.raises(Refused, match=words):
        check_answer("recommend", request, outputs, None)


def check_lists(histories, lists, catalogue=frozenset({b"a", b"b", b"c"}), exclude=()):
    """Checks lists that `serving_default` returns to users with these histories."""
    request = predict_pb2.PredictRequest()
    records = [messages.example({"history": h, "exclude": list(exclude)}) for h in histories]
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto(records))
    outputs = {"item_id": np.array(lists, np.object_)}
    check_answer("serving_default", request, outputs, catalogue)


def test_accepts_an_empty_list_for_a_user_who_has_seen_the_complete_catalogue():
    check_lists([["a", "b", "c"]], [[b"", b""]])
    check_lists([["b", "gone", "a"]], [[b"", b""]], exclude=["c"])
    check_lists([["a", "b", "c"], ["a"]], [[b"", b""], [b"b", b""]])


@pytest.mark.parametrize(
    "histories, lists, catalogue",
    [
        ([["a", "b"]], [[b"", b""]], {b"a", b"b", b"c"}),
        ([["a", "b", "c"], ["a"]], [[b"", b""], [b"", b""]], {b"a", b"b", b"c"}),
        ([["a", "b", "c"]], [[b"", b""]], None),
        ([["a", "b", "c"]], [[b"", b""]], set()),
    ],
)
def test_refuses_an_empty_list_for_a_user_with_unseen_items(histories, lists, catalogue):
    known = None if catalogue is None else frozenset(catalogue)
    with pytest.raises(Refused, match="recommends no items"):
        check_lists(histories, lists, known)


def test_reads_histories_in_tensors_like_those_in_examples():
    request = predict_pb2.PredictRequest()
    request.inputs["history"].CopyFrom(tf.make_tensor_proto([["a", "b", "c", ""]]))
    outputs = {"item_id": np.array([[b""]], np.object_)}
    check_answer("recommend", request, outputs, frozenset({b"a", b"b", b"c"}))
    with pytest.raises(Refused, match="recommends no items"):
        check_answer("recommend", request, outputs, frozenset({b"a", b"d"}))


def test_accepts_an_empty_list_for_a_support_set_of_the_complete_catalogue():
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "adapt"
    request.inputs["item_id"].CopyFrom(tf.make_tensor_proto([["a", "b", "c", ""]]))
    outputs = {"item_id": np.array([[b""]], np.object_)}
    check_answer("adapt", request, outputs, frozenset({b"a", b"b", b"c"}))
    with pytest.raises(Refused, match="`adapt` recommends no items"):
        check_answer("adapt", request, outputs, frozenset({b"a", b"d"}))


@pytest.mark.parametrize(
    "value, words",
    [(None, "has no inputs"), ("u", "has inputs without rows")],
)
def test_refuses_a_request_without_rows(value, words):
    request = predict_pb2.PredictRequest()
    if value is not None:
        request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(value))
    with pytest.raises(Refused, match=f"a warm-up request for `recommend` {words}"):
        check_answer("recommend", request, {}, None)


def test_refuses_a_request_that_has_no_tf_examples():
    request = predict_pb2.PredictRequest()
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([b"\xff"]))
    outputs = {"item_id": np.array([[b""]], np.object_)}
    with pytest.raises(Refused, match=r"a request's `examples` are not tf\.Examples"):
        check_answer("serving_default", request, outputs, None)


def write_invalid_catalogue(path, how):
    if how == "damaged":
        path.write_bytes(b"PAR1 no Parquet PAR1")
    elif how == "without ids":
        pq.write_table(pa.table({"title": ["x"]}), path)
    else:
        pq.write_table(pa.table({"item_id": [["a"]]}), path)


@pytest.mark.parametrize("how", ["damaged", "without ids", "lists for ids"])
def test_refuses_a_catalogue_that_can_not_be_read(tmp_path, how):
    (tmp_path / "assets.extra").mkdir()
    write_invalid_catalogue(tmp_path / "assets.extra" / "catalogue.parquet", how)
    with pytest.raises(Refused, match=r"its catalogue\.parquet can't be read: ."):
        read_catalogue(tmp_path)
