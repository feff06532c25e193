"""Model families behind one contract."""

from tfrec_meta.models.base.composite import Composite, Member
from tfrec_meta.models.base.contract import Recommender
from tfrec_meta.models.families.closed_forms import EASE, EASEConfig, Popularity, PopularityConfig
from tfrec_meta.models.families.content_tower import ContentTower, ContentTowerConfig
from tfrec_meta.models.families.ensemble import Ensemble, EnsembleConfig
from tfrec_meta.models.families.factor_models import (
    IALS,
    IALSConfig,
    LowRankEASE,
    LowRankEASEConfig,
)
from tfrec_meta.models.families.item_knn import ItemKNN, ItemKNNConfig
from tfrec_meta.models.families.meta_learned import MetaLearned, MetaLearnedConfig
from tfrec_meta.models.families.meta_ranker import MetaRanker, MetaRankerConfig
from tfrec_meta.models.families.multi_task import MultiTask, MultiTaskConfig
from tfrec_meta.models.families.ranker import Ranker, RankerConfig
from tfrec_meta.models.families.two_stage import TwoStage, TwoStageConfig
from tfrec_meta.models.families.two_tower import TwoTower, TwoTowerConfig
from tfrec_meta.models.registry import FAMILIES, load_model

__all__ = [
    "EASE",
    "FAMILIES",
    "IALS",
    "Composite",
    "ContentTower",
    "ContentTowerConfig",
    "EASEConfig",
    "Ensemble",
    "EnsembleConfig",
    "IALSConfig",
    "ItemKNN",
    "ItemKNNConfig",
    "LowRankEASE",
    "LowRankEASEConfig",
    "Member",
    "MetaLearned",
    "MetaLearnedConfig",
    "MetaRanker",
    "MetaRankerConfig",
    "MultiTask",
    "MultiTaskConfig",
    "Popularity",
    "PopularityConfig",
    "Ranker",
    "RankerConfig",
    "Recommender",
    "TwoStage",
    "TwoStageConfig",
    "TwoTower",
    "TwoTowerConfig",
    "load_model",
]
