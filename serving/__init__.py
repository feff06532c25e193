"""A client of served models, and a local server. Import the package as `tfrec_meta.serving`.

Names are loaded when they are first used. `Client` never imports TensorFlow; `LocalServer` imports
it when it starts.
"""

from typing import Any

from tfrec_meta.extras import public_name

_HOME = {
    "Adapted": "client.answers",
    "Catalogue": "client.catalogue",
    "Client": "client.client",
    "ModelMetadata": "protocol.metadata",
    "Recommendation": "client.answers",
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
        extra = "core" if _HOME[name].startswith("server.") else "serving"
        return public_name(f"{__name__}.{_HOME[name]}", name, extra)
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")
