"""`tfrec-meta studies`: lists, shows and maintains the stored studies of earlier searches.

Imports no TensorFlow.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfrec_meta.commands import study_files
from tfrec_meta.commands.base import LazyGroup, Result, argument, command, option
from tfrec_meta.commands.summaries import STUDIES, SUMMARIES
from tfrec_meta.commands.text_tables import text_table
from tfrec_meta.commands.values import FILE, FOLDER

if TYPE_CHECKING:
    from tfrec_meta.tuning.studies.records import StudyRecord
    from tfrec_meta.tuning.studies.store import StudyStore

# The values of `ValidationProtocol`, whose import would load pyarrow before a command runs.
VALIDATION_PROTOCOLS = (
    "random",
    "time",
    "leave-last-out",
    "cold-users",
    "cold-items",
    "domain",
    "given",
    "unknown",
)
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_ID = 8  # least number of shown characters of an id
_EXAMPLES = """\
examples:
  tfrec-meta studies list
  tfrec-meta studies prune --help"""


class Age(click.ParamType):
    """A length of time: 12h, 90d or 8w."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        found = re.fullmatch(r"([0-9]{1,5})([hdw])", value)
        if not found:
            self.fail(f"{value!r} is not an age, as in 12h, 90d or 8w", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


_store_option = option(
    "--store",
    type=FOLDER,
    metavar="FOLDER",
    help="Store to use instead of $TFREC_META_STUDIES or the user's data folder.",
)
_ids = partial(
    argument,
    "ids",
    nargs=-1,
    metavar="[STUDY]...",
    help="Their ids, or the beginnings of their ids (default: all studies).",
)
_AT_LEAST_ONE = click.IntRange(min=1)
_fact = partial(option, section="Information that the files may lack")


# --- Commands ---------------------------------------------------------------------------------


@command("studies list", "", "--store shared/studies --json")
@_store_option
def list_studies(store: str | None) -> Result:
    """Lists the studies with their best values."""
    opened = _open(store)
    rows = [_row(study) for study in opened.studies()]
    content = {"store": str(opened.folder), "studies": rows}
    if not rows:
        return Result(content, f"no studies in {opened.folder}.")
    ids = _short_ids([row["study_id"] for row in rows])
    head = ("study", "created", "data", "objective", "oracle", "trials", "failed", "best")
    cells = [
        (
            ids[row["study_id"]],
            row["created"][:10],
            row["data"],
            row["objective"],
            row["oracle"],
            row["trials"],
            row["failed"],
            _figure(row["best_value"]),
        )
        for row in rows
    ]
    return Result(content, "\n".join(text_table(head, cells)))


@command("studies show", "3f2a", "3f2a --top 50")
@argument("study_id", metavar="STUDY", help="Its id, or the beginning of its id.")
@option(
    "--top",
    type=_AT_LEAST_ONE,
    default=10,
    metavar="N",
    show_default="10",
    help="Number of trials to show.",
)
@_store_option
def show(study_id: str, top: int, store: str | None) -> Result:
    """Shows the facts about a study, and its best trials."""
    opened = _open(store)
    study = opened.study(study_id)
    comparable = [other.study_id for other in opened.comparable(study.header())]
    lines = [f"{name:<12}{value}" for name, value in _facts(study, comparable)]
    ranked = study.ranked()
    others = [trial for trial in study.trials if trial["value"] is None]
    shown = [*ranked, *others][:top]
    if shown:
        unit = study.budget_unit
        head = ("trial", "value", "status", unit, "seconds", "suggested by", "expected")
        cells = [
            (
                trial["trial_id"],
                _figure(trial["value"]),
                trial["status"],
                trial["budget"],
                f"{trial['seconds']:.1f}",
                trial["suggested_by"] or "",
                _expectation(trial["expected"]),
            )
            for trial in shown
        ]
        lines += ["", *text_table(head, cells)]
    if len(shown) < len(study.trials):
        lines.append(f"and {len(study.trials) - len(shown)} more (--top)")
    for trial in ranked[:1]:
        lines += ["", f"best trial, {trial['trial_id']}:"]
        lines += [f"  {name} = {json.dumps(value)}" for name, value in trial["values"].items()]
    record = study_files.as_record(study)
    content = {"store": str(opened.folder), "comparable": comparable, **record}
    return Result(content, "\n".join(lines))


@command(
    "studies export",
    "studies.json",
    "trials.parquet 3f2a 77b0",
    details="Parquet and CSV files have one row per trial.",
)
@argument("file", type=FILE, metavar="FILE", help="Its name ends in .json, .parquet or .csv.")
@_ids()
@_store_option
def export(file: str, ids: Sequence[str], store: str | None) -> Result:
    """Writes studies to a file."""
    opened, path = _open(store), Path(file)
    if path.suffix not in study_files.FORMATS:
        endings = ", ".join(study_files.FORMATS)
        raise ValueError(f"FILE={file!r}; use a name that ends in one of {endings}.")
    studies = _chosen(opened, ids)
    if not studies:
        raise ValueError(f"{opened.folder} has no studies; there is nothing to export.")
    study_files.write(studies, path)
    trials = sum(len(study.trials) for study in studies)
    text = f"exported {_count(len(studies), 'study')} with {_count(trials, 'trial')}: {path}"
    return Result({"file": str(path), "studies": len(studies), "trials": trials}, text)


@command(
    "studies import",
    "studies.json",
    "shared/studies",
    "runs/keras_project --name shop --protocol leave-last-out",
    "pipeline/root/Tuner/tuner_results/7 --objective val_loss --direction min",
)
@argument("source", type=click.Path(), metavar="PATH", help="A JSON export, or a folder.")
@_store_option
@_fact("--objective", metavar="NAME", help="The metric that was searched.")
@_fact(
    "--direction",
    type=click.Choice(("max", "min")),
    help="Whether its largest or its smallest value is best.",
)
@_fact("--epochs", type=_AT_LEAST_ONE, metavar="N", help="Epochs of a full trial.")
@_fact("--name", metavar="TEXT", help="Name of the data.")
@_fact("--fingerprint", metavar="TEXT", help="Fingerprint of the data.")
@_fact(
    "--protocol",
    type=click.Choice(VALIDATION_PROTOCOLS),
    help="How validation events were chosen.",
)
@_fact("--space-version", type=int, metavar="N", help="Version of the search space.")
def import_studies(
    source: str,
    store: str | None,
    objective: str | None,
    direction: str | None,
    epochs: int | None,
    **facts: Any,
) -> Result:
    """Imports studies; trials that the store already has are not written again."""
    opened = _open(store)
    known = {study.study_id: study for study in opened.studies()}
    done, lines = [], []
    found = study_files.read(Path(source), objective=objective, direction=direction, epochs=epochs)
    for own_header, trials in found:
        header = study_files.with_given_facts(own_header, **facts)
        before = known.get(header["study_id"])
        old = {trial["trial_id"]: trial for trial in before.trials} if before else {}
        new = [trial for trial in trials if old.get(trial["trial_id"]) != trial]
        if new or before is None or before.header() != header:
            opened.append_study(header, new)
        done.append({"study_id": header["study_id"], "trials": len(trials), "new": len(new)})
        count = f"{_count(len(trials), 'trial')}, {len(new)} of them new"
        lines.append(f"{header['study_id']}  {header['data']['name']}: {count}")
    lines.append(f"next: tfrec-meta studies list{_store_words(store)}")
    return Result({"store": str(opened.folder), "studies": done}, "\n".join(lines))


@command(
    "studies prune",
    "3f2a 77b0",
    "--older-than 90d --yes",
    "--keep-best 20              (of each study; the studies stay)",
)
@_ids()
@option(
    "--older-than",
    type=Age(),
    metavar="AGE",
    help="Only studies whose last trial ended longer ago than this: 12h, 90d, 8w.",
)
@option(
    "--keep-best",
    type=_AT_LEAST_ONE,
    metavar="N",
    help="Remove trials instead of studies: all but the N best of each study.",
)
@option("--yes", is_flag=True, help="Remove without a question.")
@_store_option
def prune(
    ids: Sequence[str],
    older_than: timedelta | None,
    keep_best: int | None,
    yes: bool,
    store: str | None,
) -> Result:
    """Removes studies or trials, after a question."""
    opened = _open(store)
    if not ids and older_than is None and keep_best is None:
        raise ValueError("Give the studies, --older-than or --keep-best; nothing was removed.")
    studies = _chosen(opened, ids)
    if older_than is not None:
        until = datetime.now(UTC) - older_than
        studies = [study for study in studies if study.last_updated() < until]
    if keep_best is not None:
        studies = [study for study in studies if _surplus(study, keep_best)]
    trials = sum(
        len(study.trials if keep_best is None else _surplus(study, keep_best)) for study in studies
    )
    removed = {"studies": len(studies) if keep_best is None else 0, "trials": trials}
    if not studies:
        return Result(removed, "nothing to remove.")
    of_studies, of_trials = _count(len(studies), "study"), _count(trials, "trial")
    what = f"{of_trials} of {of_studies}" if keep_best else f"{of_studies} with {of_trials}"
    if not yes and not _agreed(what):
        return Result({"studies": 0, "trials": 0}, "nothing was removed.")
    for study in studies:
        opened.remove(study, None if keep_best is None else _surplus(study, keep_best))
    after = f"next: tfrec-meta studies compact{_store_words(store)}    (frees the space)"
    return Result(removed, f"removed {what}.\n{after}")


@command("studies compact", "")
@_store_option
def compact(store: str | None) -> Result:
    """Rewrites the file of the store without removed and replaced records."""
    opened = _open(store)
    before = opened.path.stat().st_size if opened.path.exists() else 0
    lines = opened.compact()
    after = opened.path.stat().st_size if opened.path.exists() else 0
    removed = _count(lines, "line")
    text = f"{opened.path}: {removed} removed, {before:,} bytes before, {after:,} now."
    content = {"store": str(opened.folder), "lines": lines, "before": before, "after": after}
    return Result(content, text)


_COMMANDS = {
    "list": list_studies,
    "show": show,
    "export": export,
    "import": import_studies,
    "prune": prune,
    "compact": compact,
}
studies = LazyGroup(
    "studies",
    help=SUMMARIES["studies"],
    short_help=SUMMARIES["studies"],
    sections={"Commands": STUDIES},
    find=_COMMANDS.__getitem__,
    examples=_EXAMPLES,
)


# --- What the commands share ------------------------------------------------------------------


def _open(folder: str | None) -> StudyStore:
    from tfrec_meta.tuning.studies.store import StudyStore

    return StudyStore(folder)


def _store_words(folder: str | None) -> str:
    return f" --store {shlex.quote(folder)}" if folder else ""


def _chosen(store: StudyStore, ids: Sequence[str]) -> list[StudyRecord]:
    """The studies with these ids or beginnings of ids, each once; all studies without an id."""
    if not ids:
        return store.studies()
    found = [store.study(one) for one in ids]
    return list({study.study_id: study for study in found}.values())


def _surplus(study: StudyRecord, keep: int) -> list[str]:
    """The ids of all trials but the best."""
    best = {trial["trial_id"] for trial in study.ranked()[:keep]}
    return [trial["trial_id"] for trial in study.trials if trial["trial_id"] not in best]


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise ValueError(f"This would remove {what}; --yes removes it without a question.")
    return input(f"Remove {what}? [y/N] ").strip().lower() in ("y", "yes")


# --- Text -------------------------------------------------------------------------------------


def _row(study: StudyRecord) -> dict[str, Any]:
    from tfrec_meta.tuning.studies.records import TrialStatus

    best = next(iter(study.ranked()), None)
    return {
        "study_id": study.study_id,
        "created": study.created,
        "data": study.data["name"],
        "objective": study.objective,
        "direction": study.direction,
        "protocol": study.protocol,
        "oracle": study.oracle,
        "source": study.source,
        "trials": len(study.trials),
        "failed": sum(trial["status"] == TrialStatus.FAILED for trial in study.trials),
        "best_trial": best and best["trial_id"],
        "best_value": best and best["value"],
    }


def _facts(study: StudyRecord, comparable: Collection[str]) -> list[tuple[str, str]]:
    by_status: dict[str, int] = {}
    for trial in study.trials:
        by_status[trial["status"]] = by_status.get(trial["status"], 0) + 1
    counts = ", ".join(f"{count} {status}" for status, count in by_status.items())
    data = study.data
    about = [data["name"], data["description"], data["fingerprint"] and f"({data['fingerprint']})"]
    seed = "" if study.seed is None else f", seed {study.seed}"
    return [
        ("study", study.study_id),
        ("data", " ".join(filter(None, about))),
        ("objective", f"{study.objective}, {study.direction}, by {study.protocol}"),
        ("budget", f"{study.budget} ({study.budget_unit})"),
        ("oracle", f"{study.oracle}{seed}"),
        ("space", f"{_count(len(study.space), 'hyperparameter')}, version {study.space_version}"),
        ("source", study.source),
        ("created", study.created),
        ("trials", counts or "none"),
        ("comparable", _count(len(comparable), "study")),
    ]


def _short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Beginnings of ids, all of the shortest length at which they differ."""
    size = _ID
    while len({one[:size] for one in ids}) < len(ids):
        size += 1
    return {one: one[:size] for one in ids}


def _expectation(expected: Mapping[str, float] | None) -> str:
    return f"{expected['mean']:.4f} ± {expected['std']:.4f}" if expected else ""


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(number: int, what: str) -> str:
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else many}"
