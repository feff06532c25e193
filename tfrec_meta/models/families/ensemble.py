"""Ensembles: the weighted sum of the scores or ranks of several models, on one scale."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import FinitePositiveFloat, check_fields
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.composite import Composite, scores_of
from tfrec_meta.models.base.contract import Query, Recommender
from tfrec_meta.models.base.member import Member
from tfrec_meta.models.losses.score_scales import mean_ranks, unit_range, z_scores

Fusion = Literal["z_score", "min_max", "softmax", "reciprocal_rank", "borda"]
_MAX_CANDIDATES = 60  # weights that are tried on validation


@dataclasses.dataclass(frozen=True)
class EnsembleConfig:
    """The config of `Ensemble`. The defaults were chosen on a validation part of MovieLens-100K.

    Args:
        members: the members; also as plain dicts or names of families.
        fusion: how the scores of the catalogue are brought to one scale, row by row: "z_score";
            "min_max", to [0, 1]; "softmax" of the z-scores, so that the best items count most;
            "reciprocal_rank", 1 / (`rank_constant` + rank) (Cormack et al., SIGIR 2009); or
            "borda", the share of the other items with lower scores (Aslam and Montague, SIGIR
            2001). Ranks are computed by sorting, also in the served graph.
        weights: one per member, of which only the ratios matter; "equal"; or "validation", the
            weights with the best NDCG@10 on the validation events, which are then required.
        temperature: of "softmax"; a lower value gives more weight to the best items.
        rank_constant: of "reciprocal_rank"; a lower value gives more weight to the best items.
    """

    members: tuple[Member, ...] = (Member("two_tower"), Member("ials"))
    fusion: Fusion = "reciprocal_rank"
    weights: tuple[float, ...] | Literal["equal", "validation"] = "equal"
    temperature: FinitePositiveFloat = 1.0
    rank_constant: FinitePositiveFloat = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(map(Member.of, self.members)))
        if not self.members:
            raise ParameterError(
                "`members`=(); use at least one, for example ('ials', 'ease').", "members"
            )
        check_fields(self)
        if isinstance(self.weights, str):
            if self.weights not in ("equal", "validation"):
                raise ParameterError(
                    f"`weights`={self.weights!r}; use 'equal', 'validation', or one number per "
                    "member.",
                    "weights",
                )
        elif (
            len(self.weights) != len(self.members)
            or not all(0 <= weight < math.inf for weight in self.weights)
            or not sum(self.weights)
        ):
            raise ParameterError(
                f"`weights`={self.weights}; use {len(self.members)} numbers, one per member, each "
                "0 or more and at least one above 0.",
                "weights",
            )


class Ensemble(Composite):
    """The weighted sum of the scores or ranks of its members.

    For a user without evidence, a member contributes its prior. Every member scores the whole
    catalogue, even if few items are requested, since its scale depends on all scores.
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

    def take_weights(self, judged: Recommender) -> None:
        self.weights.assign(judged.state()["weights"])

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
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
        """float32 [B, catalogue], on the scale of the fusion."""
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
    """Yields weights to choose from, float32 [members] with sum 1, beginning with equal weights.

    The others are all multiples of a step, which is the finest of 1/10, 1/9, … 1/2 that gives at
    most 60 of them. With very many members, each member alone is a candidate.
    """
    yield np.full(members, 1.0 / members, np.float32)
    steps = max(
        (n for n in range(2, 11) if math.comb(n + members - 1, n) <= _MAX_CANDIDATES), default=1
    )
    # Each way to distribute `steps` equal parts over the members, by the borders between them.
    for borders in itertools.combinations(range(steps + members - 1), members - 1):
        parts = np.diff([-1, *borders, steps + members - 1]) - 1
        yield (parts / steps).astype(np.float32)
