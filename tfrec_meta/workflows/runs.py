"""A run folder: everything of one training, from its settings to its report.

    run.json          what was asked for: data, split, seed, strategy
    training/         checkpoints, TensorBoard logs, history.jsonl
    model/            the fitted model, as `tfrec_meta.save` writes it
    evaluation.json   what `evaluate` found
    report.html

The folder is enough to go on from: data and split are made again from `run.json`. Reading settings,
data and histories needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec_meta.data import (
    Interactions,
    Split,
    SplitProtocol,
    movielens,
    read_interactions,
    split_by_item,
    split_by_time,
    split_by_user,
    split_cold_items,
    split_cold_users,
    split_leave_last_out,
    synthetic,
    user_histories,
)
from tfrec_meta.io.files import write_text

if TYPE_CHECKING:
    from tfrec_meta.models import Recommender
    from tfrec_meta.strategy import Strategy
    from tfrec_meta.workflows.evaluate import Evaluations

Settings = dict[str, Any]

DEFAULTS: Settings = {
    "data": {
        "source": ["movielens-100k"],
        "folder": None,
        "columns": {},
        "users": None,
        "items": None,
        "time_unit": "s",
        "bad_rows": "raise",
    },
    "split": {"protocol": "item", "train": None, "validation": None},
    "seed": 42,
    "strategy": {},
}
# Usual shares of train and validation; leave-last-out itself says what is test.
_SHARES = {
    SplitProtocol.ITEM: (0.75, 0.0),
    SplitProtocol.USER: (0.75, 0.0),
    SplitProtocol.TIME: (0.8, 0.1),
    SplitProtocol.COLD_USERS: (0.8, 0.0),
    SplitProtocol.COLD_ITEMS: (0.8, 0.0),
}
PROTOCOLS: tuple[str, ...] = (*_SHARES, SplitProtocol.LEAVE_LAST_OUT)

_FORMAT = 1  # of run.json
_SYNTHETIC = re.compile(r"synthetic(?:-(\d+)x(\d+)x(\d+))?")


def read_data(data: Mapping[str, Any], seed: int) -> Interactions:
    """The interactions that the "data" part of the settings describes.

    Args:
        data: as in `DEFAULTS`. A source is "movielens-<name>", "synthetic" or
            "synthetic-<users>x<items>x<interactions>", a folder that `Interactions.write` made, or
            files for `read_interactions`, which are cleaned.
        seed: of synthetic data.
    """
    sources = list(data["source"])
    first = sources[0]
    if len(sources) == 1 and first.startswith("movielens-"):
        return movielens(first.removeprefix("movielens-"), data["folder"])
    made = _SYNTHETIC.fullmatch(first)
    if len(sources) == 1 and made:
        size = [int(n) for n in made.groups() if n]
        return synthetic(*size, seed=seed)
    if len(sources) == 1 and (Path(first) / "interactions.json").is_file():
        return Interactions.read(first)
    read = read_interactions(
        sources,
        data["columns"] or None,
        bad_rows=data["bad_rows"],
        time_unit=data["time_unit"],
        users=data["users"],
        items=data["items"],
    )
    return read.clean()


def is_named_source(source: str) -> bool:
    """Whether a data source is a name, not a path."""
    return source.startswith("movielens-") or _SYNTHETIC.fullmatch(source) is not None


def fill_shares(split: Mapping[str, Any]) -> dict[str, Any]:
    """The "split" part of the settings, with the usual shares where it leaves them open.

    Raises:
        ValueError: for an unknown protocol, or shares where there are none.
    """
    protocol, train, validation = split["protocol"], split["train"], split["validation"]
    if protocol not in PROTOCOLS:
        raise ValueError(f"`split`={protocol!r}; use one of {', '.join(PROTOCOLS)}.")
    if protocol == SplitProtocol.LEAVE_LAST_OUT:
        if train is not None or validation is not None:
            raise ValueError("The split leave-last-out takes no shares; leave them out.")
        return dict(split)
    usual = _SHARES[SplitProtocol(protocol)]
    return {
        "protocol": protocol,
        "train": usual[0] if train is None else train,
        "validation": usual[1] if validation is None else validation,
    }


def split_data(data: Interactions, split: Mapping[str, Any], seed: int) -> Split:
    """The split that the "split" part of the settings describes."""
    split = fill_shares(split)
    train, validation = split["train"], split["validation"]
    match SplitProtocol(split["protocol"]):
        case SplitProtocol.LEAVE_LAST_OUT:
            return split_leave_last_out(data)
        case SplitProtocol.TIME:
            return split_by_time(data, train, validation)
        case SplitProtocol.ITEM:
            return split_by_item(data, train, validation, seed)
        case SplitProtocol.USER:
            return split_by_user(data, train, validation, seed)
        case protocol:
            cold_users = protocol is SplitProtocol.COLD_USERS
            cold = split_cold_users if cold_users else split_cold_items
            return cold(data, round(1 - train - validation, 9), validation, seed)


def whole_settings(given: Mapping[str, Any]) -> Settings:
    """Given settings with the defaults of what they leave out, and one seed for all.

    Raises:
        ValueError: for a split that makes no sense.
    """
    settings = merged(DEFAULTS, given)
    settings["strategy"] = merged({"training": {"seed": settings["seed"]}}, settings["strategy"])
    settings["seed"] = settings["strategy"]["training"]["seed"]
    settings["split"] = fill_shares(settings["split"])
    return settings


@dataclasses.dataclass(frozen=True)
class Run:
    """One run on disk.

    Attributes:
        folder: where it is.
        settings: what `run.json` says, in the form of `DEFAULTS`.
    """

    folder: Path
    settings: Settings

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """An existing run.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if its `run.json` is damaged, or of another version.
        """
        folder = Path(folder)
        path = folder / "run.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no run (no run.json). Make one: tfrec-meta train --run {folder}"
            )
        record = _read_json(path)
        if record.get("format") != _FORMAT:
            raise ValueError(
                f"{path} has format {record.get('format')}, but this version reads {_FORMAT}. "
                "Train into a new folder."
            )
        settings = {key: record[key] for key in DEFAULTS}
        return cls(folder, {**settings, "split": fill_shares(settings["split"])})

    @classmethod
    def begin(
        cls, folder: Path | str, given: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> Run:
        """A new run, or the one in `folder` to go on with.

        Args:
            folder: of the run.
            given: settings in the form of `DEFAULTS`; what is left out has its default, or for a
                run that exists the value it was begun with.
            overwrite: replace a run that exists.

        Raises:
            ValueError: if `folder` holds a run that was begun with another value of a given
                setting, or the settings make no sense. Nothing is written then.
        """
        folder, given = Path(folder), json.loads(json.dumps(given or {}))
        begun = (folder / "run.json").is_file()
        for name in ("model", "training"):
            if not begun and (folder / name).exists():
                raise ValueError(
                    f"{folder} is no run, but has a {name!r} of its own. Use another folder."
                )
        if begun and not overwrite:
            run = cls.open(folder)
            recorded = dict(_leaves(run.settings))
            for key, value in _leaves(given):
                if recorded.get(key) != value:
                    raise ValueError(
                        f"{folder} holds a run with {key}={recorded.get(key)!r}, not {value!r}. "
                        "Use another folder, or --overwrite to replace that run."
                    )
            return run
        settings = whole_settings(given)
        run = cls(folder, settings)
        _ = run.split  # what is wrong with the data is said before anything is written
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
        """How the model is made."""
        from tfrec_meta.strategy import Strategy

        return Strategy.from_dict(self.settings["strategy"])

    @cached_property
    def split(self) -> Split:
        """Data and split, made again from the settings."""
        seed = self.settings["seed"]
        data = read_data(self.settings["data"], seed)
        return split_data(data, self.settings["split"], seed)

    @property
    def is_trained(self) -> bool:
        """Whether the fitted model is there."""
        return (self.folder / "model").is_dir()

    def train(self) -> Recommender:
        """Trains the model, or goes on where a killed training stopped; then saves it."""
        from tfrec_meta.workflows.train import train

        model = train(self.split, self.strategy, folder=self.folder / "training")
        model.save(self.folder / "model", overwrite=True)
        return model

    def model(self) -> Recommender:
        """The fitted model, with its learning curve.

        Raises:
            FileNotFoundError: if the training has not come to its end.
        """
        if not self.is_trained:
            raise FileNotFoundError(
                f"{self.folder} holds no model yet. Train it: tfrec-meta train --run {self.folder}"
            )
        from tfrec_meta.models import load_model

        model = load_model(self.folder / "model")
        path = self.folder / "training" / "history.jsonl"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            object.__setattr__(model, "curve", tuple(map(json.loads, lines)))
        return model

    def evaluate(
        self, k: int = 10, baselines: Sequence[str] | None = None, resamples: int = 1000
    ) -> Evaluations:
        """Evaluates the model and its baselines, and keeps what was found in `evaluation.json`.

        Args:
            k: length of the list.
            baselines: as of `tfrec_meta.evaluate`; by default those that are possible here.
            resamples: as of `tfrec_meta.evaluate`.
        """
        from tfrec_meta.workflows.evaluate import evaluate

        model = self.model()
        found = evaluate(model, self.split, k=k, baselines=baselines, resamples=resamples)
        record = {
            "k": k,
            "split": self.split.description,
            "evaluations": {name: one.as_dict() for name, one in found.items()},
        }
        _write_json(self.folder / "evaluation.json", record)
        return found

    def evaluations(self) -> Evaluations | None:
        """What `evaluate` found, without the values of single users; None before it has run."""
        path = self.folder / "evaluation.json"
        if not path.is_file():
            return None
        from tfrec_meta.evaluation import Estimate, Evaluation
        from tfrec_meta.workflows.evaluate import Evaluations

        found = Evaluations()
        for name, one in _read_json(path)["evaluations"].items():
            metrics = {
                metric: Estimate(
                    math.nan if value["value"] is None else value["value"],
                    value["low"],
                    value["high"],
                )
                for metric, value in one["metrics"].items()
            }
            found[name] = Evaluation(metrics, {}, np.empty(0, np.int64), one["counts"])
        return found

    def report(
        self, path: Path | str | None = None, users: Sequence[str] = (), k: int = 10
    ) -> Path:
        """Writes the HTML report, `report.html` in the folder by default; evaluates if need be."""
        from tfrec_meta.workflows.report import report

        found = self.evaluations()
        if found is None:
            found = self.evaluate()
        path = self.folder / "report.html" if path is None else path
        return report(path, self.model(), self.split, found, users=users, k=k)

    def history(self, user_id: str, length: int = 1000) -> list[str]:
        """The latest items of a user in train and validation, oldest first; [] if unknown."""
        return [item for item in user_histories(self.split.past, [user_id], length)[0] if item]

    def titles(self) -> dict[str, str]:
        """Item titles, as far as the data has them."""
        items = self.split.data.items
        if items is None or "title" not in items.column_names:
            return {}
        pairs = zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True)
        return {item: title for item, title in pairs if title}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, nested mappings part by part; neither is changed."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and key != "columns":
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Train into a new folder.") from error


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(record, indent=1) + "\n")
