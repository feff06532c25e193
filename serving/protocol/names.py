"""What client and server agree on beside the messages: methods, limits, what is this machine."""

from __future__ import annotations

import ipaddress

DESCRIPTOR_FILE = "tf_serving.binpb"  # beside this module; made by make_descriptors
PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURE_DEF = "signature_def"  # the one metadata field of GetModelMetadata
DEFAULT_PORT = 8500  # TF Serving's own for gRPC
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # gRPC's own limit for what it receives is 4 MiB


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """gRPC options that client and server share."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name: it may resolve to anything
        return False
