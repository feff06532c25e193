"""`tfrec-meta studies`: what the searches so far have found, and the upkeep of their memory.

Imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrec_meta.io.files import atomic_file

if TYPE_CHECKING:
    import pyarrow as pa

    from tfrec_meta.tuning.studies.records import StudyRecord
    from tfrec_meta.tuning.studies.store import StudyStore

Answer = Mapping[str, Any]

_FORMATS = (".json", ".parquet", ".csv")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_ID = 8  # characters of an id that are shown at least
_IDS = "their ids, or how these begin (default: all studies)"


# --- Commands --------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> Answer:
    store = _store(options)
    studies = store.studies()
    if not studies:
        print(f"no studies in {store.folder}.")
    rows = []
    for study in studies:
        best = next(iter(study.ranked()), None)
        failed = sum(trial["status"] == "failed" for trial in study.trials)
        rows.append(
            {
                "study_id": study.study_id,
                "created": study.created,
                "data": study.data["name"],
                "objective": study.objective,
                "direction": study.direction,
                "protocol": study.protocol,
                "oracle": study.oracle,
                "source": study.source,
                "trials": len(study.trials),
                "failed": failed,
                "best_trial": best and best["trial_id"],
                "best_value": best and best["value"],
            }
        )
    if rows:
        ids = _short_ids([row["study_id"] for row in rows])
        _print_table(
            ("study", "created", "data", "objective", "oracle", "trials", "failed", "best"),
            [
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
            ],
        )
    return {"store": str(store.folder), "studies": rows}


def _show(options: argparse.Namespace) -> Answer:
    store = _store(options)
    study = store.study(options.study)
    alike = [other.study_id for other in store.comparable(study.header())]
    for name, value in _facts(study, alike):
        print(f"{name:<12}{value}")
    ranked = study.ranked()
    others = [trial for trial in study.trials if trial["value"] is None]
    shown = [*ranked, *others][: options.top]
    if shown:
        print()
        _print_table(
            ("trial", "value", "status", study.budget_unit, "seconds", "suggested by", "expected"),
            [
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
            ],
        )
    if len(shown) < len(study.trials):
        print(f"and {len(study.trials) - len(shown)} more (--top)")
    for trial in ranked[:1]:
        print(f"\nthe best, {trial['trial_id']}:")
        for name, value in trial["values"].items():
            print(f"  {name} = {json.dumps(value)}")
    return {"store": str(store.folder), "comparable": alike, **_whole(study)}


def _export(options: argparse.Namespace) -> Answer:
    store, path = _store(options), Path(options.file)
    if path.suffix not in _FORMATS:
        raise ValueError(f"{path} ends in none of {', '.join(_FORMATS)}, which say the format.")
    studies = _chosen(store, options.studies)
    if not studies:
        raise ValueError(f"{store.folder} has no studies; there is nothing to export.")
    with atomic_file(path) as new:
        if path.suffix == ".json":
            whole = {"studies": [_whole(study) for study in studies]}
            new.write_text(json.dumps(whole, indent=1), encoding="utf-8")
        elif path.suffix == ".parquet":
            from pyarrow import parquet

            parquet.write_table(_table(studies, lists=True), new)
        else:
            from pyarrow import csv

            csv.write_csv(_table(studies, lists=False), new)
    trials = sum(len(study.trials) for study in studies)
    print(f"exported {_count(len(studies), 'study')} with {_count(trials, 'trial')}: {path}")
    return {"file": str(path), "studies": len(studies), "trials": trials}


def _import(options: argparse.Namespace) -> Answer:
    store = _store(options)
    known = {study.study_id: study for study in store.studies()}
    done = []
    for header, trials in _read(Path(options.source), options):
        header = header | _told(options, header)
        before = known.get(header["study_id"])
        old = {trial["trial_id"]: trial for trial in before.trials} if before else {}
        new = [trial for trial in trials if old.get(trial["trial_id"]) != trial]
        if new or before is None or before.header() != header:
            store.append_study(header, new)
        done.append({"study_id": header["study_id"], "trials": len(trials), "new": len(new)})
        name, told = header["data"]["name"], _count(len(trials), "trial")
        print(f"{header['study_id']}  {name}: {told}, {len(new)} of them new")
    print(f"next: tfrec-meta studies list{_store_option(options)}")
    return {"store": str(store.folder), "studies": done}


def _prune(options: argparse.Namespace) -> Answer:
    store, keep = _store(options), options.keep_best
    if not options.studies and options.older_than is None and keep is None:
        raise ValueError("Name the studies, or say --older-than or --keep-best; nothing was done.")
    studies = _chosen(store, options.studies)
    if options.older_than is not None:
        until = datetime.now(UTC) - options.older_than
        studies = [study for study in studies if study.last_updated() < until]
    if keep is not None:
        studies = [study for study in studies if _surplus(study, keep)]
    trials = sum(len(study.trials if keep is None else _surplus(study, keep)) for study in studies)
    removed = {"studies": len(studies) if keep is None else 0, "trials": trials}
    if not studies:
        print("nothing to remove.")
        return removed
    of_studies, of_trials = _count(len(studies), "study"), _count(trials, "trial")
    what = f"{of_studies} with {of_trials}" if keep is None else f"{of_trials} of {of_studies}"
    if not options.yes and not _agreed(what):
        print("nothing was removed.")
        return {"studies": 0, "trials": 0}
    for study in studies:
        store.remove(study, None if keep is None else _surplus(study, keep))
    print(f"removed {what}.")
    print(f"next: tfrec-meta studies compact{_store_option(options)}    (frees the space)")
    return removed


def _compact(options: argparse.Namespace) -> Answer:
    store = _store(options)
    before = store.path.stat().st_size if store.path.exists() else 0
    lines = store.compact()
    after = store.path.stat().st_size if store.path.exists() else 0
    print(f"{store.path}: {_count(lines, 'line')} removed, {before:,} bytes before, {after:,} now.")
    return {"store": str(store.folder), "lines": lines, "before": before, "after": after}


# --- What the commands share -----------------------------------------------------------------


def _store(options: argparse.Namespace) -> StudyStore:
    from tfrec_meta.tuning.studies.store import StudyStore

    return StudyStore(options.store)


def _store_option(options: argparse.Namespace) -> str:
    return f" --store {shlex.quote(options.store)}" if options.store else ""


def _chosen(store: StudyStore, names: Sequence[str]) -> list[StudyRecord]:
    """The studies of these beginnings of ids, each once; all if none is named."""
    if not names:
        return store.studies()
    found = [store.study(name) for name in names]
    return list({study.study_id: study for study in found}.values())


def _whole(study: StudyRecord) -> dict[str, Any]:
    return {**study.header(), "trials": list(study.trials)}


def _surplus(study: StudyRecord, keep: int) -> list[str]:
    """The ids of all trials but the best."""
    best = {trial["trial_id"] for trial in study.ranked()[:keep]}
    return [trial["trial_id"] for trial in study.trials if trial["trial_id"] not in best]


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise ValueError(f"This would remove {what}; --yes does it without asking.")
    return input(f"Remove {what}? [y/N] ").strip().lower() in ("y", "yes")


def _read(path: Path, options: argparse.Namespace) -> Iterable[tuple[dict[str, Any], list[Any]]]:
    """Headers and trials of whatever is there."""
    from tfrec_meta.tuning.studies.keras_tuner_import import read_keras_tuner
    from tfrec_meta.tuning.studies.store import StudyStore
    from tfrec_meta.tuning.studies.tfx_import import read_tfx

    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.is_file():
        return _read_export(path)
    if (path / "studies.jsonl").is_file():
        studies = StudyStore(path).studies()
        return [(study.header(), list(study.trials)) for study in studies]
    about = {"objective": options.objective, "epochs": options.epochs}
    if (path / "oracle.json").is_file():
        return [read_keras_tuner(path, **about)]
    return [read_tfx(path, direction=options.direction, **about)]


def _read_export(path: Path) -> list[tuple[dict[str, Any], list[Any]]]:
    from tfrec_meta.tuning.studies.migration import migrated
    from tfrec_meta.tuning.studies.records import record_problem

    try:
        studies = json.loads(path.read_text(encoding="utf-8"))["studies"]
        found = [(migrated(study), list(study["trials"])) for study in studies]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no JSON that `tfrec-meta studies export` wrote; Parquet and CSV are for "
            "analysis, and are not read again."
        ) from error
    for header, trials in found:
        del header["trials"]
        for record in (header, *trials):
            fault = (
                record_problem(record) if isinstance(record, dict) else f"{record!r} is no object"
            )
            if fault is None and record["study_id"] != header["study_id"]:
                fault = f"`study_id`={record['study_id']!r} in study {header['study_id']!r}"
            if fault is not None:
                raise ValueError(f"{path}: {fault}. Nothing was imported.")
    return found


def _told(options: argparse.Namespace, header: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a header that the command line says."""
    given = {
        "protocol": options.protocol,
        "space_version": options.space_version,
        "data": {
            **header["data"],
            **({"name": options.name} if options.name else {}),
            **({"fingerprint": options.fingerprint} if options.fingerprint else {}),
        },
    }
    return {name: value for name, value in given.items() if value is not None}


