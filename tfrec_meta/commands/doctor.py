"""`tfrec-meta doctor`: checks the installation, and says how to fix it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from tfrec_meta.commands import installation
from tfrec_meta.commands.base import Result, command


@command(
    "doctor",
    "",
    "--json",
    details="The exit status is 1 if a needed part is missing or does not work.",
)
def doctor() -> Result:
    """Prints one line per check as soon as its result is known."""
    as_json = click.get_current_context().meta["json"]
    checks = []
    with _progress(show=not as_json) as show:
        for check in installation.run_checks():
            checks.append(check)
            show(_line(check))
    status = int(any(check.is_fault for check in checks))
    content = {"status": status, "checks": [dataclasses.asdict(check) for check in checks]}
    return Result(content, status=status)


def _line(check: installation.Check) -> str:
    state = "ok" if check.ok else "WRONG" if check.needed else "absent"
    fix = f" To fix it: {check.fix}" if check.fix else ""
    return f"{state:<7} {check.name:<20} {check.message}{fix}"


@contextmanager
def _progress(show: bool) -> Iterator[Callable[[str], None]]:
    """Shows a spinner below the lines on a terminal; plain lines elsewhere; with --json nothing."""
    if not show:
        yield lambda line: None
    elif not sys.stdout.isatty():
        yield lambda line: print(line, flush=True)
    else:
        from rich.console import Console

        console = Console()
        with console.status("checking the installation ..."):
            yield lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
