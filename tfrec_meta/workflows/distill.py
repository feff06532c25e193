"""Distillation from end to end: teachers are made, a student learns of them, all are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.data import Interactions, Split
from tfrec_meta.distillation import (
    STUDENT,
    TEACHER,
    UNTAUGHT,
    BertEncoder,
    DistillationReport,
    MeanTeacher,
    item_slices,
    measured,
)
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import held_out
from tfrec_meta.models import FAMILIES, Recommender
from tfrec_meta.models.base.contract import Teacher
from tfrec_meta.strategy import BERT, Strategy
from tfrec_meta.workflows.train import TEXT_TUNING, fitted_features, text_teacher, train

TUNED_BERT = "tuned_bert"
_TAUGHT = {"two_tower": {"negatives": "full"}}  # what a student has that is given by name alone


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A student and what it has of its teacher.

    Attributes:
        student: the fitted model.
        teacher: who taught it.
        untaught: the same student, trained without a teacher; None if that was not asked for.
        report: all of them on the test events, by slice; None without test events. Prints as
            tables; `report.write(path)` makes a page of it.
    """

    student: Recommender
    teacher: Teacher
    untaught: Recommender | None = None
    report: DistillationReport | None = None


def distill(
    data: Interactions | Split,
    teacher: Teacher | Strategy | str | Sequence[Teacher | Strategy | str],
    strategy: Strategy | str = "two_tower",
    *,
    compare: bool = True,
    validation: Interactions | None = None,
    folder: Path | str | None = None,
    features: FeatureSpec | None = None,
    k: int = 10,
    resamples: int = 1000,
    progress: bool = True,
) -> Distillation:
    """Trains a student on the events and on what a teacher says of the whole catalogue.

    Args:
        data: training events, or a Split, whose train and validation parts are used, and by whose
            test part all are judged.
        teacher: a fitted model of any family or another `models.contract.Teacher`; or how one is
            made, which is trained first on the same events: a Strategy, or a family's name; or
            "bert", see `text_teacher`, or "tuned_bert", whose BERT learns from the events, too, by
            `api.TEXT_TUNING`. Of several, the student learns their mean.
        strategy: of the student, "two_tower" or "content_tower"; a Strategy needs `negatives`=
            "full", and what its config calls `teacher_...` says how it listens.
        compare: whether the same student is trained without its teacher as well, and all are
            evaluated on the test events.
        validation: events for early stopping.
        folder: for the student's checkpoints, those of teachers that are made here and of the
            untaught student below it, what a BERT makes of texts (`encodings`), and the page
            `report.html`; the same call resumes what was killed.
        features: a fitted spec; by default the strategy's, fitted on `data`, and if that declares
            none, a fitted teacher's.
        k: length of the lists that are judged.
        resamples: bootstrap draws for the intervals.
        progress: whether to show it.

    Raises:
        ValueError: as `train`; if there is no teacher, or the student's family can't be taught.
    """
    if isinstance(strategy, str):
        strategy = Strategy.from_dict({"family": strategy, "model": _TAUGHT.get(strategy, {})})
    FAMILIES[strategy.family].check_teachable(strategy.model)
    several = isinstance(teacher, Sequence) and not isinstance(teacher, str)
    named: Any = teacher if several else [teacher]
    if features is None:
        fitted = [one.spec for one in named if not isinstance(one, str | Strategy)]
        events = data.train if isinstance(data, Split) else data
        declared = strategy.features is not None or not fitted
        features = fitted_features(strategy, events) if declared else fitted[0]

    def trained(strategy: Strategy | str, name: str, teacher: Teacher | None = None) -> Recommender:
        return train(
            data,
            strategy,
            validation=validation,
            folder=None if folder is None else Path(folder) / name,
            features=features,
            teacher=teacher,
            progress=progress,
        )

    def made(one: Teacher | Strategy | str, place: int) -> Teacher:
        name = f"teachers/{place}"
        if one in (BERT, TUNED_BERT):
            return text_teacher(
                data,
                features,
                encoder=BertEncoder(cache=None if folder is None else Path(folder) / "encodings"),
                tuning=TEXT_TUNING if one == TUNED_BERT else None,
                folder=None if folder is None else Path(folder) / name,
                progress=progress,
            )
        return trained(one, name) if isinstance(one, str | Strategy) else one

    teachers = [made(one, place) for place, one in enumerate(named)]
    heard = teachers[0] if len(teachers) == 1 else MeanTeacher(teachers)
    student = trained(strategy, "", heard)
    if not compare:
        return Distillation(student, heard)
    untaught = trained(strategy, "untaught")
    if not isinstance(data, Split) or not len(data.test):
        return Distillation(student, heard, untaught)
    asked = held_out(student.spec, data.past, data.test)
    slices = item_slices(student.item_counts.numpy(), asked.relevant, k)
    learners = {TEACHER: heard, STUDENT: student, UNTAUGHT: untaught}
    found = DistillationReport(
        {
            name: measured(learner, asked, slices, k, resamples)
            for name, learner in learners.items()
        },
        k,
    )
    if folder is not None:
        found.write(Path(folder) / "report.html")
    return Distillation(student, heard, untaught, found)
