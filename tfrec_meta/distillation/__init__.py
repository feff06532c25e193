"""Distillation: teachers of BERT checkpoints and others, small students, and their comparison."""

from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.distillation.comparison import (
    DistillationComparison,
    ItemSlice,
    Role,
    SlicedEvaluation,
    evaluate_slices,
    item_slices,
)
from tfrec_meta.distillation.cross_encoder import (
    CrossEncoder,
    CrossEncoderConfig,
    fine_tuned_cross_encoder,
)
from tfrec_meta.distillation.fine_tuning import FineTuningConfig
from tfrec_meta.distillation.small_bert import SmallBertConfig, small_bert
from tfrec_meta.distillation.teachers import MeanTeacher
from tfrec_meta.distillation.text_two_tower import fine_tuned

__all__ = [
    "BertEncoder",
    "CrossEncoder",
    "CrossEncoderConfig",
    "DistillationComparison",
    "FineTuningConfig",
    "ItemSlice",
    "MeanTeacher",
    "Role",
    "SlicedEvaluation",
    "SmallBertConfig",
    "evaluate_slices",
    "fine_tuned",
    "fine_tuned_cross_encoder",
    "item_slices",
    "small_bert",
]
