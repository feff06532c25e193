"""The search for a strategy: its space, KerasTuner's oracles over it, and what studies remember.

Names are loaded when they are first used: the memory of studies is read without TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "OBJECTIVE": "tuner",
    "ORACLES": "tuner",
    "SPACE_VERSION": "space",
    "AllTrialsFailed": "tuner",
    "ChiefFailed": "chief",
    "EvaluateTrial": "tuner",
    "Memory": "memory",
    "OutOfTime": "trial_report",
    "REMEMBERING": "tuner",
    "Report": "trial_report",
    "StrategySpace": "space",
    "StrategyTuner": "tuner",
    "StudyRecord": "study_store",
    "StudyStore": "study_store",
    "TrialStopped": "trial_report",
    "best_of": "tuner",
    "read_keras_tuner": "imported_studies",
    "read_tfx": "imported_studies",
    "recall": "memory",
    "studies_folder": "study_store",
    "study_header": "study_log",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")
