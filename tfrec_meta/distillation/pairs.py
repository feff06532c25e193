"""Who has touched what, as fine-tuning reads it."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Each pair of user and item once, of users with two items of the catalogue or more.

    Attributes:
        users: int64 [n], from 0, sorted.
        rows: int32 [n], item rows.
        touched: bool [users, catalogue + 1].
    """

    users: np.ndarray
    rows: np.ndarray
    touched: scipy.sparse.csr_matrix

    @classmethod
    def of(cls, data: Interactions, features: FeatureSpec) -> Pairs:
        """Of training events.

        Raises:
            ValueError: if no user has two items.
        """
        rows = features.items.encode(data.events["item_id"]).astype(np.int64)
        users = data.events["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        found = np.unique(np.stack([users, rows])[:, rows > 0], axis=1)
        users, rows = found[:, np.bincount(found[0])[found[0]] > 1] if found.size else found
        if not len(users):
            raise ValueError("No user has two items of the catalogue: nothing is to be learned.")
        shape = (users.max() + 1, features.catalogue_size + 1)
        touched = scipy.sparse.csr_matrix((np.ones(len(users), bool), (users, rows)), shape)
        return cls(users, rows.astype(np.int32), touched)
