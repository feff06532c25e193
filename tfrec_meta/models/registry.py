"""The registry of model families, and how a saved model of any of them is read."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

from tfrec_meta.models.base.contract import Recommender, read_record
from tfrec_meta.models.families.closed_forms import EASE, Popularity
from tfrec_meta.models.families.content_tower import ContentTower
from tfrec_meta.models.families.ensemble import Ensemble
from tfrec_meta.models.families.factor_models import (
    IALS,
    LowRankEASE,
)
from tfrec_meta.models.families.item_knn import ItemKNN
from tfrec_meta.models.families.meta_learned import MetaLearned
from tfrec_meta.models.families.meta_ranker import MetaRanker
from tfrec_meta.models.families.multi_task import MultiTask
from tfrec_meta.models.families.ranker import Ranker
from tfrec_meta.models.families.two_stage import TwoStage
from tfrec_meta.models.families.two_tower import TwoTower

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


def save(model: Recommender, folder: Path | str, overwrite: bool = False) -> None:
    """Saves a fitted model of any family for `load`."""
    model.save(folder, overwrite)


def load(folder: Path | str) -> Recommender:
    """Loads what `save` wrote."""
    return load_model(folder)
