"""The connection to a served model: address, TLS, deadlines, retries and errors."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from tfrec_meta.errors import ParameterError
from tfrec_meta.export.signatures import is_version
from tfrec_meta.serving.client.answers import damaged
from tfrec_meta.serving.protocol import messages, tensors
from tfrec_meta.serving.protocol import names as protocol
from tfrec_meta.serving.protocol.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServingError,
    Unavailable,
)
from tfrec_meta.serving.protocol.metadata import (
    ModelMetadata,
    VersionStatus,
    read_metadata,
    read_status,
)

_LONGEST = 10**6  # seconds of a timeout
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 1.0  # seconds between retries of a call
Tls: TypeAlias = bool | str | os.PathLike[str] | grpc.ChannelCredentials


class Connection:
    """A gRPC connection to one served model; safe to share between threads.

    Args:
        address: host:port of the server.
        model: name of the model on the server.
        version: a version number; None for the latest.
        label: a version label instead of a version number.
        timeout: seconds, for error messages; each call has its own deadline.
        tls: see `Client`.
        insecure: allows another machine without TLS.
        max_message_bytes: size limit of a request and of a response.

    Raises:
        ParameterError: for an invalid address, contradicting options, and another machine
            without TLS.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None,
        label: str | None,
        *,
        timeout: float,
        tls: Tls,
        insecure: bool,
        max_message_bytes: int,
    ):
        host = _host_of(address)
        if not isinstance(model, str) or not model:
            raise ParameterError(f"`model`={model!r}; use the name of a served model.", "model")
        if version is not None and not is_version(version):
            raise ParameterError(
                f"`version`={version!r}; use a whole number from 1 to 2**63 - 1.", "version"
            )
        if version is not None and label is not None:
            raise ParameterError(
                f"`version`={version} and `label`={label!r}; use only one of them.",
                "version",
                "label",
            )
        if isinstance(timeout, str | bool) or not 0 < timeout <= _LONGEST:
            raise ParameterError(
                f"`timeout`={timeout!r}; use a number of seconds above 0, up to {_LONGEST:,}.",
                "timeout",
            )
        local = protocol.is_loopback(host)
        if tls is False and not local and not insecure:
            raise ParameterError(
                f"`address`={address!r} is another machine, and requests contain personal data. "
                "Use `tls`, or `insecure` in a trusted network.",
                "address",
                "tls",
                "insecure",
            )
        self.address, self.model, self.timeout = address, model, timeout
        self.version, self.label = version, label
        options = [
            *protocol.channel_options(max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", int(FIRST_BACKOFF * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(LAST_BACKOFF * 1000)),
        ]
        if local:  # the http_proxy of the environment is not for this machine
            options.append(("grpc.enable_http_proxy", 0))
        if tls is False:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, _credentials(tls), options)
        self._predict_call = self._method(
            protocol.PREDICTION_SERVICE, "Predict", messages.PredictResponse
        )
        self._metadata_call = self._method(
            protocol.PREDICTION_SERVICE, "GetModelMetadata", messages.GetModelMetadataResponse
        )
        self._status_call = self._method(
            protocol.MODEL_SERVICE, "GetModelStatus", messages.GetModelStatusResponse
        )

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], deadline: float) -> Any:
        """Runs a signature.

        Args:
            signature: name of the signature.
            inputs: arrays by input name.
            deadline: time of `time.monotonic` at which the call ends.

        Returns:
            The PredictResponse.

        Raises:
            ServingError: one of its subclasses.
        """
        request = messages.PredictRequest()
        self._fill_spec(request.model_spec)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            tensors.encode(array, request.inputs[name])
        return self._call(self._predict_call, request, deadline)

    def metadata(self, deadline: float) -> ModelMetadata:
        """Reads the signatures of the served version; arguments and errors as for `predict`."""
        request = messages.GetModelMetadataRequest(metadata_field=[protocol.SIGNATURE_DEF])
        self._fill_spec(request.model_spec)
        response = self._call(self._metadata_call, request, deadline)
        try:
            return read_metadata(response)
        except (ValueError, TypeError, OverflowError, DecodeError) as error:
            raise damaged(f"the signatures can't be read: {error}") from error

    def status(self, deadline: float) -> list[VersionStatus]:
        """Reads the state of the versions; arguments and errors as for `predict`."""
        request = messages.GetModelStatusRequest()
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        return read_status(self._call(self._status_call, request, deadline))

    def _method(self, service: str, name: str, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def _fill_spec(self, spec: Any) -> None:
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label

    def _call(self, method: Any, request: Any, deadline: float) -> Any:
        """Calls a method, with retries while no server answers.

        Retries are safe: no method of the API changes anything.
        """
        pause = FIRST_BACKOFF
        while True:
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
            except ValueError as error:  # gRPC's, of a channel that is closed
                raise ServingError(f"no call to {self.address}: {error}") from error
            pause *= random.uniform(1, 1.5)  # so that clients do not all retry at the same moment
            if code != grpc.StatusCode.UNAVAILABLE or time.monotonic() + pause >= deadline:
                raise self._error(code, details)
            time.sleep(pause)
            pause = min(2 * pause, LAST_BACKOFF)

    def _error(self, code: grpc.StatusCode, details: str) -> ServingError:
        if code == grpc.StatusCode.UNAVAILABLE:
            return Unavailable(
                f"no server answers at {self.address} ({details}). Start one with "
                "`tfrec-meta serve`, or correct `address`.",
                parameters=("address",),
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"no answer from {self.address} within the timeout of {self.timeout:g} s. Raise "
                "`timeout`, or request less per call.",
                parameters=("timeout",),
            )
        if code == grpc.StatusCode.NOT_FOUND:
            return ModelNotFound(
                f"the server at {self.address} does not have the requested model or version: "
                f"{details}. Check `model`={self.model!r}"
                + (f" and `version`={self.version}." if self.version else "."),
                parameters=("model", "version"),
            )
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            return InvalidRequest(
                f"the server at {self.address} refused the request: {details}. "
                "Compare it with `Client.metadata()`.",
                code,
            )
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ServingError(
                f"the server at {self.address} has reached a limit: {details}. Send smaller "
                "requests, or fewer at the same time.",
                code,
            )
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return ServingError(
                f"the server at {self.address} does not offer TF Serving's API: {details}. Check "
                "`address`.",
                code,
                parameters=("address",),
            )
        return ServingError(
            f"{code.name} from {self.address}: {details}. See the log of the server.", code
        )


def _host_of(address: str) -> str:
    """Returns the host of host:port.

    Raises:
        ParameterError: for another form, and a port that is not from 1 to 65535.
    """
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not (host and port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ParameterError(
            f"`address`={address!r}; use host:port with a port from 1 to 65535, as in "
            "127.0.0.1:8500.",
            "address",
        )
    return host


def _credentials(tls: Any) -> grpc.ChannelCredentials:
    if tls is True:
        return grpc.ssl_channel_credentials()
    if isinstance(tls, grpc.ChannelCredentials):
        return tls
    if not protocol.is_pem(tls, protocol.CERTIFICATE):
        raise ParameterError(
            f"`tls`={str(tls)!r} is not a PEM file with a certificate; use the file of the "
            "certificate authorities.",
            "tls",
        )
    return grpc.ssl_channel_credentials(Path(tls).read_bytes())
