"""Retrieve, then rank: one model proposes candidates, another puts them in order."""

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
    """Scores by which the proposed items come first, in the ranker's order, then all others.

    Args:
        retrieved: float32 [B, catalogue], the retriever's scores.
        columns: int32 [B, n], distinct columns of it.
        ranked: float32 [B, n], the ranker's scores of these.
        proposed: bool [B, n], which of them are proposed at all.

    Returns:
        float32 [B, catalogue]: the ranker's scores of what is proposed; of the others the
        retriever's, moved so that the best of them stands 1 below the worst that is proposed.
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
    # Relative to the worst, too: 1 below a hundred million is the same number in float32.
    others = least - 1.0 - 1e-6 * tf.abs(least) + tf.minimum(retrieved - best, 0.0)
    return tf.tensor_scatter_nd_update(others, at, tf.gather_nd(ranked, place))


@dataclasses.dataclass(frozen=True)
class TwoStageConfig:
    """Which models, and how many items go from one to the other.

    Args:
        retriever: how the model comes about that proposes; also a plain dict or a family's name.
        ranker: likewise, of the one that puts the proposed items in order.
        candidates: items that are proposed for each query; at most the catalogue.
        propose_history: whether items of the history are proposed; else they come after all that
            are, as befits an answer without them.
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
        """Both, the retriever first."""
        return self.retriever, self.ranker


class TwoStage(Composite):
    """The best items of a quick model in the order of one that may be slow.

    The ranker is asked about `candidates` items a query, whatever the size of the catalogue. What
    is not proposed ranks below all that is, in the retriever's order. Source: Covington et al.,
    "Deep Neural Networks for YouTube Recommendations", RecSys 2016.
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
        # Of a small catalogue the history may leave fewer.
        return scores_of(items, rank_proposed(retrieved, columns, ranked, values > float("-inf")))

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """See the contract."""
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
