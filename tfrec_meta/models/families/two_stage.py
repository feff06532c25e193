"""Two-stage models: one model retrieves candidates, another ranks them."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tfrec_meta.checks import PositiveInt, check_fields
from tfrec_meta.models.base.composite import Composite, scores_of
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.member import Member
from tfrec_meta.models.layers.item_rows import multi_hot


def rank_proposed(
    retrieved: tf.Tensor, columns: tf.Tensor, ranked: tf.Tensor, proposed: tf.Tensor
) -> tf.Tensor:
    """Merges scores so that proposed items come first, in the ranker's order, then all others.

    Args:
        retrieved: float32 [B, catalogue], the retriever's scores.
        columns: int32 [B, n], distinct columns of `retrieved`.
        ranked: float32 [B, n], the ranker's scores of these columns.
        proposed: bool [B, n], whether a column is proposed at all.

    Returns:
        float32 [B, catalogue]: the ranker's scores of the proposed items, and the retriever's
        scores of the others, shifted so that the best of them is 1 below the worst proposed item
        (or, if the ranker's scores are far from 0, 1 % of the worst score).
    """
    place = tf.where(proposed)
    row = tf.cast(place[:, 0], tf.int32)
    at = tf.stack([row, tf.gather_nd(columns, place)], axis=1)
    is_proposed = tf.tensor_scatter_nd_update(
        tf.zeros_like(retrieved, tf.bool), at, tf.ones_like(row, tf.bool)
    )
    infinite = tf.float32.max
    least = tf.reduce_min(tf.where(proposed, ranked, infinite), axis=1, keepdims=True)
    best = tf.reduce_max(tf.where(is_proposed, -infinite, retrieved), axis=1, keepdims=True)
    least = tf.where(tf.reduce_any(proposed, axis=1, keepdims=True), least, 1.0)
    # In steps relative to the worst: in float32, 1e8 - 1 equals 1e8.
    step = tf.maximum(1.0, 0.01 * tf.abs(least))
    others = least - step * (1.0 + tf.maximum(best - retrieved, 0.0))
    return tf.tensor_scatter_nd_update(others, at, tf.gather_nd(ranked, place))


@dataclasses.dataclass(frozen=True)
class TwoStageConfig:
    """The config of `TwoStage`.

    Args:
        retriever: the model that proposes candidates; also a plain dict or the name of a family.
        ranker: the model that ranks the candidates; also a plain dict or the name of a family.
        candidates: items proposed per query; at most the catalogue.
        propose_history: whether items of the history are proposed. Otherwise they rank below all
            candidates, which suits answers without history items.
    """

    retriever: Member = Member("ials")
    ranker: Member = Member("two_tower")
    candidates: PositiveInt = 100
    propose_history: bool = False

    def __post_init__(self) -> None:
        for name in ("retriever", "ranker"):
            object.__setattr__(self, name, Member.of(getattr(self, name)))
        check_fields(self)

    @property
    def members(self) -> tuple[Member, ...]:
        """The retriever and the ranker."""
        return self.retriever, self.ranker


class TwoStage(Composite):
    """The best items of a fast model, in the order of a possibly slower one.

    The ranker scores `candidates` items per query, whatever the size of the catalogue. All other
    items rank below the candidates, in the retriever's order.

    References:
        Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016.
    """

    family = "two_stage"
    config_type = TwoStageConfig

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        retriever, ranker = self.members
        retrieved = retriever.logits_or_prior(query)
        offered = retrieved
        if not self.config.propose_history:
            own = multi_hot(query["history"], len(self.spec.items))[:, 1:] > 0
            offered = tf.where(own, float("-inf"), retrieved)
        count = min(self.config.candidates, self.spec.catalogue_size)
        values, columns = tf.math.top_k(offered, k=count)
        ranked = ranker.logits_or_prior(query, columns + 1)
        # In a small catalogue fewer items may remain without the history.
        return scores_of(items, rank_proposed(retrieved, columns, ranked, values > float("-inf")))

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        default = TwoStageConfig()

        def member(name: str, families: list[str], default: Member) -> dict[str, Any] | None:
            chosen = hp.Choice(name, families, default=default.family)
            return None if chosen is None else dataclasses.asdict(Member(chosen))

        model = {
            "retriever": member(
                "retriever", ["ials", "low_rank_ease", "two_tower"], default.retriever
            ),
            "ranker": member("ranker", ["two_tower", "ease", "item_knn"], default.ranker),
            "candidates": hp.Choice("candidates", [50, 100, 200, 500], default=default.candidates),
        }
        return {"model": model, "training": {}}
