"""The registry of model families: one line per family.

A family is imported when it is first looked up, so the names of families are known without loading
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfrec_meta.models.base.contract import Recommender

_CLASSES = {
    "two_tower": "TwoTower",
    "content_tower": "ContentTower",
    "ranker": "Ranker",
    "multi_task": "MultiTask",
    "ials": "IALS",
    "low_rank_ease": "LowRankEASE",
    "ease": "EASE",
    "item_knn": "ItemKNN",
    "popularity": "Popularity",
    "meta_learned": "MetaLearned",
    "meta_ranker": "MetaRanker",
    "ensemble": "Ensemble",
    "two_stage": "TwoStage",
}
"""The class of each family, by the name of the family, which is also its module in `families`. The
config of a family is the class of that name and "Config"."""


class _Families(Mapping[str, "type[Recommender]"]):
    """The classes of all families by name; a lookup imports the family."""

    def __getitem__(self, name: str) -> type[Recommender]:
        found: type[Recommender] = getattr(import_module(module_of(name)), _CLASSES[name])
        return found

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


FAMILIES: Mapping[str, type[Recommender]] = _Families()
"""All families. The names need no TensorFlow: `list(FAMILIES)`, `"ials" in FAMILIES`."""

CLASS_NAMES: Mapping[str, str] = {
    name: family for family, kind in _CLASSES.items() for name in (kind, f"{kind}Config")
}
"""The family of each class that `tfrec_meta.models` exports: of models and of their configs."""


def module_of(family: str) -> str:
    """Returns the module of a family.

    Raises:
        KeyError: for an unknown family.
    """
    if family not in _CLASSES:
        raise KeyError(family)
    return f"tfrec_meta.models.families.{family}"
