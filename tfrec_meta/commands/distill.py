"""`tfrec-meta distill`: a student of teachers that are named, compared with them.

Imports TensorFlow only when it gets to training.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.commands.options import add_data_options, add_strategy_options, given_settings

Answer = Mapping[str, Any]

_RUN = "runs/student"
_PAGE = "distillation.html"


def distill(options: argparse.Namespace) -> Answer:
    """Trains teachers that are not there yet, and their student; or goes on where it was killed."""
    from tfrec_meta.workflows.runs import Run, merged

    taught = [Run.open(name) for name in options.teachers if (Path(name) / "run.json").is_file()]
    given = given_settings(options)
    if taught:  # whose data it is, unless another is named
        first = taught[0].settings
        given = merged({key: first[key] for key in ("data", "split", "seed")}, given)
    strategy = given.setdefault("strategy", {})
    if strategy.get("family", "two_tower") == "two_tower":
        strategy["model"] = {"negatives": "full", **strategy.get("model", {})}
    run = Run.begin(options.run, given, options.overwrite)
    page = run.folder / _PAGE
    if run.is_trained:
        print(
            f"{run.folder} is trained already; --overwrite would train it again.", file=sys.stderr
        )
        return {"run": str(run.folder), "report": str(page) if page.is_file() else None}
    split = run.split
    events = f"{len(split.train_index):,} events to train on"
    print(f"{split.data!r}, {split.description}: {events}", file=sys.stderr)
    # After the data: what is wrong with that is said at once.
    from tfrec_meta.workflows import distill as distilling

    runs = iter(taught)
    teachers = [
        next(runs).model() if (Path(name) / "run.json").is_file() else name
        for name in options.teachers
    ]
    began = time.monotonic()
    found = distilling.distill(
        split,
        teachers,
        run.strategy,
        compare=not options.no_comparison,
        folder=run.folder / "training",
        resamples=options.resamples,
    )
    found.student.save(run.folder / "model", overwrite=True)
    seconds = time.monotonic() - began
    print(f"trained {found.student.family} in {seconds:.1f} s: {run.folder / 'model'}")
    if found.report is not None:
        found.report.write(page, f"{' + '.join(map(str, options.teachers))} and a student")
        print(found.report)
        print(f"report: {page}")
    print(f"next: tfrec-meta export --run {shlex.quote(str(run.folder))}")
    return {
        "run": str(run.folder),
        "model": str(run.folder / "model"),
        "seconds": seconds,
        "report": None if found.report is None else str(page),
        "models": None if found.report is None else found.report.as_dict(),
    }


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `distill` by the function that the command line makes its commands with."""
    one = command(
        "distill",
        distill,
        "train a student that learns from teachers, and compare it with them",
        "",
        "ials ease --run runs/student",
        "bert --family content_tower --split cold-items --epochs 15",
        "tuned_bert --family content_tower --split cold-items --epochs 15",
        "runs/large --run runs/small",
        "ials --data log.csv --columns user_id=customer,item_id=product --json",
    )
    one.add_argument(
        "teachers",
        nargs="+",
        metavar="TEACHER",
        help="a family that is trained first, on the same events; bert, which reads the items' "
        "texts; tuned_bert, which has learned from the events what texts go together; or a run's "
        "folder, whose model and data are taken; of several the student learns their mean",
    )
    one.add_argument(
        "--run", default=_RUN, metavar="FOLDER", help=f"of the student (default {_RUN})"
    )
    one.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    one.add_argument(
        "--no-comparison",
        action="store_true",
        help="leave out the same student without a teacher, and the report",
    )
    one.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="of the intervals (default 1000)"
    )
    add_strategy_options(one)
    add_data_options(one)
