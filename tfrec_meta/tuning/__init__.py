"""The search for a strategy: its space, KerasTuner's oracles over it, and what studies remember.

Names are loaded when they are first used: the memory of studies is read without TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "ORACLES": "tuner",
    "SPACE_VERSION": "space",
    "AllTrialsFailed": "tuner",
    "ChiefFailed": "distributed.chief",
    "EvaluateTrial": "tuner",
    "Memory": "memory",
    "OutOfTime": "display.trial_report",
    "REMEMBERING": "tuner",
    "Report": "display.trial_report",
    "StrategySpace": "space",
    "StrategyTuner": "tuner",
    "StudyRecord": "studies.store",
    "StudyStore": "studies.store",
    "TrialStopped": "display.trial_report",
    "best_of": "tuner",
    "read_keras_tuner": "studies.imported",
    "read_tfx": "studies.imported",
    "recall": "memory",
    "studies_folder": "studies.store",
    "study_header": "studies.log",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")
