"""HTML pages: the page kit, shared charts and formats, and one module per kind of page.

Workflows, commands and the pipeline call this package. A page receives plain values and types of
`tfrec_meta.evaluation`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfrec_meta.reports.evaluation_page import write_evaluation_page
    from tfrec_meta.reports.study_page import write_study_report

_HOME = {
    "write_evaluation_page": "evaluation_page",
    "write_study_report": "study_page",
}

__all__ = ["write_evaluation_page", "write_study_report"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")
