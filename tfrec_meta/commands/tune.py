"""`tfrec-meta tune`: the search for a strategy, whose best one `train` takes.

Imports TensorFlow only when it gets to searching.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.commands.options import add_data_options, given_settings, names

Answer = Mapping[str, Any]

_FOLDER = "runs/study"
_TOLD = ("trial_id", "status", "error", "suggested_by", "expected", "seconds", "epochs", "values")
_DATA = ("columns", "users", "items", "time_unit", "bad_rows", "split", "train", "validation")


def tune(options: argparse.Namespace) -> Answer:
    """Searches, or goes on with a search that was stopped."""
    from tfrec_meta.workflows.runs import Run, merged, whole_settings

    source = options.source
    is_run = len(source) == 1 and (Path(source[0]) / "run.json").is_file()
    # As `train` calls them. The seed of a run is its own: its split depends on it.
    asked = {"data": source, "folder": options.data_folder, "family": None}
    asked |= {"data": None, "seed": None} if is_run else {}
    given = given_settings(argparse.Namespace(**{**vars(options), **asked}))
    if is_run:
        _refuse_data_options(options)
        run = Run.open(source[0])
        record = merged(run.settings["strategy"], given.get("strategy", {}))
    else:
        run = Run(Path(_FOLDER).parent, whole_settings(given))
        record = run.settings["strategy"]
    folder = Path(options.folder or (run.folder / "study" if is_run else _FOLDER))
    split = run.split
    events = f"{len(split.train_index):,} events to train on"
    print(f"{split.data!r}, {split.description}: {events}", file=sys.stderr)
    # After the data: what is wrong with that is said at once.
    from tfrec_meta.strategy import Strategy
    from tfrec_meta.workflows import tune as strategy_search

    study = strategy_search.tune(
        split,
        options.trials,
        strategy=Strategy.from_dict(record),
        families=names(options.families) or None,
        oracle=options.oracle,
        fixed=dict(options.fixed or ()),
        folder=folder,
        store=options.store,
        remember=not options.no_memory,
        description=options.description,
        similarity=names(options.similarity),
        seed=run.settings["seed"] if options.seed is None else options.seed,
        trial_seconds=options.trial_seconds,
    )
    best = Path(options.to or folder / "best_strategy.json")
    best.parent.mkdir(parents=True, exist_ok=True)
    best.write_text(json.dumps(study.best_strategy.as_dict(), indent=1) + "\n", encoding="utf-8")
    print(study)
    print(f"best strategy: {best}")
    print(f"report: {folder / 'report.html'}")
    words = ["--run", "runs/tuned", *_train_words(run.settings), "--strategy", str(best)]
    print(f"next: tfrec-meta train {shlex.join(words)}")
    return {
        "folder": str(folder),
        "study_id": study.header["study_id"],
        "objective": study.objective,
        "best_value": study.best_value,
        "best_strategy": study.best_strategy.as_dict(),
        "strategy_file": str(best),
        "report": str(folder / "report.html"),
        "trials": [
            {name: trial[name] for name in _TOLD} | {"value": record["value"]}
            for trial, record in _pairs(study)
        ],
    }


def _refuse_data_options(options: argparse.Namespace) -> None:
    given = [name for name in (*_DATA, "data_folder") if getattr(options, name) is not None]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(
            f"{options.source[0]} has data and a split of its own. Leave out {flags}, or name the "
            "data in its stead."
        )


def _pairs(study: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    records = {record["trial_id"]: record for record in study.records}
    return ((trial, records[trial["trial_id"]]) for trial in study.trials)


def _train_words(settings: Mapping[str, Any]) -> list[str]:
    """The options with which `train` takes the same data and split; none for the defaults."""
    from tfrec_meta.workflows.runs import DEFAULTS, fill_shares

    data, split, words = settings["data"], settings["split"], []
    if data["source"] != DEFAULTS["data"]["source"]:
        words += ["--data", *data["source"]]
    if data["columns"]:
        words += ["--columns", ",".join(f"{o}={t}" for o, t in data["columns"].items())]
    for name in ("folder", "users", "items", "time_unit", "bad_rows"):
        if data[name] != DEFAULTS["data"][name]:
            words += ["--" + name.replace("_", "-"), str(data[name])]
    usual = fill_shares({"protocol": split["protocol"], "train": None, "validation": None})
    if split["protocol"] != DEFAULTS["split"]["protocol"]:
        words += ["--split", split["protocol"]]
    for name in ("train", "validation"):
        if split[name] != usual[name]:
            words += [f"--{name}", str(split[name])]
    return words


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as two_tower/encoder=gru")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `tune` by the function that the command line makes its commands with."""
    one = command(
        "tune",
        tune,
        "search for the strategy that does best on validation, or go on with a search",
        "",
        "runs/first --trials 50",
        "movielens-1m --split time --families two_tower,ials --trial-seconds 600",
        "log.csv --columns user_id=customer,item_id=product --folder runs/shop-study",
        "--fixed two_tower/encoder=gru two_tower/embedding_dim=64 --oracle meta_hyperband",
        "--no-memory --json",
    )
    one.add_argument(
        "source",
        nargs="*",
        metavar="RUN|DATA",
        help="a run's folder, whose data, split and strategy are taken; or data as of train --data "
        "(default movielens-100k)",
    )
    group = one.add_argument_group("search")
    group.add_argument("--trials", type=int, default=30, metavar="N", help="at most (default 30)")
    group.add_argument(
        "--families", metavar="NAMES", help="to choose from, with commas (default: the strategy's)"
    )
    group.add_argument(
        "--oracle",
        default="meta_bayesian",
        help="meta_bayesian (default) or meta_hyperband, which remember; bayesian, hyperband, "
        "random or grid",
    )
    group.add_argument(
        "--fixed",
        nargs="+",
        type=_setting,
        metavar="NAME=VALUE",
        help="hyperparameters that are not searched, by their names in the space",
    )
    group.add_argument(
        "--trial-seconds", type=float, metavar="S", help="that a trial may take (default: any)"
    )
    group.add_argument(
        "--epochs", type=int, metavar="N", help="of a trial, at most (default: the strategy's)"
    )
    group.add_argument(
        "--strategy", metavar="FILE", help="JSON, what is not searched; as of train --strategy"
    )
    group.add_argument(
        "--seed", type=int, metavar="N", help="of split, training and search (default 42)"
    )
    group = one.add_argument_group("what is kept")
    group.add_argument(
        "--folder",
        metavar="FOLDER",
        help=f"of the study; the same call goes on with it (default: study in the run's, else "
        f"{_FOLDER})",
    )
    group.add_argument(
        "--to", metavar="FILE", help="the best strategy (default: best_strategy.json in FOLDER)"
    )
    group.add_argument(
        "--store",
        metavar="FOLDER",
        help="of all studies, which are learned from (default: $TFREC_META_STUDIES, else the "
        "user's data folder)",
    )
    group.add_argument(
        "--no-memory", action="store_true", help="neither read nor write the store of studies"
    )
    group.add_argument(
        "--description", default="", metavar="TEXT", help="of the data, for the store"
    )
    group.add_argument(
        "--similarity",
        metavar="NAMES",
        help="profile, texts or both, separated by commas: weight prior studies by the similarity "
        "of their data (default: equal weights)",
    )
    add_data_options(one, sources=False)
