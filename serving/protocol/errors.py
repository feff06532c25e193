"""What can go wrong between a caller, a client and a server."""

from __future__ import annotations

from collections.abc import Sequence

import grpc


class ServingError(RuntimeError):
    """A call that was not answered.

    Attributes:
        code: its gRPC status code.
        parameters: the parameters that the message names in backticks, as in
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
    """The request can't be answered as it stands; the client refused it, or the server did."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class ModelNotFound(ServingError):
    """The server runs, but has no such model, version or label."""

    code = grpc.StatusCode.NOT_FOUND


class Unavailable(ServingError):
    """No server answered at the address, for as long as the timeout allowed."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(ServingError):
    """The answer took longer than the timeout."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class ServerStartError(RuntimeError):
    """A local server can't start: nothing to serve, a port in use, an unsafe address.

    Attributes:
        parameters: the parameters that the message names in backticks.
    """

    def __init__(self, message: str, *parameters: str):
        super().__init__(message)
        self.parameters = parameters
