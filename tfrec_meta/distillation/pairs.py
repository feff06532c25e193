"""Distinct pairs of users and items, the training data of fine-tuning."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Distinct pairs of users and items, of users with at least two items of the catalogue.

    Attributes:
        users: int64 [n], user codes from 0, sorted.
        rows: int32 [n], item rows.
        has_item: bool [users, catalogue + 1], whether a user has an item.
    """

    users: np.ndarray
    rows: np.ndarray
    has_item: scipy.sparse.csr_matrix

    @classmethod
    def of(cls, data: Interactions, features: FeatureSpec) -> Pairs:
        """Collects the pairs of positive training events.

        Raises:
            ValueError: if no user has two items.
        """
        data = data.positive_events()
        rows = features.items.encode(data.events["item_id"]).astype(np.int64)
        users = data.events["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        found = np.unique(np.stack([users, rows])[:, rows > 0], axis=1)
        users, rows = found[:, np.bincount(found[0])[found[0]] > 1] if found.size else found
        if not len(users):
            raise ValueError(
                "No user has two items of the catalogue. Use data with longer histories."
            )
        shape = (users.max() + 1, features.catalogue_size + 1)
        has_item = scipy.sparse.csr_matrix((np.ones(len(users), bool), (users, rows)), shape)
        return cls(users, rows.astype(np.int32), has_item)
