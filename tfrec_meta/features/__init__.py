"""Features of users, items and events: their declaration, fitting and encoding as numbers."""

from tfrec_meta.features.kinds import Calendar, Category, HashedText, Number, Text, Vector
from tfrec_meta.features.spec import FeatureSpec
from tfrec_meta.features.vocabulary import Vocabulary

__all__ = [
    "Calendar",
    "Category",
    "FeatureSpec",
    "HashedText",
    "Number",
    "Text",
    "Vector",
    "Vocabulary",
]
