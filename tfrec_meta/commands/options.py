"""What `train`, `tune` and `distill` are asked of data and model, as settings of a run.

Imports no TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any


def add_data_options(one: argparse.ArgumentParser, sources: bool = True) -> None:
    """Of `runs.DEFAULTS`: the data and the split.

    Args:
        one: the command.
        sources: whether they are options, too; else they are the command's arguments, and its
            `--folder` is another.
    """
    group = one.add_argument_group("data", "what is left out has its default when a run begins")
    if sources:
        group.add_argument(
            "--data",
            nargs="+",
            metavar="SOURCE",
            help="movielens-100k (default; also -1m, -20m, -25m, -32m, -latest-small), "
            "synthetic-UxIxN (users, items, interactions), or CSV, TSV or Parquet files",
        )
    group.add_argument(
        "--folder" if sources else "--data-folder",
        metavar="FOLDER",
        help="where the MovieLens files are, instead of the cache",
    )
    group.add_argument(
        "--columns",
        type=_columns,
        metavar="OURS=THEIRS,…",
        help="column names in the files, as user_id=customer,item_id=product,time=when",
    )
    group.add_argument("--users", metavar="FILE", help="attributes of the users")
    group.add_argument("--items", metavar="FILE", help="attributes of the items")
    group.add_argument("--time-unit", choices=("s", "ms", "us", "ns"), help="of times (default s)")
    group.add_argument(
        "--bad-rows",
        choices=("raise", "drop"),
        help="stop at the first bad row (default), or drop and count them",
    )
    group.add_argument(
        "--split",
        choices=("item", "user", "time", "leave-last-out", "cold-users", "cold-items"),
        help="how test events are chosen (default item: at random, stratified by item)",
    )
    group.add_argument("--train", type=float, metavar="SHARE", help="of the events (or users)")
    group.add_argument("--validation", type=float, metavar="SHARE", help="for early stopping")


def add_strategy_options(one: argparse.ArgumentParser) -> None:
    """Of `runs.DEFAULTS`: the strategy and the seed."""
    group = one.add_argument_group("model")
    group.add_argument(
        "--family",
        help="two_tower (default), content_tower, ranker, multi_task, ials, low_rank_ease, ease, "
        "item_knn or popularity",
    )
    group.add_argument("--epochs", type=int, metavar="N", help="passes over the events")
    group.add_argument("--seed", type=int, metavar="N", help="of split and training (default 42)")
    group.add_argument(
        "--strategy",
        metavar="FILE",
        help="JSON with any of family, model, training, history_length, teacher (see "
        "docs/command.md)",
    )


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of a run that the command line says; those that it leaves out are not there."""
    from tfrec_meta.workflows.runs import is_named_source

    def placed(path: str) -> str:
        return path if is_named_source(path) else os.path.abspath(os.path.expanduser(path))

    strategy: dict[str, Any] = {}
    if options.strategy is not None:
        strategy = read_strategy(Path(options.strategy))
    training = dict(strategy.get("training", {}))
    given: dict[str, Any] = {"data": {}, "split": {}}
    if options.data:
        given["data"]["source"] = [placed(path) for path in options.data]
    for name in ("folder", "users", "items"):
        if getattr(options, name) is not None:
            given["data"][name] = placed(getattr(options, name))
    for name in ("columns", "bad_rows", "time_unit"):
        if getattr(options, name) is not None:
            given["data"][name] = getattr(options, name)
    for name in ("split", "train", "validation"):
        if getattr(options, name) is not None:
            given["split"]["protocol" if name == "split" else name] = getattr(options, name)
    if options.family is not None:
        strategy["family"] = options.family
    if options.epochs is not None:
        training["epochs"] = options.epochs
    if options.seed is not None:
        given["seed"] = training["seed"] = options.seed
    if training:
        strategy["training"] = training
    if strategy:
        given["strategy"] = strategy
    return given


def read_strategy(path: Path) -> dict[str, Any]:
    """A part of what `Strategy.as_dict` gives.

    Raises:
        ValueError: if the file holds something else.
    """
    try:
        strategy = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    known = ("family", "model", "training", "features", "history_length", "teacher")
    if not isinstance(strategy, dict) or set(strategy) - set(known):
        raise ValueError(f"{path} must hold one JSON object with any of {', '.join(known)}.")
    return strategy


def names(text: str | None) -> list[str]:
    """The parts of a text with commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _columns(text: str) -> dict[str, str]:
    columns = {}
    for part in names(text):
        ours, equals, theirs = part.partition("=")
        if not (ours and equals and theirs):
            raise argparse.ArgumentTypeError(f"{part!r} is not OURS=THEIRS, as user_id=customer")
        columns[ours] = theirs
    return columns
