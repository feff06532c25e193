"""`tfrec-meta cold-start`: how good a run's model is for newcomers, by how many events it is given.

Imports TensorFlow only when it gets to the model.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfrec_meta.commands.options import names

Answer = Mapping[str, Any]

_RUN = "runs/newcomers"
_PAGE = "cold_start.html"
_SHOTS = "0,1,3,5,10,20"


def cold_start(options: argparse.Namespace) -> Answer:
    """Evaluates the run's model on its test users, prints a table and writes the page."""
    from tfrec_meta.data.protocols import SplitProtocol
    from tfrec_meta.workflows.runs import Run

    run = Run.open(options.run)
    protocol = run.settings["split"]["protocol"]
    if protocol != SplitProtocol.COLD_USERS:
        again = f"tfrec-meta train --run {_RUN} --family meta_learned --split cold-users"
        raise ValueError(
            f"{run.folder} has the split {protocol!r}, whose test users are no newcomers. Train "
            f"with another: {again}"
        )
    shots = _numbers(options.shots)
    baselines = options.baselines
    if baselines is not None:
        baselines = [] if baselines == "none" else names(baselines)
    model = run.model()
    from tfrec_meta.workflows import cold_start as protocol_of_users

    if not len(run.split.validation_index):
        print(
            "There are no validation users to choose the baselines' settings by; "
            "--validation 0.1 of `tfrec-meta train` holds some out.",
            file=sys.stderr,
        )
    found = protocol_of_users.evaluate_cold_start(
        model,
        run.split,
        shots=shots,
        k=options.k,
        metric=options.metric,
        baselines=baselines,
        later=options.later,
        resamples=options.resamples,
    )
    page = found.write(
        run.folder / _PAGE if options.to is None else options.to,
        f"Newcomers: {model.family} on {run.split.data.name}",
    )
    print(found)
    print(f"report: {page}")
    print(f"next: tfrec-meta export --run {shlex.quote(str(run.folder))}")
    return {"run": str(run.folder), "report": str(page), **found.as_dict()}


def _numbers(text: str) -> Sequence[int]:
    try:
        return [int(word) for word in names(text)]
    except ValueError:
        raise ValueError(
            f"`shots`={text!r}; give numbers of events with commas: {_SHOTS}"
        ) from None


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `cold-start` by the function that the command line makes its commands with."""
    one = command(
        "cold-start",
        cold_start,
        "draw how good a run's model is for newcomers, by how many of their events it knows",
        "",
        "--run runs/newcomers --shots 1,5,20 --baselines ials,popularity",
        "--to newcomers.html --json",
    )
    one.description = (
        f"{one.description} The run is one of new users, as of:\n\n  tfrec-meta train --run {_RUN} "
        "--family meta_learned --split cold-users --validation 0.1"
    )
    one.add_argument(
        "--run", default=_RUN, metavar="FOLDER", help=f"the run folder (default {_RUN})"
    )
    one.add_argument(
        "--shots", default=_SHOTS, metavar="NUMBERS", help=f"of events (default {_SHOTS})"
    )
    one.add_argument("-k", type=int, default=10, help="length of the lists (default 10)")
    one.add_argument("--metric", default="ndcg", help="ndcg (default), recall, hr, map, mrr or auc")
    one.add_argument(
        "--baselines",
        metavar="NAMES",
        help="of ials, ease, item_knn, popularity, with commas; or none (default: all)",
    )
    one.add_argument(
        "--later",
        type=int,
        default=10,
        metavar="N",
        help="events beyond the most of --shots that a user needs (default 10)",
    )
    one.add_argument(
        "--resamples", type=int, default=1000, metavar="N", help="of the intervals (default 1000)"
    )
    one.add_argument("--to", metavar="FILE", help=f"default: {_PAGE} in the run folder")
