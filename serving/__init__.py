"""Asking a served model, and serving one locally. Import it as `tfrec_meta.serving`.

Names load on first use: `Client` never imports TensorFlow, `LocalServer` does so when it starts.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Adapted": "client.client",
    "Catalogue": "client.catalogue",
    "Client": "client.client",
    "ModelMetadata": "protocol.metadata",
    "Recommendation": "client.client",
    "VersionStatus": "protocol.metadata",
    "DeadlineExceeded": "protocol.errors",
    "InvalidRequest": "protocol.errors",
    "ModelNotFound": "protocol.errors",
    "ServerStartError": "protocol.errors",
    "ServingError": "protocol.errors",
    "Unavailable": "protocol.errors",
    "LocalServer": "server.server",
    "serve": "server.server",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"{__name__} has no public name {name!r}")
