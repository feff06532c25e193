"""How runs are evaluated: the group "evaluation" of a config file.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from tfrec_meta.checks import NonNegativeInt, PositiveInt, check_fields

Baseline = Literal["popularity", "item_knn", "ease", "ials"]


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """How runs are evaluated.

    Args:
        k: length of the ranked lists.
        baselines: the models to compare with. None: all that suit the data; empty: none.
        tune_baselines: whether the settings of baselines are chosen on validation events.
        resamples: number of bootstrap samples of the intervals.

    Raises:
        ParameterError: for a value that is not accepted.
    """

    k: PositiveInt = 10
    baselines: tuple[Baseline, ...] | None = None
    tune_baselines: bool = True
    resamples: NonNegativeInt = 1000

    def __post_init__(self) -> None:
        check_fields(self)
