"""`tfrec-meta compare`: compares two trained runs on the same test events."""

from __future__ import annotations

from collections.abc import Sequence

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, argument, command
from tfrec_meta.commands.values import FOLDER


@command(
    "compare",
    "runs/first runs/second",
    "runs/first runs/second -k 20 --json",
    details="Both runs need the same test events: the same data, split and seed. Differences are "
    "the first run minus the second, with 95 % intervals and p-values of a paired bootstrap over "
    "users.",
    rereads_data=True,
)
@argument("runs", nargs=2, type=FOLDER, metavar="RUN RUN", help="The two run folders.")
@options.length_option("Length of the ranked lists.")
@options.resamples_option
@options.recommend_history_option("Compare")
def compare(runs: Sequence[str], k: int, resamples: int, recommend_history: bool) -> Result:
    """Evaluates the models of both runs and prints the differences."""
    from tfrec_meta.workflows.compare import compare_runs
    from tfrec_meta.workflows.runs import Run

    first, second = map(Run.open, runs)
    found = compare_runs(
        first, second, k=k, resamples=resamples, recommend_history=recommend_history
    )
    split = first.split
    content = {
        "runs": dict(zip(found.evaluations, map(str, runs), strict=True)),
        "k": k,
        "split": split.description,
        **found.as_dict(),
    }
    heading = f"{split.data.name}, {split.description}: full-catalogue ranking"
    return Result(content, f"{heading}\n{found}")
