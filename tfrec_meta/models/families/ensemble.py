"""Ensembles: models of any families whose scores or ranks are brought to one scale and added."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import FinitePositiveFloat, check_fields
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.composite import Composite, scores_of
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.member import Member
from tfrec_meta.models.losses.score_scales import mean_ranks, unit_range, z_scores

Fusion = Literal["z_score", "min_max", "softmax", "reciprocal_rank", "borda"]
_MOST_WEIGHTS = 60  # that are tried on validation


@dataclasses.dataclass(frozen=True)
class EnsembleConfig:
    """Which models, and how they are fused; the defaults by a validation part of MovieLens-100K.

    Args:
        members: how each comes about; also as plain dicts or names of families.
        fusion: how scores of the whole catalogue are brought to one scale, row by row: "z_score";
            "min_max", to [0, 1]; "softmax" of the z-scores, so that the best items count most;
            "reciprocal_rank", 1 / (`rank_constant` + rank) (Cormack et al., SIGIR 2009); or
            "borda", the share of the other items that are worse (Aslam and Montague, SIGIR 2001).
            Ranks are found by sorting, inside the served graph, too.
        weights: one a member, of which only the ratios matter; "equal"; or "validation", the best
            NDCG@10 on the validation events, for which there must be some.
        temperature: of "softmax"; lower listens more to the best items.
        rank_constant: of "reciprocal_rank"; lower listens more to the best items.
    """

    members: tuple[Member, ...] = (Member("two_tower"), Member("ials"))
    fusion: Fusion = "reciprocal_rank"
    weights: tuple[float, ...] | Literal["equal", "validation"] = "equal"
    temperature: FinitePositiveFloat = 1.0
    rank_constant: FinitePositiveFloat = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(map(Member.of, self.members)))
        if not self.members:
            raise ValueError("`members` is empty; name at least one, as ('ials', 'ease').")
        check_fields(self)
        if isinstance(self.weights, str):
            if self.weights not in ("equal", "validation"):
                raise ValueError(
                    f"`weights`={self.weights!r}; use 'equal', 'validation', or a number a member."
                )
        elif (
            len(self.weights) != len(self.members)
            or not all(0 <= weight < math.inf for weight in self.weights)
            or not sum(self.weights)
        ):
            raise ValueError(
                f"`weights`={self.weights}; use {len(self.members)} numbers, one a member, of 0 or "
                "more, and one of them above 0."
            )


class Ensemble(Composite):
    """The weighted sum of its members' scores or ranks.

    A member that knows nothing of a user contributes its prior. Every member scores the whole
    catalogue, even if few items are asked for: what a score means shows beside the others.
    """

    family = "ensemble"
    config_type = EnsembleConfig

    def __init__(self, config: EnsembleConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        given = (1.0,) * len(config.members) if isinstance(config.weights, str) else config.weights
        shares = np.array(given, np.float32) / sum(given)
        self.weights = tf.Variable(shares, trainable=False, name="weights")
        self.learned["weights"] = self.weights

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        fused = [
            weight * self._on_one_scale(member.logits_or_prior(query))
            for member, weight in zip(
                self.members, tf.unstack(self.weights, num=len(self.members)), strict=True
            )
        ]
        return scores_of(items, tf.add_n(fused))

    @property
    def chooses_weights(self) -> bool:
        return bool(self.config.weights == "validation")

    def choose_weights(self, score: Callable[[], float]) -> None:
        """Takes the best of `candidate_weights`, the first among equally good ones."""
        best, found = -math.inf, self.weights.numpy()
        for weights in candidate_weights(len(self.members)):
            self.weights.assign(weights)
            value = score()
            if value > best:
                best, found = value, weights
        self.weights.assign(found)

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """See the contract."""
        default = EnsembleConfig()
        names = hp.Choice("members", ["two_tower ials", "two_tower ials ease", "ials ease"])
        model = {
            "members": tuple(dataclasses.asdict(Member(name)) for name in (names or "").split()),
            "fusion": hp.Choice("fusion", list(get_args(Fusion)), default=default.fusion),
        }
        with hp.conditional_scope("fusion", ["softmax"]):
            model["temperature"] = hp.Float(
                "temperature", 0.1, 3.0, sampling="log", default=default.temperature
            )
        with hp.conditional_scope("fusion", ["reciprocal_rank"]):
            model["rank_constant"] = hp.Float(
                "rank_constant", 1.0, 300.0, sampling="log", default=default.rank_constant
            )
        return {"model": model, "training": {}}

    def _on_one_scale(self, scores: tf.Tensor) -> tf.Tensor:
        """float32 [B, catalogue], comparable between members."""
        config: EnsembleConfig = self.config
        if config.fusion == "z_score":
            return z_scores(scores)
        if config.fusion == "min_max":
            return unit_range(scores)
        if config.fusion == "softmax":
            return tf.nn.softmax(z_scores(scores) / config.temperature)
        if config.fusion == "reciprocal_rank":
            return 1.0 / (config.rank_constant + mean_ranks(scores))
        others = tf.cast(tf.shape(scores)[1] - 1, tf.float32)
        return 1.0 - tf.math.divide_no_nan(mean_ranks(scores) - 1.0, others)


def candidate_weights(members: int) -> Iterator[np.ndarray]:
    """Weights to choose from, float32 [members] that add up to 1, the equal ones first.

    After these all multiples of the finest step of 1 / 10 or more that gives at most 60 of them;
    with very many members each of them alone.
    """
    yield np.full(members, 1.0 / members, np.float32)
    steps = max(
        (n for n in range(2, 11) if math.comb(n + members - 1, n) <= _MOST_WEIGHTS), default=1
    )
    # Each way to put `steps` equal parts into the members, by the borders between these.
    for borders in itertools.combinations(range(steps + members - 1), members - 1):
        parts = np.diff([-1, *borders, steps + members - 1]) - 1
        yield (parts / steps).astype(np.float32)
