"""A run folder: everything about one training, from its settings to its report.

    run.json          the settings: data, split, seed and strategy
    training/         checkpoints, TensorBoard logs, history.jsonl
    model/            the fitted model, as `tfrec_meta.save` writes it
    evaluation.json   the evaluation of the model and its baselines
    report.html       the report

The folder is enough to continue a run: data and split are made again from `run.json`. Reading
settings, data and histories needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrec_meta.data import Split, user_histories
from tfrec_meta.io.files import write_text
from tfrec_meta.workflows.run_settings import (
    DEFAULTS,
    Settings,
    complete_settings,
    fill_shares,
    read_data,
    single_settings,
    split_data,
)

if TYPE_CHECKING:
    from tfrec_meta.evaluation import Evaluations
    from tfrec_meta.models import Recommender
    from tfrec_meta.strategy import Strategy

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
        folder = Path(folder)
        path = folder / "run.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} is not a run folder: it has no run.json. Train a run: tfrec-meta train "
                f"--run {folder}"
            )
        record = _read_json(path)
        if record.get("format") != _FORMAT:
            writer = "tfrec-meta 0.1" if record.get("format") == 1 else "another version"
            raise ValueError(
                f"{path} was written by {writer}: its format is {record.get('format')}, and this "
                f"version reads format {_FORMAT}. Train the run again, in a new folder or with "
                "--overwrite."
            )
        settings = {key: record[key] for key in DEFAULTS}
        return cls(folder, {**settings, "split": fill_shares(settings["split"])})

    @classmethod
    def begin(
        cls, folder: Path | str, given: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> Run:
        """Begins a new run, or opens the run in `folder` to continue it.

        Args:
            folder: the run folder.
            given: settings in the form of `DEFAULTS`. A missing setting has its default, or in an
                existing run the value in its `run.json`.
            overwrite: whether to replace an existing run.

        Raises:
            ValueError: if `folder` holds a run with another value of a given setting, or the
                settings are impossible. Nothing is written then.
        """
        folder, given = Path(folder), json.loads(json.dumps(given or {}))
        begun = (folder / "run.json").is_file()
        for name in ("model", "training"):
            if not begun and (folder / name).exists():
                raise ValueError(
                    f"{folder} is not a run folder, but has a folder {name!r}, which a run would "
                    "replace. Use another folder."
                )
        if begun and not overwrite:
            run = cls.open(folder)
            recorded = dict(single_settings(run.settings))
            for key, value in single_settings(given):
                if recorded.get(key) != value:
                    raise ValueError(
                        f"{folder} holds a run with {key}={recorded.get(key)!r}, not {value!r}. "
                        "Use another folder, or --overwrite to replace that run."
                    )
            return run
        settings = complete_settings(given)
        run = cls(folder, settings)
        _ = run.split  # errors in the data are raised before anything is written
        settings["strategy"] = run.strategy.as_dict()
        if begun:
            for name in ("evaluation.json", "report.html"):
                (folder / name).unlink(missing_ok=True)
            for name in ("model", "training"):
                shutil.rmtree(folder / name, ignore_errors=True)
        _write_json(folder / "run.json", {"format": _FORMAT, **settings})
        return run

    @property
    def strategy(self) -> Strategy:
        """The strategy of the model."""
        from tfrec_meta.strategy import Strategy

        return Strategy.from_dict(self.settings["strategy"])

    @cached_property
    def split(self) -> Split:
        """Data and split, made again from the settings."""
        seed = self.settings["seed"]
        data = read_data(self.settings["data"], seed, self.settings["feedback"])
        return split_data(data, self.settings["split"], seed)

    @property
    def is_trained(self) -> bool:
        """Whether the folder has the fitted model."""
        return (self.folder / "model").is_dir()

    def train(self) -> Recommender:
        """Trains and saves the model; resumes a training that was stopped."""
        from tfrec_meta.workflows.train import train

        model = train(
            self.split,
            self.strategy,
            folder=self.folder / "training",
            recommend_history=self.settings["recommend_history"],
        )
        model.save(self.folder / "model", overwrite=True)
        return model

    def model(self) -> Recommender:
        """Loads the fitted model, with its learning curve.

        Raises:
            FileNotFoundError: if the training did not end.
        """
        if not self.is_trained:
            raise FileNotFoundError(
                f"{self.folder} has no model yet. Train it: tfrec-meta train --run {self.folder}"
            )
        from tfrec_meta.models import load_model

        model = load_model(self.folder / "model")
        path = self.folder / "training" / "history.jsonl"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            model.curve = tuple(map(json.loads, lines))
        return model

    def evaluate(
        self,
        k: int = 10,
        baselines: Sequence[str] | None = None,
        resamples: int = 1000,
        tune_baselines: bool = True,
        recommend_history: bool = False,
    ) -> Evaluations:
        """Evaluates the model and its baselines, and stores the result in `evaluation.json`.

        Args:
            k: length of the ranked lists.
            baselines: as in `tfrec_meta.evaluate`; by default all that suit the data.
            resamples: as in `tfrec_meta.evaluate`.
            tune_baselines: as in `tfrec_meta.evaluate`.
            recommend_history: as in `tfrec_meta.evaluate`; also on if it is a setting of the run.
        """
        from tfrec_meta.workflows.evaluate import evaluate

        found = evaluate(
            self.model(),
            self.split,
            k=k,
            baselines=baselines,
            tune_baselines=tune_baselines,
            recommend_history=recommend_history or self.settings["recommend_history"],
            resamples=resamples,
        )
        record = {"k": k, "split": self.split.description, **found.as_dict()}
        _write_json(self.folder / "evaluation.json", record)
        return found

    def evaluations(self) -> Evaluations | None:
        """Reads the stored evaluation, without the values per user; None if there is none."""
        path = self.folder / "evaluation.json"
        if not path.is_file():
            return None
        from tfrec_meta.evaluation import Evaluations

        return Evaluations.from_dict(_read_json(path))

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
        from tfrec_meta.workflows.report import report

        found = self.evaluations()
        if found is None:
            found = self.evaluate()
        path = self.folder / "report.html" if path is None else path
        return report(
            path,
            self.model(),
            self.split,
            found,
            users=users,
            k=k,
            recommend_history=self.settings["recommend_history"],
        )

    def history(self, user_id: str, length: int = 1000) -> list[str]:
        """Returns a user's latest items in train and validation, oldest first; [] if unknown."""
        return [item for item in user_histories(self.split.past, [user_id], length)[0] if item]

    def titles(self) -> dict[str, str]:
        """Returns the titles of the items that have one, by item id."""
        items = self.split.data.items
        if items is None or "title" not in items.column_names:
            return {}
        pairs = zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True)
        return {item: title for item, title in pairs if title}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged: {error}. Train the run again, in a new folder or with --overwrite."
        ) from error


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(record, indent=1) + "\n")
