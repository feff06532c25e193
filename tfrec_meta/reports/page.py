"""Renders HTML pages from Jinja templates and writes them to files.

A page is one self-contained file that can be mailed, archived and printed: it has no scripts and
loads nothing from the network. Templates escape every value, because titles and ids come from user
data. All page templates extend `templates/base.html`; `templates/macros.html` holds the elements
that several pages share.
"""

from __future__ import annotations

import datetime
import functools
from pathlib import Path
from typing import Any

from tfrec_meta.io.files import write_text
from tfrec_meta.reports import formats


def render(template: str, **values: Any) -> str:
    """Renders a page template.

    Args:
        template: file name in `reports/templates`, such as "evaluation.html".
        values: variables of the template. `written`, the date and time in words, is added.

    Returns:
        The HTML.
    """
    now = datetime.datetime.now(datetime.UTC)
    values = {"written": f"{now:%d %B %Y, %H:%M} UTC", **values}
    return str(_environment().get_template(template).render(values))


def write(path: Path | str, page: str) -> Path:
    """Writes a page atomically and creates its folder; returns the path."""
    write_text(path, page)
    return Path(path)


@functools.cache
def _environment() -> Any:
    import jinja2  # imported here, since only pages need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfrec_meta.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        label=formats.label, sentence=formats.sentence, thousands=formats.thousands
    )
    return environment
