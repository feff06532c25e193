"""Asking a served model, and serving one locally. Import it as `tfrec_meta.serving`.

Names load on first use: `Client` never imports TensorFlow, `LocalServer` does so when it starts.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfrec_meta.serving.catalogue import Catalogue
    from tfrec_meta.serving.client import Client, ModelMetadata, Recommendation, VersionStatus
    from tfrec_meta.serving.errors import (
        DeadlineExceeded,
        InvalidRequest,
        ModelNotFound,
        ServerStartError,
        ServingError,
        Unavailable,
    )
    from tfrec_meta.serving.server import LocalServer, serve

_HOME = {
    "Catalogue": "catalogue",
    "Client": "client",
    "ModelMetadata": "client",
    "Recommendation": "client",
    "VersionStatus": "client",
    "DeadlineExceeded": "errors",
    "InvalidRequest": "errors",
    "ModelNotFound": "errors",
    "ServerStartError": "errors",
    "ServingError": "errors",
    "Unavailable": "errors",
    "LocalServer": "server",
    "serve": "server",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"{__name__} has no public name {name!r}")
