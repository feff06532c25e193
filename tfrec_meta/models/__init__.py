"""Model families behind one contract."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

from tfrec_meta.models.closed_forms import EASE, EASEConfig, Popularity, PopularityConfig
from tfrec_meta.models.composite import Composite, Member
from tfrec_meta.models.content_tower import ContentTower, ContentTowerConfig
from tfrec_meta.models.contract import Recommender, read_record
from tfrec_meta.models.ensemble import Ensemble, EnsembleConfig
from tfrec_meta.models.factor_models import IALS, IALSConfig, LowRankEASE, LowRankEASEConfig
from tfrec_meta.models.item_knn import ItemKNN, ItemKNNConfig
from tfrec_meta.models.meta_learned import MetaLearned, MetaLearnedConfig
from tfrec_meta.models.meta_ranker import MetaRanker, MetaRankerConfig
from tfrec_meta.models.multi_task import MultiTask, MultiTaskConfig
from tfrec_meta.models.ranker import Ranker, RankerConfig
from tfrec_meta.models.two_stage import TwoStage, TwoStageConfig
from tfrec_meta.models.two_tower import TwoTower, TwoTowerConfig

FAMILIES: dict[str, type[Recommender]] = {
    family.family: family
    for family in (
        TwoTower,
        ContentTower,
        Ranker,
        MultiTask,
        IALS,
        LowRankEASE,
        EASE,
        ItemKNN,
        Popularity,
        MetaLearned,
        MetaRanker,
        Ensemble,
        TwoStage,
    )
}


def load_model(folder: Path | str) -> Recommender:
    """Reads a model that `save` wrote.

    Raises:
        FileNotFoundError: if the folder holds no saved model.
        ValueError: if it is damaged, or its format or family is unknown to this version.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record["family"] not in FAMILIES:
        raise ValueError(
            f"{folder} holds a model of family {record['family']!r}; known are {sorted(FAMILIES)}."
        )
    try:
        return FAMILIES[record["family"]].from_folder(folder, record)
    except (LookupError, TypeError, ValueError, AttributeError, OSError, BadZipFile) as error:
        raise ValueError(
            f"{folder} holds a damaged model ({type(error).__name__}: {error}). Save it again."
        ) from error


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
