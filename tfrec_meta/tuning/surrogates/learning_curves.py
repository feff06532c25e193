"""Which trial is hopeless, from its learning curve and those of trials that went to their end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST_CURVES = 4
_QUANTILE = 0.9


def is_hopeless(
    curve: Sequence[float], finished: Sequence[Sequence[float]], best: float, direction: str
) -> bool:
    """Whether the trial would have to gain more than others did from here to reach the best.

    What the trials that went to their end still gained after as many epochs is the measure: if
    even a gain as good as the best tenth of theirs would leave this one behind, it is hopeless.
    The freeze-thaw idea ("Freeze-Thaw Bayesian Optimization", 2014) with the gains themselves in
    the place of a model of them.

    Args:
        curve: the objective after each epoch so far, at least one.
        finished: curves of trials that went to their end.
        best: the best objective of all trials.
        direction: "max" or "min".

    Returns:
        False while there are fewer than `FEWEST_CURVES` curves that are longer.
    """
    sign = 1.0 if direction == "max" else -1.0
    so_far = max(sign * value for value in curve)
    gains = []
    for other in finished:
        if len(other) > len(curve):
            values = sign * np.asarray(other)
            gains.append(values.max() - values[: len(curve)].max())
    if len(gains) < FEWEST_CURVES:
        return False
    return bool(so_far + np.quantile(gains, _QUANTILE) < sign * best)
