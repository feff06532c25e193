"""The options of data, split and feedback, and the settings of a run that they stand for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from tfrec_meta.commands.base import option
from tfrec_meta.commands.options import collected, given, pseudonyms_option
from tfrec_meta.commands.values import (
    FOLDER,
    Character,
    Columns,
    EventWeights,
    ExistingFile,
    Names,
    Positive,
    Separators,
)

PROTOCOLS = ("item", "user", "time", "leave-last-out", "cold-users", "cold-items")

_data = functools.partial(option, section="Data (a new run uses defaults for missing options)")
_feedback = functools.partial(option, section="Feedback (how events count; default: all alike)")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Data and split, as given on the command line. None or empty: not given."""

    data: Sequence[str] = ()
    sql: str | None = None
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
    min_user_events: int | None = None
    min_item_events: int | None = None
    sessions: str | None = None
    split: str | None = None
    train: float | None = None
    validation: float | None = None

    def settings(self) -> dict[str, Any]:
        """Returns the given values as settings of a run, with absolute paths."""
        from tfrec_meta.workflows.run_settings import (
            CLEANING_RULES,
            FORMAT_SETTINGS,
            absolute_source,
        )

        data: dict[str, Any] = {"source": [absolute_source(path) for path in self.data] or None}
        paths = {"folder": self.data_folder, "users": self.users, "items": self.items}
        for name, path in paths.items():
            data[name] = None if path is None else absolute_source(path)
        for name in ("sql", "columns", "pseudonyms", "sessions", *FORMAT_SETTINGS):
            data[name] = getattr(self, name)
        data["clean"] = given({name: getattr(self, name) for name in CLEANING_RULES}) or None
        split = {"protocol": self.split, "train": self.train, "validation": self.validation}
        return {"data": given(data), "split": given(split)}


@dataclasses.dataclass(frozen=True)
class FeedbackOptions:
    """The declared feedback, as given on the command line. None: not given."""

    event_type: str | None = None
    event_weights: Mapping[str, float] | None = None
    weight: str | None = None
    positive: float | Sequence[str] | None = None
    below: str | None = None
    target: Sequence[str] | None = None

    def settings(self) -> dict[str, Any]:
        """Returns the given values as settings of a run."""
        feedback = given(vars(self))
        return {"feedback": feedback} if feedback else {}


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
            parameters=("source",),
            metavar="SOURCE",
            help="Data: movielens-100k (default; also -1m, -20m, -25m, -32m, -latest-small), "
            "synthetic-UxIxN (users, items, interactions), or CSV, TSV, JSON Lines or Parquet "
            "files, also s3:// and gs://; or the URL of a database.",
        ),
        _data(
            "--sql",
            metavar="QUERY|TABLE",
            help="Query or table, if SOURCE is the URL of a database, as sqlite:///shop.db. The "
            "password is in the environment variable TFREC_META_SQL_PASSWORD.",
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
        _data(
            "--users",
            type=ExistingFile(remote=True),
            metavar="FILE",
            help="Table of user attributes, with user_id.",
        ),
        _data(
            "--items",
            type=ExistingFile(remote=True),
            metavar="FILE",
            help="Table of item attributes, with item_id.",
        ),
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
            empty=True,
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
            "--min-user-events",
            type=int,
            metavar="N",
            help="Remove users with fewer events (default 1), also after items are removed.",
        ),
        _data(
            "--min-item-events",
            type=int,
            metavar="N",
            help="Remove items with fewer events (default 1), also after users are removed.",
        ),
        _data(
            "--sessions",
            metavar="GAP|COLUMN",
            help="Sessions become the users: those between idle gaps, such as 30m, 2h or 1d, or "
            "those of a column of session ids.",
        ),
        _data(
            "--split",
            type=click.Choice(PROTOCOLS),
            parameters=("protocol",),
            help="How test events are chosen (default: time if the events have times, else item: "
            "at random, stratified by item).",
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
    return collected(DataOptions, "data", options if sources else options[1:])


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
            "--weight",
            metavar="COLUMN",
            help="Column with the weight of each event, such as value.",
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
            type=Names(),
            metavar="TYPE,...",
            help="Event types that the model has to predict; other events are only input.",
        ),
    ]
    return collected(FeedbackOptions, "feedback", options)(function)
