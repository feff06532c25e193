"""SavedModels that TF Serving runs: the contract (`signatures`) and the exporter (`saved_model`).

The package is callable: `tfrec_meta.export(model, base)` calls the public function `export`,
although Python binds that name to this package as soon as anything imports it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import tfrec_meta


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        return tfrec_meta.__getattr__("export")(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
