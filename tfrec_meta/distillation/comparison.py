"""A teacher, its student, and the same student without a teacher, side by side."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_meta.evaluation import Comparison, Evaluation, compare, full_catalogue
from tfrec_meta.features.held_out import HeldOut
from tfrec_meta.models.base.contract import Teacher
from tfrec_meta.reports import page

TEACHER, STUDENT, UNTAUGHT = "teacher", "student", "without a teacher"
_METRICS = ("ndcg", "recall", "hr", "mrr")
_HEAD = 0.8  # share of all events that the most popular items have between them
_TIMED = 64  # queries
_BATCH = 1024  # queries at once


@dataclasses.dataclass(frozen=True)
class Learner:
    """What became of one model.

    Attributes:
        evaluations: by slice of the items.
        parameters: numbers that it keeps.
        milliseconds: that the scores of the whole catalogue take, a query of a batch of 64.
    """

    evaluations: Mapping[str, Evaluation]
    parameters: int
    milliseconds: float


@dataclasses.dataclass(frozen=True)
class DistillationReport:
    """Learners by name, "teacher", "student" and "without a teacher"; prints as tables.

    Attributes:
        learners: in the order in which they are shown.
        k: length of the lists.
    """

    learners: Mapping[str, Learner]
    k: int = 10

    @property
    def slices(self) -> list[str]:
        """Slices of the items, the whole catalogue first."""
        return list(next(iter(self.learners.values())).evaluations)

    def kept(self, items: str = "all items") -> float:
        """The student's NDCG over the teacher's, of one of the `slices`; NaN if that has none."""
        teacher, student = (self._ndcg(name, items) for name in (TEACHER, STUDENT))
        return student / teacher if teacher else math.nan

    def gained(self, items: str = "all items") -> Comparison | None:
        """Paired bootstrap of the student's NDCG minus its own without a teacher; None without."""
        if UNTAUGHT not in self.learners:
            return None
        student, untaught = (self.learners[n].evaluations[items] for n in (STUDENT, UNTAUGHT))
        return compare(student, untaught, f"ndcg@{self.k}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            name: {
                "slices": {key: e.as_dict() for key, e in learner.evaluations.items()},
                "parameters": learner.parameters,
                "milliseconds": learner.milliseconds,
            }
            for name, learner in self.learners.items()
        }

    def __str__(self) -> str:
        names = [f"{metric}@{self.k}" for metric in _METRICS]
        width = max(map(len, self.learners))
        blocks = []
        for items in self.slices:
            counts = next(iter(self.learners.values())).evaluations[items].counts
            lines = [
                f"{items}: {counts['queries']:,} users, {counts['relevant']:,} relevant pairs",
                f"  {'':<{width}}  " + "  ".join(f"{name:<23}" for name in names).rstrip(),
            ]
            for name, learner in self.learners.items():
                cells = (f"{learner.evaluations[items][metric]!s:<23}" for metric in names)
                lines.append(f"  {name:<{width}}  " + "  ".join(cells).rstrip())
            lines.append(f"  {self._conclusion(items)}")
            blocks.append("\n".join(lines))
        costs = [
            f"  {name:<{width}}  {learner.parameters:>12,} parameters  "
            f"{learner.milliseconds:8.3f} ms a query"
            for name, learner in self.learners.items()
        ]
        return "\n\n".join([*blocks, "\n".join(["cost:", *costs])])

    def write(self, path: Path | str, title: str = "Distillation") -> Path:
        """Writes the HTML page, whole or not at all.

        Returns:
            The path.
        """
        names = [f"{metric}@{self.k}" for metric in _METRICS]
        text = page.render(
            "distillation.html",
            title=title,
            written=f"Written {datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC",
            names=list(self.learners),
            tiles=self._tiles(),
            slices=[
                {
                    "name": items,
                    "counts": next(iter(self.learners.values())).evaluations[items].counts,
                    "metrics": [
                        {"name": name, "cells": [self._cell(x, items, name) for x in self.learners]}
                        for name in names
                    ],
                    "bars": self._bars(items),
                    "conclusion": self._conclusion(items),
                }
                for items in self.slices
            ],
            costs=[
                {
                    "name": name,
                    "parameters": f"{learner.parameters:,}",
                    "milliseconds": f"{learner.milliseconds:.3f}",
                }
                for name, learner in self.learners.items()
            ],
        )
        return page.write(path, text)

    def _ndcg(self, name: str, items: str) -> float:
        return self.learners[name].evaluations[items][f"ndcg@{self.k}"].value

    def _conclusion(self, items: str) -> str:
        kept = self.kept(items)
        told = (
            "the teacher finds nothing"
            if math.isnan(kept)
            else f"the student keeps {kept:.1%} of the teacher's NDCG@{self.k}"
        )
        gained = self.gained(items)
        if gained is None:
            return told
        return (
            f"{told}; {gained.difference:+.4f} to no teacher (p = {gained.p:.3g}, paired bootstrap)"
        )

    def _tiles(self) -> list[tuple[str, str]]:
        teacher, student = (self.learners[name] for name in (TEACHER, STUDENT))
        kept = {items: self.kept(items) for items in self.slices}
        return [
            *(
                (f"of NDCG@{self.k}, {items}", "-" if math.isnan(share) else f"{share:.1%}")
                for items, share in kept.items()
            ),
            ("of the parameters", f"{student.parameters / max(teacher.parameters, 1):.2%}"),
            ("times as fast a query", f"{teacher.milliseconds / student.milliseconds:,.1f}"),
        ]

    def _cell(self, name: str, items: str, metric: str) -> dict[str, str]:
        found = self.learners[name].evaluations[items][metric]
        interval = "" if found.low is None else f"{found.low:.4f} to {found.high:.4f}"
        return {"value": f"{found.value:.4f}", "interval": interval}

    def _bars(self, items: str) -> list[dict[str, Any]]:
        best = max(self._ndcg(name, items) for name in self.learners)
        return [
            {
                "name": name,
                "value": f"{self._ndcg(name, items):.4f}",
                "share": f"{100 * self._ndcg(name, items) / best if best else 0:.1f}",
            }
            for name in self.learners
        ]


