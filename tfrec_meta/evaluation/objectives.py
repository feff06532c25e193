"""Objectives: the validation metrics that models are selected and searched by."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal


class Objective(StrEnum):
    """A validation metric to select models by; its value is its name in curves and studies.

    Example:
        >>> from tfrec_meta.evaluation import Objective
        >>> Objective.RMSE.direction, Objective("val_rmse").score(0.75)
        ('min', -0.75)
    """

    NDCG = "val_ndcg@10"  # of models that rank the full catalogue
    AUC = "val_auc"  # of models that predict clicks
    RMSE = "val_rmse"  # of models that predict ratings

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether a higher ("max") or a lower ("min") value is better; as in KerasTuner."""
        return "min" if self is Objective.RMSE else "max"

    def score(self, value: float) -> float:
        """Returns a score to be maximised: the value, negated if lower values are better.

        NaN becomes -inf. An AUC is NaN if all events are clicks, or none is.
        """
        if math.isnan(value):
            return -math.inf
        return -value if self.direction == "min" else value
