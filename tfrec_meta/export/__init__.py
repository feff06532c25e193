"""SavedModels that TF Serving runs: the contract (`signatures`), the index, and the exporter.

The package is callable: `tfrec_meta.export(model, base)` is `tfrec_meta.api.export`, although
Python binds that name to this package as soon as anything imports it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from tfrec_meta import api  # TensorFlow, which a serving client must not load

        return api.export(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
