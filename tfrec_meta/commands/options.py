"""The options that several commands share, and the settings of a run that they stand for.

Each group of options is a decorator. It gives the command one dataclass in place of the values of
the single options. Importing this module loads no TensorFlow, pandas or pyarrow.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfrec_meta.commands.base import option
from tfrec_meta.errors import ParameterError
from tfrec_meta.models.registry import FAMILIES

if TYPE_CHECKING:
    from tfrec_meta.serving import Client

RUN = "runs/first"
MODELS = Path("models")  # an exported model has the name of its run's folder
_SERVER = "127.0.0.1:8500"
PROTOCOLS = ("item", "user", "time", "leave-last-out", "cold-users", "cold-items")

# The options of how files are read; `FileFormat` has the same fields.
_FORMAT = (
    "delimiter",
    "encoding",
    "decimal",
    "quote",
    "lists",
    "types",
    "time_unit",
    "time_format",
    "bad_rows",
    "max_bad_share",
)

FOLDER = click.Path(file_okay=False)
FILE = click.Path(dir_okay=False)


class ExistingFile(click.Path):
    """The path of a file that a command reads. A missing file ends the command with status 1.

    Args:
        optional: whether the empty text is accepted, for an option that takes a file or nothing.
    """

    def __init__(self, optional: bool = False):
        super().__init__(dir_okay=False)
        self.optional = optional

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not Path(value).is_file() and not (self.optional and value == ""):
            flag = max(param.opts, key=len)
            raise click.ClickException(f"{flag}={value!r} does not exist; use an existing file.")
        return value


class Columns(click.ParamType):
    """The names of columns: `user_id=customer,item_id=product`."""

    name = "ours=theirs,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, str]:
        columns = {}
        for part in names(value):
            ours, equals, theirs = part.partition("=")
            if not (ours and equals and theirs):
                self.fail(f"{part!r} is not OURS=THEIRS, as in user_id=customer", param, ctx)
            columns[ours] = theirs
        return columns


class Separators(click.ParamType):
    """The separators of cells with several values: `genres=|,tags=;`. A comma may be one."""

    name = "column=separator,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, str]:
        if not re.fullmatch(r"([^=,]+=.+?)(,[^=,]+=.+?)*", value):
            self.fail(f"{value!r} is not COLUMN=SEPARATOR, as in genres=|", param, ctx)
        return dict(re.findall(r"([^=,]+)=(.+?)(?=,[^=,]+=|$)", value))


class Character(click.ParamType):
    """One character; `tab` or `\\t` for a tab."""

    name = "character"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        return "\t" if value in ("tab", "\\t") else value


class EventWeights(click.ParamType):
    """Weights of event types: `view=1,cart=3`."""

    name = "type=weight,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, float]:
        weights = {}
        for part in names(value):
            kind, equals, weight = part.rpartition("=")
            try:
                weights[kind] = float(weight)
            except ValueError:
                equals = ""
            if not (kind and equals):
                self.fail(f"{part!r} is not TYPE=WEIGHT, as in view=1", param, ctx)
        return weights


class Positive(click.ParamType):
    """The lowest positive value, or the positive event types: `4` or `purchase,cart`."""

    name = "value|type,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> float | list[str]:
        try:
            return float(value)
        except ValueError:
            return names(value)


class Setting(click.ParamType):
    """One value of a name: `two_tower/embedding_dim=64`. The value is JSON, or else a text."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        name, equals, text = value.partition("=")
        if not (name and equals and text):
            self.fail(f"{value!r} is not NAME=VALUE, as in two_tower/encoder=gru", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


# --- Data and strategy ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Data and split, as given on the command line. None or empty: not given."""

    data: Sequence[str] = ()
    data_folder: str | None = None
    columns: Mapping[str, str] | None = None
    users: str | None = None
    items: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    quote: str | None = None
    lists: Mapping[str, str] | None = None
    types: Mapping[str, str] | None = None
    time_unit: str | None = None
    time_format: str | None = None
    pseudonyms: str | None = None
    bad_rows: str | None = None
    max_bad_share: float | None = None
    duplicates: str | None = None
    value_range: Sequence[float] | None = None
    time_range: Sequence[int] | None = None
    split: str | None = None
    train: float | None = None
    validation: float | None = None

    def settings(self) -> dict[str, Any]:
        """Returns the given values as settings of a run, with absolute paths."""
        data: dict[str, Any] = {"source": [_absolute(path) for path in self.data] or None}
        paths = {"folder": self.data_folder, "users": self.users, "items": self.items}
        for name, path in paths.items():
            data[name] = None if path is None else _absolute(path)
        for name in ("columns", "pseudonyms", *_FORMAT):
            data[name] = getattr(self, name)
        rules = {name: getattr(self, name) for name in ("duplicates", "value_range", "time_range")}
        data["clean"] = _given(rules) or None
        split = {"protocol": self.split, "train": self.train, "validation": self.validation}
        return {"data": _given(data), "split": _given(split)}


@dataclasses.dataclass(frozen=True)
class FeedbackOptions:
    """The declared feedback, as given on the command line. None: not given."""

    event_type: str | None = None
    event_weights: Mapping[str, float] | None = None
    weight: str | None = None
    positive: float | Sequence[str] | None = None
    below: str | None = None
    target: str | None = None

    def settings(self) -> dict[str, Any]:
        """Returns the given values as settings of a run."""
        given = _given(vars(self))
        if self.target is not None:
            given["target"] = names(self.target)
        return {"feedback": given} if given else {}


@dataclasses.dataclass(frozen=True)
class StrategyOptions:
    """The strategy and the seed, as given on the command line. None: not given."""

    family: str | None = None
    epochs: int | None = None
    seed: int | None = None
    strategy: str | None = None

    def settings(self) -> dict[str, Any]:
        """Returns the given values as settings of a run.

        Raises:
            ValueError: if the file of `strategy` holds something else.
        """
        strategy = {} if self.strategy is None else read_strategy(Path(self.strategy))
        training = {**strategy.get("training", {}), **_given({"epochs": self.epochs})}
        settings: dict[str, Any] = {}
        if self.seed is not None:
            settings["seed"] = training["seed"] = self.seed
        if self.family is not None:
            strategy["family"] = self.family
        if training:
            strategy["training"] = training
        return {**settings, "strategy": strategy} if strategy else settings


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


def read_strategy(path: Path) -> dict[str, Any]:
    """Reads the JSON of a strategy, or of a part of one, as `Strategy.as_dict` returns it.

    Raises:
        ValueError: if the file holds something else.
    """
    try:
        strategy = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ParameterError(f"`strategy`: {path} is not JSON: {error}.", "strategy") from error
    known = ("family", "model", "training", "features", "history_length", "teacher", "use_weights")
    if not isinstance(strategy, dict) or set(strategy) - set(known):
        raise ParameterError(
            f"`strategy`: {path} must hold one JSON object with any of {', '.join(known)}.",
            "strategy",
        )
    return strategy


def data_options(sources: bool = True) -> Callable[[Any], Any]:
    """Declares the options of data and split, which the command gets as `data`.

    Args:
        sources: whether the data sources are an option, too. Else they are the command's
            arguments, and its own `--folder` is another one.
    """
    options = [
        _data(
            "--data",
            many=True,
            metavar="SOURCE",
            help="Data: movielens-100k (default; also -1m, -20m, -25m, -32m, -latest-small), "
            "synthetic-UxIxN (users, items, interactions), or CSV, TSV, JSON Lines or Parquet "
            "files.",
        ),
        _data(
            "--folder" if sources else "--data-folder",
            "data_folder",
            parameters=("folder",) if sources else (),
            type=FOLDER,
            metavar="FOLDER",
            help="Folder of the MovieLens files, instead of the cache.",
        ),
        _data(
            "--columns",
            type=Columns(),
            metavar="OURS=THEIRS,...",
            help="Names of the columns in the files: user_id=customer,item_id=product,time=when.",
        ),
        _data("--users", type=ExistingFile(), metavar="FILE", help="Attributes of the users."),
        _data("--items", type=ExistingFile(), metavar="FILE", help="Attributes of the items."),
        _data(
            "--delimiter",
            type=Character(),
            metavar="CHARACTER",
            help="Character between cells (default: comma in .csv, tab in .tsv).",
        ),
        _data("--encoding", metavar="NAME", help="Encoding of text files (default utf8)."),
        _data(
            "--decimal",
            type=click.Choice((".", ",")),
            help="Character before the decimals of numbers (default .).",
        ),
        _data(
            "--quote",
            metavar="CHARACTER",
            help="Character around cells, '' for none (default: \" in .csv, none in .tsv).",
        ),
        _data(
            "--lists",
            type=Separators(),
            metavar="COLUMN=SEPARATOR,...",
            help="Separators of cells with several values: genres=|.",
        ),
        _data(
            "--types",
            type=Columns(),
            metavar="COLUMN=TYPE,...",
            help="Types of columns (text, number or time), instead of recognizing them: zip=text.",
        ),
        _data(
            "--time-unit",
            type=click.Choice(("s", "ms", "us", "ns")),
            help="Unit of numeric times (default: recognized by their size).",
        ),
        _data(
            "--time-format",
            metavar="FORMAT",
            help="Format of times in text, as in %d/%m/%Y (default: ISO 8601).",
        ),
        pseudonyms_option(
            "Replace the ids of users by keyed pseudonyms as soon as they are read; the key "
            "is in this environment variable (default TFREC_META_KEY).",
            _data,
        ),
        _data(
            "--bad-rows",
            type=click.Choice(("raise", "drop")),
            help="Stop at the first invalid row (default), or drop and count invalid rows.",
        ),
        _data(
            "--max-bad-share",
            type=float,
            metavar="SHARE",
            help="Highest share of invalid rows that may be dropped (default 0.01).",
        ),
        _data(
            "--duplicates",
            type=click.Choice(("exact", "last", "keep")),
            help="Remove copies of an event (default), all but the latest event of a user with an "
            "item, or none.",
        ),
        _data(
            "--value-range",
            type=float,
            nargs=2,
            metavar="LOW HIGH",
            help="Remove events with a value outside of this range.",
        ),
        _data(
            "--time-range",
            type=int,
            nargs=2,
            metavar="FIRST LAST",
            help="Remove events outside of these Unix seconds (default: 1970 to tomorrow).",
        ),
        _data(
            "--split",
            type=click.Choice(PROTOCOLS),
            parameters=("protocol",),
            help="How test events are chosen (default item: at random, stratified by item).",
        ),
        _data(
            "--train",
            type=float,
            metavar="SHARE",
            help="Share of the events (or users) to train on.",
        ),
        _data(
            "--validation",
            type=float,
            metavar="SHARE",
            help="Share of the events (or users) for early stopping.",
        ),
    ]
    return _collected(DataOptions, "data", options if sources else options[1:])


def feedback_options(function: Any) -> Any:
    """Declares the options of the feedback, which the command gets as `feedback`."""
    options = [
        _feedback(
            "--event-type",
            metavar="COLUMN",
            help="Column of the event types (default event_type).",
        ),
        _feedback(
            "--event-weights",
            type=EventWeights(),
            metavar="TYPE=WEIGHT,...",
            help="Weight of each event type: view=1,cart=3,purchase=10.",
        ),
        _feedback(
            "--weight", metavar="COLUMN", help="Column with the weight of each event: value."
        ),
        _feedback(
            "--positive",
            type=Positive(),
            metavar="VALUE|TYPE,...",
            help="Lowest positive value (of --weight, else of value), or positive event types.",
        ),
        _feedback(
            "--below",
            type=click.Choice(("ignore", "negative")),
            help="Ignore the other events (default), or learn from them as known negatives.",
        ),
        _feedback(
            "--target",
            metavar="TYPE,...",
            help="Event types that the model has to predict; other events are only input.",
        ),
    ]
    return _collected(FeedbackOptions, "feedback", options)(function)


def strategy_options(function: Any) -> Any:
    """Declares the options of the model, which the command gets as `strategy`."""
    options = [
        _model(
            "--family",
            metavar="NAME",
            help=f"Model family (default two_tower): {', '.join(FAMILIES)}.",
        ),
        _model("--epochs", type=int, metavar="N", help="Passes over the events."),
        _model("--seed", type=int, metavar="N", help="Seed of split and training (default 42)."),
        strategy_file,
    ]
    return _collected(StrategyOptions, "strategy", options)(function)


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


# --- Server -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """How a server is reached, as given on the command line."""

    server: str
    timeout: float
    tls: str | None
    insecure: bool

    def client(self, model: str) -> Client:
        """Returns a client of a served model."""
        from tfrec_meta.serving import Client

        # `--tls` without a file: the public certificate authorities.
        tls = False if self.tls is None else self.tls or True
        return Client(self.server, model, timeout=self.timeout, tls=tls, insecure=self.insecure)


def server_options(function: Any) -> Any:
    """Declares the options of a server, which the command gets as `server`."""
    connection = functools.partial(option, section="Connection")
    options = [
        connection(
            "--server",
            default=_SERVER,
            metavar="HOST:PORT",
            parameters=("address",),
            show_default=True,
            help="Address of the server.",
        ),
        connection(
            "--timeout",
            type=float,
            default=10.0,
            metavar="SECONDS",
            show_default=True,
            help="Time limit for an answer.",
        ),
        connection(
            "--tls",
            type=ExistingFile(optional=True),
            is_flag=False,
            flag_value="",
            metavar="[FILE]",
            help="Use TLS, with the certificate authorities of this PEM file or the public ones.",
        ),
        connection("--insecure", is_flag=True, help="Connect to another machine without TLS."),
    ]
    return _collected(ServerOptions, "server", options)(function)


exclude_option = option("--exclude", metavar="IDS", help="Items to leave out, separated by commas.")
titles_option = option(
    "--titles",
    type=FOLDER,
    metavar="FOLDER",
    help="Read titles from this exported model (default: models/NAME if it exists).",
)


# --- Values -----------------------------------------------------------------------------------


def names(text: str | None) -> list[str]:
    """Splits a text at its commas and drops empty parts."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def baseline_names(text: str | None) -> list[str] | None:
    """Returns the named baselines; none of them for "none"; None, for all, without a text."""
    return None if text is None else [] if text == "none" else names(text)


def folder_name(folder: Path | str) -> str:
    """Returns the name of a folder, which is also the name of the model in it."""
    return Path(folder).resolve().name


# --- How options are collected -----------------------------------------------------------------


def _collected(
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


_data = functools.partial(option, section="Data (a new run uses defaults for missing options)")
_feedback = functools.partial(option, section="Feedback (how events count; default: all alike)")
_model = functools.partial(option, section="Model")
strategy_file = _model(
    "--strategy",
    type=ExistingFile(),
    metavar="FILE",
    help="JSON with any of family, model, training, history_length, teacher, use_weights.",
)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _absolute(path: str) -> str:
    from tfrec_meta.workflows.run_settings import is_named_source

    return path if is_named_source(path) else os.path.abspath(os.path.expanduser(path))
