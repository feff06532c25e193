"""Model families behind one contract.

Names are loaded when they are first used, so that importing the package loads no TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tfrec_meta.models.registry import CLASS_NAMES, FAMILIES, module_of

if TYPE_CHECKING:
    from tfrec_meta.models.base.composite import Composite
    from tfrec_meta.models.base.contract import Recommender
    from tfrec_meta.models.base.member import Member
    from tfrec_meta.models.loading import load_model

_HOME = {
    "Composite": "base.composite",
    "Member": "base.member",
    "Recommender": "base.contract",
    "load_model": "loading",
}

__all__ = [
    "FAMILIES",
    "Composite",
    "Member",
    "Recommender",
    "load_model",
    *CLASS_NAMES,  # each family and its config
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in CLASS_NAMES:
        return getattr(import_module(module_of(CLASS_NAMES[name])), name)
    raise AttributeError(f"{__name__} has no name {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
