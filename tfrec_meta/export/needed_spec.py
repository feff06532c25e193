"""The part of a FeatureSpec that an export needs: no data of users that the model ignores."""

from __future__ import annotations

import dataclasses

from tfrec_meta.features import FeatureSpec, Vocabulary
from tfrec_meta.models.base.contract import Recommender


def needed_spec(model: Recommender, user_ids: bool) -> FeatureSpec:
    """Returns the spec of a model without what its users table taught features that it ignores.

    All features stay declared, so that the inputs of an export do not depend on the family.

    Args:
        model: a fitted model.
        user_ids: whether the ids of users stay.

    Returns:
        The spec, with empty vocabularies and the statistics (0, 1) for query features that the
        model does not read, and without `user_ids` an empty vocabulary of users.
    """
    spec = model.spec
    ignored = {
        spec.key(feature, "query") for feature in spec.query if feature not in model.query_features
    }
    emptied = ignored if user_ids else {*ignored, "user_id"}
    return dataclasses.replace(
        spec,
        vocabularies={
            key: Vocabulary() if key in emptied else vocabulary
            for key, vocabulary in spec.vocabularies.items()
        },
        statistics={
            key: (0.0, 1.0) if key in ignored else statistics
            for key, statistics in spec.statistics.items()
        },
    )
