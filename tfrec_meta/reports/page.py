"""Renders HTML pages from Jinja templates and writes them to files.

A page is one self-contained file that can be mailed, archived and printed: it has no scripts and
loads nothing from the network. Templates escape every value, because titles and ids come from user
data. All page templates extend `templates/base.html`; `templates/macros.html` holds the elements
that several pages share.
"""

from __future__ import annotations

import datetime
import functools
import os
import tempfile
from pathlib import Path
from typing import Any

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
    """Writes a page whole or not at all; its folder is made if need be."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, work = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(page)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(work, 0o666 & ~umask)  # mkstemp's file is the owner's alone
        os.replace(work, target)
    except BaseException:
        Path(work).unlink(missing_ok=True)
        raise
    return target


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
