"""Sphinx configuration; `make docs` builds the site and treats every warning as an error."""

from importlib import import_module

import tfrec_meta

project = "tfrec-meta"
author = "the tfrec-meta authors"
version = release = tfrec_meta.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["_build"]
# Types are documented under their public path, and named in hints by the module that defines them.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "tfrec-meta"
html_static_path: list[str] = []

myst_enable_extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.mermaid",
]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source", "Sources", "Signature"]

# Public names of `tfrec_meta` that are documented on the page of a sub-package.
_SUB_PACKAGES = (
    "data",
    "distillation",
    "evaluation",
    "features",
    "metalearning",
    "models",
    "training",
    "tuning",
)


def _public_names_elsewhere() -> set[str]:
    modules = [import_module(f"tfrec_meta.{name}") for name in _SUB_PACKAGES]
    modules.append(import_module("tfrec_meta.export.config"))
    return {name for module in modules for name in getattr(module, "__all__", ())}


def _skip(app, what, name, obj, skip, options):
    """Skips, on the page of `tfrec_meta`, what another page documents."""
    here = app.env.current_document.docname == "api/tfrec_meta"
    return True if here and name.rpartition(".")[2] in _ELSEWHERE else None


_ELSEWHERE = _public_names_elsewhere()


def setup(app):
    app.connect("autodoc-skip-member", _skip)
