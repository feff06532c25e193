"""How runs are evaluated: the group "evaluation" of a config file.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal, get_args

from tfrec_meta.checks import NonNegativeInt, PositiveInt, check_fields, check_list
from tfrec_meta.errors import ParameterError

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
        if self.baselines is not None:
            check_baselines(self.baselines)
        check_fields(self)


def check_baselines(names: Iterable[str]) -> None:
    """Raises a ParameterError for a name that is not one of a baseline."""
    check_list("baselines", names)
    known = get_args(Baseline)
    for name in names:
        if name not in known:
            raise ParameterError(
                f"`baselines` has {name!r}; use some of {', '.join(known)}.", "baselines"
            )
