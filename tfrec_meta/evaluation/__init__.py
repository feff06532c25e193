"""Evaluation on scores and embeddings: metrics, the full-catalogue protocol, intervals.

The package uses NumPy and SciPy only, without model classes and without TensorFlow.
"""

from tfrec_meta.evaluation.comparison import compare
from tfrec_meta.evaluation.intervals import Comparison, Estimate
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.evaluation.protocol import (
    METRICS,
    full_catalogue,
    top_k,
    top_k_accuracy,
    true_candidate_ranks,
)
from tfrec_meta.evaluation.results import (
    BaselineSettings,
    ChosenOn,
    Evaluation,
    Evaluations,
    Group,
    GroupEvaluation,
    format_groups,
    format_table,
)
from tfrec_meta.evaluation.rolling import RollingEvaluation, Spread, Window

__all__ = [
    "METRICS",
    "BaselineSettings",
    "ChosenOn",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Evaluations",
    "Group",
    "GroupEvaluation",
    "Objective",
    "RollingEvaluation",
    "Spread",
    "Window",
    "compare",
    "format_groups",
    "format_table",
    "full_catalogue",
    "top_k",
    "top_k_accuracy",
    "true_candidate_ranks",
]
