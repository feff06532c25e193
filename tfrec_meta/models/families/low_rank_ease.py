"""Low-rank EASE: the weights of EASE as the product of two narrow matrices."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tfrec_meta.checks import FinitePositiveFloat, Width, check_fields
from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import positive_matrix
from tfrec_meta.models.base.closed_form import FactorModel
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.layers.item_rows import mean_of_rows, without_repeats
from tfrec_meta.models.solvers.ease import ease_weights, low_rank


@dataclasses.dataclass(frozen=True)
class LowRankEASEConfig:
    """The config of `LowRankEASE`.

    The defaults were chosen on a validation part of MovieLens-100K's train rows.

    Args:
        embedding_dim: d, the rank.
        l2: ridge penalty of EASE, above 0, or the inverse may not exist.
    """

    embedding_dim: Width = 64
    l2: FinitePositiveFloat = 500.0

    def __post_init__(self) -> None:
        check_fields(self)


class LowRankEASE(FactorModel):
    """EASE with weights of rank d: the query vector is the sum of the history's vectors.

    It costs as much to fit as EASE, and as little to serve as a two-tower model.

    References:
        See `ease_weights`.
    """

    family = "low_rank_ease"
    config_type = LowRankEASEConfig

    def __init__(self, config: LowRankEASEConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        self.history_factors = self._fitted("history_factors", [len(spec.items), self.dim])

    def fit(self, data: Interactions) -> None:
        """Solves for the weights of EASE and decomposes them."""
        self.observe(data)
        matrix = positive_matrix(data, data.user_ids, self.spec.items)
        left, right = low_rank(ease_weights(matrix, self.config.l2), self.dim)
        self.history_factors[1:].assign(left)
        self.item_factors[1:].assign(right)

    def query_vectors(self, query: Query) -> tf.Tensor:
        rows = without_repeats(query["history"])
        counts = tf.reduce_sum(tf.cast(rows > 0, tf.float32), axis=1, keepdims=True)
        return counts * mean_of_rows(rows, tf.convert_to_tensor(self.history_factors))

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        default = LowRankEASEConfig()
        model = {
            "embedding_dim": hp.Choice("embedding_dim", [16, 32, 64, 128, 256], default=64),
            "l2": hp.Float("l2", 1.0, 10_000.0, sampling="log", default=default.l2),
        }
        return {"model": model, "training": {}}
