"""Compares a teacher, its student, and the same student trained without a teacher."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrec_meta.evaluation import Comparison, Evaluation, compare, full_catalogue
from tfrec_meta.features.held_out import HeldOut
from tfrec_meta.models.base.contract import Teacher

METRICS = ("ndcg", "recall", "hr", "mrr")
_HEAD_SHARE = 0.8  # of all events; the most popular items that have it are the head
_TIMED_QUERIES = 64
_BATCH = 1024  # queries


class Role(enum.StrEnum):
    """The models of a comparison."""

    TEACHER = "teacher"
    STUDENT = "student"
    UNDISTILLED = "undistilled"
    """The same student, trained without a teacher."""


class ItemSlice(enum.StrEnum):
    """Parts of the catalogue that are evaluated separately."""

    ALL = "all_items"
    LONG_TAIL = "long_tail"
    """All items except the most popular ones, which have 80 % of the training events."""
    COLD = "cold_items"
    """Items without training events."""


@dataclasses.dataclass(frozen=True)
class SlicedEvaluation:
    """Quality and cost of one model.

    Attributes:
        evaluations: by slice of the catalogue.
        parameters: how many numbers the model stores.
        milliseconds: time to score the whole catalogue, per query of a batch of 64.
    """

    evaluations: Mapping[str, Evaluation]
    parameters: int
    milliseconds: float


@dataclasses.dataclass(frozen=True)
class DistillationComparison:
    """Evaluations of teacher, student and undistilled student, by slice; prints as tables.

    Attributes:
        models: by `Role`, in the order in which they are shown.
        k: length of the lists.
    """

    models: Mapping[str, SlicedEvaluation]
    k: int = 10

    @property
    def slices(self) -> list[str]:
        """Slices of the catalogue that were evaluated, the whole catalogue first."""
        return list(next(iter(self.models.values())).evaluations)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, such as "ndcg@10"."""
        return [f"{metric}@{self.k}" for metric in METRICS]

    def retained(self, items: str = ItemSlice.ALL) -> float:
        """Returns the student's NDCG divided by the teacher's on a slice; NaN if that is 0."""
        teacher, student = (self._ndcg(name, items) for name in (Role.TEACHER, Role.STUDENT))
        return student / teacher if teacher else math.nan

    def improvement(self, items: str = ItemSlice.ALL) -> Comparison | None:
        """Compares the NDCG of student and undistilled student by a paired bootstrap over users.

        Returns:
            The difference, student minus undistilled student; None if there is no such student.
        """
        if Role.UNDISTILLED not in self.models:
            return None
        student, undistilled = (
            self.models[name].evaluations[items] for name in (Role.STUDENT, Role.UNDISTILLED)
        )
        return compare(student, undistilled, f"ndcg@{self.k}")

    def conclusion(self, items: str) -> str:
        """Describes the result on a slice in one sentence, without its full stop."""
        share = self.retained(items)
        text = (
            "the teacher has no hits"
            if math.isnan(share)
            else f"the student retains {share:.1%} of the teacher's NDCG@{self.k}"
        )
        compared = self.improvement(items)
        if compared is None:
            return text
        return (
            f"{text}; {compared.difference:+.4f} compared with the undistilled student "
            f"(p = {compared.p:.3g}, paired bootstrap)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {
            str(name): {
                "slices": {str(key): e.as_dict() for key, e in model.evaluations.items()},
                "parameters": model.parameters,
                "milliseconds": model.milliseconds,
            }
            for name, model in self.models.items()
        }

    def __str__(self) -> str:
        width = max(map(len, self.models))
        blocks = []
        for items in self.slices:
            counts = next(iter(self.models.values())).evaluations[items].counts
            lines = [
                f"{items.replace('_', ' ')}: {counts['queries']:,} users, "
                f"{counts['relevant']:,} relevant pairs",
                f"  {'':<{width}}  " + "  ".join(f"{name:<23}" for name in self.metrics).rstrip(),
            ]
            for name, model in self.models.items():
                cells = (f"{model.evaluations[items][metric]!s:<23}" for metric in self.metrics)
                lines.append(f"  {name:<{width}}  " + "  ".join(cells).rstrip())
            lines.append(f"  {self.conclusion(items)}")
            blocks.append("\n".join(lines))
        costs = [
            f"  {name:<{width}}  {model.parameters:>12,} parameters  "
            f"{model.milliseconds:8.3f} ms per query"
            for name, model in self.models.items()
        ]
        return "\n\n".join([*blocks, "\n".join(["cost:", *costs])])

    def _ndcg(self, name: str, items: str) -> float:
        return self.models[name].evaluations[items][f"ndcg@{self.k}"].value


