"""`tfrec-meta tune`: searches for the best strategy, which `train` takes."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, argument, command, note, option
from tfrec_meta.commands.config_option import config_option, with_config
from tfrec_meta.commands.data_options import (
    DataOptions,
    FeedbackOptions,
    data_options,
    feedback_options,
)
from tfrec_meta.commands.strategy_options import StrategyOptions
from tfrec_meta.commands.values import FILE, FOLDER, ExistingFile, Names, Setting
from tfrec_meta.errors import ParameterError

_USUAL_FEEDBACK = {"event_type": "event_type", "below": "ignore"}
_FOLDER = "runs/study"
_TRIAL = ("trial_id", "status", "error", "suggested_by", "expected", "seconds", "epochs", "values")
_search = partial(option, section="Search")
_output = partial(option, section="Output and store")


@command(
    "tune",
    "",
    "runs/first --trials 50",
    "movielens-1m --split time --families two_tower,ials --trial-seconds 600",
    "log.csv --columns user_id=customer,item_id=product --folder runs/shop-study",
    "--fixed two_tower/encoder=gru two_tower/embedding_dim=64 --oracle meta_hyperband",
    "--config shop.yaml --families two_tower,ials",
    "--no-memory --json",
    resumes=True,
)
@argument(
    "source",
    nargs=-1,
    metavar="[RUN|DATA...]",
    help="A run folder, whose data, split and strategy are used; or data, as for train --data "
    "(default movielens-100k).",
)
@config_option()
@_search("--trials", type=int, default=30, metavar="N", show_default=True, help="Number of trials.")
@_search(
    "--families",
    type=Names(),
    metavar="NAMES",
    help="Model families to choose from, separated by commas (default: that of the strategy).",
)
@_search(
    "--oracle",
    default="meta_bayesian",
    show_default=True,
    metavar="NAME",
    help="meta_bayesian or meta_hyperband, which learn from prior studies; bayesian, hyperband, "
    "random or grid.",
)
@_search(
    "--fixed",
    many=True,
    type=Setting(),
    metavar="NAME=VALUE",
    help="Hyperparameters to exclude from the search, by their names in the search space.",
)
@_search(
    "--trial-seconds",
    type=float,
    metavar="SECONDS",
    help="Time limit of a trial; inf for none (default: ten times the longest completed trial, and "
    "at least 600).",
)
@_search(
    "--epochs", type=int, metavar="N", help="Maximum epochs of a trial (default: the strategy's)."
)
@_search(
    "--strategy",
    type=ExistingFile(),
    metavar="FILE",
    help="JSON with the parts of the strategy that are not searched, as for train --strategy.",
)
@_search("--seed", type=int, metavar="N", help="Seed of split, training and search (default 42).")
@_output(
    "--folder",
    type=FOLDER,
    metavar="FOLDER",
    help="Folder of the study, which the same call resumes (default: study in the run folder; "
    f"without a run {_FOLDER}).",
)
@_output(
    "--to",
    type=FILE,
    metavar="FILE",
    help="File for the best strategy (default: best_strategy.json in the folder of the study).",
)
@_output(
    "--store",
    type=FOLDER,
    metavar="FOLDER",
    help="Store of all studies, which the search uses (default: $TFREC_META_STUDIES, else a folder "
    "in the user's data folder).",
)
@_output("--no-memory", is_flag=True, help="Neither read nor write the store of studies.")
@_output(
    "--description",
    default="",
    empty=True,
    metavar="TEXT",
    help="Description of the data in the store.",
)
@_output(
    "--similarity",
    type=Names(),
    metavar="NAMES",
    help="profile, texts or both, separated by commas: weight prior studies by the similarity of "
    "their data (default: equal weights).",
)
@data_options(sources=False)
@options.recommend_history_option("Validate")
@feedback_options
def tune(
    source: Sequence[str],
    config: str | None,
    data: DataOptions,
    feedback: FeedbackOptions,
    epochs: int | None,
    strategy: str | None,
    seed: int | None,
    folder: str | None,
    to: str | None,
    no_memory: bool,
    families: Sequence[str] | None,
    fixed: Sequence[tuple[str, Any]],
    similarity: Sequence[str] | None,
    recommend_history: bool,
    **search: Any,
) -> Result:
    """Searches, or resumes a search that was stopped."""
    from tfrec_meta.workflows.configs.split_settings import resolved_split
    from tfrec_meta.workflows.run_settings import complete_settings, merged, split_of
    from tfrec_meta.workflows.runs import Run

    is_run = len(source) == 1 and (Path(source[0]) / "run.json").is_file()
    if no_memory:
        _refuse_without_memory(search["store"], search["description"], similarity)
    # The split of a run depends on the run's own seed; --seed is that of the search then.
    common = StrategyOptions(None, epochs, None if is_run else seed, strategy)
    if is_run:
        _refuse_data_options(source[0], data, feedback, config)
    data = dataclasses.replace(data, data=source)
    given = {**data.settings(), **feedback.settings(), **common.settings()}
    with with_config(config, given) as wanted:
        if is_run:
            settings = Run.open(source[0]).settings
            record = merged(settings["strategy"], given.get("strategy", {}))
        else:
            settings = complete_settings(wanted)
            record = settings["strategy"]
        if recommend_history:
            settings = {**settings, "recommend_history": True}
        study_folder = Path(folder or (Path(source[0], "study") if is_run else _FOLDER))
        split = split_of(settings)
        settings = {**settings, "split": resolved_split(settings["split"], split.data)}
        note(f"{split.data!r}, {split.description}: {len(split.train_index):,} training events")
        # TensorFlow is imported after the data is read: errors in the data are reported right away.
        from tfrec_meta.io.files import write_text
        from tfrec_meta.strategy import Strategy
        from tfrec_meta.workflows import tune as workflow

        with common.errors_of_file():
            start = Strategy.from_dict(record)
    study = workflow.tune(
        split,
        search.pop("trials"),
        strategy=start,
        families=families,
        fixed=dict(fixed),
        folder=study_folder,
        remember=not no_memory,
        similarity=similarity or (),
        seed=settings["seed"] if seed is None else seed,
        recommend_history=settings["recommend_history"],
        **search,
    )
    best = Path(to or study_folder / "best_strategy.json")
    write_text(best, json.dumps(study.best_strategy.as_dict(), indent=1) + "\n")
    words = ["--run", "runs/tuned", *_train_words(settings), "--strategy", str(best)]
    lines = [
        str(study),
        f"best strategy: {best}",
        f"report: {study_folder / 'report.html'}",
        f"next: tfrec-meta train {shlex.join(words)}",
    ]
    content = {
        "folder": str(study_folder),
        "study_id": study.header["study_id"],
        "objective": study.objective,
        "best_value": study.best_value,
        "best_strategy": study.best_strategy.as_dict(),
        "strategy_file": str(best),
        "report": str(study_folder / "report.html"),
        "trials": [
            {name: trial[name] for name in _TRIAL} | {"value": record["value"]}
            for trial, record in _trials(study)
        ],
    }
    return Result(content, "\n".join(lines))


def _refuse_without_memory(
    store: str | None, description: str, similarity: Sequence[str] | None
) -> None:
    given = {"store": store, "description": description, "similarity": similarity}
    for name, value in given.items():
        if value:
            raise ParameterError(
                f"`{name}` has no effect with `no_memory`; leave out one of them.",
                name,
                "no_memory",
            )


def _refuse_data_options(
    run: str, data: DataOptions, feedback: FeedbackOptions, config: str | None
) -> None:
    both = {**vars(data), **vars(feedback), "config": config}
    given = [name for name, value in both.items() if value not in (None, ())]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ValueError(
            f"{run} has its own data and split. Leave out {flags}, or name data instead of the run."
        )


def _trials(study: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    records = {record["trial_id"]: record for record in study.records}
    return ((trial, records[trial["trial_id"]]) for trial in study.trials)


def _train_words(settings: Mapping[str, Any]) -> list[str]:
    """The options with which `train` uses the same data and split."""
    from tfrec_meta.workflows.configs.split_settings import fill_shares
    from tfrec_meta.workflows.run_settings import DEFAULTS, FORMAT_SETTINGS

    data, split, words = settings["data"], settings["split"], []
    if data["source"] != DEFAULTS["data"]["source"]:
        words += ["--data", *data["source"]]
    for name in ("columns", "lists", "types"):
        if data[name]:
            words += [f"--{name}", ",".join(f"{o}={t}" for o, t in data[name].items())]
    singles = [name for name in FORMAT_SETTINGS if name not in ("lists", "types")]
    for name in ("folder", "users", "items", *singles):
        if data[name] != DEFAULTS["data"][name]:
            words += ["--" + name.replace("_", "-"), str(data[name])]
    for name, value in data.get("clean", {}).items():
        if value != DEFAULTS["data"]["clean"][name]:
            values = [value] if isinstance(value, str) else value
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    words += _feedback_words(settings["feedback"])
    if data.get("pseudonyms"):
        words += ["--pseudonyms", data["pseudonyms"]]
    usual = fill_shares({"protocol": split["protocol"], "train": None, "validation": None})
    words += ["--split", split["protocol"]]
    for name in ("train", "validation"):
        if split[name] != usual[name]:
            words += [f"--{name}", str(split[name])]
    if settings["recommend_history"]:
        words += ["--recommend-history"]
    return words


def _feedback_words(feedback: Mapping[str, Any]) -> list[str]:
    """The options with which `train` declares the same feedback; none for the defaults."""
    words = []
    for name, value in feedback.items():
        if isinstance(value, Mapping):
            value = ",".join(f"{kind}={weight:g}" for kind, weight in value.items())
        elif isinstance(value, list):
            value = ",".join(value)
        if value not in (None, "", _USUAL_FEEDBACK.get(name)):
            words += ["--" + name.replace("_", "-"), str(value)]
    return words
