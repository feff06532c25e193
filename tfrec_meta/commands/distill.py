"""`tfrec-meta distill`: trains a student of teachers, and compares it with them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, argument, command, note, option
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
_PAGE = "distillation.html"
TEXT_TEACHERS = ("bert", "tuned_bert")  # their own modules import TensorFlow


@command(
    "distill",
    "ials ease --run runs/student",
    "bert --family content_tower --split cold-items --epochs 15",
    "tuned_bert --family content_tower --split cold-items --epochs 15",
    "runs/large --run runs/small",
    "ials --data log.csv --columns user_id=customer,item_id=product --json",
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
    overwrite: bool,
    no_comparison: bool,
    resamples: int,
    strategy: StrategyOptions,
    data: DataOptions,
    feedback: FeedbackOptions,
) -> Result:
    """Trains teachers that are given by name, and their student; or resumes a stopped call."""
    from tfrec_meta.workflows.run_settings import merged
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
    if taught:  # the student takes the data of the first one, unless other data is given
        first = next(iter(taught.values())).settings
        given = merged({key: first[key] for key in ("data", "feedback", "split", "seed")}, given)
    record = given.setdefault("strategy", {})
    if record.get("family", "two_tower") == "two_tower":
        record["model"] = {"negatives": "full", **record.get("model", {})}
    with strategy.errors_of_file():
        this = Run.begin(run, given, overwrite)
    page = this.folder / _PAGE
    if this.is_trained:
        note(f"{this.folder} is already trained; --overwrite trains it again.")
        return Result({"run": str(this.folder), "report": str(page) if page.is_file() else None})
    split = this.split
    note(f"{split.data!r}, {split.description}: {len(split.train_index):,} training events")
    # TensorFlow is imported after the data is read: errors in the data are reported right away.
    from tfrec_meta.workflows.distill import distill as train_student

    began = time.monotonic()
    found = train_student(
        split,
        [taught[name].model() if name in taught else name for name in teachers],
        this.strategy,
        compare=not no_comparison,
        folder=this.folder / "training",
        resamples=resamples,
    )
    found.student.save(this.folder / "model", overwrite=True)
    seconds = time.monotonic() - began
    lines = [f"trained {found.student.family} in {seconds:.1f} s: {this.folder / 'model'}"]
    if found.report is not None:
        found.report.write(page, f"{' + '.join(teachers)} and a student")
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
