"""The search for a strategy: its space, and KerasTuner's oracles over it."""

from tfrec_meta.tuning.chief import ChiefFailed
from tfrec_meta.tuning.space import StrategySpace
from tfrec_meta.tuning.trial_report import OutOfTime, Report, TrialStopped
from tfrec_meta.tuning.tuner import (
    OBJECTIVE,
    ORACLES,
    AllTrialsFailed,
    EvaluateTrial,
    StrategyTuner,
    best_of,
)

__all__ = [
    "OBJECTIVE",
    "ORACLES",
    "AllTrialsFailed",
    "ChiefFailed",
    "EvaluateTrial",
    "OutOfTime",
    "Report",
    "StrategySpace",
    "StrategyTuner",
    "TrialStopped",
    "best_of",
]
