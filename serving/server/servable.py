"""One loaded version of a model, and how its signatures are run.

A version runs in a TensorFlow 1 session, as in the C++ server. A concrete function of
`tf.saved_model.load` would check static shapes itself, while TF Serving leaves that to the graph.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfrec_meta.export import signatures
from tfrec_meta.serving.protocol import tensors
from tfrec_meta.serving.protocol.versions import check_version

log = logging.getLogger(__name__)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
RUNNABLE_METHODS = frozenset(f"tensorflow/serving/{m}" for m in ("predict", "classify", "regress"))
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RequestError(Exception):
    """A refused request, with its gRPC status code."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code


class Servable:
    """One loaded version of a model. Its session closes after its last request.

    Attributes:
        is_verified: whether the version has a manifest, which its files match.
        lacks_manifest: whether the version was exported with a manifest that is not there.
    """

    def __init__(self, folder: Path, version: int, model_name: str):
        """Loads a version folder and runs its warm-up requests.

        Raises:
            ValueError: if `check_version` refuses the folder, its SavedModel does not load, or a
                warm-up request fails.
        """
        self.folder, self.version, self.model_name = folder, version, model_name
        self.is_verified = check_version(folder)
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True  # leaves GPU memory for other processes
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[Any]]] = {}
        self._callables_lock = threading.Lock()
        try:
            with graph.as_default(), _no_deprecation_warnings():
                meta_graph = tf.compat.v1.saved_model.loader.load(
                    self._session, [tf.saved_model.SERVING], str(folder)
                )
            self.signatures: Mapping[str, Any] = dict(meta_graph.signature_def)
            aliases = meta_graph.meta_info_def.function_aliases.values()
            self.lacks_manifest = signatures.MANIFEST_MARK in aliases and not self.is_verified
            self._defaults = {
                name: {alias: tensors.decode(value) for alias, value in signature.defaults.items()}
                for name, signature in self.signatures.items()
            }
            self._warm_up()
        except RequestError as error:
            self._session.close()
            raise ValueError(f"a warm-up request fails: {error}") from error
        except Exception as error:  # a damaged SavedModel can raise any of TensorFlow's errors
            self._session.close()
            raise ValueError(f"it does not load: {_one_line(error)}") from error

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Runs the signature that the request names; name and version of the model are not checked.

        Raises:
            RequestError: with the status codes of TF Serving.
        """
        name = request.model_spec.signature_name or signatures.SERVING_DEFAULT
        signature = self.signatures.get(name)
        if signature is None:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        if signature.method_name not in RUNNABLE_METHODS:
            raise RequestError(
                INVALID,
                f'Signature "{name}" has the method '
                f'"{signature.method_name}"; Predict cannot run it.',
            )
        arrays = self._inputs(name, signature, request.inputs)
        wanted = _outputs(signature, request.output_filter)
        try:
            values = self._callable(name, signature, wanted)(*arrays)
        except tf.errors.OpError as error:
            raise RequestError(
                _STATUS_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN),
                error.message.removeprefix("Graph execution error:\n\n"),
            ) from error
        except UnicodeDecodeError as error:
            # The message of an op quotes bytes of the request that are not text, so the session
            # cannot raise its error. The code is lost, but such an error is the request's fault.
            raise RequestError(INVALID, error.object.decode(errors="replace")) from None
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.model_name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = name
        for alias, value in zip(wanted, values, strict=True):
            _encode(value, response.outputs[alias])
        return response

    def _inputs(self, name: str, signature: Any, given: Mapping[str, Any]) -> list[np.ndarray]:
        """Returns arrays in the order of the sorted input names, defaults included."""
        defaults = self._defaults[name]
        expected = sorted(signature.inputs)
        extra = sorted(set(given) - set(expected))
        missing = sorted(set(expected) - set(given) - set(defaults))
        if extra or missing:
            raise RequestError(
                INVALID,
                (
                    f'Inputs do not match signature "{name}". Sent extra: {{{",".join(extra)}}}. '
                    f"Missing but required: {{{','.join(missing)}}}. "
                    f"Expected: {{{','.join(expected)}}}."
                ),
            )
        arrays = []
        for alias in expected:
            if alias not in given:
                arrays.append(defaults[alias])
                continue
            try:
                array = tensors.decode(given[alias])
            except (ValueError, OverflowError, MemoryError) as error:
                raise RequestError(INVALID, f"tensor parsing error: {alias}: {error}") from error
            needed = signature.inputs[alias].dtype
            if given[alias].dtype != needed:
                raise RequestError(
                    INVALID,
                    (
                        f'`{alias}` of signature "{name}" expects '
                        f"{tensors.dtype_name(needed)} but "
                        f"{tensors.dtype_name(given[alias].dtype)} is provided"
                    ),
                )
            arrays.append(array)
        return arrays

    def _callable(self, name: str, signature: Any, wanted: list[str]) -> Callable[..., list[Any]]:
        key = (name, tuple(wanted))
        with self._callables_lock:
            if key not in self._callables:
                options = config_pb2.CallableOptions(
                    feed=[signature.inputs[alias].name for alias in sorted(signature.inputs)],
                    fetch=[signature.outputs[alias].name for alias in wanted],
                )
                # The public `make_callable` goes through `run`, which checks static shapes.
                self._callables[key] = self._session._make_callable_from_options(options)
            return self._callables[key]

    def _warm_up(self) -> None:
        path = self.folder / signatures.EXTRA_ASSETS / signatures.WARM_UP_REQUESTS
        if not path.is_file():
            return
        # Not a tf.data pipeline, which would start TensorFlow's eager runtime, too.
        with _no_deprecation_warnings():
            records = list(tf.compat.v1.io.tf_record_iterator(str(path)))
        for record in records:
            entry = prediction_log_pb2.PredictionLog.FromString(record)
            if entry.WhichOneof("log_type") == "predict_log":
                self.predict(entry.predict_log.request)
            else:
                log.warning(
                    "version %d: skipped a warm-up request that is not for Predict", self.version
                )


def _outputs(signature: Any, output_filter: Iterable[str]) -> list[str]:
    wanted = list(output_filter)
    unknown = sorted(set(wanted) - set(signature.outputs))
    if unknown:
        raise RequestError(
            INVALID,
            (
                f"output tensor alias not found in signature: {','.join(unknown)} "
                f"Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}."
            ),
        )
    if len(set(wanted)) < len(wanted):
        raise RequestError(INVALID, f"duplicate output tensor alias in {wanted}")
    return sorted(wanted or signature.outputs)


def _encode(value: Any, into: Any) -> None:
    # A session returns a scalar string as bytes; NumPy would make it a fixed-width "S" array.
    array = np.array(value, np.object_) if isinstance(value, bytes) else np.asarray(value)
    try:
        tensors.encode(array, into)
    except TypeError:  # bfloat16 and other types that NumPy lacks
        into.CopyFrom(tf.make_tensor_proto(array))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


class _no_deprecation_warnings(logging.Filter):
    """Silences TensorFlow's warnings about its TF 1 functions, which are used here on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "is deprecated" not in str(record.msg)

    def __enter__(self) -> None:
        tf.get_logger().addFilter(self)

    def __exit__(self, *_: object) -> None:
        tf.get_logger().removeFilter(self)
