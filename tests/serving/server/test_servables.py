"""Choosing, loading and skipping versions."""

import logging
import shutil

import numpy as np
import pytest

from tfrec_meta.serving import Client, LocalServer, ServerStartError


@pytest.fixture
def base(movies_base, tmp_path):
    """A copy of the toy recommender's base folder that a test may break."""
    shutil.copytree(movies_base, tmp_path / "movies")
    return tmp_path / "movies"


def _served(base, **options):
    with LocalServer(base, **options) as server, Client(server.address) as client:
        return [status.version for status in client.status() if status.state == "AVAILABLE"]


def test_half_copied_newest_version_is_skipped_with_a_line_that_says_so(base, caplog):
    (base / "4").mkdir()
    shutil.copytree(base / "3" / "variables", base / "4" / "variables")
    with LocalServer(base) as server, Client(server.address) as client:
        assert client.metadata().version == 3
        statuses = {status.version: status for status in client.status()}
    assert statuses[3].state == "AVAILABLE"
    assert statuses[4].state == "END"
    assert "no saved_model.pb" in statuses[4].error
    warnings = [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "skipped" in record.getMessage()
    ]
    assert len(warnings) == 1
    assert "version 4" in warnings[0]
    assert "no saved_model.pb" in warnings[0]


@pytest.mark.parametrize("damage", ["truncated graph", "no variables", "warm-up that fails"])
def test_version_that_does_not_load_is_skipped(base, damage):
    shutil.copytree(base / "3", base / "10")
    if damage == "truncated graph":
        path = base / "10" / "saved_model.pb"
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "no variables":
        shutil.rmtree(base / "10" / "variables")
    else:
        _write_warm_up(base / "10", signature="nope")
    assert _served(base) == [3]


def _write_warm_up(folder, signature):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = signature
    log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
    with tf.io.TFRecordWriter(
        str(folder / "assets.extra" / "tf_serving_warmup_requests")
    ) as writer:
        writer.write(log.SerializeToString())


def test_newest_is_by_number_and_other_names_are_no_versions(base):
    shutil.copytree(base / "3", base / "10")
    shutil.copytree(base / "3", base / "11.tmp")
    for name in ("-12", "0", "²", "٣", str(2**63)):
        shutil.copytree(base / "3", base / name)
    assert _served(base) == [10]
    assert _served(base, versions="all") == [10, 3]
    assert _served(base, versions=[3]) == [3]


def test_no_model_is_loaded_from_outside_its_base_folder(base, tmp_path, caplog):
    shutil.copytree(base / "3", tmp_path / "elsewhere")
    (base / "9").symlink_to(tmp_path / "elsewhere")
    (base / "3").rename(base / "unpacked")
    (base / "2").symlink_to("unpacked")  # a link that stays inside is none of these
    with LocalServer(base) as server, Client(server.address) as client:
        assert client.metadata().version == 2
        statuses = {status.version: status for status in client.status()}
    assert "outside its base folder" in statuses[9].error
    (warning,) = [text for text in caplog.messages if "skipped version 9" in text]
    assert str(tmp_path / "elsewhere") in warning
    (base / "2").unlink()
    with pytest.raises(ServerStartError, match="outside its base folder"):
        LocalServer(base).start()


def test_a_base_folder_may_be_a_link_itself(movies_base, tmp_path):
    (tmp_path / "link").symlink_to(movies_base)
    assert _served(tmp_path / "link") == [3]


def test_refresh_serves_a_new_version_and_lets_go_of_the_old(base):
    with LocalServer(base) as server, Client(server.address) as client:
        old = server.servables.served[3]
        shutil.copytree(base / "3", base / "4")
        server.servables.refresh()
        assert client.metadata().version == 4
        assert list(server.servables.served) == [4]
        shutil.rmtree(base / "4")
        server.servables.refresh()  # the newest taken away: back to the next lower
        assert client.metadata().version == 3
        assert server.servables.served[3] is not old


def test_only_damaged_versions_are_one_clear_error(tmp_path):
    (tmp_path / "movies" / "1").mkdir(parents=True)
    with pytest.raises(
        ServerStartError, match=r"no version .* can be served.* 1: .*saved_model\.pb"
    ):
        LocalServer(tmp_path / "movies").start()


def test_versions_and_labels_must_be_there(movies_base):
    with pytest.raises(ServerStartError, match=r"holds \[3\]"):
        LocalServer(movies_base, versions=[3, 9]).start()
    with pytest.raises(ServerStartError, match="label 'stable' points at version 2"):
        LocalServer(movies_base, labels={"stable": 2}).start()


def test_left_out_optional_inputs_are_filled_in_from_the_defaults(movies_server, stubs):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = "recommend"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["", "u1"]))
    response = stubs(movies_server.address).prediction.Predict(request, timeout=20)
    assert tf.make_ndarray(response.outputs["item_id"]).tolist() == [
        [b"m1", b"m2", b"m3", b"m4", b"m5", b"m6"],
        [b"m2", b"m4", b"m6", b"m1", b"m3", b"m5"],
    ]
    assert np.isfinite(tf.make_ndarray(response.outputs["score"])).all()


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("user_id", [1], "`user_id`.*string.*int32"),  # wrong dtype
        ("k", [[3]], r"k must be \[B\]"),  # 2-D where 1-D belongs
        ("user_id", "u1", r"user_id must be \[B\]"),  # a scalar
        ("history", ["m1"], r"history must be \[B, 4\]"),
        ("history", [["m1"]], r"history must be \[B, 4\]"),
        ("nope", ["x"], "extra: .nope"),
    ],
)
def test_bad_input_is_an_invalid_argument_that_names_it(movies_server, stubs, name, value, told):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = "recommend"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u1"]))
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with pytest.raises(grpc.RpcError, match=told) as caught:
        stubs(movies_server.address).prediction.Predict(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_missing_tensor_is_an_invalid_argument_that_names_it(movies_server, stubs):
    import grpc
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = "recommend"
    with pytest.raises(grpc.RpcError, match=r"Missing but required: \{user_id\}") as caught:
        stubs(movies_server.address).prediction.Predict(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
