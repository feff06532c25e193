"""From raw interactions to a tuned, distilled, served recommender, in TensorFlow.

Names are loaded when they are first used, so that `import tfrec_meta` is quick and a serving client
never loads TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Category": "features",
    "ContentTowerConfig": "models",
    "EnsembleConfig": "models",
    "Evaluation": "evaluation",
    "ExportConfig": "export.saved_model",
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
    "Strategy": "api",
    "Study": "strategy_search",
    "Text": "features",
    "TrainingConfig": "training",
    "TwoStageConfig": "models",
    "TwoTowerConfig": "models",
    "Vector": "features",
    "adapt": "api",
    "compare": "evaluation",
    "distill": "distilling",
    "evaluate": "api",
    "evaluate_cold_start": "metalearning.cold_start",
    "evaluate_ranking": "api",
    "export": "api",
    "fetch_movielens": "data",
    "load": "api",
    "movielens": "data",
    "read_interactions": "data",
    "recommend": "api",
    "report": "api",
    "save": "api",
    "split_by_item": "data",
    "split_by_time": "data",
    "split_by_user": "data",
    "split_cold_items": "data",
    "split_cold_users": "data",
    "split_domain": "data",
    "split_leave_last_out": "data",
    "stream_interactions": "data",
    "synthetic": "data",
    "text_teacher": "api",
    "train": "api",
    "tune": "strategy_search",
}

__all__ = sorted(_HOME)


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
