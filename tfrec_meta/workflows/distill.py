"""Trains teachers and their student, and compares the student with and without a teacher."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.checks import check, whole_number
from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.data import Interactions, Split
from tfrec_meta.distillation.comparison import (
    DistillationComparison,
    Role,
    evaluate_slices,
    item_slices,
)
from tfrec_meta.distillation.teachers import MeanTeacher
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.intervals import RESAMPLES
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import held_out
from tfrec_meta.models import FAMILIES, Recommender
from tfrec_meta.models.base.contract import Teacher
from tfrec_meta.reports import formats
from tfrec_meta.reports.distillation_page import ModelResult, write_distillation_page
from tfrec_meta.strategy import BERT, Strategy
from tfrec_meta.workflows.run_settings import STUDENT_MODEL
from tfrec_meta.workflows.train import TEXT_TUNING, fitted_features, text_teacher, train

TUNED_BERT = "tuned_bert"


class DistillationReport(DistillationComparison):
    """The comparison of teacher and students, which can be written as an HTML page."""

    def write(self, path: Path | str, title: str = "Distillation") -> Path:
        """Writes the HTML page, whole or not at all.

        Returns:
            The path.
        """
        models = [
            ModelResult(name, **vars(model), highlighted=name == Role.STUDENT)
            for name, model in self.models.items()
        ]
        return write_distillation_page(
            path,
            title,
            models,
            metrics=self.metrics,
            conclusions={items: self.conclusion(items) for items in self.slices},
            tiles=self._tiles(),
        )

    def _tiles(self) -> list[tuple[str, str]]:
        teacher, student = (self.models[name] for name in (Role.TEACHER, Role.STUDENT))
        retained = [(formats.label(items), self.retained(items)) for items in self.slices]
        return [
            *(
                (
                    f"of the teacher's NDCG@{self.k}, {items}",
                    "-" if math.isnan(share) else f"{share:.1%}",
                )
                for items, share in retained
            ),
            (
                "of the teacher's parameters",
                f"{student.parameters / max(teacher.parameters, 1):.2%}",
            ),
            ("times as fast per query", f"{teacher.milliseconds / student.milliseconds:,.1f}"),
        ]


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A student and its comparison with its teacher.

    Attributes:
        student: the fitted student.
        teacher: the teacher; the mean of all teachers if there are several.
        undistilled: the same student trained without a teacher; None without a comparison.
        report: all of them evaluated on the test events, by slice; None without test events. It
            prints as tables, and `report.write(path)` writes it as an HTML page.
    """

    student: Recommender
    teacher: Teacher
    undistilled: Recommender | None = None
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
    """Trains a student on the events and on a teacher's scores of the whole catalogue.

    Args:
        data: training events, or a Split. Of a Split, the train and validation parts are used for
            training, and the models are evaluated on the test part.
        teacher: a fitted model of any family, or another `models.base.contract.Teacher`. A Strategy
            or a family's name is trained on the same events first. "bert" is a content tower on
            frozen BERT vectors (see `text_teacher`); for "tuned_bert", the BERT is fine-tuned on
            the events, too, by `workflows.train.TEXT_TUNING`. With several teachers the student
            learns from their mean.
        strategy: the student's strategy or family: "two_tower" or "content_tower". A Strategy needs
            `negatives`="full"; the fields `teacher_...` of its model config set how the teacher's
            scores enter the loss.
        compare: whether to train the same student without a teacher as well, and to evaluate all
            models on the test events.
        validation: events for early stopping.
        folder: where the student's checkpoints, those of new teachers and of the undistilled
            student, the BERT vectors (`encodings`) and the page `report.html` are written. The same
            call resumes an interrupted training.
        features: a fitted spec. By default the strategy's features, fitted on `data`; if it
            declares none, those of the fitted teacher.
        k: length of the lists in the evaluation.
        resamples: bootstrap draws for the intervals.
        progress: whether to show progress.

    Raises:
        ValueError: as `train`; if there is no teacher, or the student's family cannot learn from a
            teacher; if `k` is above the size of the catalogue.
    """
    check("resamples", resamples, RESAMPLES)
    if isinstance(strategy, str):
        strategy = Strategy.from_dict(
            {"family": strategy, "model": STUDENT_MODEL.get(strategy, {})}
        )
    FAMILIES[strategy.family].check_teachable(strategy.model)
    several = isinstance(teacher, Sequence) and not isinstance(teacher, str)
    sources: Any = teacher if several else [teacher]
    if features is None:
        fitted = [source.spec for source in sources if not isinstance(source, str | Strategy)]
        events = data.train if isinstance(data, Split) else data
        declared = strategy.features is not None or not fitted
        features = fitted_features(strategy, events) if declared else fitted[0]
    check("k", k, whole_number(1))
    if compare and isinstance(data, Split) and k > features.catalogue_size:  # before training
        raise ParameterError(
            f"`k`={k}, but the catalogue has {features.catalogue_size} items; use 1 to "
            f"{features.catalogue_size}.",
            "k",
        )

    def fit(strategy: Strategy | str, name: str, teacher: Teacher | None = None) -> Recommender:
        return train(
            data,
            strategy,
            validation=validation,
            folder=None if folder is None else Path(folder) / name,
            features=features,
            teacher=teacher,
            progress=progress,
        )

    def make_teacher(source: Teacher | Strategy | str, index: int) -> Teacher:
        name = f"teachers/{index}"
        if source in (BERT, TUNED_BERT):
            return text_teacher(
                data,
                features,
                encoder=BertEncoder(cache=None if folder is None else Path(folder) / "encodings"),
                tuning=TEXT_TUNING if source == TUNED_BERT else None,
                folder=None if folder is None else Path(folder) / name,
                progress=progress,
            )
        return fit(source, name) if isinstance(source, str | Strategy) else source

    teachers = [make_teacher(source, index) for index, source in enumerate(sources)]
    final_teacher: Teacher = teachers[0] if len(teachers) == 1 else MeanTeacher(teachers)
    student = fit(strategy, "", final_teacher)
    if not compare:
        return Distillation(student, final_teacher)
    undistilled = fit(strategy, "undistilled")
    if not isinstance(data, Split) or not len(data.test):
        return Distillation(student, final_teacher, undistilled)
    test = held_out(student.spec, data.past, data.test)
    slices = item_slices(student.item_counts.numpy(), test.relevant, k)
    models: dict[Role, Teacher] = {
        Role.TEACHER: final_teacher,
        Role.STUDENT: student,
        Role.UNDISTILLED: undistilled,
    }
    report = DistillationReport(
        {
            role: evaluate_slices(model, test, slices, k, resamples)
            for role, model in models.items()
        },
        k,
    )
    if folder is not None:
        report.write(Path(folder) / "report.html")
    return Distillation(student, final_teacher, undistilled, report)
