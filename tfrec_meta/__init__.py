"""From raw interactions to a tuned, distilled, served recommender, in TensorFlow.

Names are loaded when they are first used, so that `import tfrec_meta` is quick and a serving client
never loads TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tfrec_meta.keras import use_keras2

__version__ = "0.1.0"

_HOME = {
    "Category": "features",
    "ContentTowerConfig": "models",
    "EnsembleConfig": "models",
    "Evaluation": "evaluation",
    "ExportConfig": "export.config",
    "FeatureSpec": "features",
    "HashedText": "features",
    "Interactions": "data",
    "Member": "models",
    "MetaLearnedConfig": "models",
    "MetaRankerConfig": "models",
    "MultiTaskConfig": "models",
    "Number": "features",
    "RankerConfig": "models",
    "Split": "data",
    "Strategy": "strategy",
    "Study": "workflows.tune",
    "Text": "features",
    "TrainingConfig": "training",
    "TwoStageConfig": "models",
    "TwoTowerConfig": "models",
    "Vector": "features",
    "adapt": "workflows.recommend",
    "compare": "evaluation",
    "distill": "workflows.distill",
    "evaluate": "workflows.evaluate",
    "evaluate_cold_start": "workflows.cold_start",
    "evaluate_predictions": "workflows.evaluate",
    "export": "workflows.export",
    "fetch_movielens": "data",
    "load": "models.loading",
    "movielens": "data",
    "read_interactions": "data",
    "recommend": "workflows.recommend",
    "report": "workflows.report",
    "save": "models.loading",
    "split_by_item": "data",
    "split_by_time": "data",
    "split_by_user": "data",
    "split_cold_items": "data",
    "split_cold_users": "data",
    "split_domain": "data",
    "split_leave_last_out": "data",
    "stream_interactions": "data",
    "synthetic": "data",
    "text_teacher": "workflows.train",
    "train": "workflows.train",
    "tune": "workflows.tune",
}

__all__ = sorted(_HOME)


use_keras2()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        try:
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith(__name__):
                raise
            raise ModuleNotFoundError(
                f"`tfrec_meta.{name}` needs {error.name}, which is not installed: "
                "pip install 'tfrec-meta[core]'",
                name=error.name,
            ) from error
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
