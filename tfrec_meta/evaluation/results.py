"""Results of evaluations: metrics, groups of users and items, comparisons and tables."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfrec_meta.evaluation.intervals import Comparison, Estimate
from tfrec_meta.evaluation.judged import SplitSummary
from tfrec_meta.evaluation.predictions import PredictionEvaluations
from tfrec_meta.io.records import create


class Group(StrEnum):
    """A part of the users, or of the relevant pairs, that is measured on its own."""

    KNOWN_USERS = "known_users"  # users with events before the held-out ones
    NEW_USERS = "new_users"  # all other users
    REPEAT_ITEMS = "repeat_items"  # relevant items that the user had before
    NEW_ITEMS = "new_items"  # all other relevant items

    @property
    def label(self) -> str:
        """The name in words."""
        return self.value.replace("_", " ")


@dataclasses.dataclass(frozen=True)
class GroupEvaluation:
    """The metrics of one group.

    Attributes:
        metrics: name -> Estimate; NaN if the group has no query.
        counts: "queries" and "relevant" (pairs) of the group.
        per_query: name -> float64 [E], as in `Evaluation`; NaN for queries outside of the group.
    """

    metrics: Mapping[str, Estimate]
    counts: Mapping[str, int]
    per_query: Mapping[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The metrics of one model on one split.

    Attributes:
        metrics: name -> Estimate, for example metrics["ndcg@10"].value.
        per_query: name -> float64 [E], one value per query in `queries`; their mean is the
            estimate. NaN where a query has no value. Coverage is not in it, because it is a
            property of all lists together.
        queries: int64 [E], the rows of `relevant` that were evaluated.
        counts: "queries", "candidates", "relevant" (pairs), and of these pairs "outside" (the item
            is outside the catalogue) and "seen" (the user has seen the item, and seen items are not
            recommended); both count as misses.
        groups: the metrics of each `Group`; empty if the past of the users was not given. The
            ranking is the same as for all users and items: in a group of items, only these count as
            relevant.
        recommend_history: whether seen items were candidates like all others.
    """

    metrics: Mapping[str, Estimate]
    per_query: Mapping[str, NDArray[np.float64]]
    queries: NDArray[np.int64]
    counts: Mapping[str, int]
    groups: Mapping[Group, GroupEvaluation] = dataclasses.field(default_factory=dict)
    recommend_history: bool = False

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.metrics:
            raise KeyError(f"No metric {name!r}; the evaluation has {', '.join(self.metrics)}.")
        return self.metrics[name]

    def __str__(self) -> str:
        width = max(map(len, self.metrics), default=6)
        lines = [f"{'metric':<{width}}   value   95 % interval"]
        for name, estimate in self.metrics.items():
            interval = "" if estimate.low is None else f"{estimate.low:.4f} to {estimate.high:.4f}"
            lines.append(f"{name:<{width}}  {estimate.value:6.4f}   {interval}".rstrip())
        c = self.counts
        lines.append(
            f"{c['queries']:,} queries, {c['candidates']:,} candidates, "
            f"{c['relevant']:,} relevant pairs"
        )
        for key, why in (
            ("outside", "have items outside the catalogue"),
            ("seen", "have seen items"),
        ):
            if c[key]:
                lines.append(f"{c[key]:,} of the relevant pairs {why} and count as misses")
        if self.groups:
            lines.append(format_groups({"value": self}))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns metrics (None for NaN), counts and groups as plain values, ready for JSON."""
        record: dict[str, Any] = {
            "metrics": _plain(self.metrics),
            "counts": dict(self.counts),
            "recommend_history": self.recommend_history,
        }
        if self.groups:
            record["groups"] = {
                group.value: {"metrics": _plain(one.metrics), "counts": dict(one.counts)}
                for group, one in self.groups.items()
            }
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Evaluation:
        """Reads what `as_dict` returned; the values per query are not in it."""
        groups = {
            Group(name): GroupEvaluation(_estimates(one["metrics"]), one["counts"])
            for name, one in record.get("groups", {}).items()
        }
        return cls(
            _estimates(record["metrics"]),
            {},
            np.empty(0, np.int64),
            record["counts"],
            groups,
            record["recommend_history"],
        )

    def to_json(self) -> str:
        """Returns `as_dict` as JSON."""
        return json.dumps(self.as_dict())


class ChosenOn(StrEnum):
    """The events by which the settings of a baseline were chosen."""

    VALIDATION = "validation"  # the validation part of the split
    TRAIN = "train"  # a part of the train events, held out by the protocol of the split
    NOTHING = "nothing"  # the default settings were used


_CHOSEN_ON = {
    ChosenOn.VALIDATION: "on the validation part",
    ChosenOn.TRAIN: "on held-out events of the train part",
}


@dataclasses.dataclass(frozen=True)
class BaselineSettings:
    """The settings of a baseline and how they were chosen.

    Attributes:
        config: the settings of the family, as plain values.
        compared: the names of the settings that differ between the combinations.
        tried: how many combinations were compared.
        chosen_on: the events by which they were chosen.
    """

    config: Mapping[str, Any]
    compared: tuple[str, ...] = ()
    tried: int = 1
    chosen_on: ChosenOn = ChosenOn.NOTHING

    def __str__(self) -> str:
        if self.chosen_on is ChosenOn.NOTHING:
            return "default settings"
        values = ", ".join(f"{name}={self.config[name]}" for name in self.compared)
        return f"{values} (best of {self.tried} settings {_CHOSEN_ON[self.chosen_on]})"

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "chosen_on": self.chosen_on.value}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> BaselineSettings:
        """Reads what `as_dict` returned."""
        return cls(
            record["config"],
            tuple(record["compared"]),
            record["tried"],
            ChosenOn(record["chosen_on"]),
        )


class Evaluations(dict[str, Evaluation]):
    """Evaluations by name, the model's first and then its baselines; prints as tables.

    Args:
        evaluations: by name.
        settings: of each baseline that has some.
        differences: of each baseline, the paired difference between the model and the baseline.
        predictions: the metrics of ratings or clicks that the model predicts.
        judged_on: the split; None if it is not known.

    Attributes:
        settings, differences, predictions, judged_on: the arguments.
    """

    def __init__(
        self,
        evaluations: Mapping[str, Evaluation] | None = None,
        settings: Mapping[str, BaselineSettings] | None = None,
        differences: Mapping[str, Comparison] | None = None,
        predictions: PredictionEvaluations | None = None,
        judged_on: SplitSummary | None = None,
    ):
        super().__init__(evaluations or {})
        self.settings = dict(settings or {})
        self.differences = dict(differences or {})
        self.predictions = PredictionEvaluations() if predictions is None else predictions
        self.judged_on = judged_on

    @classmethod
    def of(cls, evaluations: Mapping[str, Evaluation]) -> Evaluations:
        """Returns the argument, if it is an `Evaluations`, or one with these evaluations."""
        return evaluations if isinstance(evaluations, cls) else cls(evaluations)

    @property
    def metric(self) -> str:
        """The main metric, by which the best baseline is chosen: the first one, such as NDCG."""
        return next((name for one in self.values() for name in one.metrics), "")

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the highest value of the main metric; None without baselines."""
        values = {name: one.metrics[self.metric].value for name, one in [*self.items()][1:]}
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        return max(known, key=lambda name: known[name]) if known else None

    @property
    def difference_to_best(self) -> Comparison | None:
        """The paired difference between the model and the best baseline, if it was computed."""
        return self.differences.get(self.best_baseline or "")

    def remarks(self) -> list[str]:
        """Returns what to know before the figures, in lines: how many test users and items are new,
        and how many repeats count as misses."""
        lines = []
        split = self.judged_on
        if split is not None and (split.new_users or split.new_items):
            lines.append(
                f"{split.new_users:,} of the {split.test.users:,} test users and "
                f"{split.new_items:,} of the {split.test.items:,} test items have no train or "
                "validation events."
            )
        counts = next(iter(self.values())).counts if self else {}
        if counts.get("seen"):
            lines.append(
                f"{counts['seen']:,} of the {counts['relevant']:,} test pairs repeat an item of "
                "the user's history. Such items are not recommended, so the pairs count as misses. "
                "Use `recommend_history` (--recommend-history) if users return to items."
            )
        return lines

    def summary(self) -> list[str]:
        """Returns the difference to the best baseline and the settings of baselines, in lines."""
        lines = []
        found, best = self.difference_to_best, self.best_baseline
        if found is not None:
            lines.append(f"{next(iter(self))} - {best} (the best baseline): {found}")
            if found.high < 0:
                lines.append(
                    f"{best} is better than the model. Search for a better strategy "
                    "(tfrec-meta tune), or train with the settings of the baseline."
                )
        lines += [f"{name}: {chosen}" for name, chosen in self.settings.items() if chosen.config]
        return lines

    def __str__(self) -> str:
        parts = [*filter(None, ["\n".join(self.remarks())]), format_table(self)]
        if any(one.groups for one in self.values()):
            parts.append(format_groups(self))
        parts += filter(None, ["\n".join(self.summary())])
        if self.predictions:
            parts.append(str(self.predictions))
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Returns all as plain values, ready for JSON."""
        return {
            "evaluations": {name: one.as_dict() for name, one in self.items()},
            "best_baseline": self.best_baseline,
            "differences": {n: dataclasses.asdict(one) for n, one in self.differences.items()},
            "baselines": {name: one.as_dict() for name, one in self.settings.items()},
            "predictions": self.predictions.as_dict(),
            "judged_on": self.judged_on and self.judged_on.as_dict(),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Evaluations:
        """Reads what `as_dict` returned; the values per query are not in it."""
        judged_on = record.get("judged_on")
        return cls(
            {name: Evaluation.from_dict(one) for name, one in record["evaluations"].items()},
            {name: BaselineSettings.from_dict(one) for name, one in record["baselines"].items()},
            {name: create(Comparison, one) for name, one in record["differences"].items()},
            # Not in the files of earlier versions.
            PredictionEvaluations.from_dict(record.get("predictions", {})),
            SplitSummary.from_dict(judged_on) if judged_on else None,
        )


def format_table(
    evaluations: Mapping[str, Evaluation], metrics: Sequence[str] | None = None
) -> str:
    """Returns a plain-text table: one row per model, one column per metric, with intervals."""
    if metrics is None:
        metrics = list(dict.fromkeys(name for e in evaluations.values() for name in e.metrics))
    rows = [["model", *metrics]]
    rows += [
        [name, *(_cell(evaluation.metrics, metric) for metric in metrics)]
        for name, evaluation in evaluations.items()
    ]
    return aligned(rows)


def format_groups(evaluations: Mapping[str, Evaluation], metric: str | None = None) -> str:
    """Returns a plain-text table of one metric: one row per group, one column per model.

    Args:
        evaluations: by name, on the same split. Those without groups get "-".
        metric: the metric; by default the first.
    """
    first = next(iter(evaluations.values()))
    metric = next(iter(first.metrics)) if metric is None else metric
    rows = [[metric, "users", "pairs", *evaluations]]
    for group, one in first.groups.items():
        cells = [
            _cell(each.groups[group].metrics, metric) if group in each.groups else "-"
            for each in evaluations.values()
        ]
        rows.append(
            [group.label, f"{one.counts['queries']:,}", f"{one.counts['relevant']:,}", *cells]
        )
    return aligned(rows)


def _cell(metrics: Mapping[str, Estimate], name: str) -> str:
    found = metrics.get(name)
    return "-" if found is None or math.isnan(found.value) else str(found)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns a plain-text table whose columns are aligned to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _plain(metrics: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {name: estimate.as_dict() for name, estimate in metrics.items()}


def _estimates(record: Mapping[str, Mapping[str, float | None]]) -> dict[str, Estimate]:
    return {name: Estimate.from_dict(one) for name, one in record.items()}
