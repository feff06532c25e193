"""Writes `tf_serving.binpb`, the message types of TF Serving's API that the client uses.

    python -m tfrec_meta.serving.protocol.make_descriptors

The generated modules of tensorflow-serving-api import all of TensorFlow, which a client should not
need. This script copies their file descriptors, without the types that the client does not use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from tfrec_meta.serving.protocol.names import DESCRIPTOR_FILE


def _top_level(descriptor: Any) -> Any:
    while descriptor.containing_type is not None:
        descriptor = descriptor.containing_type
    return descriptor


def _refers_to(message: Any) -> Iterator[Any]:
    """Yields the message and enum types of all fields of a message, nested messages included."""
    for field in message.fields:
        if field.message_type is not None:
            yield field.message_type
        if field.enum_type is not None:
            yield field.enum_type
    for nested in message.nested_types:
        yield from _refers_to(nested)


def _reached_from(roots: Iterable[Any]) -> dict[str, Any]:
    """Returns top-level types by full name: the roots and all types that their fields use."""
    reached: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        descriptor = _top_level(waiting.pop())
        if descriptor.full_name not in reached:
            reached[descriptor.full_name] = descriptor
            if hasattr(descriptor, "fields"):
                waiting.extend(_refers_to(descriptor))
    return reached


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """Returns the files of the API, reduced to the types in use; each follows its dependencies."""
    from tensorflow.core.example import example_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        predict_pb2,
    )

    reached = _reached_from(
        message.DESCRIPTOR
        for message in (
            predict_pb2.PredictRequest,
            predict_pb2.PredictResponse,
            get_model_metadata_pb2.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataResponse,
            get_model_metadata_pb2.SignatureDefMap,
            get_model_status_pb2.GetModelStatusRequest,
            get_model_status_pb2.GetModelStatusResponse,
            example_pb2.Example,
        )
    )
    used_files = {descriptor.file.name for descriptor in reached.values()}
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def visit(file: Any) -> None:
        if file.name not in used_files or file.name in files:
            return
        for needed in file.dependencies:
            visit(needed)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        used_messages = [m for m in proto.message_type if f"{proto.package}.{m.name}" in reached]
        used_enums = [e for e in proto.enum_type if f"{proto.package}.{e.name}" in reached]
        used_imports = [name for name in proto.dependency if name in used_files]
        for field in (
            "message_type",
            "enum_type",
            "dependency",
            "public_dependency",
            "weak_dependency",
            "service",
            "extension",
        ):
            proto.ClearField(field)
        proto.message_type.extend(used_messages)
        proto.enum_type.extend(used_enums)
        proto.dependency.extend(used_imports)
        files[file.name] = proto

    for name in sorted(reached):
        visit(reached[name].file)
    return descriptor_pb2.FileDescriptorSet(file=files.values())


def main() -> None:
    path = Path(__file__).with_name(DESCRIPTOR_FILE)
    path.write_bytes(descriptor_set().SerializeToString(deterministic=True))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
