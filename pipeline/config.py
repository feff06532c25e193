"""Everything that a run of the pipeline needs, in one frozen config; no TFX is imported here."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from tfrec_meta import __version__
from tfrec_meta.data.protocols import SplitProtocol

_Config = TypeVar("_Config")

VERSION = "version"  # key of the package's version in execution properties
SPLITS = tuple(
    protocol.value
    for protocol in (SplitProtocol.TIME, SplitProtocol.LEAVE_LAST_OUT, SplitProtocol.COLD_USERS)
)
ORACLES = ("meta_bayesian", "meta_hyperband", "bayesian", "hyperband", "random", "grid")


def _check(fits: bool, name: str, value: Any, use: str) -> None:
    if not fits:
        raise ValueError(f"`{name}`={value!r}; use {use}.")


def _one_of(name: str, value: Any, known: Sequence[str]) -> None:
    _check(value in known, name, value, " or ".join(map(repr, known)))


def _check_folder(name: str, value: str) -> None:
    if "://" in value:
        raise ValueError(
            f"`{name}`={value!r} is a URL; use a path in a file system that all workers share, "
            "mounted if need be."
        )


def _at_least(config: Any, **least: int) -> None:
    for name, minimum in least.items():
        value = getattr(config, name)
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        _check(fits, name, value, f"a whole number, {minimum} or more")


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Where one table lies.

    Args:
        path: a file or a glob pattern; `{SPAN}` and `{VERSION}` in it stand for numbers, of which
            a run takes the highest. A span is a whole snapshot of the table, not what was added
            since the last one. Of CSV files (.csv, .tsv, with .gz too) and Parquet files, in a file
            system that all workers share.
        columns: our name -> the name in the files. `user_id`, `item_id`, `time` and `value` of the
            interactions, `user_id` of the users, `item_id` of the items, wherever they are named
            otherwise. Further columns keep their names.
        lists: what parts the entries of one cell, by column of a CSV file, as {"genres": "|"}.
    """

    path: str
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lists: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("`path` is empty; name a file or a pattern.")
        _check_folder("path", self.path)
        if "{VERSION}" in self.path and "{SPAN}" not in self.path:
            raise ValueError(f"`path`={self.path!r} has a {{VERSION}}, but no {{SPAN}}.")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The three inputs, and what is demanded of them.

    Args:
        interactions: one row an event.
        users: one row a user; None where nothing is known of them.
        items: one row an item; None where nothing is known of them.
        time_unit: of numeric times.
        schemas: a folder of curated schemas, `<table>.pbtxt`; None keeps to those that were last
            accepted, and infers them in the very first run.
        max_drift: how far a feature may move between spans: the Jensen-Shannon divergence of
            numbers, the largest change of a share (L-infinity) of categories, and of either the
            change of the share of rows with a value.
        drift: `max_drift` of single features, as {"users.age": 0.1}.
        max_split_drift: how far values, context and users' attributes may move from train to
            validation and to test, by the same measures; None compares no splits.
        split_drift: `max_split_drift` of single features.
        warn_new_ids: share of events with a user or an item new to the pipeline, over which the
            gate warns; new ids are never an anomaly.
    """

    interactions: TableConfig
    users: TableConfig | None = None
    items: TableConfig | None = None
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    schemas: str | None = None
    max_drift: float = 0.3
    drift: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_split_drift: float | None = 0.3
    split_drift: Mapping[str, float] = dataclasses.field(default_factory=dict)
    warn_new_ids: float = 0.5

    def __post_init__(self) -> None:
        _one_of("time_unit", self.time_unit, ("s", "ms", "us", "ns"))
        limits = [("max_drift", self.max_drift), *self.drift.items(), *self.split_drift.items()]
        if self.max_split_drift is not None:
            limits.append(("max_split_drift", self.max_split_drift))
        for name, value in limits:
            _check(0 < value <= 1, name, value, "a number above 0, up to 1")
        _check(0 <= self.warn_new_ids <= 1, "warn_new_ids", self.warn_new_ids, "a share")

    @property
    def tables(self) -> dict[str, TableConfig]:
        """The tables that there are, by name."""
        found = {name: getattr(self, name) for name in ("interactions", "users", "items")}
        return {name: table for name, table in found.items() if table is not None}


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """How events become train, validation and test.

    Args:
        protocol: "time", "leave-last-out", or "cold-users", which holds out whole users, and
            needs a users table.
        train: share of the events (of the users, if cold).
        validation: share of these; leave-last-out takes one event a user instead.
        history_length: the latest earlier items of the user that each event carries.
        partitions: into how many parts Beam divides the users; each must fit into memory.
    """

    protocol: Literal["time", "leave-last-out", "cold-users"] = "time"
    train: float = 0.8
    validation: float = 0.1
    history_length: int = 200
    partitions: int = 16

    def __post_init__(self) -> None:
        _one_of("protocol", self.protocol, SPLITS)
        _check(0 < self.train < 1, "train", self.train, "a share between 0 and 1")
        _check(0 < self.validation < 1, "validation", self.validation, "a share between 0 and 1")
        if self.train + self.validation >= 1:
            raise ValueError(
                f"`train`={self.train} and `validation`={self.validation} leave nothing for the "
                "test; keep their sum below 1."
            )
        _at_least(self, history_length=1, partitions=1)

    def told(self, seed: int) -> str:
        """What decides on the part that an event comes into, in words.

        Where it is the same, what an earlier model learnt from is not among the test rows of today.
        """
        if self.protocol == SplitProtocol.LEAVE_LAST_OUT:
            return self.protocol
        shares = f"{self.protocol}, train {self.train:g}, validation {self.validation:g}"
        return f"{shares}, seed {seed}" if self.protocol == SplitProtocol.COLD_USERS else shares


@dataclasses.dataclass(frozen=True)
class TunerConfig:
    """The search for a strategy.

    Args:
        enabled: whether to search; otherwise the last best strategy is taken, if there is one.
        oracle: "meta_bayesian" or "meta_hyperband", which learn from earlier runs; or KerasTuner's
            own "bayesian", "hyperband", "random" or "grid".
        trials: how many are tried at most; of a hyperband, `trials` limits the whole search, too.
        families: keys of `tfrec_meta.models.FAMILIES` to choose from.
        epochs: of one trial, at most.
        fixed: hyperparameters that are not to be searched, by their names in the space.
        trial_seconds: that a trial may take, else it counts as the worst; None for any.
        store: the folder of the studies that runs learn from, which the search reads and adds to;
            by default `studies` in the pipeline's own folder. What is in it is no input: it takes
            no node out of the cache.
    """

    enabled: bool = True
    oracle: Literal[
        "meta_bayesian", "meta_hyperband", "bayesian", "hyperband", "random", "grid"
    ] = "meta_bayesian"
    trials: int = 6
    families: tuple[str, ...] = ("two_tower",)
    epochs: int = 8
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trial_seconds: float | None = None
    store: str | None = None

    def __post_init__(self) -> None:
        _one_of("oracle", self.oracle, ORACLES)
        _at_least(self, trials=1, epochs=1)
        fits = self.trial_seconds is None or self.trial_seconds > 0
        _check(fits, "trial_seconds", self.trial_seconds, "seconds above 0, or null")
        if self.store is not None:
            _check_folder("store", self.store)
        if not self.families:
            raise ValueError("`families` is empty; name at least one.")


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """The training of the candidate.

    Args:
        strategy: what `tfrec_meta.Strategy.from_dict` takes; what the tuner found goes over it.
        warm_start: whether training begins with the last blessed model's weights, rows matched by
            token; only where families and shapes are alike.
        export: fields of `ExportConfig`.
    """

    strategy: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warm_start: bool = False
    export: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EvaluatorConfig:
    """What a model needs to be blessed.

    Args:
        k: length of the list.
        confidence: of the paired bootstrap's intervals.
        resamples: of the bootstrap.
        new_user_events: users with at most so many earlier events are the slice "new users".
        long_tail: share of the events that the slice "long-tail items" holds, rarest items first.
        min_ndcg: the least NDCG@k on the whole.
        min_recall: the least recall@k on the whole.
        positive: an event of at least this value is a positive for AUC and calibration; None
            leaves TFMA out.
        min_auc: the least AUC of the ranking signature; None asks nothing of it.
        slices: event and user columns by whose values TFMA slices.
    """

    k: int = 10
    confidence: float = 0.95
    resamples: int = 1000
    new_user_events: int = 10
    long_tail: float = 0.2
    min_ndcg: float = 0.0
    min_recall: float = 0.0
    positive: float | None = None
    min_auc: float | None = None
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _at_least(self, k=1, resamples=100, new_user_events=0)
        _check(0.5 <= self.confidence < 1, "confidence", self.confidence, "0.5 up to below 1")
        _check(0 < self.long_tail < 1, "long_tail", self.long_tail, "a share between 0 and 1")
        if self.min_auc is not None and self.positive is None:
            raise ValueError("`min_auc` needs `positive`, the value from which an event counts.")


@dataclasses.dataclass(frozen=True)
class InfraValidatorConfig:
    """The candidate is loaded and asked before it goes out.

    Args:
        server: "local", the product's own server in a process of its own, or "docker", TF Serving's
            image by TFX's runner.
        image: of "docker".
        requests: sample requests that it has to answer, beside the warm-up.
        seconds: for loading and answering together.
        memory_mb: of the server's process.
    """

    server: Literal["local", "docker"] = "local"
    image: str = "tensorflow/serving:latest"
    requests: int = 20
    seconds: int = 120
    memory_mb: int = 8192

    def __post_init__(self) -> None:
        _one_of("server", self.server, ("local", "docker"))
        _at_least(self, requests=1, seconds=1, memory_mb=256)


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """One pipeline.

    Args:
        name: of the pipeline, and of its folder below `root`.
        data: the three inputs.
        serving: the folder of the served model, which TF Serving watches; its name is the model's.
        root: where runs, artifacts and metadata live; like `serving` a folder of a file system that
            all workers share.
        split: how events become train, validation and test.
        tuner: the search.
        trainer: the training.
        evaluator: the blessing.
        infra_validator: the try-out.
        materialize: whether Transform writes encoded examples, for trainers of your own.
        cache: whether nodes whose inputs are unchanged are taken from an earlier run.
        metadata: "sqlite", or "mysql" or "postgresql" with host, port, database, user and password
            from TFREC_META_METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD.
        beam: arguments for Beam, such as "--runner=FlinkRunner".
        seed: of everything.
    """

    name: str
    data: DataConfig
    serving: str
    root: str = ".runs"
    split: SplitConfig = SplitConfig()
    tuner: TunerConfig = TunerConfig()
    trainer: TrainerConfig = TrainerConfig()
    evaluator: EvaluatorConfig = EvaluatorConfig()
    infra_validator: InfraValidatorConfig = InfraValidatorConfig()
    materialize: bool = False
    cache: bool = True
    metadata: Literal["sqlite", "mysql", "postgresql"] = "sqlite"
    beam: tuple[str, ...] = ()
    seed: int = 42

    def __post_init__(self) -> None:
        # It names a folder, a DAG and metadata contexts.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise ValueError(f"`name`={self.name!r}; use letters, digits, '_', '-' and '.'.")
        if not self.serving:
            raise ValueError("`serving` is empty; name the folder that TF Serving watches.")
        _check_folder("serving", self.serving)
        _check_folder("root", self.root)
        if self.split.protocol == SplitProtocol.COLD_USERS and self.data.users is None:
            raise ValueError(
                "`split.protocol`='cold-users' needs `data.users`: held-out users can be told "
                "apart by their features only. Name such a table, or use another protocol."
            )
        _one_of("metadata", self.metadata, ("sqlite", "mysql", "postgresql"))
        _at_least(self, seed=0)

    @property
    def folder(self) -> Path:
        """Where this pipeline keeps everything: artifacts, metadata, studies, run pages."""
        return Path(self.root).absolute() / self.name

    @classmethod
    def read(cls, path: Path | str, overrides: Sequence[str] = ()) -> Self:
        """Reads a YAML file; `overrides` such as "tuner.trials=3" go over it.

        Relative paths in the file are relative to the working directory, as on a command line.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: for a key or a value that makes no sense, by name.
        """
        record = _yaml(Path(path).read_text(encoding="utf-8"), str(path))
        if not isinstance(record, dict):
            raise ValueError(f"{path} holds no mapping of settings.")
        for override in overrides:
            key, equals, text = override.partition("=")
            if not equals:
                raise ValueError(f"{override!r} is no setting; write key=value.")
            _set(record, key.strip().split("."), _yaml(text, override))
        return cls.from_dict(record)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Reads plain values; what is left out has its default.

        Raises:
            ValueError: for a key or a value that makes no sense, by name.
        """
        return _made(cls, record, "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, which `from_dict` takes back."""
        return dataclasses.asdict(self)


def as_json(config: Any) -> str:
    """A part of the config as an execution property: the same text for the same values.

    The package's version is a part of it, so that nothing of another one comes from the cache.
    """
    return json.dumps({VERSION: __version__, **dataclasses.asdict(config)}, sort_keys=True)


def from_json(kind: type[_Config], text: str) -> _Config:
    """Takes back what `as_json` gave."""
    record = json.loads(text)
    record.pop(VERSION)
    return _made(kind, record, "")


def _made(kind: type[_Config], record: Any, where: str) -> _Config:
    """A config from plain values; nested ones too. `where` is the path to it, for messages."""
    if not isinstance(record, Mapping):
        raise ValueError(
            f"`{where.rstrip('.') or kind.__name__}` is {record!r}; give a mapping of settings."
        )
    hints = typing.get_type_hints(kind)
    unknown = [str(key) for key in record if key not in hints]
    if unknown:
        named = ", ".join(f"`{where}{key}`" for key in unknown)
        raise ValueError(f"There is no setting {named}; there are {', '.join(hints)}.")
    values: dict[str, Any] = {}
    for key, value in record.items():
        path = f"{where}{key}"
        wanted = [t for t in (hints[key], *typing.get_args(hints[key])) if _is_config(t)]
        if wanted and value is not None:
            values[key] = _made(wanted[0], value, f"{path}.")
        else:
            values[key] = _checked(hints[key], value, path)
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{', '.join(f'`{where}{name}`' for name in missing)} must be given.")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(
            f"{where}{error}" if not where else f"In `{where[:-1]}`: {error}"
        ) from None


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _checked(kind: Any, value: Any, path: str) -> Any:
    """A plain value of the wanted type; YAML gives lists for tuples and ints for floats."""
    options = typing.get_args(kind) if typing.get_origin(kind) is not tuple else ()
    origin = typing.get_origin(kind) or kind
    if type(None) in options:
        if value is None:
            return None
        (kind,) = (option for option in options if option is not type(None))
        return _checked(kind, value, path)
    if origin is typing.Literal:
        return value  # the config itself says what there is
    fits = {
        str: lambda: isinstance(value, str),
        bool: lambda: isinstance(value, bool),
        int: lambda: isinstance(value, int) and not isinstance(value, bool),
        float: lambda: (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ),
        tuple: lambda: isinstance(value, list | tuple) and all(isinstance(v, str) for v in value),
    }
    words = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    if origin in fits and not fits[origin]():
        raise ValueError(f"`{path}`={value!r}; give {words.get(origin, 'a list of texts')}.")
    if origin not in fits and not isinstance(value, Mapping):
        raise ValueError(f"`{path}`={value!r}; give a mapping.")
    if origin is tuple:
        return tuple(value)
    return float(value) if origin is float else value


def _yaml(text: str, source: str) -> Any:
    import yaml  # a parser, not needed where a config is made in Python

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is no YAML: {error}") from error


def _set(record: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for depth, key in enumerate(keys[:-1]):
        inner = record.setdefault(key, {})
        if inner is None:
            inner = record[key] = {}
        if not isinstance(inner, dict):
            raise ValueError(f"`{'.'.join(keys[: depth + 1])}` is {inner!r}, no group of settings.")
        record = inner
    record[keys[-1]] = value