def _table(studies: Sequence[StudyRecord], *, lists: bool) -> pa.Table:
    """A row a trial, with what is known of its study; `lists`: curves as such, else as JSON."""
    import pyarrow as pa

    pairs = [(study, trial) for study in studies for trial in study.trials]
    of_study = ("study_id", "objective", "direction", "protocol", "budget_unit", "oracle", "source")
    of_trial = ("trial_id", "value", "status", "error", "budget", "seconds", "seed", "ended")
    columns: dict[str, Any] = {
        **{name: [getattr(study, name) for study, _ in pairs] for name in of_study},
        "data": [study.data["name"] for study, _ in pairs],
        "fingerprint": [study.data["fingerprint"] for study, _ in pairs],
        **{name: [trial[name] for _, trial in pairs] for name in of_trial},
        "suggested_by": [trial["suggested_by"] for _, trial in pairs],
    }
    for part in ("mean", "std"):
        told = [trial["expected"] for _, trial in pairs]
        columns[f"expected_{part}"] = [one and float(one[part]) for one in told]
    curves = [[float(value) for value in trial["curve"]] for _, trial in pairs]
    columns["curve"] = (
        pa.array(curves, pa.list_(pa.float64())) if lists else [json.dumps(one) for one in curves]
    )
    names = {name: None for _, trial in pairs for name in trial["values"]}
    for name in names:
        columns[f"values/{name}"] = [trial["values"].get(name) for _, trial in pairs]
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: Any) -> pa.Array:
    """Text where the values are of several types, as of studies whose spaces differ."""
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return values
    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        column = pa.array([None if one is None else json.dumps(one) for one in values])
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _facts(study: StudyRecord, alike: Collection[str]) -> list[tuple[str, str]]:
    by_status: dict[str, int] = {}
    for trial in study.trials:
        by_status[trial["status"]] = by_status.get(trial["status"], 0) + 1
    counts = ", ".join(f"{count} {status}" for status, count in by_status.items())
    data = study.data
    told = [data["name"], data["description"], data["fingerprint"] and f"({data['fingerprint']})"]
    seed = "" if study.seed is None else f", seed {study.seed}"
    return [
        ("study", study.study_id),
        ("data", " ".join(filter(None, told))),
        ("objective", f"{study.objective}, {study.direction}, by {study.protocol}"),
        ("budget", f"{study.budget} ({study.budget_unit})"),
        ("oracle", f"{study.oracle}{seed}"),
        ("space", f"{_count(len(study.space), 'hyperparameter')}, version {study.space_version}"),
        ("source", study.source),
        ("created", study.created),
        ("trials", counts or "none"),
        ("comparable", _count(len(alike), "study")),
    ]


