"""TF Serving's gRPC services for the loaded versions."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from tfrec_meta.export import signatures
from tfrec_meta.serving.protocol.names import SIGNATURE_DEF
from tfrec_meta.serving.server.servable import INVALID, RequestError
from tfrec_meta.serving.server.servables import Servables

log = logging.getLogger(__name__)

MAX_MESSAGE_LENGTH = 2000  # characters
METHODS = {
    "classification": "tensorflow/serving/classify",
    "regression": "tensorflow/serving/regress",
}
State = get_model_status_pb2.ModelVersionStatus.State


def _answer(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """Turns a RequestError of a method into its gRPC status, and any other error into INTERNAL."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request)
        except RequestError as error:
            code, message = error.code, str(error)
        except Exception:
            log.exception("%s failed", method.__name__)
            code, message = grpc.StatusCode.INTERNAL, "The server failed; see its log."
        # gRPC sends it as a header of limited size, and it may quote a tensor of any size.
        context.abort(code, message[:MAX_MESSAGE_LENGTH])  # raises

    return call


def _spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise RequestError(INVALID, "Missing ModelSpec")
    return request.model_spec


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other methods refuse all requests, as TF Serving would."""

    def __init__(self, servables: Servables):
        self._servables = servables

    @_answer
    def Predict(self, request):
        return self._servables.find(_spec(request)).predict(request)

    @_answer
    def GetModelMetadata(self, request):
        spec = _spec(request)
        if not request.metadata_field:
            raise RequestError(
                INVALID, "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise RequestError(
                    INVALID, f"Metadata field {field} is not supported; use {SIGNATURE_DEF}"
                )
        servable = self._servables.find(spec)
        signature_map = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            signature_map.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = servable.model_name
        response.model_spec.version.value = servable.version
        response.metadata[SIGNATURE_DEF].Pack(signature_map)
        return response

    @_answer
    def Classify(self, request):
        self._refuse(_spec(request), "classification")

    @_answer
    def Regress(self, request):
        self._refuse(_spec(request), "regression")

    @_answer
    def MultiInference(self, request):
        kinds = {method: kind for kind, method in METHODS.items()}
        if not request.tasks:
            raise RequestError(INVALID, "Inference request must have at least one task")
        for task in request.tasks:
            if task.method_name not in kinds:
                raise RequestError(
                    grpc.StatusCode.UNIMPLEMENTED,
                    f"Unsupported signature method_name: {task.method_name}",
                )
            self._refuse(_spec(task), kinds[task.method_name])

    def _refuse(self, spec: Any, kind: str) -> None:
        servable = self._servables.find(spec)
        name = spec.signature_name or signatures.SERVING_DEFAULT
        signature = servable.signatures.get(name)
        if signature is None:
            raise RequestError(INVALID, f"No signature was found with the name: {name}")
        if signature.method_name != METHODS[kind]:
            raise RequestError(
                INVALID,
                f'No {kind} inputs found in SignatureDef "{name}", '
                f'whose method is "{signature.method_name}". Use Predict.',
            )
        raise RequestError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"The local server offers no {kind} methods. Use Predict.",
        )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, servables: Servables):
        self._servables = servables

    @_answer
    def GetModelStatus(self, request):
        spec = _spec(request)
        version = self._servables.chosen_version(spec)
        known: dict[int, str | None] = {}  # why each version is not served; None if it is
        if spec.name == self._servables.name:
            known |= dict.fromkeys(self._servables.served) | self._servables.failed
        if not known:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}"
            )
        if version is not None and version not in known:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {spec.name}"
            )
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in sorted(known if version is None else [version], reverse=True):
            status = response.model_version_status.add()
            status.version = number
            failure = known[number]
            status.state = State.AVAILABLE if failure is None else State.END
            status.status.SetInParent()
            if failure is not None:
                status.status.error_code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
                status.status.error_message = failure
        return response


def add_services(server: grpc.Server, servables: Servables) -> None:
    """Adds both services to a server."""
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(servables), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(servables), server)
