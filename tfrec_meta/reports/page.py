"""What the HTML pages have in common: one look, values as people read them, and whole files.

A page is one self-contained file that can be mailed, archived and printed: no script and nothing
from the network. Every value goes through autoescaping, since titles and ids come from outside.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any


def render(template: str, **values: Any) -> str:
    """Fills a Jinja template.

    Args:
        template: its name in `reports/templates`, such as "report.html".
        values: for the template, which has `style` beside them: the CSS that all pages share.
    """
    import jinja2  # only a page needs it
    import markupsafe

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source(template)).render(
        style=markupsafe.Markup(source("page.css")), **values
    )


def source(name: str) -> str:
    """The text of a file in `reports/templates`."""
    return resources.files("tfrec_meta.reports").joinpath("templates", name).read_text("utf-8")


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


def plain(value: Any) -> str:
    """Numbers with thousands separators and about four digits; lists joined; the rest as text."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(plain(part) for part in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def words(key: str) -> str:
    """A name of ours as people read it."""
    return key.replace("_", " ")


def flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(path, value) of a nested mapping, as ("training.epochs", 20)."""
    rows: list[tuple[str, Any]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        rows += flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return rows


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers that reach from `low` or below to `high` or above."""
    if high <= low:
        low, high = low - max(abs(low) * 0.1, 1e-3), high + max(abs(high) * 0.1, 1e-3)
    rough = (high - low) / (most - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * nice for nice in (1, 2, 2.5, 5, 10) if unit * nice >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * index for index in range(first, last + 1)]
