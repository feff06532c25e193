"""`tfrec-meta cold-start`: evaluates a run's model on new users."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, command, note, option
from tfrec_meta.commands.config_option import group_option, with_group
from tfrec_meta.commands.values import FILE, Names, Numbers

_RUN = "runs/newcomers"
_PAGE = "cold_start.html"
_SHOTS = "0,1,3,5,10,20"
_TRAIN = f"tfrec-meta train --run {_RUN} --family meta_learned --split cold-users"


@command(
    "cold-start",
    "",
    "--run runs/newcomers --shots 1,5,20 --baselines ials,popularity",
    "--to newcomers.html --json",
    "--run runs/newcomers --config shop.yaml",
    details="The test users of the run must be new users, as in a run that is made by:\n\n\b\n"
    f"  {_TRAIN} --validation 0.1",
    rereads_data=True,
)
@options.run_option(_RUN)
@group_option("evaluation")
@option(
    "--shots",
    type=Numbers(),
    default=_SHOTS,
    metavar="NUMBERS",
    show_default=True,
    help="Numbers of known events, separated by commas.",
)
@options.length_option("Length of the ranked lists.")
@option("--metric", default="ndcg", show_default=True, help="ndcg, recall, hr, map, mrr or auc.")
@option(
    "--baselines",
    type=Names(none=True),
    metavar="NAMES",
    help="Any of ials, ease, item_knn, popularity, separated by commas; or none (default: all).",
)
@option(
    "--later",
    type=int,
    default=10,
    metavar="N",
    show_default=True,
    help="Test events that a user needs in addition to the largest number of --shots.",
)
@options.resamples_option
@option(
    "--to",
    type=FILE,
    metavar="FILE",
    help=f"The HTML file (default: {_PAGE} in the run folder).",
)
def cold_start(
    run: str,
    config: str | None,
    shots: Sequence[int],
    k: int,
    metric: str,
    baselines: Sequence[str] | None,
    later: int,
    resamples: int,
    to: str | None,
) -> Result:
    """Evaluates the model, and writes the page."""
    from tfrec_meta.data.protocols import SplitProtocol
    from tfrec_meta.workflows.runs import Run

    this = Run.open(run)
    protocol = this.settings["split"]["protocol"]
    if protocol != SplitProtocol.COLD_USERS:
        raise ValueError(
            f"The split of {this.folder} is {protocol!r}, and its test users are not new. Train a "
            f"run with new test users: {_TRAIN}"
        )
    with with_group(
        config, "evaluation", this, k=k, baselines=baselines, resamples=resamples
    ) as settings:
        model = this.model()
        from tfrec_meta.workflows.cold_start import evaluate_cold_start

        if not len(this.split.validation_index):
            note(
                "The run has no validation users, so the baselines keep their default settings; "
                "`tfrec-meta train --validation 0.1` holds out validation users."
            )
        found = evaluate_cold_start(
            model,
            this.split,
            shots=shots,
            k=settings.k,
            metric=metric,
            baselines=settings.baselines,
            later=later,
            resamples=settings.resamples,
        )
    title = f"New users: {model.family} on {this.split.data.name}"
    page = found.write(this.folder / _PAGE if to is None else to, title)
    next_command = f"tfrec-meta export --run {shlex.quote(str(this.folder))}"
    return Result(
        {"run": str(this.folder), "report": str(page), **found.as_dict()},
        f"{found}\nreport: {page}\nnext: {next_command}",
    )
