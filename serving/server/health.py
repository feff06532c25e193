"""gRPC's standard health check (grpc.health.v1.Health/Check), which container platforms call.

The API has two messages with one field each. They are defined here instead of adding a dependency.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVING = 1  # of HealthCheckResponse.ServingStatus; an int32 is encoded in the same way


def _messages() -> tuple[Any, Any]:
    """Returns the types HealthCheckRequest and HealthCheckResponse."""
    file = descriptor_pb2.FileDescriptorProto(
        name="grpc/health/v1/health.proto", package="grpc.health.v1", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, field, kind in (
        ("HealthCheckRequest", "service", kinds.TYPE_STRING),
        ("HealthCheckResponse", "status", kinds.TYPE_INT32),
    ):
        file.message_type.add(name=message).field.add(
            name=field, number=1, type=kind, label=kinds.LABEL_OPTIONAL
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.health.v1.{each.name}"))
        for each in file.message_type
    )
    return request, response


def add_health_service(server: grpc.Server, services: Collection[str]) -> None:
    """Adds a health check that answers SERVING for the server ("") and for the named services."""
    request_type, response_type = _messages()

    def check(request: Any, context: grpc.ServicerContext) -> Any:
        if request.service and request.service not in services:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return response_type(status=SERVING)

    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
