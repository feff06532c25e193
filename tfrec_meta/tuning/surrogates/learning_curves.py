"""Decides by learning curves whether a trial is hopeless."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST_CURVES = 4
_QUANTILE = 0.9


def is_hopeless(
    curve: Sequence[float], finished: Sequence[Sequence[float]], best: float, direction: str
) -> bool:
    """Returns whether a trial would need more improvement than finished trials had from here.

    The gains of finished trials after the same number of epochs are the measure. A trial is
    hopeless if a gain at their 90 % quantile would not lift it to the best value.

    Args:
        curve: the objective after each epoch so far, at least one.
        finished: curves of trials that were not stopped.
        best: the best objective of all trials.
        direction: "max" or "min".

    Returns:
        False while fewer than `FEWEST_CURVES` finished curves are longer.

    References:
        The idea is that of "Freeze-Thaw Bayesian Optimization" (2014), with observed gains in
        place of a model of the curves.
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