def item_slices(counts: np.ndarray, relevant: Any, k: int = 10) -> dict[str, np.ndarray]:
    """Returns the items of each `ItemSlice`, bool [catalogue].

    Slices of fewer than `k` items and slices without a relevant item are left out.

    Args:
        counts: float [catalogue], training events of each item.
        relevant: sparse [u, catalogue], relevant items of each test user.
        k: length of the lists.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    tail = np.zeros(len(counts), bool)
    tail[order] = before >= _HEAD_SHARE * counts.sum()
    slices: dict[str, np.ndarray] = {
        ItemSlice.ALL: np.ones(len(counts), bool),
        ItemSlice.LONG_TAIL: tail,
        ItemSlice.COLD: counts == 0,
    }
    wanted = np.asarray(relevant.sum(axis=0)).ravel() > 0
    return {n: items for n, items in slices.items() if items.sum() >= k and wanted[items].any()}


def evaluate_slices(
    model: Teacher,
    held_out: HeldOut,
    slices: Mapping[str, np.ndarray],
    k: int = 10,
    resamples: int = 1000,
) -> SlicedEvaluation:
    """Ranks the items of each slice separately, for every test user.

    Args:
        model: a teacher or a student.
        held_out: the test users' queries and relevant items.
        slices: by name, the items that are ranked, bool [catalogue]; see `item_slices`.
        k: length of the lists.
        resamples: bootstrap draws of users for the intervals.
    """
    scores, milliseconds = _timed_scores(model, held_out)
    seen, relevant = (scipy.sparse.csc_matrix(m) for m in (held_out.seen, held_out.relevant))
    evaluations = {}
    for name, items in slices.items():
        columns = np.flatnonzero(items)
        evaluations[name] = full_catalogue(
            functools.partial(_take_rows, scores[:, columns]),
            relevant[:, columns].tocsr(),
            seen[:, columns].tocsr(),
            k=k,
            metrics=METRICS,
            extra_relevant=held_out.outside if items.all() else None,
            resamples=resamples,
        )
    parameters = sum(int(np.size(value)) for value in model.state().values())
    return SlicedEvaluation(evaluations, parameters, milliseconds)


def _take_rows(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    part: np.ndarray = scores[rows]
    return part


def _timed_scores(model: Teacher, held_out: HeldOut) -> tuple[np.ndarray, float]:
    """Returns scores, float32 [u, catalogue], and milliseconds per query of a batch."""
    graph = tf.function(model.logits_or_prior, reduce_retracing=True)

    def score(start: int, stop: int) -> np.ndarray:
        part = {name: tf.constant(value[start:stop]) for name, value in held_out.queries.items()}
        return np.asarray(graph(part))

    users = len(held_out.users)
    scores = np.concatenate([score(start, start + _BATCH) for start in range(0, users, _BATCH)])
    batch, milliseconds = min(_TIMED_QUERIES, users), []
    score(0, batch)  # traces the graph for this batch size
    for _ in range(5):
        began = time.perf_counter()
        score(0, batch)
        milliseconds.append((time.perf_counter() - began) * 1000 / batch)
    return scores, float(np.median(milliseconds))
