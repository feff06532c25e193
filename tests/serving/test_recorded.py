"""The local server gives the recorded answers of TF Serving (recorded.json): codes and values."""

import json
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text())["grpc"]


def _call(stubs, case):
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        predict_pb2,
        regression_pb2,
    )

    service, message = {
        "Predict": (stubs.prediction, predict_pb2.PredictRequest),
        "GetModelMetadata": (stubs.prediction, get_model_metadata_pb2.GetModelMetadataRequest),
        "GetModelStatus": (stubs.model, get_model_status_pb2.GetModelStatusRequest),
        "Classify": (stubs.prediction, classification_pb2.ClassificationRequest),
        "Regress": (stubs.prediction, regression_pb2.RegressionRequest),
        "MultiInference": (stubs.prediction, inference_pb2.MultiInferenceRequest),
    }[case["rpc"]]
    request = json_format.ParseDict(case["request"], message())
    return getattr(service, case["rpc"])(request, timeout=30)


def _metadata_as_recorded(response):
    """A GetModelMetadata response in the form of recorded.json."""
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2

    signature_map = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signature_map)

    def dtype(info):
        return "invalid" if info.dtype == 0 else tf.dtypes.as_dtype(info.dtype).name

    return {
        "model_spec": json_format.MessageToDict(
            response.model_spec, preserving_proto_field_name=True
        ),
        "metadata_keys": sorted(response.metadata),
        "signatures": {
            name: {
                "inputs": [
                    [alias, dtype(info), [dim.size for dim in info.tensor_shape.dim]]
                    for alias, info in sorted(signature.inputs.items())
                ],
                "outputs": [
                    [alias, dtype(info)] for alias, info in sorted(signature.outputs.items())
                ],
                "method_name": signature.method_name,
            }
            for name, signature in signature_map.signature_def.items()
        },
    }


@pytest.mark.parametrize(
    "case", RECORDED, ids=[case["case"].replace(" ", "_") for case in RECORDED]
)
def test_answers_a_recorded_call_as_tf_serving_did(case, recorded_server, stubs):
    if case["code"] != "OK":
        with pytest.raises(grpc.RpcError) as caught:
            _call(stubs(recorded_server.address), case)
        assert caught.value.code().name == case["code"], caught.value.details()
        assert caught.value.details()
        return
    response = _call(stubs(recorded_server.address), case)
    if case["rpc"] == "GetModelMetadata":
        assert _metadata_as_recorded(response) == case["response"]
    else:
        assert (
            json_format.MessageToDict(response, preserving_proto_field_name=True)
            == case["response"]
        )


@pytest.mark.parametrize(
    "example", [b"\xff\xfe\x00", b"not an example" * 10_000], ids=["bytes", "long"]
)
def test_an_error_message_can_be_long_and_not_text(example, recorded_server, stubs):
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "toy"
    request.model_spec.signature_name = "parse"
    request.inputs["examples"].dtype = 7
    request.inputs["examples"].tensor_shape.dim.add().size = 1
    request.inputs["examples"].string_val.append(example)
    with pytest.raises(grpc.RpcError, match="Could not parse example") as caught:
        stubs(recorded_server.address).prediction.Predict(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