def item_slices(counts: np.ndarray, relevant: Any, k: int = 10) -> dict[str, np.ndarray]:
    """Which items are ranked, among each other, bool [catalogue].

    A slice of fewer than `k` items is left out, and so is one with nothing to be found.

    "all items"; "long tail", those beyond the most popular ones that have four fifths of all events
    between them; "cold items", which training never met.

    Args:
        counts: float [catalogue], training events of each item.
        relevant: sparse [u, catalogue], what is to be found.
        k: length of the lists.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    tail = np.zeros(len(counts), bool)
    tail[order] = before >= _HEAD * counts.sum()
    slices = {"all items": np.ones(len(counts), bool), "long tail": tail, "cold items": counts == 0}
    wanted = np.asarray(relevant.sum(axis=0)).ravel() > 0
    return {n: items for n, items in slices.items() if items.sum() >= k and wanted[items].any()}


def measured(
    teacher: Teacher,
    asked: HeldOut,
    slices: Mapping[str, np.ndarray],
    k: int = 10,
    resamples: int = 1000,
) -> Learner:
    """Ranks the items of each slice among each other for every user.

    Args:
        teacher: or a student: whoever gives `logits_or_prior`.
        asked: held-out events.
        slices: what `item_slices` gave.
        k: length of the lists.
        resamples: bootstrap draws of users for the intervals.
    """
    scores, milliseconds = _scores(teacher, asked)
    seen, relevant = (scipy.sparse.csc_matrix(m) for m in (asked.seen, asked.relevant))
    evaluations = {}
    for name, items in slices.items():
        columns = np.flatnonzero(items)
        evaluations[name] = full_catalogue(
            functools.partial(_part, scores[:, columns]),
            relevant[:, columns].tocsr(),
            seen[:, columns].tocsr(),
            k=k,
            metrics=_METRICS,
            extra_relevant=asked.outside if items.all() else None,
            resamples=resamples,
        )
    parameters = sum(int(np.size(value)) for value in teacher.state().values())
    return Learner(evaluations, parameters, milliseconds)


def _part(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    part: np.ndarray = scores[rows]
    return part


def _scores(teacher: Teacher, asked: HeldOut) -> tuple[np.ndarray, float]:
    """float32 [u, catalogue], and the milliseconds that a query of a batch takes."""
    graph = tf.function(teacher.logits_or_prior, reduce_retracing=True)

    def told(start: int, stop: int) -> np.ndarray:
        part = {name: tf.constant(value[start:stop]) for name, value in asked.queries.items()}
        return np.asarray(graph(part))

    users = len(asked.users)
    found = np.concatenate([told(start, start + _BATCH) for start in range(0, users, _BATCH)])
    some, took = min(_TIMED, users), []
    told(0, some)
    for _ in range(5):
        began = time.perf_counter()
        told(0, some)
        took.append((time.perf_counter() - began) * 1000 / some)
    return found, float(np.median(took))
