"""`tfrec-meta distill`: trains a student of teachers, and compares it with them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, argument, command, note, option
from tfrec_meta.commands.config_option import config_option, with_config, with_group
from tfrec_meta.commands.data_options import (
    DataOptions,
    FeedbackOptions,
    data_options,
    feedback_options,
)
from tfrec_meta.commands.strategy_options import StrategyOptions, strategy_options
from tfrec_meta.errors import ParameterError
from tfrec_meta.models.registry import FAMILIES

_RUN = "runs/student"
TEXT_TEACHERS = ("bert", "tuned_bert")  # their own modules import TensorFlow


@command(
    "distill",
    "ials ease --run runs/student",
    "bert --family content_tower --split cold-items --epochs 15",
    "tuned_bert --family content_tower --split cold-items --epochs 15",
    "runs/large --run runs/small",
    "ials --data log.csv --columns user_id=customer,item_id=product --json",
    "ease --run runs/small --config shop.yaml --family two_tower",
    resumes=True,
)
@argument(
    "teachers",
    nargs=-1,
    required=True,
    metavar="TEACHER...",
    help="A model family, which is trained first on the same events; bert, which reads the item "
    "texts; tuned_bert, which is also trained on the events; or a run folder, whose model and data "
    "are used. With several teachers the student learns their mean.",
)
@options.run_option(_RUN, "The run folder of the student.")
@config_option()
@option("--overwrite", is_flag=True, help="Replace the run in that folder.")
@option(
    "--no-comparison",
    is_flag=True,
    help="Skip the comparison with the same student trained without a teacher, and the report.",
)
@options.resamples_option
@strategy_options
@data_options()
@feedback_options
def distill(
    teachers: Sequence[str],
    run: str,
    config: str | None,
    overwrite: bool,
    no_comparison: bool,
    resamples: int,
    strategy: StrategyOptions,
    data: DataOptions,
    feedback: FeedbackOptions,
) -> Result:
    """Trains teachers that are given by name, and their student; or resumes a stopped call."""
    from tfrec_meta.workflows.run_settings import student_settings
    from tfrec_meta.workflows.runs import Run

    # Before the student's run begins, whose folder may have the name of a teacher.
    taught = {name: Run.open(name) for name in teachers if (Path(name) / "run.json").is_file()}
    known = (*FAMILIES, *TEXT_TEACHERS)
    for name in teachers:
        if name not in taught and name not in known:
            raise ParameterError(
                f"`teachers`={name!r}; use a run folder or one of {', '.join(known)}.", "teachers"
            )
    given = {**data.settings(), **feedback.settings(), **strategy.settings()}
    first = next((run.settings for run in taught.values()), None)
    with with_config(config, given) as wanted, strategy.errors_of_file():
        this = Run.begin(run, student_settings(wanted, first), overwrite)
    page = this.distillation_page
    if this.is_trained:
        note(f"{this.folder} is already trained; --overwrite trains it again.")
        return Result({"run": str(this.folder), "report": str(page) if page.is_file() else None})
    split = this.split
    note(f"{split.data!r}, {split.description}: {len(split.train_index):,} training events")
    began = time.monotonic()
    with with_group(config, "evaluation", resamples=resamples) as settings:
        found = this.distill(
            [taught.get(name, name) for name in teachers], not no_comparison, settings.resamples
        )
    seconds = time.monotonic() - began
    lines = [f"trained {found.student.family} in {seconds:.1f} s: {this.folder / 'model'}"]
    if found.report is not None:
        lines += [str(found.report), f"report: {page}"]
    lines.append(f"next: tfrec-meta export --run {shlex.quote(str(this.folder))}")
    content = {
        "run": str(this.folder),
        "model": str(this.folder / "model"),
        "seconds": seconds,
        "report": None if found.report is None else str(page),
        "models": None if found.report is None else found.report.as_dict(),
    }
    return Result(content, "\n".join(lines))
