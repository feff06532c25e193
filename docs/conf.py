"""Sphinx configuration; `make docs` builds the site and treats every warning as an error."""

import re

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

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

default_role = "code"  # single backticks in docstrings
autodoc_default_options = {"members": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source", "Sources", "Signature"]


def _escape(app, what, name, obj, options, lines):
    """Ends a name in backticks before "=", as in `k`=3, which reStructuredText does not allow."""
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?==)", r"`\1`\\ ", line) for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", _escape)
