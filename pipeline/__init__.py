"""The TFX pipeline. Import it as `tfrec_meta.pipeline`: `import pipeline` loads a second copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfrec_meta.extras import public_name

if TYPE_CHECKING:
    from tfrec_meta.pipeline.config import PipelineConfig
    from tfrec_meta.pipeline.serving_folder import newest_version

_HOME = {
    "PipelineConfig": "config",
    "newest_version": "serving_folder",
}

__all__ = ["PipelineConfig", "newest_version"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return public_name(f"{__name__}.{_HOME[name]}", name, "pipeline")
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")
