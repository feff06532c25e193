"""`tfrec-meta export`: exports a run's model for TF Serving."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, command, note, option
from tfrec_meta.commands.config_option import group_option, with_group
from tfrec_meta.commands.values import REMOTE_FOLDER, Names


@command(
    "export",
    "",
    "--run runs/first --to models/shop --version 7",
    "--to s3://bucket/models/shop",
    "--filters genres --diversity",
    "--run runs/shop --final",
    "--run runs/shop --config shop.yaml",
    rereads_data=True,
    resumes=True,
)
@options.run_option()
@group_option("export")
@option(
    "--to",
    type=REMOTE_FOLDER,
    metavar="FOLDER",
    help="Folder of the served model, also s3:// or gs://; each export makes a version folder in "
    "it (default: models/NAME, with the name of the run folder).",
)
@option(
    "--final",
    is_flag=True,
    help="Refit the strategy on all events first (train, validation and test), for as many epochs "
    "as were best in the run. The evaluation stays that of the run.",
)
@option("--version", type=int, metavar="N", help="Version number (default: the next one).")
@options.length_option("Default number of recommendations per request.")
@option(
    "--max-k",
    type=int,
    default=100,
    metavar="N",
    show_default=True,
    help="Maximum recommendations per request.",
)
@option(
    "--filters",
    type=Names(),
    metavar="NAMES",
    help="Item categories to filter by, separated by commas.",
)
@option("--diversity", is_flag=True, help="Allow requests for diverse recommendations.")
@option(
    "--recommend-history",
    is_flag=True,
    help="Recommend items of the history again (default: as in the run).",
)
def export(
    run: str,
    config: str | None,
    to: str | None,
    final: bool,
    version: int | None,
    **fields: Any,
) -> Result:
    """Exports the model with the run's evaluation in the model card."""
    from tfrec_meta.workflows.runs import Run

    this = Run.open(run)
    to = str(options.MODELS / options.folder_name(run)) if to is None else to
    with with_group(config, "export", this, **fields) as settings:
        if this.settings["recommend_history"]:
            settings = dataclasses.replace(settings, recommend_history=True)
        if final and this.is_trained and not this.is_refitted:
            note(f"refit on all {len(this.split.data):,} events; the evaluation stays as it is")
        model = this.refit() if final else this.model()
        from tfrec_meta.workflows.export import export as export_model

        folder = export_model(model, to, settings, version=version, evaluations=this.evaluations())
    content = {
        "export": str(folder),
        "model": options.folder_name(to),
        "version": int(folder.name),
        "trained_on": model.trained_on and dataclasses.asdict(model.trained_on),
    }
    refitted = f", refitted on {len(this.split.data):,} events" if final else ""
    return Result(
        content, f"exported: {folder}{refitted}\nnext: tfrec-meta serve {shlex.quote(to)}"
    )
