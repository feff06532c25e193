"""The search for a strategy: its space, oracles, studies, and what they learn from each other.

Names are loaded at their first use, so that the store of studies is read without TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "ORACLES": "oracles.registry",
    "SPACE_VERSION": "space",
    "TRANSFER_ORACLES": "oracles.registry",
    "AllTrialsFailed": "tuner",
    "ChiefFailed": "distributed.chief",
    "EvaluateTrial": "trial_runner",
    "OutOfTime": "trial_report",
    "PriorStudies": "prior_studies",
    "Report": "trial_report",
    "SearchDisplay": "display.live_table",
    "SearchOptions": "options",
    "Similarity": "surrogates.similarity",
    "StrategySpace": "space",
    "StrategyTuner": "tuner",
    "StudyDescription": "studies.description",
    "StudyRecord": "studies.records",
    "StudyStore": "studies.store",
    "TransferOptions": "options",
    "TrialStatus": "studies.records",
    "TrialStopped": "trial_report",
    "data_profile": "studies.data_profile",
    "importance": "surrogates.importance",
    "log_trial": "display.hparams_log",
    "partial_dependence": "surrogates.importance",
    "read_keras_tuner": "studies.keras_tuner_import",
    "read_tfx": "studies.tfx_import",
    "studies_folder": "studies.store",
    "write_hparams": "display.hparams_log",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")
