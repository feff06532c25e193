"""The settings of a run, as `run.json` holds them, and the data and split that they describe.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tfrec_meta.checks import check, not_empty, of_type, whole_number
from tfrec_meta.data import (
    Feedback,
    Interactions,
    Split,
    movielens,
    read_interactions,
    synthetic,
)
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.places.queries import (
    SqlQuery,
    absolute_url,
    is_database,
    refuse_password,
)
from tfrec_meta.data.privacy.pseudonyms import pseudonymise
from tfrec_meta.data.sources.formats import DELIMITERS, JSON_LINES, FileFormat, suffix_of
from tfrec_meta.data.sources.movielens_download import NAMES
from tfrec_meta.data.tables.needs import read_needed
from tfrec_meta.data.tables.sessions import SESSION, is_gap, seconds_of
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.records import create
from tfrec_meta.io.stores import RemotePath, any_path, is_url
from tfrec_meta.workflows.configs.split_settings import SplitSettings, fill_shares, split_data

Settings = dict[str, Any]

DEFAULTS: Settings = {
    "data": {
        "source": ["movielens-100k"],
        "folder": None,
        "sql": None,  # the query or the table, if the source is the URL of a database
        "columns": {},
        "users": None,
        "items": None,
        "pseudonyms": None,  # the environment variable with the key; None keeps the ids
        **FileFormat().as_dict(),
        "clean": dataclasses.asdict(CleaningRules()),
        "sessions": None,  # an idle gap, or a column: sessions become the users; None keeps these
        "needs": {},  # what a column is for, by its name here; an error says so if it is missing
    },
    "feedback": {},  # fields of `Feedback`; empty: all events count alike
    "split": dataclasses.asdict(SplitSettings()),  # None: as the data suggests
    "recommend_history": False,
    "seed": 42,
    "strategy": {},
}
# The settings of the data that say how files are read; `read_interactions` describes them.
FORMAT_SETTINGS = tuple(FileFormat().as_dict())
# The settings of the data in "clean"; `Interactions.clean` describes them.
CLEANING_RULES = tuple(DEFAULTS["data"]["clean"])
STRATEGY_FIELDS = (
    "family",
    "model",
    "training",
    "features",
    "history_length",
    "teacher",
    "use_weights",
)
"""The "strategy" part of the settings; `Strategy` describes them."""
# Settings whose value is a mapping.
MAPPINGS = ("columns", "event_weights", "lists", "needs", "types")

# The suffixes of the files that a setting has an effect on.
_OF_TEXT = {
    "delimiter": tuple(DELIMITERS),
    "decimal": tuple(DELIMITERS),
    "quote": tuple(DELIMITERS),
    "encoding": (*DELIMITERS, *JSON_LINES),
}
# Model settings of a student, by its family: a teacher scores the whole catalogue.
STUDENT_MODEL: Mapping[str, Settings] = {"two_tower": {"negatives": "full"}}

_MOVIELENS = "movielens-"
_SYNTHETIC = re.compile(r"synthetic(?:-(\d+)x(\d+)x(\d+))?")


def read_data(
    data: Mapping[str, Any], seed: int, feedback: Mapping[str, Any] | None = None
) -> Interactions:
    """Reads the interactions that the "data" and "feedback" parts of the settings describe.

    Args:
        data: as in `DEFAULTS`. A source is "movielens-<name>", "synthetic" or
            "synthetic-<users>x<items>x<interactions>", a folder of `Interactions.write`, the URL of
            a database (with "sql", the query or table), or files for `read_interactions`, local or
            on an object store; the rows of the last two are cleaned. Named data and such folders
            are cleaned only by rules other than the defaults. With "sessions", the ids of users are
            those of sessions.
        seed: seed of synthetic data.
        feedback: as in `DEFAULTS`; declared before the rows are cleaned, so that two events that
            differ only in their type are no duplicates.
    """
    refuse_unused(data)
    declared = Feedback.from_dict(feedback) if feedback else None
    # Needed columns are read, and are not optional, as `time` and `value` are otherwise.
    columns = {name: name for name in data.get("needs", {}) if "." not in name}
    columns |= data["columns"]
    if declared is not None:
        columns = {**{name: name for name in declared.columns_read}, **columns}
    sessions = data.get("sessions")
    if sessions and not is_gap(sessions):
        columns[SESSION] = sessions
    found, is_clean = _read({**data, "columns": columns}, seed)
    if declared is not None:
        found = found.with_feedback(declared)
    rules = CleaningRules.from_dict(data.get("clean", {}))
    if sessions:
        found = _with_sessions_as_users(found, sessions, rules)
    if not is_clean or rules != CleaningRules():
        found = found.clean(**dataclasses.asdict(rules))
    key = data.get("pseudonyms")
    return pseudonymise(found, key) if key else found


def _with_sessions_as_users(
    found: Interactions, sessions: str, rules: CleaningRules
) -> Interactions:
    """Makes sessions the users, by an idle gap or the given session ids.

    Events that a gap cannot place, such as those without a time, are removed first. Duplicates and
    minimum numbers of events are those of the sessions, and are left for later.
    """
    if is_gap(sessions):
        first = dataclasses.replace(rules, duplicates="keep", min_user_events=1, min_item_events=1)
        found = found.clean(**dataclasses.asdict(first)).with_sessions(sessions)
    elif SESSION not in found.events.column_names:
        raise ParameterError(
            f"`sessions`={sessions!r}, but {found.name} has no column of session ids; use an idle "
            "gap such as 30m.",
            "sessions",
        )
    return found.sessions_as_users()


def refuse_unused(data: Mapping[str, Any]) -> None:
    """Raises ParameterError for a setting without effect on this data."""
    first = data["source"][0]
    _check_database(data)
    given = [name for name in FORMAT_SETTINGS if data[name] != DEFAULTS["data"][name]]
    is_table = _is_table(first)
    if len(data["source"]) == 1 and (is_named_source(first) or is_table):
        for name in ("columns", "users", "items", *given):
            if data[name]:
                raise ParameterError(
                    f"`{name}` has no effect on {first}, which has columns and tables of its own; "
                    f"leave out `{name}`, or name files as the data.",
                    name,
                )
        sessions = data.get("sessions")
        if sessions and sessions != SESSION and not is_gap(sessions):
            raise ParameterError(
                f"`sessions`={sessions!r} is neither an idle gap such as 30m nor `{SESSION}`, the "
                f"column of session ids that {first} can have.",
                "sessions",
            )
    elif "max_bad_share" in given and data["bad_rows"] != "drop":
        raise ParameterError(
            "`max_bad_share` has no effect without `bad_rows`='drop'; add it, or leave out "
            "`max_bad_share`.",
            "max_bad_share",
            "bad_rows",
        )
    if data["folder"] and not first.startswith(_MOVIELENS):
        raise ParameterError(
            f"`data_folder` is that of the MovieLens files, and has no effect on {first}; leave it "
            "out, or give its path as the data.",
            "data_folder",
        )
    kinds = {
        "database" if is_database(path) else suffix_of(Path(path))
        for path in (*data["source"], data["users"], data["items"])
        if path
    }
    for name in given:
        if name in _OF_TEXT and None not in kinds and not kinds & set(_OF_TEXT[name]):
            raise ParameterError(
                f"`{name}` has no effect on {' and '.join(sorted(filter(None, kinds)))} files; "
                f"leave out `{name}`.",
                name,
            )


def _check_database(data: Mapping[str, Any]) -> None:
    """Raises ParameterError for a database without a query, or the other way round."""
    databases = [source for source in data["source"] if is_database(source)]
    sql = data.get("sql")
    if databases and not sql:
        raise ParameterError(
            f"`source`={databases[0]!r} is a database; name a query or a table with `sql`.",
            "source",
            "sql",
        )
    if databases and len(data["source"]) > 1:
        raise ParameterError(
            f"`source` has {databases[0]!r} beside other data; read one database with one query.",
            "source",
        )
    if sql and not databases:
        raise ParameterError(
            f"`sql` has no effect on {data['source'][0]}, which is not a database; use a URL such "
            "as sqlite:///shop.db, or leave out `sql`.",
            "sql",
        )


def _read(data: Mapping[str, Any], seed: int) -> tuple[Interactions, bool]:
    """The interactions, and whether they need no cleaning."""
    sources = list(data["source"])
    first = sources[0]
    if len(sources) == 1 and first.startswith(_MOVIELENS):
        name = first.removeprefix(_MOVIELENS)
        if name not in NAMES:
            known = ", ".join(_MOVIELENS + one for one in NAMES)
            raise ParameterError(f"`source`={first!r}; use files, or one of {known}.", "source")
        return movielens(name, data["folder"]), True
    made = _SYNTHETIC.fullmatch(first)
    if len(sources) == 1 and made:
        size = [int(n) for n in made.groups() if n]
        try:
            return synthetic(*size, seed=seed), True
        except ValueError as error:
            raise ParameterError(f"`source`={first!r}: {error}", "source") from error
    if len(sources) == 1 and _is_table(first):
        return Interactions.read(first), True
    read = partial(
        read_interactions,
        SqlQuery(data["sql"], first) if is_database(first) else sources,
        data["columns"] or None,
        **{name: data[name] for name in FORMAT_SETTINGS},
        users=data["users"],
        items=data["items"],
    )
    return read_needed(read, data.get("needs", {})), False


def _is_table(source: str) -> bool:
    """Whether a source is a folder of `Interactions.write`; these are local."""
    return not is_url(source) and (Path(source) / "interactions.json").is_file()


def is_named_source(source: str) -> bool:
    """Returns whether a data source is a name and not a path."""
    return source.startswith(_MOVIELENS) or _SYNTHETIC.fullmatch(source) is not None


def absolute_source(source: str) -> str:
    """Returns a data source as an absolute path, unless it is a name or a URL."""
    if is_named_source(source):
        return source
    if is_database(source):
        return absolute_url(source)
    path = any_path(source)
    return str(path) if isinstance(path, RemotePath) else os.path.abspath(os.path.expanduser(path))


def student_settings(given: Mapping[str, Any], teacher: Settings | None = None) -> Settings:
    """Returns settings of a student's run, in which missing settings have no value.

    Args:
        given: in the form of `DEFAULTS`, any part.
        teacher: the settings of a teacher's run. The student takes its data, feedback, split and
            seed, unless others are given.
    """
    if teacher is not None:
        taken = {key: teacher[key] for key in ("data", "feedback", "split", "seed")}
        given = merged(taken, given)
    strategy = given.get("strategy", {})
    model = STUDENT_MODEL.get(strategy.get("family", "two_tower"), {})
    if model:
        strategy = {**strategy, "model": {**model, **strategy.get("model", {})}}
    return {**given, "strategy": strategy}


def split_of(settings: Settings) -> Split:
    """Returns the data and the split that complete settings describe."""
    seed = settings["seed"]
    return split_data(
        read_data(settings["data"], seed, settings["feedback"]), settings["split"], seed
    )


def complete_settings(given: Mapping[str, Any]) -> Settings:
    """Returns the given settings with the defaults of missing ones, and one seed for all.

    Raises:
        ParameterError: for a negative seed, an impossible split or format of the data.
    """
    settings = merged(DEFAULTS, given)
    settings["strategy"] = merged({"training": {"seed": settings["seed"]}}, settings["strategy"])
    settings["seed"] = settings["strategy"]["training"]["seed"]
    return checked_settings(settings)


def checked_settings(settings: Mapping[str, Any]) -> Settings:
    """Returns complete settings as plain values, with the default shares of their split.

    Raises:
        ParameterError: for a setting of another type, or with a value that is not accepted.
    """
    for name, usual in DEFAULTS.items():
        if isinstance(usual, Mapping) and not isinstance(settings[name], Mapping):
            raise ParameterError(f"`{name}`={settings[name]!r}; use settings by name.", name)
    data = settings["data"]
    create(DataSettings, data)
    check("recommend_history", settings["recommend_history"], of_type(bool))
    check("seed", settings["seed"], whole_number(0, 2**32 - 1))
    feedback = settings["feedback"]
    return {
        **settings,
        "data": merged(DEFAULTS["data"], data),
        "feedback": Feedback.from_dict(feedback).as_dict() if feedback else {},
        "split": fill_shares(settings["split"]),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings(FileFormat):
    """The "data" part of the settings: how files are read, and which.

    Args:
        source: files, folders or glob patterns of events; or movielens-100k, -1m, -20m, -25m, -32m
            or -latest-small, or synthetic-UxIxN (users, items, interactions), or the URL of a
            database.
        folder: the folder of the MovieLens files, instead of the cache.
        columns: the names of the columns in the files by the names used here: `user_id`, `item_id`,
            `time`, `value`, and further ones of events. `users.x` and `items.x` rename attributes.
        users: a file with the attributes of users.
        items: a file with the attributes of items.
        pseudonyms: the environment variable with the key of pseudonyms, which replace the ids of
            users as they are read. Without it the ids stay.
        clean: which events are implausible or too few, and are removed.
        sql: the query or the table, if the source is the URL of a database.
        needs: what a column is for, by its name here, such as {"items.in_stock": "requests leave it
            out at 0"}. The error about a missing column says so.
        sessions: makes sessions the users: an idle gap such as 30m, or the column of session ids.
    """

    source: Annotated[tuple[Annotated[str, not_empty()], ...], not_empty()]
    folder: str | None = None
    sql: Annotated[str, not_empty()] | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    users: str | None = None
    items: str | None = None
    pseudonyms: Annotated[str, not_empty()] | None = None
    clean: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sessions: Annotated[str, not_empty()] | None = None
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("columns", "clean", "needs"):
            if not isinstance(getattr(self, name), Mapping):
                raise ParameterError(f"`{name}`={getattr(self, name)!r}; use a mapping.", name)
        refuse_passwords({"source": self.source})
        CleaningRules.from_dict(self.clean)
        if self.sessions is not None and is_gap(self.sessions):
            seconds_of(self.sessions, "sessions")
        for name in ("columns", "needs"):
            for ours, text in getattr(self, name).items():
                check(f"{name}.{ours}", text, of_type(str))


def refuse_passwords(data: Mapping[str, Any]) -> None:
    """Raises ParameterError if a source of the data is the URL of a database with a password."""
    sources = data.get("source") or ()
    for source in (sources,) if isinstance(sources, str) else sources:
        if is_database(source):
            refuse_password(source)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with the values of `over`. Nested mappings are merged in the same way."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def single_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each single setting with its dotted name, as ("split.protocol", "time")."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and key not in MAPPINGS:
            yield from single_settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
