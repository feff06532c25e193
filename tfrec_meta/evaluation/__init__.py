"""Evaluation on scores and embeddings: metrics, the full-catalogue protocol, intervals.

The package uses NumPy and SciPy only, without model classes and without TensorFlow.
"""

from tfrec_meta.evaluation.intervals import Comparison, Estimate
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.evaluation.protocol import (
    METRICS,
    Evaluation,
    compare,
    format_table,
    full_catalogue,
    top_k,
    top_k_accuracy,
    true_candidate_ranks,
)

__all__ = [
    "METRICS",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Objective",
    "compare",
    "format_table",
    "full_catalogue",
    "top_k",
    "top_k_accuracy",
    "true_candidate_ranks",
]
