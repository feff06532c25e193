"""Popularity: the same items for every user, by their number of interactions."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.models.base.closed_form import ClosedForm
from tfrec_meta.models.base.contract import Query


@dataclasses.dataclass(frozen=True)
class PopularityConfig:
    """The config of `Popularity`, which has no settings."""


class Popularity(ClosedForm):
    """Scores each item by its share of the interactions in the training data."""

    family = "popularity"
    config_type = PopularityConfig

    def fit(self, data: Interactions) -> None:
        """Counts the interactions per item."""
        self.observe(data)

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        if items is not None:
            return tf.gather(self._prior_rows(), items)
        return tf.tile(self._prior_logits()[None, :], [tf.shape(query["user_id"])[0], 1])

    def has_evidence(self, query: Query) -> tf.Tensor:
        return tf.zeros_like(query["user_id"], tf.bool)
