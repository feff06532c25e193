"""A run folder: everything about one training, from its settings to its report.

    run.json          the settings: data, split, seed and strategy
    training/         checkpoints, TensorBoard logs, history.jsonl
    model/            the fitted model, as `tfrec_meta.save` writes it
    evaluation.json   the evaluation of the model and its baselines
    final/            the same strategy, refitted on all events: training/, model/ and data.sha256,
                      the digest of these events
    report.html       the report
    distillation.html the comparison of a student with its teacher

The folder is enough to continue a run: data and split are made again from `run.json`. Reading
settings, data and histories needs no TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrec_meta.checks import check, whole_number
from tfrec_meta.data import Split
from tfrec_meta.io.damage import DamagedFile, read_json, read_json_lines, reading
from tfrec_meta.io.digests import digest_of
from tfrec_meta.io.files import remove, write_text
from tfrec_meta.io.locks import locked_folder
from tfrec_meta.io.stores import local_path
from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
from tfrec_meta.workflows.configs.split_settings import resolved_split
from tfrec_meta.workflows.known_events import KnownEvents
from tfrec_meta.workflows.run_settings import (
    DEFAULTS,
    Settings,
    checked_settings,
    complete_settings,
    refuse_passwords,
    single_settings,
    split_of,
)

if TYPE_CHECKING:
    from tfrec_meta.evaluation import Evaluations
    from tfrec_meta.models import Recommender
    from tfrec_meta.strategy import Strategy
    from tfrec_meta.workflows.distill import Distillation

_TRAIN_AGAIN = "Train the run again, in a new folder or with --overwrite"
_RESULTS = ("evaluation.json", "report.html", "distillation.html", "final")
_FORMAT = 2  # of run.json; 1 was that of tfrec-meta 0.1


@dataclasses.dataclass(frozen=True)
class Run:
    """One run on disk.

    Attributes:
        folder: the run folder.
        settings: the settings in `run.json`, in the form of `DEFAULTS`.
    """

    folder: Path
    settings: Settings

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Opens an existing run.

        Raises:
            FileNotFoundError: if the folder has no `run.json`.
            ValueError: if its `run.json` is damaged, or was written by another version.
        """
        folder = local_path(folder, "a run folder")
        path = folder / "run.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} is not a run folder: it has no run.json. Train a run: tfrec-meta train "
                f"--run {folder}"
            )
        record = read_json(path, _TRAIN_AGAIN)
        if record.get("format") != _FORMAT:
            writer = "tfrec-meta 0.1" if record.get("format") == 1 else "another version"
            raise ValueError(
                f"{path} was written by {writer}: its format is {record.get('format')}, and this "
                f"version reads format {_FORMAT}. Train the run again, in a new folder or with "
                "--overwrite."
            )
        missing = sorted(set(DEFAULTS) - set(record))
        if missing:
            raise DamagedFile(path, f"it has no {', '.join(map(repr, missing))}", _TRAIN_AGAIN)
        with reading(path, _TRAIN_AGAIN):
            settings = checked_settings({key: record[key] for key in DEFAULTS})
        if settings["split"]["protocol"] is None:  # only a new run lets the data decide
            raise DamagedFile(path, "its split has no protocol", _TRAIN_AGAIN)
        return cls(folder, settings)

    @classmethod
    def begin(
        cls, folder: Path | str, given: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> Run:
        """Begins a new run, or opens the run in `folder` to continue it.

        Args:
            folder: the run folder.
            given: settings in the form of `DEFAULTS`. A missing setting has its default, or in an
                existing run the value in its `run.json`. The run stores the protocol of the split
                that the data decides.
            overwrite: whether to replace an existing run.

        Raises:
            ValueError: if `folder` holds a run with another value of a given setting, or the
                settings are impossible. Nothing is written then.
        """
        folder = local_path(folder, "a run folder")
        given = json.loads(json.dumps(given or {}))
        begun = (folder / "run.json").is_file()
        for name in ("model", "training"):
            if not begun and (folder / name).exists():
                raise ValueError(
                    f"{folder} is not a run folder, but has a folder {name!r}, which a run would "
                    "replace. Use another folder."
                )
        if begun and not overwrite:
            run = cls.open(folder)
            run.refuse_other(given, "Use another folder, or --overwrite to replace that run.")
            return run
        settings = complete_settings(given)
        run = cls(folder, settings)
        # Errors in the data are raised before anything is written.
        settings["split"] = resolved_split(settings["split"], run.split.data)
        settings["strategy"] = run.strategy.as_dict()
        with locked_folder(folder):
            if overwrite or not (folder / "run.json").is_file():
                for name in (*_RESULTS, "model", "training"):
                    remove(folder / name)
                _write_json(folder / "run.json", {"format": _FORMAT, **settings})
                return run
        return cls.begin(folder, given)  # another process began it in the meantime

    def refuse_other(self, given: Mapping[str, Any], way_out: str) -> None:
        """Raises ValueError, with the way out, if the run has another value of a given setting."""
        refuse_passwords(given.get("data") or {})
        recorded = dict(single_settings(self.settings))
        for key, value in single_settings(json.loads(json.dumps(given))):
            if recorded.get(key) != value:
                raise ValueError(
                    f"{self.folder} holds a run with {key}={recorded.get(key)!r}, not {value!r}. "
                    f"{way_out}"
                )

    @property
    def strategy(self) -> Strategy:
        """The strategy of the model."""
        from tfrec_meta.strategy import Strategy

        return Strategy.from_dict(self.settings["strategy"])

    @cached_property
    def split(self) -> Split:
        """Data and split, made again from the settings."""
        return split_of(self.settings)

    @property
    def is_trained(self) -> bool:
        """Whether the folder has the fitted model."""
        return (self.folder / "model").is_dir()

    def distill(
        self, teachers: Sequence[Run | str], compare: bool = True, resamples: int = 1000
    ) -> Distillation:
        """Trains and saves the model as the student of teachers; resumes a stopped training.

        While another process uses the run, this one waits.

        Args:
            teachers: runs, whose models teach, or names, as in `tfrec_meta.distill`.
            compare: as in `tfrec_meta.distill`. The comparison is written to `distillation.html`.
            resamples: as in `tfrec_meta.distill`.
        """
        from tfrec_meta.workflows.distill import distill

        with self._locked():
            found = distill(
                self.split,
                [each if isinstance(each, str) else each.model() for each in teachers],
                self.strategy,
                compare=compare,
                folder=self.folder / "training",
                resamples=resamples,
            )
            found.student.save(self.folder / "model", overwrite=True)
            if found.report is not None:
                names = [each if isinstance(each, str) else str(each.folder) for each in teachers]
                found.report.write(self.distillation_page, f"{' + '.join(names)} and a student")
        return found

    @property
    def distillation_page(self) -> Path:
        """Where `distill` writes its page."""
        return self.folder / "distillation.html"

    def train(self) -> Recommender:
        """Trains and saves the model; resumes a training that was stopped.

        While another process uses the run, this one waits; it then returns the trained model.
        """
        from tfrec_meta.workflows.train import train

        with self._locked() as waited:
            if waited and self.is_trained:
                return self.model()
            with reading(self.folder / "run.json", _TRAIN_AGAIN):
                strategy = self.strategy
            model = train(
                self.split,
                strategy,
                folder=self.folder / "training",
                recommend_history=self.settings["recommend_history"],
            )
            model.save(self.folder / "model", overwrite=True)
        return model

    def refit(self) -> Recommender:
        """Trains the strategy on all events, test events included, and saves the model in `final`.

        The number of epochs is that of the run's best epoch. An earlier refit on the same data is
        returned, and a stopped one is resumed; a refit on other data is replaced. The evaluation of
        the run stays that of the judged model.

        Raises:
            FileNotFoundError: if the training did not end.
            ValueError: if the model learned from teachers that the run does not have.
        """
        from tfrec_meta.workflows.train import refit

        with self._locked():
            judged = self.model()
            if self._learned_from_others:
                raise ValueError(
                    f"The model of {self.folder} is a student of teachers that the run does not "
                    "have, so it cannot be refitted. Train teachers and student on all events with "
                    "`tfrec_meta.distill`, or export the model as it is."
                )
            if self.is_refitted:
                return self._load(self._final)
            if not self._final_has_the_data:
                remove(self._final)
                write_text(self._digest_file, self._digest)
            model = refit(judged, self.split, self.strategy, folder=self._final / "training")
            model.save(self._final / "model", overwrite=True)
        return model

    @property
    def is_refitted(self) -> bool:
        """Whether the folder has the model that was refitted on all events of the present data."""
        return (self._final / "model").is_dir() and self._final_has_the_data

    @property
    def _final(self) -> Path:
        return self.folder / "final"

    @property
    def _digest_file(self) -> Path:
        return self._final / "data.sha256"

    @property
    def _final_has_the_data(self) -> bool:
        """Whether a refit, finished or stopped, began with the present data."""
        path = self._digest_file
        return path.is_file() and path.read_bytes() == self._digest.encode()

    @cached_property
    def _digest(self) -> str:
        """A digest of all events and of the tables of users and items."""
        data = self.split.data
        tables = [table for table in (data.users, data.items) if table is not None]
        return digest_of(data.digest().encode(), *(repr(t.to_pydict()).encode() for t in tables))

    @property
    def _learned_from_others(self) -> bool:
        """Whether the model was distilled from teachers that its strategy does not name."""
        path = self.folder / "training" / "run.json"
        if not path.is_file() or self.strategy.teacher is not None:
            return False
        return read_json(path, _TRAIN_AGAIN).get("data", {}).get("teacher") is not None

    @property
    def _settings_with_teachers(self) -> Settings:
        """The settings, which name teachers also if `distill` was given them."""
        strategy = self.settings["strategy"]
        given = {"teacher": "given to distill"} if self._learned_from_others else {}
        return {**self.settings, "strategy": {**strategy, **given}}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Holds the lock of the run; yields whether it had to wait.

        Raises:
            ValueError: if another process has replaced the run.
        """
        with locked_folder(self.folder) as waited:
            present = Run.open(self.folder).settings
            if json.dumps(present, sort_keys=True) != json.dumps(self.settings, sort_keys=True):
                raise ValueError(
                    f"{self.folder} was replaced by another process in the meantime. Use another "
                    "folder for this run."
                )
            yield waited

    def check_trained(self) -> None:
        """Raises FileNotFoundError if the training did not end."""
        if not self.is_trained:
            raise FileNotFoundError(
                f"{self.folder} has no model yet. Train it: tfrec-meta train --run {self.folder}"
            )

    def model(self) -> Recommender:
        """Loads the fitted model, with its learning curve.

        Raises:
            FileNotFoundError: if the training did not end.
        """
        self.check_trained()
        return self._load(self.folder)

    def _load(self, folder: Path) -> Recommender:
        """Loads the model in a folder with `model` and `training`."""
        from tfrec_meta.models import load_model

        try:
            model = load_model(folder / "model")
        except (ValueError, FileNotFoundError) as error:
            command = "export --final" if folder == self._final else "train"
            raise ValueError(
                f"{error} If the run folder is damaged: remove {folder / 'model'}, and run "
                f"tfrec-meta {command} --run {self.folder}, which resumes from its checkpoints."
            ) from error
        _add_curves(model, folder / "training")
        return model

    def evaluate(
        self, settings: EvaluationSettings, recommend_history: bool = False
    ) -> Evaluations:
        """Evaluates the model and its baselines, and stores the result in `evaluation.json`.

        The ratings or clicks that the model predicts, if any, are also evaluated.

        Args:
            settings: how the run is evaluated.
            recommend_history: as in `tfrec_meta.evaluate`; also on if it is a setting of the run.
        """
        with self._locked():
            return self._evaluate(settings, recommend_history)

    def _evaluate(
        self, settings: EvaluationSettings, recommend_history: bool = False
    ) -> Evaluations:
        from tfrec_meta.workflows.evaluate import evaluate, evaluate_predictions

        model = self.model()
        found = evaluate(
            model,
            self.split,
            **vars(settings),
            recommend_history=recommend_history or self.settings["recommend_history"],
        )
        if model.targets:
            resamples = settings.resamples
            found.predictions = evaluate_predictions(model, self.split, resamples=resamples)
        record = {"k": settings.k, "split": self.split.description, **found.as_dict()}
        _write_json(self.folder / "evaluation.json", record)
        return found

    def evaluations(self) -> Evaluations | None:
        """Reads the stored evaluation, without the values per user; None if there is none."""
        path = self.folder / "evaluation.json"
        if not path.is_file():
            return None
        from tfrec_meta.evaluation import Evaluations

        way_out = f"Evaluate the run again: tfrec-meta evaluate --run {self.folder}"
        record = read_json(path, way_out)
        with reading(path, way_out):
            return Evaluations.from_dict(record)

    def report(
        self, path: Path | str | None = None, users: Sequence[str] = (), k: int = 10
    ) -> Path:
        """Writes the HTML report; evaluates the run first if it has no evaluation.

        Args:
            path: the file; by default `report.html` in the run folder.
            users: as in `tfrec_meta.report`.
            k: as in `tfrec_meta.report`.

        Returns:
            The path of the file.
        """
        from tfrec_meta.workflows.report import check_users, report

        check("k", k, whole_number(1))  # before the evaluation, which takes time
        users = [self.known_events.user_id(user) for user in users]
        check_users(self.split, users)
        with self._locked():
            model = self.model()
            # Of a small catalogue, all items are ranked.
            settings = EvaluationSettings(k=min(10, model.spec.catalogue_size))
            found = self.evaluations() or self._evaluate(settings)
            return report(
                self.folder / "report.html" if path is None else path,
                model,
                self.split,
                found,
                users=users,
                k=k,
                recommend_history=self.settings["recommend_history"],
                settings=self._settings_with_teachers,
            )

    @property
    def known_events(self) -> KnownEvents:
        """The events of train and validation, and after a refit all events, for requests.

        The run does not know which of its models is served: after a refit, requests to a served
        judged model have the test events as well.
        """
        key_env = self.settings["data"].get("pseudonyms")
        refitted = (self._final / "model").is_dir()
        events = self.split.data if refitted else self.split.past
        return KnownEvents(events, self.split.data, key_env)


def _add_curves(model: Recommender, folder: Path) -> None:
    """Gives a model and its members the learning curves of the folder of their training."""
    path = folder / "history.jsonl"
    if path.is_file():
        way_out = "Remove the file to go on without the learning curve"
        model.curve = tuple(read_json_lines(path, way_out))
    for number, member in enumerate(model.members):
        _add_curves(member, folder / "members" / str(number))


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(record, indent=1) + "\n")
