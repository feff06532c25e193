"""`tfrec-meta report`: writes the HTML report of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, command, option
from tfrec_meta.commands.values import FILE, Names


@command("report", "", "--run runs/first --users 1,2 --to first.html", rereads_data=True)
@options.run_option()
@option(
    "--users",
    type=Names(),
    metavar="IDS",
    help="Users whose recommendations to show, separated by commas.",
)
@options.length_option("Recommendations per user.")
@option(
    "--to",
    type=FILE,
    metavar="FILE",
    help="The HTML file (default: report.html in the run folder).",
)
def report(run: str, users: Sequence[str] | None, k: int, to: str | None) -> Result:
    """Writes the report, and evaluates the run first if it has no evaluation."""
    from tfrec_meta.workflows.runs import Run

    path = Run.open(run).report(to, users or (), k)
    return Result({"report": str(path)}, f"report: {path}")
