"""What coverage and popularity lift need of the recommended lists, without keeping the lists.

Lists of `k` items for all users would fill the memory: with `k` as large as a catalogue of 20,000
items, those of 100,000 users take 16 GB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec_meta.evaluation import metrics as m


class ShownItems:
    """Collects lists of recommended items, some users at a time.

    Args:
        users: number of users.
        catalogue: number of items of the catalogue.
        popularity: float64 [catalogue]; None if `popularity_lift` is not needed.
    """

    def __init__(self, users: int, catalogue: int, popularity: NDArray[np.float64] | None):
        self._shown = np.zeros(catalogue, bool)
        self._popularity = popularity
        self._mean = np.full(users, np.nan)

    def add(self, users: slice, lists: NDArray[np.int64]) -> None:
        """Adds lists int64 [u, k] of the users of a slice; -1 where a list is shorter than k.

        Threads may add different users at the same time.
        """
        self._shown[lists[lists >= 0]] = True
        if self._popularity is not None:
            self._mean[users] = m.list_popularity(lists, self._popularity)

    def coverage(self) -> float:
        """Returns the share of the catalogue that is in at least one list."""
        return int(self._shown.sum()) / len(self._shown)

    def popularity_lift(self, profile: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns `metrics.popularity_lift` of the lists, float64 [users].

        Args:
            profile: float64 [users], mean popularity of the items in each user's profile.
        """
        return m.lift_of_means(self._mean, profile)


def item_popularity(popularity: ArrayLike | None, hidden: Any) -> NDArray[np.float64]:
    """Returns the popularity of each item, float64 [N]; by default the column counts of `hidden`.

    Args:
        popularity: float [N] or None.
        hidden: csr [Q, N], the past of the users.

    Raises:
        ValueError: for another shape.
    """
    if popularity is None:
        popularity = np.bincount(hidden.indices, minlength=hidden.shape[1])
    value = np.asarray(popularity, np.float64)
    if value.shape != (hidden.shape[1],):
        raise ValueError(
            f"`popularity` has shape {value.shape}; use [{hidden.shape[1]}], one value per item."
        )
    return value
