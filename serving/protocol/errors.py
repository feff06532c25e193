"""Errors of the client and of the local server."""

from __future__ import annotations

from collections.abc import Sequence

import grpc


class ServingError(RuntimeError):
    """A call failed.

    Attributes:
        code: the gRPC status code of the call.
        parameters: the parameters that the message has in backticks, as in
            `tfrec_meta.errors.ParameterError`.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode | None = None,
        parameters: Sequence[str] = (),
    ):
        super().__init__(message)
        self.parameters = tuple(parameters)
        if code is not None:
            self.code = code


class InvalidRequest(ServingError, ValueError):
    """The client or the server refused the request as invalid."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class ModelNotFound(ServingError):
    """The server has no such model, version or label."""

    code = grpc.StatusCode.NOT_FOUND


class Unavailable(ServingError):
    """No server answered at the address within the timeout."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(ServingError):
    """The answer took longer than the timeout."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class ServerStartError(RuntimeError):
    """A local server cannot start: no model to serve, a port in use, or an unsafe address.

    Attributes:
        parameters: the parameters that the message has in backticks.
    """

    def __init__(self, message: str, *parameters: str):
        super().__init__(message)
        self.parameters = parameters
