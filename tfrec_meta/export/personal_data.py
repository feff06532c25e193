"""What a model and its exports hold of the columns that look personal."""

from __future__ import annotations

import dataclasses
import enum

from tfrec_meta.data import PersonalColumn
from tfrec_meta.models.base.contract import Recommender, UserIds


class PersonalUse(enum.StrEnum):
    """What happens to a column."""

    LEFT_OUT = "left out"
    FEATURE = "feature"
    CATALOGUE = "catalogue"
    HASHES = "hashes"
    IDS = "ids"

    @property
    def sentence(self) -> str:
        """What happens, in words."""
        return _SENTENCES[self]


_SENTENCES = {
    PersonalUse.LEFT_OUT: "left out of the model and its exports",
    PersonalUse.FEATURE: "used as a feature; exports hold its values or their encoding",
    PersonalUse.CATALOGUE: "kept in the catalogue of exports",
    PersonalUse.HASHES: "exports hold a hash of each id, for the features of known users",
    PersonalUse.IDS: "exports hold the ids, since the model has an embedding of each user",
}


@dataclasses.dataclass(frozen=True)
class UsedColumn:
    """A column that looks personal, and what happens to it.

    Attributes:
        column: which column, and why it looks personal.
        use: what happens to it.
    """

    column: PersonalColumn
    use: PersonalUse

    def as_dict(self) -> dict[str, str]:
        """Returns plain values for JSON."""
        return {
            "column": self.column.full_name,
            "looks_like": str(self.column.looks_like),
            "by": self.column.by,
            "use": str(self.use),
        }


def used_columns(model: Recommender) -> list[UsedColumn]:
    """Returns what happens to the columns of the training data that look personal.

    Args:
        model: a fitted model.
    """
    return [UsedColumn(column, _use(model, column)) for column in model.personal_columns]


def _use(model: Recommender, column: PersonalColumn) -> PersonalUse:
    if column.table == "items" or column.column == "item_id":
        return PersonalUse.CATALOGUE
    if column.column == "user_id":
        return {
            UserIds.EMBEDDING: PersonalUse.IDS,
            UserIds.FEATURES: PersonalUse.HASHES,
            UserIds.UNUSED: PersonalUse.LEFT_OUT,
        }[model.user_ids]
    side = model.spec.user if column.table == "users" else model.spec.context
    read = {feature.name for feature in side if feature in model.query_features}
    return PersonalUse.FEATURE if column.column in read else PersonalUse.LEFT_OUT
