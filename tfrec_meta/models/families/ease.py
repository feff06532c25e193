"""EASE: a linear autoencoder of the history, in closed form."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tfrec_meta.checks import PositiveFloat, check_fields
from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import positive_matrix
from tfrec_meta.models.base.closed_form import ClosedForm
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.layers.item_rows import multi_hot
from tfrec_meta.models.solvers.ease import ease_weights


@dataclasses.dataclass(frozen=True)
class EASEConfig:
    """The config of `EASE`.

    Args:
        l2: ridge penalty, above 0, or the inverse may not exist; higher for sparser data.
    """

    l2: PositiveFloat = 400.0

    def __post_init__(self) -> None:
        check_fields(self)


class EASE(ClosedForm):
    """A linear autoencoder of the history with a zero diagonal, in closed form.

    Memory grows with the square of the catalogue and time with its cube: suited to catalogues below
    some 20,000 items.

    References:
        See `ease_weights`.
    """

    family = "ease"
    config_type = EASEConfig

    def __init__(self, config: EASEConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        self.weights = self._fitted("weights", [spec.catalogue_size, spec.catalogue_size])

    def fit(self, data: Interactions) -> None:
        """Solves for the item-to-item weights."""
        self.observe(data)
        matrix = positive_matrix(data, data.user_ids, self.spec.items)
        self.weights.assign(ease_weights(matrix, self.config.l2))

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        seen = multi_hot(query["history"], len(self.spec.items))[:, 1:]
        scores = tf.matmul(tf.minimum(seen, 1.0), self.weights)
        if items is None:
            return scores
        unknown = tf.zeros_like(scores[:, :1])
        return tf.gather(tf.concat([unknown, scores], axis=1), items, batch_dims=1)

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        l2 = hp.Float("l2", 1.0, 10_000.0, sampling="log", default=EASEConfig().l2)
        return {"model": {"l2": l2}, "training": {}}
