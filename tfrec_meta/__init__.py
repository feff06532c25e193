"""From raw interactions to a tuned, distilled and served recommender in TensorFlow.

Names are loaded when they are first used. `import tfrec_meta` is therefore quick, and a serving
client never loads TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfrec_meta.extras import public_name
from tfrec_meta.keras import use_keras2

if TYPE_CHECKING:  # for editors and type checkers, which cannot follow `__getattr__`
    from tfrec_meta.data import (
        Feedback,
        Interactions,
        Split,
        movielens,
        read_interactions,
        read_sql,
        split_by_item,
        split_by_time,
        split_by_user,
        split_cold_items,
        split_cold_users,
        split_domain,
        split_leave_last_out,
        stream_interactions,
        synthetic,
    )
    from tfrec_meta.evaluation import Evaluation, compare
    from tfrec_meta.export.config import ExportConfig
    from tfrec_meta.features import (
        Calendar,
        Category,
        FeatureSpec,
        HashedText,
        Number,
        Text,
        Vector,
    )
    from tfrec_meta.models import (
        ContentTowerConfig,
        EnsembleConfig,
        Member,
        MetaLearnedConfig,
        MetaRankerConfig,
        MultiTaskConfig,
        RankerConfig,
        TwoStageConfig,
        TwoTowerConfig,
    )
    from tfrec_meta.models.loading import load, save
    from tfrec_meta.strategy import Strategy
    from tfrec_meta.training import TrainingConfig
    from tfrec_meta.workflows.cold_start import evaluate_cold_start
    from tfrec_meta.workflows.distill import distill
    from tfrec_meta.workflows.evaluate import evaluate, evaluate_predictions, rolling_evaluation
    from tfrec_meta.workflows.export import export
    from tfrec_meta.workflows.recommend import adapt, recommend
    from tfrec_meta.workflows.report import report
    from tfrec_meta.workflows.train import refit, text_teacher, train
    from tfrec_meta.workflows.tune import Study, tune

__version__ = "0.3.0"

# The module of each public name, below this package. The imports above have the same names.
_MODULES = {
    "Calendar": "features",
    "Category": "features",
    "ContentTowerConfig": "models",
    "EnsembleConfig": "models",
    "Evaluation": "evaluation",
    "ExportConfig": "export.config",
    "FeatureSpec": "features",
    "Feedback": "data",
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
    "load": "models.loading",
    "movielens": "data",
    "read_interactions": "data",
    "read_sql": "data",
    "recommend": "workflows.recommend",
    "refit": "workflows.train",
    "report": "workflows.report",
    "rolling_evaluation": "workflows.evaluate",
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

__all__ = [
    "Calendar",
    "Category",
    "ContentTowerConfig",
    "EnsembleConfig",
    "Evaluation",
    "ExportConfig",
    "FeatureSpec",
    "Feedback",
    "HashedText",
    "Interactions",
    "Member",
    "MetaLearnedConfig",
    "MetaRankerConfig",
    "MultiTaskConfig",
    "Number",
    "RankerConfig",
    "Split",
    "Strategy",
    "Study",
    "Text",
    "TrainingConfig",
    "TwoStageConfig",
    "TwoTowerConfig",
    "Vector",
    "adapt",
    "compare",
    "distill",
    "evaluate",
    "evaluate_cold_start",
    "evaluate_predictions",
    "export",
    "load",
    "movielens",
    "read_interactions",
    "read_sql",
    "recommend",
    "refit",
    "report",
    "rolling_evaluation",
    "save",
    "split_by_item",
    "split_by_time",
    "split_by_user",
    "split_cold_items",
    "split_cold_users",
    "split_domain",
    "split_leave_last_out",
    "stream_interactions",
    "synthetic",
    "text_teacher",
    "train",
    "tune",
]


use_keras2()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return public_name(f"{__name__}.{_MODULES[name]}", name)
    raise AttributeError(f"{__name__} has no public name {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
