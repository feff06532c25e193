"""Settings that client and server share: service names, limits, channel options, loopback."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

DESCRIPTOR_FILE = "tf_serving.binpb"  # in this folder; written by make_descriptors
PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURE_DEF = "signature_def"  # the one metadata field of GetModelMetadata
DEFAULT_PORT = 8500  # TF Serving's gRPC port
CERTIFICATE, PRIVATE_KEY = "CERTIFICATE", "PRIVATE KEY"  # what PEM files hold
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # gRPC's own limit for received messages is 4 MiB


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Returns the gRPC options that client and server share."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def is_pem(path: str | os.PathLike[str], kind: str) -> bool:
    """Returns whether a file is in PEM format and holds a certificate or a private key.

    Raises:
        OSError: if the file cannot be read.
    """
    return f"{kind}-----".encode() in Path(path).read_bytes()


def is_loopback(host: str) -> bool:
    """Returns whether messages to `host` stay on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a host name may resolve to any address
        return False
