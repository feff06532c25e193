"""Sphinx configuration; `make docs` builds the site and treats every warning as an error."""

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

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source", "Sources", "Signature"]
