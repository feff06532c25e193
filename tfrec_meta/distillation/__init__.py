"""Teachers, of BERT checkpoints and others, and what their students have of them."""

from tfrec_meta.distillation.bert import BertEncoder
from tfrec_meta.distillation.comparison import (
    STUDENT,
    TEACHER,
    UNTAUGHT,
    DistillationReport,
    Learner,
    item_slices,
    measured,
)
from tfrec_meta.distillation.teachers import MeanTeacher

__all__ = [
    "STUDENT",
    "TEACHER",
    "UNTAUGHT",
    "BertEncoder",
    "DistillationReport",
    "Learner",
    "MeanTeacher",
    "item_slices",
    "measured",
]
