"""Single options that several commands share, and how groups of options are collected.

A group of options is a decorator, as in `data_options`. It gives the command one dataclass in place
of the values of the single options. No module of options loads TensorFlow, pandas or pyarrow.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.commands.base import option
from tfrec_meta.commands.values import FOLDER

RUN = "runs/first"
MODELS = Path("models")  # an exported model has the name of its run's folder


def run_option(default: str | None = RUN, help: str = "The run folder.") -> Callable[[Any], Any]:
    """Declares `--run`."""
    return option(
        "--run", type=FOLDER, default=default, metavar="FOLDER", help=help, show_default=True
    )


def length_option(help: str) -> Callable[[Any], Any]:
    """Declares `-k`."""
    return option("-k", type=int, default=10, metavar="N", help=help, show_default=True)


def pseudonyms_option(
    help: str, declare: Callable[..., Callable[[Any], Any]] = option
) -> Callable[[Any], Any]:
    """Declares `--pseudonyms`, whose value is the environment variable with the key."""
    return declare(
        "--pseudonyms",
        is_flag=False,
        flag_value="TFREC_META_KEY",
        metavar="[VARIABLE]",
        help=help,
    )


resamples_option = option(
    "--resamples",
    type=int,
    default=1000,
    metavar="N",
    show_default=True,
    help="Bootstrap samples of the intervals.",
)
exclude_option = option(
    "--exclude", empty=True, metavar="IDS", help="Items to leave out, separated by commas."
)
titles_option = option(
    "--titles",
    type=FOLDER,
    metavar="FOLDER",
    help="Read titles from this exported model (default: models/NAME if it exists).",
)
title_column_option = option(
    "--title-column",
    metavar="COLUMN",
    help="Column of the table of items with the titles (default: title).",
)


def recommend_history_option(verb: str) -> Callable[[Any], Any]:
    """Returns the option `--recommend-history`, which stands for repeated purchases.

    Args:
        verb: what the command does with items of the history, such as "Evaluate".
    """
    return option(
        "--recommend-history",
        is_flag=True,
        help=f"{verb} with items of the history ranked like all others, as for repeated purchases.",
    )


def usual_model() -> str:
    """Returns the name of the only exported model in `MODELS`, or else that of the usual run."""
    exported = [path.name for path in MODELS.iterdir() if path.is_dir()] if MODELS.is_dir() else []
    return exported[0] if len(exported) == 1 else folder_name(RUN)


def folder_name(folder: Path | str) -> str:
    """Returns the name of a folder, which is also the name of the model in it."""
    return Path(folder).resolve().name


def collected(
    kind: type, keyword: str, options: Sequence[Callable[[Any], Any]]
) -> Callable[[Any], Any]:
    """Declares options and gives their values to the command as one dataclass.

    Args:
        kind: the dataclass, whose fields have the names of the options.
        keyword: the argument of the command.
        options: decorators, in the order of `--help`.
    """
    fields = [field.name for field in dataclasses.fields(kind)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_dataclass(**values: Any) -> Any:
            own = {name: values.pop(name) for name in fields if name in values}
            return function(**values, **{keyword: kind(**own)})

        for declare in reversed(options):
            declare(with_dataclass)
        return with_dataclass

    return decorate


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that are not None: those that were given."""
    return {name: value for name, value in values.items() if value is not None}
