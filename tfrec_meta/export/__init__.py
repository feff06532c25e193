"""Exports models as SavedModels for TF Serving. `signatures` holds the serving contract.

The package is callable: `tfrec_meta.export(model, base)` calls the public function `export`. Python
binds the name `tfrec_meta.export` to this package as soon as anything imports the package.
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
