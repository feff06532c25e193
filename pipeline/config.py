"""The frozen configuration of a pipeline. This module does not import TFX.

Example:
    >>> from tfrec_meta.pipeline.config import PipelineConfig
    >>> from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig
    >>> events = TableConfig("lake/events/span-{SPAN}/*.parquet")
    >>> config = PipelineConfig("films", DataConfig(events), serving="models/films")
    >>> config.split.train
    0.8
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from tfrec_meta.checks import (
    Interval,
    Seed,
    above,
    check_fields,
    not_empty,
    one_of,
    whole_number,
)
from tfrec_meta.data.feedback import Feedback
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.io.stores import is_url
from tfrec_meta.io.yaml_text import parse_yaml, read_yaml
from tfrec_meta.pipeline.config_values import config_from, override
from tfrec_meta.pipeline.configs.beam_config import BeamConfig
from tfrec_meta.pipeline.configs.data_config import DataConfig, check_folder

# The protocols that Histories implements.
_PROTOCOLS = (
    SplitProtocol.TIME.value,
    SplitProtocol.LEAVE_LAST_OUT.value,
    SplitProtocol.COLD_USERS.value,
)
_SHARE = Interval(0, 1, "a share between 0 and 1", open_low=True, open_high=True)
Share = Annotated[float, _SHARE]


FEEDBACK = "feedback"  # value of `EvaluatorConfig.positive`


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """The split of the events into train, validation and test.

    Args:
        protocol: "time", "leave-last-out", or "cold-users", which holds out all events of some
            users and needs a users table.
        train: share of the events (for "cold-users": of the users).
        validation: share of the same; "leave-last-out" holds out one event per user instead.
        history_length: the number of the user's latest earlier items that each event carries.
        partitions: the number of parts into which Beam divides the users; each must fit into
            memory.
    """

    protocol: Annotated[SplitProtocol, one_of(_PROTOCOLS)] = SplitProtocol.TIME
    train: Share = 0.8
    validation: Share = 0.1
    history_length: Annotated[int, whole_number(1)] = 200
    partitions: Annotated[int, whole_number(1)] = 16

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "protocol", SplitProtocol(self.protocol))
        if self.train + self.validation >= 1:
            raise ValueError(
                f"`train`={self.train} and `validation`={self.validation} leave no events for "
                "the test split; use shares with a sum below 1."
            )

    def identity(
        self, seed: int, feedback: Feedback | None = None, sessions: str | None = None
    ) -> str:
        """Returns the settings that determine the split of an event, as JSON.

        If they are equal, no event of a model's training data is in the test split of another run.
        The target of declared feedback is one of them, except for the split of users, and so are
        the sessions, except for the split by time.
        """
        settings: dict[str, Any] = {"protocol": self.protocol}
        if self.protocol != SplitProtocol.LEAVE_LAST_OUT:
            settings |= {"train": self.train, "validation": self.validation}
        if self.protocol == SplitProtocol.COLD_USERS:
            settings["seed"] = seed
        elif feedback is not None and feedback.target is not None:
            settings["target"] = [feedback.event_type, *sorted(feedback.target)]
        if sessions is not None and self.protocol != SplitProtocol.TIME:
            settings["sessions"] = sessions
        return json.dumps(settings, sort_keys=True)


@dataclasses.dataclass(frozen=True)
class TunerConfig:
    """The search for a strategy.

    Args:
        enabled: whether to search; otherwise the best strategy of the last search is used, if any.
        oracle: "meta_bayesian" or "meta_hyperband", which learn from earlier runs; or KerasTuner's
            "bayesian", "hyperband", "random" or "grid".
        trials: the largest number of trials; for "hyperband" it limits the complete search too.
        families: keys of `tfrec_meta.models.FAMILIES` to choose from.
        epochs: the largest number of epochs of a trial.
        fixed: hyperparameters that are not searched, by their names in the search space.
        trial_seconds: time limit of a trial; a trial that exceeds it is scored as the worst. By
            default, ten times the longest completed trial, and at least ten minutes.
        store: folder of the studies that the search reads and extends; by default `studies` in the
            pipeline's folder. Its content is not an input of the node: it invalidates no cache
            entry.
    """

    enabled: bool = True
    oracle: Literal[
        "meta_bayesian", "meta_hyperband", "bayesian", "hyperband", "random", "grid"
    ] = "meta_bayesian"
    trials: Annotated[int, whole_number(1)] = 6
    families: Annotated[tuple[str, ...], not_empty()] = ("two_tower",)
    epochs: Annotated[int, whole_number(1)] = 8
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trial_seconds: Annotated[float, above(0)] | None = None
    store: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.store is not None:
            check_folder("store", self.store)


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """The training of the candidate.

    Args:
        strategy: the record for `tfrec_meta.Strategy.from_dict`; the tuner's result overrides it.
        warm_start: whether training starts from the last blessed model's weights, with rows matched
            by token; it needs the same family and shape.
        export: fields of `ExportConfig`.
    """

    strategy: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warm_start: bool = False
    export: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EvaluatorConfig:
    """The conditions for a blessing.

    Args:
        k: length of the recommended list.
        confidence: confidence level of the paired bootstrap's intervals.
        resamples: number of bootstrap samples.
        new_user_events: the slice "new users" has the users with at most this many earlier events.
        long_tail: the share of the events in the slice "long-tail items", rarest items first.
        min_ndcg: the smallest accepted NDCG@k over all users.
        min_recall: the smallest accepted recall@k over all users.
        positive: which events are positive for AUC and calibration: those with at least this value,
            or with "feedback" those that the declared feedback counts as positive. None skips TFMA.
        min_auc: the smallest accepted AUC of the ranking signature; None sets no condition.
        slices: event and user columns; TFMA computes its metrics for each of their values.
    """

    k: Annotated[int, whole_number(1)] = 10
    confidence: Annotated[float, Interval(0.5, 1, "0.5 up to below 1", open_high=True)] = 0.95
    resamples: Annotated[int, whole_number(100)] = 1000
    new_user_events: Annotated[int, whole_number(0)] = 10
    long_tail: Share = 0.2
    min_ndcg: float = 0.0
    min_recall: float = 0.0
    positive: float | Literal["feedback"] | None = None
    min_auc: float | None = None
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_auc is not None and self.positive is None:
            raise ValueError(
                "`min_auc` needs `positive`, the smallest value of a positive event; set it too."
            )
        if isinstance(self.positive, str) and self.positive != FEEDBACK:
            raise ValueError(f"`positive`={self.positive!r}; use a number, or {FEEDBACK!r}.")


@dataclasses.dataclass(frozen=True)
class InfraValidatorConfig:
    """The test of the candidate in a server before it is pushed.

    Args:
        server: "local" uses this package's server in a process of its own; "docker" uses TF
            Serving's image through TFX's runner.
        image: the image for "docker".
        requests: number of sample requests, in addition to the warm-up requests.
        seconds: time limit for loading and answering together.
        memory_mb: memory limit of the server's process.
    """

    server: Literal["local", "docker"] = "local"
    image: str = "tensorflow/serving:latest"
    requests: Annotated[int, whole_number(1)] = 20
    seconds: Annotated[int, whole_number(1)] = 120
    memory_mb: Annotated[int, whole_number(256)] = 8192

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """The configuration of one pipeline.

    Args:
        name: name of the pipeline, and of its folder below `root`.
        data: the input tables.
        serving: the folder of the served model, which TF Serving watches; its name is the model's.
            On an object store (s3://, gs://) the Pusher publishes there.
        root: folder of runs, artifacts and metadata; like `serving` in a file system that all
            workers share.
        feedback: how the events count, by their types and values, as `Interactions.with_feedback`
            declares it; None counts all events alike.
        recommend_history: whether items of the users' histories are ranked and recommended like all
            others, as for repeated purchases: in validation, in the ranking gate, and in the export
            unless `trainer.export` says otherwise.
        split: the split of the events.
        tuner: the search for a strategy.
        trainer: the training.
        evaluator: the conditions for a blessing.
        infra_validator: the test in a server.
        materialize: whether Transform writes encoded examples, for other trainers.
        cache: whether nodes with unchanged inputs are taken from an earlier run.
        metadata: "sqlite", or "mysql" or "postgresql" with host, port, database, user and password
            from TFREC_META_METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD.
        beam: the runner of Beam. A list of arguments for Beam stands for its `options`.
        seed: the seed of all random numbers.
    """

    name: str
    data: DataConfig
    serving: str
    root: str = ".runs"
    feedback: Feedback | None = None
    recommend_history: bool = False
    split: SplitConfig = SplitConfig()
    tuner: TunerConfig = TunerConfig()
    trainer: TrainerConfig = TrainerConfig()
    evaluator: EvaluatorConfig = EvaluatorConfig()
    infra_validator: InfraValidatorConfig = InfraValidatorConfig()
    materialize: bool = False
    cache: bool = True
    metadata: Literal["sqlite", "mysql", "postgresql"] = "sqlite"
    beam: BeamConfig = dataclasses.field(default_factory=BeamConfig)
    seed: Seed = 42

    def __post_init__(self) -> None:
        # The name is used for a folder, a DAG and metadata contexts.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise ValueError(f"`name`={self.name!r}; use letters, digits, '_', '-' and '.'.")
        if not self.serving:
            raise ValueError("`serving` is empty; use the folder that TF Serving watches.")
        if not is_url(self.serving):
            check_folder("serving", self.serving)
        check_folder("root", self.root)
        if self.split.protocol == SplitProtocol.COLD_USERS and "users" not in self.data.tables:
            raise ValueError(
                "`split.protocol`='cold-users' needs `data.users`: a model distinguishes held-out "
                "users by their features only. Set that table, or use another protocol, as with "
                "`data.sessions`, which leaves the table out."
            )
        if self.evaluator.positive == FEEDBACK and (
            self.feedback is None or self.feedback.positive is None
        ):
            raise ValueError(
                f"`evaluator.positive`={FEEDBACK!r}, but `feedback.positive` does not say which "
                "events are positive. Set it, or use a number."
            )
        check_fields(self)

    @property
    def folder(self) -> Path:
        """The folder of this pipeline's artifacts, metadata, studies and run pages."""
        return Path(self.root).absolute() / self.name

    @classmethod
    def read(cls, path: Path | str, overrides: Sequence[str] = ()) -> Self:
        """Reads a YAML file; `overrides` such as "tuner.trials=3" take precedence.

        Args:
            path: the config of a pipeline, or that of a run, which is read as by
                `from_run_config`. Relative paths in it are relative to the working directory.
            overrides: settings of the pipeline.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: for an unknown setting or an invalid value; the message names it.
        """
        from tfrec_meta.pipeline.configs.run_configs import is_run_config

        record = read_yaml(path)
        if is_run_config(record):
            return cls.from_run_config(path, overrides)
        return cls._overridden(record, overrides)

    @classmethod
    def from_run_config(cls, path: Path | str, overrides: Sequence[str] = ()) -> Self:
        """Reads the config of a run, as `tfrec-meta train --config` takes it.

        The pipeline has the same events, feedback, split, features and strategy as a run. Settings
        of the pipeline itself are in the group `pipeline` of the file, in the form of this class.
        Without them its name is that of the file, it serves `models/<name>`, and it trains the
        strategy without a search.

        Args:
            path: a YAML file. Relative paths in it are relative to the working directory.
            overrides: settings of the pipeline, such as "tuner.trials=3", which take precedence.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: for an unknown setting, an invalid value, or a setting that a pipeline does
                not have; the message names it.
        """
        from tfrec_meta.pipeline.configs.run_configs import pipeline_record

        record = pipeline_record(path)
        try:
            return cls._overridden(record, overrides)
        except ValueError as error:
            raise ValueError(f"{path}, as the config of a pipeline: {error}") from error

    @classmethod
    def _overridden(cls, record: dict[str, Any], overrides: Sequence[str]) -> Self:
        for setting in overrides:
            key, equals, text = setting.partition("=")
            if not equals:
                raise ValueError(f"{setting!r} is not a setting; use key=value.")
            override(record, key.strip().split("."), parse_yaml(text, setting))
        return cls.from_dict(record)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Returns a config from plain values; missing settings have their defaults.

        Raises:
            ValueError: for an unknown setting or an invalid value; the message names it.
        """
        if isinstance(record, Mapping) and isinstance(record.get("beam"), list | tuple):
            record = {**record, "beam": {"options": record["beam"]}}
        return config_from(cls, record)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for `from_dict`."""
        return dataclasses.asdict(self)
