"""Selecting, loading and skipping versions."""

import logging
import shutil

import numpy as np
import pytest

from tfrec_meta.serving import Client, LocalServer, ServerStartError


@pytest.fixture
def base(movies_base, tmp_path):
    """A copy of the base folder of the toy recommender, which a test may change."""
    shutil.copytree(movies_base, tmp_path / "movies")
    return tmp_path / "movies"


def _served(base, **options):
    with LocalServer(base, **options) as server, Client(server.address) as client:
        return [status.version for status in client.status() if status.state == "AVAILABLE"]


def test_skips_an_incomplete_newest_version_with_a_warning(base, caplog):
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
def test_skips_a_version_that_does_not_load(base, damage):
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


def test_serves_the_highest_number_and_ignores_other_names(base):
    shutil.copytree(base / "3", base / "10")
    shutil.copytree(base / "3", base / "11.tmp")
    for name in ("-12", "0", "²", "٣", str(2**63)):
        shutil.copytree(base / "3", base / name)
    assert _served(base) == [10]
    assert _served(base, versions="all") == [10, 3]
    assert _served(base, versions=[3]) == [3]


def test_loads_no_model_from_outside_its_base_folder(base, tmp_path, caplog):
    shutil.copytree(base / "3", tmp_path / "elsewhere")
    (base / "9").symlink_to(tmp_path / "elsewhere")
    (base / "3").rename(base / "unpacked")
    (base / "2").symlink_to("unpacked")  # a link within the base folder is allowed
    with LocalServer(base) as server, Client(server.address) as client:
        assert client.metadata().version == 2
        statuses = {status.version: status for status in client.status()}
    assert "outside its base folder" in statuses[9].error
    (warning,) = [text for text in caplog.messages if "skipped version 9" in text]
    assert str(tmp_path / "elsewhere") in warning
    (base / "2").unlink()
    with pytest.raises(ServerStartError, match="outside its base folder"):
        LocalServer(base).start()


def test_the_base_folder_can_be_a_link(movies_base, tmp_path):
    (tmp_path / "link").symlink_to(movies_base)
    assert _served(tmp_path / "link") == [3]


def test_refresh_loads_a_new_version_and_drops_the_old_one(base):
    with LocalServer(base) as server, Client(server.address) as client:
        old = server.servables.served[3]
        shutil.copytree(base / "3", base / "4")
        server.servables.refresh()
        assert client.metadata().version == 4
        assert list(server.servables.served) == [4]
        shutil.rmtree(base / "4")
        server.servables.refresh()  # without the newest version, the next lower one
        assert client.metadata().version == 3
        assert server.servables.served[3] is not old


def test_raises_one_error_if_all_versions_are_damaged(tmp_path):
    (tmp_path / "movies" / "1").mkdir(parents=True)
    with pytest.raises(
        ServerStartError, match=r"no version .* can be served.* 1: .*saved_model\.pb"
    ):
        LocalServer(tmp_path / "movies").start()


def test_refuses_missing_versions_and_labels_without_a_version(movies_base):
    with pytest.raises(ServerStartError, match=r"holds \[3\]"):
        LocalServer(movies_base, versions=[3, 9]).start()
    with pytest.raises(ServerStartError, match="label 'stable' is for version 2"):
        LocalServer(movies_base, labels={"stable": 2}).start()


def test_fills_in_the_defaults_of_optional_inputs(movies_server, stubs):
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
    "name, value, message",
    [
        ("user_id", [1], "`user_id`.*string.*int32"),  # wrong dtype
        ("k", [[3]], r"k must be \[B\]"),  # two dimensions instead of one
        ("user_id", "u1", r"user_id must be \[B\]"),  # a scalar
        ("history", ["m1"], r"history must be \[B, 4\]"),
        ("history", [["m1"]], r"history must be \[B, 4\]"),
        ("nope", ["x"], "extra: .nope"),
    ],
)
def test_refuses_an_invalid_input_and_names_it(movies_server, stubs, name, value, message):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = "recommend"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u1"]))
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with pytest.raises(grpc.RpcError, match=message) as caught:
        stubs(movies_server.address).prediction.Predict(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_refuses_a_request_without_a_required_input_and_names_it(movies_server, stubs):
    import grpc
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "movies"
    request.model_spec.signature_name = "recommend"
    with pytest.raises(grpc.RpcError, match=r"Missing but required: \{user_id\}") as caught:
        stubs(movies_server.address).prediction.Predict(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