def _short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Beginnings by which `study` finds them, of one length."""
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


def _print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    for row in cells:
        print("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip())


# --- The command line ------------------------------------------------------------------------


def add_group(commands: Any) -> Any:
    """Where the commands of `tfrec-meta studies` go.

    Args:
        commands: the subparsers of `tfrec-meta`.
    """
    text = "look at the studies that tuning remembers, and keep them in order"
    group = commands.add_parser(
        "studies",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog="examples:\n  tfrec-meta studies list\n  tfrec-meta studies prune --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return group.add_subparsers(metavar="COMMAND", required=True)


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `list`, `show`, `export`, `import`, `prune` and `compact`.

    Args:
        command: command(name, run, text, *examples) makes the parser of one.
    """

    def studies(name: str, run: Any, text: str, *examples: str) -> argparse.ArgumentParser:
        one = command(name, run, text, *examples)
        one.add_argument(
            "--store",
            metavar="FOLDER",
            help="instead of $TFREC_META_STUDIES or the user's data folder",
        )
        return one

    studies("list", _list, "list the studies, one a line", "", "--store shared/studies --json")

    one = studies("show", _show, "show one study and its best trials", "3f2a", "3f2a --top 50")
    one.add_argument("study", metavar="STUDY", help="its id, or how that begins")
    one.add_argument(
        "--top", type=_whole_number, default=10, metavar="N", help="trials shown (default 10)"
    )

    one = studies(
        "export",
        _export,
        "write studies to a file: all of them as JSON, a row a trial as Parquet or CSV",
        "studies.json",
        "trials.parquet 3f2a 77b0",
    )
    one.add_argument("file", metavar="FILE", help="ends in .json, .parquet or .csv")
    one.add_argument("studies", nargs="*", metavar="STUDY", help=_IDS)

    one = studies(
        "import",
        _import,
        "take in studies from an export, another store, a KerasTuner project or a TFX Tuner",
        "studies.json",
        "shared/studies",
        "runs/keras_project --name shop --protocol leave-last-out",
        "pipeline/root/Tuner/tuner_results/7 --objective val_loss --direction min",
    )
    one.add_argument("source", metavar="PATH", help="a JSON export, or a folder")
    group = one.add_argument_group("what the files may not tell")
    group.add_argument("--objective", metavar="NAME", help="the metric that was searched for")
    group.add_argument("--direction", choices=("max", "min"), help="which of it is better")
    group.add_argument("--epochs", type=_whole_number, metavar="N", help="of a full trial")
    group.add_argument("--name", help="of the data")
    group.add_argument("--fingerprint", metavar="TEXT", help="of the data")
    group.add_argument("--protocol", metavar="TEXT", help="how validation was held out")
    group.add_argument("--space-version", type=int, metavar="N", help="of the strategy space")

    one = studies(
        "prune",
        _prune,
        "remove studies, or all but their best trials",
        "3f2a 77b0",
        "--older-than 90d --yes",
        "--keep-best 20              (of each study; the studies stay)",
    )
    one.add_argument("studies", nargs="*", metavar="STUDY", help=_IDS)
    one.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="only studies whose last trial ended so long ago: 12h, 90d, 8w",
    )
    one.add_argument(
        "--keep-best",
        type=_whole_number,
        metavar="N",
        help="remove trials, not studies: all but the N best of each study",
    )
    one.add_argument("--yes", action="store_true", help="do not ask")

    studies("compact", _compact, "free the space of what was removed or written anew", "")


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,5})([hdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no age, as 12h, 90d or 8w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
