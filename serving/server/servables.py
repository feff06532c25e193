"""Loaded SavedModels: which versions of a base folder are served, and how a signature is run.

A version runs in a TensorFlow 1 style session, as in the C++ server: a concrete function of
`tf.saved_model.load` would check static shapes itself, where TF Serving leaves that to the graph.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfrec_meta.export import signatures
from tfrec_meta.serving.protocol import tensors
from tfrec_meta.serving.protocol.errors import ServerStartError
from tfrec_meta.serving.protocol.versions import check_version, version_folders

log = logging.getLogger(__name__)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
RUNNABLE_METHODS = frozenset(f"tensorflow/serving/{m}" for m in ("predict", "classify", "regress"))
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RequestError(Exception):
    """A request that can't be answered, with the gRPC code to say so."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code


class Servable:
    """One version of a model, loaded. Its session closes once the last request lets go of it."""

    def __init__(self, folder: Path, version: int, model_name: str):
        """Loads `folder` and replays its warm-up requests.

        Raises:
            ValueError: if the folder can't be used (`check_version`), or its SavedModel does not
                load or warm up.
        """
        self.folder, self.version, self.model_name = folder, version, model_name
        check_version(folder)
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True  # a local server leaves the rest of a GPU to others
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[Any]]] = {}
        self._callables_lock = threading.Lock()
        try:
            with graph.as_default(), _no_deprecation_warnings():
                meta_graph = tf.compat.v1.saved_model.loader.load(
                    self._session, [tf.saved_model.SERVING], str(folder)
                )
            self.signatures: Mapping[str, Any] = dict(meta_graph.signature_def)
            self._defaults = {
                name: {alias: tensors.decode(value) for alias, value in signature.defaults.items()}
                for name, signature in self.signatures.items()
            }
            self._warm_up()
        except RequestError as error:
            self._session.close()
            raise ValueError(f"a warm-up request fails: {error}") from error
        except Exception as error:  # a damaged SavedModel can fail in any of TensorFlow's ways
            self._session.close()
            raise ValueError(f"it does not load: {_one_line(error)}") from error

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Runs the signature that the request names; its model spec is not looked at otherwise.

        Raises:
            RequestError: with the codes of TF Serving.
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
                f'"{signature.method_name}"; it can\'t be run by Predict.',
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
            # An op quotes bytes of the request that are no text, and the session can't raise its
            # error. Its code is lost; that it is the request's fault is all that can be told.
            raise RequestError(INVALID, error.object.decode(errors="replace")) from None
        response = predict_pb2.PredictResponse()
        response.model_spec.name = self.model_name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = name
        for alias, value in zip(wanted, values, strict=True):
            _encode(value, response.outputs[alias])
        return response

    def _inputs(self, name: str, signature: Any, given: Mapping[str, Any]) -> list[np.ndarray]:
        """Arrays in the order of the signature's sorted input names, defaults filled in."""
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
                    f"It takes {{{','.join(expected)}}}."
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
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            entry = prediction_log_pb2.PredictionLog.FromString(record)
            if entry.WhichOneof("log_type") == "predict_log":
                self.predict(entry.predict_log.request)
            else:
                log.warning(
                    "version %d: a warm-up request is no Predict request; left out", self.version
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
    # A session returns a scalar string as bytes, which NumPy would make a fixed-width "S" array.
    array = np.array(value, np.object_) if isinstance(value, bytes) else np.asarray(value)
    try:
        tensors.encode(array, into)
    except TypeError:  # bfloat16 and other types that only TensorFlow knows
        into.CopyFrom(tf.make_tensor_proto(array))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


class _no_deprecation_warnings(logging.Filter):
    """Silences TensorFlow's warning about its TF 1 loader, which is used here on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "is deprecated" not in str(record.msg)

    def __enter__(self) -> None:
        tf.get_logger().addFilter(self)

    def __exit__(self, *_: object) -> None:
        tf.get_logger().removeFilter(self)


class Servables:
    """The served versions of one model.

    Args:
        base: folder that holds the versions.
        name: the model's name in requests.
        versions: "latest" (the newest that loads), "all", or version numbers.
        labels: label to version number.
    """

    def __init__(
        self,
        base: str | os.PathLike[str],
        name: str,
        versions: str | Collection[int] = "latest",
        labels: Mapping[str, int] | None = None,
    ):
        self.base, self.name, self.versions = Path(base), name, versions
        self.labels = dict(labels or {})
        self._refreshing = threading.Lock()
        # Replaced as a whole, never changed in place: requests read them without a lock.
        self._served: Mapping[int, Servable] = {}
        self._failed: Mapping[int, str] = {}

    @property
    def served(self) -> Mapping[int, Servable]:
        """Version to servable, newest first."""
        return self._served

    @property
    def failed(self) -> Mapping[int, str]:
        """Version to the reason why it is not served though it should be."""
        return self._failed

    def refresh(self) -> None:
        """Loads what the base folder now holds and the policy asks for; then lets go of the rest.

        A version that does not load is skipped, with a warning that says why; the next lower one is
        used instead. Requests under way keep the version that they began with.

        Raises:
            ServerStartError: if no version can be served, one that was asked for by number is not
                there, or a label points at none. What was served before still is.
        """
        with self._refreshing:
            folders = version_folders(self.base)
            if not isinstance(self.versions, str):
                absent = sorted(set(self.versions) - set(folders))
                if absent:
                    raise ServerStartError(
                        f"`versions`={sorted(self.versions)}, but {str(self.base)!r} holds "
                        f"{sorted(folders)}. Ask for versions that are there."
                    )
                folders = {v: folder for v, folder in folders.items() if v in self.versions}
            served: dict[int, Servable] = {}
            failed: dict[int, str] = {}
            for version, folder in folders.items():
                try:
                    served[version] = self._served.get(version) or Servable(
                        folder, version, self.name
                    )
                except ValueError as error:
                    failed[version] = str(error)
                    if self._failed.get(version) != str(
                        error
                    ):  # once, however often it is refreshed
                        log.warning(
                            "skipped version %d of model %s (%s): %s",
                            version,
                            self.name,
                            folder,
                            error,
                        )
                    continue
                if version not in self._served:
                    log.info("serving version %d of model %s (%s)", version, self.name, folder)
                if self.versions == "latest":
                    break
            self._failed = failed
            if not served:
                newest = next(iter(failed))
                raise ServerStartError(
                    f"no version in {str(self.base)!r} can be served; the newest, {newest}: "
                    f"{failed[newest]}. Export the model again."
                )
            for label, version in self.labels.items():
                if version not in served:
                    raise ServerStartError(
                        f"label {label!r} points at version {version}, but {sorted(served)} are "
                        "served. Point it at one of these, or serve more with `versions`."
                    )
            self._served = served

    def find(self, spec: Any) -> Servable:
        """The servable that a ModelSpec asks for.

        Raises:
            RequestError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for a spec
                without a name and for an unknown label.
        """
        served = self._served
        version = self.chosen_version(spec)
        if version is None:
            if spec.name != self.name or not served:
                raise RequestError(
                    grpc.StatusCode.NOT_FOUND,
                    f"Servable not found for request: Latest({spec.name})",
                )
            return next(iter(served.values()))
        if spec.name != self.name or version not in served:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Specific({spec.name}, {version})",
            )
        return served[version]

    def chosen_version(self, spec: Any) -> int | None:
        """The version that a ModelSpec names by number or label; None: the latest."""
        if not spec.name:
            raise RequestError(INVALID, "ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return int(spec.version.value)
        if choice == "version_label":
            if spec.name == self.name and spec.version_label in self.labels:
                return self.labels[spec.version_label]
            raise RequestError(
                INVALID, f"Unrecognized servable version label: {spec.version_label}"
            )
        return None
